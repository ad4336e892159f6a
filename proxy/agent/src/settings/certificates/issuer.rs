//! Issuers: where certificates are ordered, as whom and how names are proven.

use std::collections::BTreeSet;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tidegate_certificates::issuer::{ChallengeSettings, ExternalAccount, KeyType};
use tidegate_certificates::{Issuer, Issuers};

use super::{dns, known, secret};
use crate::settings::file::{ExternalAccountBlock, IssuerBlock, Scalar};
use crate::settings::merge::{list, one, parse};
use crate::settings::{InstanceName, SettingsError, value};

/// Let's Encrypt, and its staging environment.
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
const LETS_ENCRYPT_STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

/// The name of the issuer that the short form makes.
const SHORT: &str = "default";

/// A directory of an ACME server, and the one that rehearsals are made at unless a setting names another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Directory {
    url: String,
    staging: Option<String>,
}

impl Directory {
    /// Its URL.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Default for Directory {
    fn default() -> Self {
        Self {
            url: LETS_ENCRYPT.to_owned(),
            staging: Some(LETS_ENCRYPT_STAGING.to_owned()),
        }
    }
}

/// The issuer of the short form.
pub(super) fn short(directory: Option<Directory>, email: Option<String>) -> Issuer {
    let Directory { url, staging } = directory.unwrap_or_default();
    Issuer {
        name: SHORT.to_owned(),
        directory: url,
        staging,
        contact: email.into_iter().collect(),
        external_account: None,
        profile: None,
        key_type: KeyType::default(),
        challenge: ChallengeSettings::Http01,
        ca_bundle: None,
        preferred_chain: None,
        fallback: Vec::new(),
    }
}

/// What a list of issuers says.
pub(super) fn issuers(written: &[IssuerBlock]) -> Result<Issuers, SettingsError> {
    let mut issuers = Issuers::default();
    for (index, written) in written.iter().enumerate() {
        let key = format!("issuers[{index}]");
        let issuer = issuer(&key, written)?;
        if issuers.find(Some(&issuer.name)).is_some() {
            return Err(SettingsError::value(
                format!("{key}.name"),
                issuer.name,
                "an issuer before it has the same name: give each a name of its own",
            ));
        }
        issuers.0.push(issuer);
    }
    for (index, issuer) in issuers.0.iter().enumerate() {
        let key = format!("issuers[{index}].fallback");
        fallback(issuer, &issuers)
            .map_err(|(name, problem)| SettingsError::value(key, name, problem))?;
    }
    Ok(issuers)
}

fn issuer(key: &str, written: &IssuerBlock) -> Result<Issuer, SettingsError> {
    let part = |name: &str| format!("{key}.{name}");
    let name = required(&part("name"), written.name.as_ref(), "letsencrypt", name)?;
    let directory = required(
        &part("directory"),
        written.directory.as_ref(),
        "letsencrypt",
        directory,
    )?;
    let staging = match one(&part("staging"), written.staging.as_ref(), staging)? {
        None => directory.staging,
        Some(staging) => staging,
    };
    if staging.as_ref() == Some(&directory.url) {
        return Err(SettingsError::value(
            part("staging"),
            directory.url,
            "it is the issuer's own directory: write one whose certificates may be thrown away, or off",
        ));
    }
    let external = written.external_account.as_ref();
    let external = external.map(|written| external_account(&part("externalAccount"), written));
    let bundle = written.ca_bundle.as_ref();
    let key_type = one(&part("keyType"), written.key_type.as_ref(), key_type)?;
    Ok(Issuer {
        name,
        directory: directory.url,
        staging,
        contact: list(&part("contact"), written.contact.as_ref(), contact)?,
        external_account: external.transpose()?,
        profile: one(&part("profile"), written.profile.as_ref(), value::text)?,
        key_type: key_type.unwrap_or_default(),
        challenge: challenge(key, written)?,
        ca_bundle: bundle
            .map(|bundle| ca_bundle(&part("caBundle"), bundle))
            .transpose()?,
        preferred_chain: one(
            &part("preferredChain"),
            written.preferred_chain.as_ref(),
            value::text,
        )?,
        fallback: list(&part("fallback"), written.fallback.as_ref(), value::text)?,
    })
}

