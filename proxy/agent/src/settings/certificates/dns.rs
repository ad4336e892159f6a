//! DNS-01: who makes TXT records.

use std::time::Duration;

use tidegate_certificates::issuer::{AwsKey, Dns01, DnsProvider, TsigAlgorithm};

use super::issuer::{required, web_url};
use super::{secret, within};
use crate::settings::file::{
    AwsKeyBlock, CloudflareBlock, DnsBlock, ExecBlock, Rfc2136Block, Route53Block, WebhookBlock,
};
use crate::settings::merge::{list, one};
use crate::settings::{SettingsError, value};

/// Longest wait for the records at every authoritative server, unless a setting says otherwise.
const PROPAGATION: Duration = Duration::from_secs(3 * 60);
/// Shortest and longest that can be set.
const PROPAGATIONS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));
/// Where Route 53 is signed for: it has one endpoint for the world.
const REGION: &str = "us-east-1";

/// What `dns:` of an issuer says.
pub(super) fn dns(key: &str, written: &DnsBlock) -> Result<Dns01, SettingsError> {
    let part = |name: &str| format!("{key}.{name}");
    let timeout = one(
        &part("propagationTimeout"),
        written.propagation_timeout.as_ref(),
        |text| within(text, PROPAGATIONS),
    )?;
    Ok(Dns01 {
        provider: provider(key, written)?,
        propagation_timeout: timeout.unwrap_or(PROPAGATION),
        resolvers: list(
            &part("resolvers"),
            written.resolvers.as_ref(),
            value::name_server,
        )?,
    })
}

fn provider(key: &str, written: &DnsBlock) -> Result<DnsProvider, SettingsError> {
    let part = |name: &str| format!("{key}.{name}");
    match written {
        DnsBlock {
            rfc2136: Some(written),
            route53: None,
            cloudflare: None,
            webhook: None,
            exec: None,
            ..
        } => rfc2136(&part("rfc2136"), written),
        DnsBlock {
            rfc2136: None,
            route53: Some(written),
            cloudflare: None,
            webhook: None,
            exec: None,
            ..
        } => route53(&part("route53"), written),
        DnsBlock {
            rfc2136: None,
            route53: None,
            cloudflare: Some(written),
            webhook: None,
            exec: None,
            ..
        } => cloudflare(&part("cloudflare"), written),
        DnsBlock {
            rfc2136: None,
            route53: None,
            cloudflare: None,
            webhook: Some(written),
            exec: None,
            ..
        } => webhook(&part("webhook"), written),
        DnsBlock {
            rfc2136: None,
            route53: None,
            cloudflare: None,
            webhook: None,
            exec: Some(written),
            ..
        } => exec(&part("exec"), written),
        _ => Err(SettingsError::Conflict(format!(
            "{key}: write exactly one of rfc2136, route53, cloudflare, webhook and exec, which says who makes the records"
        ))),
    }
}

fn rfc2136(key: &str, written: &Rfc2136Block) -> Result<DnsProvider, SettingsError> {
    let part = |name: &str| format!("{key}.{name}");
    let algorithm = one(&part("algorithm"), written.algorithm.as_ref(), algorithm)?;
    Ok(DnsProvider::Rfc2136 {
        server: required(
            &part("server"),
            written.server.as_ref(),
            "192.0.2.53",
            value::name_server,
        )?,
        key_name: required(
            &part("keyName"),
            written.key_name.as_ref(),
            "acme-key",
            value::text,
        )?,
        algorithm: algorithm.unwrap_or_default(),
        key: secret::required(&part("key"), written.key.as_ref())?,
    })
}

fn algorithm(text: &str) -> Result<TsigAlgorithm, String> {
    match text {
        "hmac-sha256" => Ok(TsigAlgorithm::HmacSha256),
        "hmac-sha384" => Ok(TsigAlgorithm::HmacSha384),
        "hmac-sha512" => Ok(TsigAlgorithm::HmacSha512),
        _ => Err("write hmac-sha256, hmac-sha384 or hmac-sha512".to_owned()),
    }
}

fn route53(key: &str, written: &Route53Block) -> Result<DnsProvider, SettingsError> {
    let part = |name: &str| format!("{key}.{name}");
    let text = |name: &str, written| one(&part(name), written, value::text);
    let credentials = written.access_key.as_ref();
    let credentials = credentials.map(|written| aws_key(&part("accessKey"), written));
    Ok(DnsProvider::Route53 {
        hosted_zone_id: text("hostedZoneId", written.hosted_zone_id.as_ref())?,
        region: text("region", written.region.as_ref())?.unwrap_or_else(|| REGION.to_owned()),
        endpoint: one(&part("endpoint"), written.endpoint.as_ref(), web_url)?,
        credentials: credentials.transpose()?,
    })
}

fn aws_key(key: &str, written: &AwsKeyBlock) -> Result<AwsKey, SettingsError> {
    Ok(AwsKey {
        id: secret::required(&format!("{key}.id"), written.id.as_ref())?,
        secret: secret::required(&format!("{key}.secret"), written.secret.as_ref())?,
    })
}

fn cloudflare(key: &str, written: &CloudflareBlock) -> Result<DnsProvider, SettingsError> {
    Ok(DnsProvider::Cloudflare {
        token: secret::required(&format!("{key}.token"), written.token.as_ref())?,
        endpoint: one(
            &format!("{key}.endpoint"),
            written.endpoint.as_ref(),
            web_url,
        )?,
    })
}

fn webhook(key: &str, written: &WebhookBlock) -> Result<DnsProvider, SettingsError> {
    let token = written.token.as_ref();
    let token = token.map(|written| secret::source(&format!("{key}.token"), written));
    Ok(DnsProvider::Webhook {
        url: required(
            &format!("{key}.url"),
            written.url.as_ref(),
            "https://dns.example.com/acme",
            web_url,
        )?,
        token: token.transpose()?,
    })
}

fn exec(key: &str, written: &ExecBlock) -> Result<DnsProvider, SettingsError> {
    let key = format!("{key}.command");
    let command = list(&key, written.command.as_ref(), |text| Ok(text.to_owned()))?;
    match command.first() {
        Some(program) if !program.is_empty() => Ok(DnsProvider::Exec { command }),
        _ => Err(SettingsError::Conflict(format!(
            "{key} is empty: write a program and its arguments, such as `command: [/usr/local/bin/dns-hook]`"
        ))),
    }
}
