//! Issuers: where certificates are ordered, as whom and how names are proven.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The issuers of the settings, in their order: the first is the one that is meant where none is named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issuers(pub Vec<Issuer>);

impl Issuers {
    /// The issuer of this name, or the first one.
    pub fn find(&self, name: Option<&str>) -> Option<&Issuer> {
        match name {
            None => self.0.first(),
            Some(name) => self.0.iter().find(|issuer| issuer.name == name),
        }
    }
}

/// Where certificates are ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// Its name in settings and annotations: a DNS label.
    pub name: String,
    /// URL of the ACME directory (RFC 8555 section 7.1.1).
    pub directory: String,
    /// Directory that is tried first after a failure; certificates of it are thrown away. `None`: there is none.
    pub staging: Option<String>,
    /// `contact` of the account: URLs such as `mailto:admin@example.com`.
    pub contact: Vec<String>,
    /// Binds a new account to one that the CA knows already (RFC 8555 section 7.3.4).
    pub external_account: Option<ExternalAccount>,
    /// The profile of orders (draft-ietf-acme-profiles), such as `shortlived`; `None`: the CA's default.
    pub profile: Option<String>,
    /// The key of certificates.
    pub key_type: KeyType,
    /// How names are proven.
    pub challenge: ChallengeSettings,
    /// Certificates in PEM that the directory's own certificate is verified with, beside those of the system.
    pub ca_bundle: Option<Vec<u8>>,
    /// Part of the common name of the topmost issuer in the chain that is preferred, where the CA offers several.
    pub preferred_chain: Option<String>,
    /// Names of other issuers that are tried, in this order, when this one keeps failing.
    pub fallback: Vec<String>,
}

/// An account that the CA knows by other means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAccount {
    /// Its key identifier.
    pub key_id: String,
    /// Its MAC key, base64url as CAs print it.
    pub key: SecretSource,
}

/// The key of a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyType {
    /// ECDSA on the curve P-256.
    #[default]
    EcdsaP256,
    /// ECDSA on the curve P-384.
    EcdsaP384,
    /// RSA with 2048 bits.
    Rsa2048,
    /// RSA with 3072 bits.
    Rsa3072,
    /// RSA with 4096 bits.
    Rsa4096,
}

/// How names are proven to be ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChallengeSettings {
    /// RFC 8555 section 8.3: port 80.
    Http01,
    /// RFC 8737: port 443.
    TlsAlpn01,
    /// RFC 8555 section 8.4: a TXT record.
    Dns01(Box<Dns01>),
}

/// How TXT records are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns01 {
    /// Who makes them.
    pub provider: DnsProvider,
    /// Longest wait until every authoritative server of the zone has the record.
    pub propagation_timeout: Duration,
    /// Recursive name servers that zones are looked up with; empty for those of the system.
    pub resolvers: Vec<SocketAddr>,
}

/// Who makes TXT records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsProvider {
    /// Dynamic updates of DNS (RFC 2136), authenticated by TSIG (RFC 8945).
    Rfc2136 {
        /// The primary name server.
        server: SocketAddr,
        /// Name of the TSIG key.
        key_name: String,
        /// HMAC of the TSIG key: `hmac-sha256`, `hmac-sha384` or `hmac-sha512`.
        algorithm: TsigAlgorithm,
        /// The key, base64.
        key: SecretSource,
    },
    /// Amazon Route 53.
    Route53 {
        /// The hosted zone; `None`: it is looked for by name.
        hosted_zone_id: Option<String>,
        /// Region that requests are signed for.
        region: String,
        /// Another endpoint than Amazon's.
        endpoint: Option<String>,
        /// Access key; `None`: the environment's `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`.
        credentials: Option<AwsKey>,
    },
    /// Cloudflare, by an API token with the permission Zone.DNS:Edit.
    Cloudflare {
        /// The token.
        token: SecretSource,
        /// Another endpoint than `https://api.cloudflare.com/client/v4`.
        endpoint: Option<String>,
    },
    /// A URL that is sent JSON by POST.
    Webhook {
        /// The URL.
        url: String,
        /// Sent as `Authorization: Bearer`; `None` for none.
        token: Option<SecretSource>,
    },
    /// A program that is run: `PROGRAM ARGS... present|cleanup FQDN VALUE`.
    Exec {
        /// Program and leading arguments; never empty.
        command: Vec<String>,
    },
}

/// HMACs of TSIG.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TsigAlgorithm {
    /// hmac-sha256
    #[default]
    HmacSha256,
    /// hmac-sha384
    HmacSha384,
    /// hmac-sha512
    HmacSha512,
}

/// An access key of AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsKey {
    /// Access key ID.
    pub id: SecretSource,
    /// Secret access key.
    pub secret: SecretSource,
}

/// Where something secret is read when it is needed, so that it may change.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// An environment variable.
    Environment(String),
    /// A file; blanks at its end do not count.
    File(PathBuf),
    /// An entry of a Secret in Tidegate's own namespace.
    Secret {
        /// `metadata.name`
        name: String,
        /// Key in `data`.
        key: String,
    },
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(name) => write!(f, "the environment variable {name}"),
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::Secret { name, key } => write!(f, "the entry '{key}' of Secret '{name}'"),
        }
    }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