/// A value that has to be there.
pub(super) fn required<T>(
    key: &str,
    written: Option<&Scalar>,
    example: &str,
    parser: impl Fn(&str) -> Result<T, String>,
) -> Result<T, SettingsError> {
    match written {
        Some(written) => parse(key, written, parser),
        None => {
            let name = key.rsplit('.').next().unwrap_or(key);
            Err(SettingsError::Conflict(format!(
                "{key} is missing: add it, such as `{name}: {example}`"
            )))
        }
    }
}

/// A name as annotations have it.
fn name(text: &str) -> Result<String, String> {
    let name: Result<InstanceName, _> = text.parse();
    match name {
        Ok(name) => Ok(name.to_string()),
        Err(_) => Err(
            "write 1 to 63 of a-z, 0-9 and -, with a letter or digit at both ends, such as letsencrypt"
                .to_owned(),
        ),
    }
}

/// `letsencrypt`, `letsencrypt-staging`, or the URL of an ACME directory.
pub(crate) fn directory(text: &str) -> Result<Directory, String> {
    let url = match text {
        "letsencrypt" => LETS_ENCRYPT,
        "letsencrypt-staging" => LETS_ENCRYPT_STAGING,
        url => url,
    };
    if url == LETS_ENCRYPT {
        return Ok(Directory::default());
    }
    // RFC 8555 section 6.1 wants HTTPS.
    let is_https = web_url(url).is_ok() && url.starts_with("https://");
    match is_https {
        true => Ok(Directory {
            url: url.to_owned(),
            staging: None,
        }),
        false => Err(
            "write letsencrypt, letsencrypt-staging, or the https:// URL of an ACME directory, such as \
             https://ca.example.com/acme/directory"
                .to_owned(),
        ),
    }
}

/// A directory for rehearsals, or the wish for none.
fn staging(text: &str) -> Result<Option<String>, String> {
    match text {
        "off" | "false" => Ok(None),
        text => match directory(text) {
            Ok(directory) => Ok(Some(directory.url)),
            Err(problem) => Err(format!("{problem}; or off for no rehearsal")),
        },
    }
}

/// A URL of the web: scheme `http` or `https`, and a host.
pub(super) fn web_url(text: &str) -> Result<String, String> {
    let uri: Option<http::Uri> = text.parse().ok();
    let fits = |uri: &http::Uri| {
        let has_host = uri.host().is_some_and(|host| !host.is_empty());
        has_host
            && matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some_and(|it| !it.as_str().contains('@'))
    };
    match uri.as_ref().is_some_and(fits) {
        true => Ok(text.to_owned()),
        false => Err(
            "write a URL with http:// or https:// and a host, such as https://example.com/path"
                .to_owned(),
        ),
    }
}

/// A contact of an account as a URL (RFC 8555 section 7.3); a mail address stands for its `mailto:`.
pub(crate) fn contact(text: &str) -> Result<String, String> {
    const REMEDY: &str = "write one mail address, such as admin@example.com, or a URL such as mailto:admin@example.com";
    let is_plain =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b',');
    let mail = text.strip_prefix("mailto:").unwrap_or(text);
    match mail.split_once('@') {
        Some((local, host)) if is_plain(local) && is_plain(host) => {
            match host.contains(['@', '?']) || local.contains(':') {
                true => Err(REMEDY.to_owned()),
                false => Ok(format!("mailto:{mail}")),
            }
        }
        // Another scheme, which the CA takes or does not.
        None if mail == text => match text.split_once(':') {
            Some((scheme, rest)) if scheme.bytes().all(|b| b.is_ascii_alphabetic()) => {
                match !scheme.is_empty() && is_plain(rest) {
                    true => Ok(text.to_owned()),
                    false => Err(REMEDY.to_owned()),
                }
            }
            _ => Err(REMEDY.to_owned()),
        },
        _ => Err(REMEDY.to_owned()),
    }
}

