//! The keys of a settings file that are about certificates and TLS.

use super::{Scalar, Scalars};

/// Mappings whose every key may be missing, printed with those that are there.
macro_rules! mappings {
    ($($(#[$meta:meta])* $name:ident { $($key:ident: $value:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Default, serde::Deserialize, serde::Serialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields, default)]
        pub(crate) struct $name {
            $(
                #[serde(skip_serializing_if = "Option::is_none")]
                pub(crate) $key: Option<$value>,
            )*
        }
    )*};
}

mappings! {
    /// `acme:`, a short form of one issuer.
    Acme {
        directory: Scalar,
        email: Scalar,
    }

    /// An entry of `issuers:`
    IssuerBlock {
        name: Scalar,
        directory: Scalar,
        staging: Scalar,
        contact: Scalars,
        external_account: ExternalAccountBlock,
        profile: Scalar,
        key_type: Scalar,
        challenge: Scalar,
        dns: DnsBlock,
        ca_bundle: Scalar,
        preferred_chain: Scalar,
        fallback: Scalars,
    }

    /// `externalAccount:` of an issuer.
    ExternalAccountBlock {
        key_id: Scalar,
        key: SecretBlock,
    }

    /// Where something secret is.
    SecretBlock {
        env: Scalar,
        file: Scalar,
        secret: Scalar,
        key: Scalar,
    }

    /// `dns:` of an issuer: one provider, and what holds for all.
    DnsBlock {
        rfc2136: Rfc2136Block,
        route53: Route53Block,
        cloudflare: CloudflareBlock,
        webhook: WebhookBlock,
        exec: ExecBlock,
        propagation_timeout: Scalar,
        resolvers: Scalars,
    }

    /// `dns.rfc2136:`
    Rfc2136Block {
        server: Scalar,
        key_name: Scalar,
        algorithm: Scalar,
        key: SecretBlock,
    }

    /// `dns.route53:`
    Route53Block {
        hosted_zone_id: Scalar,
        region: Scalar,
        endpoint: Scalar,
        access_key: AwsKeyBlock,
    }

    /// `dns.route53.accessKey:`
    AwsKeyBlock {
        id: SecretBlock,
        secret: SecretBlock,
    }

    /// `dns.cloudflare:`
    CloudflareBlock {
        token: SecretBlock,
        endpoint: Scalar,
    }

    /// `dns.webhook:`
    WebhookBlock {
        url: Scalar,
        token: SecretBlock,
    }

    /// `dns.exec:`
    ExecBlock {
        command: Scalars,
    }

    /// `certificates:`
    Certificates {
        issue: Scalar,
        hosts: Scalar,
        issuer: Scalar,
        names: Vec<CertificateBlock>,
        on_demand: OnDemandBlock,
        grace: Scalar,
        limits: LimitsBlock,
    }

    /// An entry of `certificates.names:`
    CertificateBlock {
        names: Scalars,
        issuer: Scalar,
        secret: Scalar,
    }

    /// `certificates.onDemand:`
    OnDemandBlock {
        suffixes: Scalars,
        routes: Scalar,
        ask: Scalar,
        issuer: Scalar,
        per_hour: Scalar,
        wait: Scalar,
        forget_after: Scalar,
    }

    /// `certificates.limits:`
    LimitsBlock {
        duplicates_per_week: Scalar,
        per_domain_per_week: Scalar,
        failures_per_hour: Scalar,
        orders_per_3_hours: Scalar,
    }

    /// `tls:`
    Tls {
        min_version: Scalar,
        cipher_suites: Scalars,
        ticket_rotation: Scalar,
    }
}