fn external_account(
    key: &str,
    written: &ExternalAccountBlock,
) -> Result<ExternalAccount, SettingsError> {
    Ok(ExternalAccount {
        key_id: required(
            &format!("{key}.keyId"),
            written.key_id.as_ref(),
            "kid-1",
            value::text,
        )?,
        key: secret::required(&format!("{key}.key"), written.key.as_ref())?,
    })
}

fn key_type(text: &str) -> Result<KeyType, String> {
    match text {
        "ecdsa-p256" => Ok(KeyType::EcdsaP256),
        "ecdsa-p384" => Ok(KeyType::EcdsaP384),
        "rsa-2048" => Ok(KeyType::Rsa2048),
        "rsa-3072" => Ok(KeyType::Rsa3072),
        "rsa-4096" => Ok(KeyType::Rsa4096),
        _ => Err("write ecdsa-p256, ecdsa-p384, rsa-2048, rsa-3072 or rsa-4096".to_owned()),
    }
}

/// How names are proven, as it is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Challenge {
    Http01,
    TlsAlpn01,
    Dns01,
}

impl Challenge {
    fn as_str(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Dns01 => "dns-01",
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let all = [Self::Http01, Self::TlsAlpn01, Self::Dns01];
        let found = all.into_iter().find(|challenge| challenge.as_str() == text);
        found.ok_or_else(|| "write http-01, tls-alpn-01 or dns-01".to_owned())
    }
}

fn challenge(key: &str, written: &IssuerBlock) -> Result<ChallengeSettings, SettingsError> {
    let challenge_key = format!("{key}.challenge");
    let challenge = one(&challenge_key, written.challenge.as_ref(), Challenge::parse)?;
    match (challenge, &written.dns) {
        (None | Some(Challenge::Http01), None) => Ok(ChallengeSettings::Http01),
        (Some(Challenge::TlsAlpn01), None) => Ok(ChallengeSettings::TlsAlpn01),
        (None | Some(Challenge::Dns01), Some(dns)) => {
            let dns = dns::dns(&format!("{key}.dns"), dns)?;
            Ok(ChallengeSettings::Dns01(Box::new(dns)))
        }
        (Some(Challenge::Dns01), None) => Err(SettingsError::value(
            challenge_key,
            Challenge::Dns01.as_str(),
            "nothing says who makes the records: add `dns:` beside it, with rfc2136, route53, cloudflare, webhook or exec",
        )),
        (Some(other), Some(_)) => Err(SettingsError::value(
            challenge_key,
            other.as_str(),
            "there is `dns:` beside it, which is for dns-01: write dns-01, or take `dns:` out",
        )),
    }
}

/// Certificates in PEM, or a file with such.
fn ca_bundle(key: &str, written: &Scalar) -> Result<Vec<u8>, SettingsError> {
    const REMEDY: &str =
        "write the path of a file with certificates in PEM, or such certificates themselves";
    let text = &*written.0;
    let is_inline = text.contains("-----BEGIN");
    let shown = if is_inline { "-----BEGIN…" } else { text };
    let failed = |problem: String| SettingsError::value(key, shown, problem);
    let pem = match is_inline {
        true => text.as_bytes().to_vec(),
        false => std::fs::read(text)
            .map_err(|error| failed(format!("it cannot be read: {error}; {REMEDY}")))?,
    };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(found) if !found.is_empty() => Ok(pem),
        Ok(_) => Err(failed(format!("there is no certificate in it; {REMEDY}"))),
        Err(error) => Err(failed(format!("it is no PEM ({error}); {REMEDY}"))),
    }
}

/// The first fallback that is none, and why.
fn fallback(issuer: &Issuer, issuers: &Issuers) -> Result<(), (String, String)> {
    let mut seen = BTreeSet::new();
    for name in &issuer.fallback {
        let failed = |problem: &str| Err((name.clone(), problem.to_owned()));
        known(name, issuers).map_err(|problem| (name.clone(), problem))?;
        if *name == issuer.name {
            return failed("an issuer cannot take its own place: name another one");
        }
        if !seen.insert(name) {
            return failed("it is there twice: name each issuer once");
        }
    }
    Ok(())
}
