//! `acme.json` of Traefik, in all the forms that it has had.
//!
//! | version | account | certificates |
//! |---|---|---|
//! | 1.0 to 1.5 | at the top: `Email`, `Registration`, `PrivateKey` | `DomainsCertificate.Certs[]`: `Domains`, `Certificate.{Certificate,PrivateKey}` |
//! | 1.6, 1.7 | `Account` | `Certificates[]`: `Domain.{Main,SANs}`, `Certificate`, `Key` |
//! | 2, 3 | `RESOLVER.Account` | `RESOLVER.Certificates[]`: `domain.{main,sans}`, `certificate`, `key` |
//!
//! Keys and chains are base64 of PEM, an account's key is base64 of DER. Keys of objects are compared without regard to case.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RsaKeyPair};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};
use tidegate_model::Excerpt;

use super::certificate::{Checked, check};
use super::{
    Import, ImportError, ImportedAccount, ImportedCertificate, LONGEST, MOST, Selection, Skipped,
};
use crate::acme::{pem, record_name};
use crate::names::NameSet;
use crate::store::{IssuedCertificate, Record, RecordKind};

/// Hosts of Let's Encrypt in URLs of accounts, with the directory of each. The first is of ACME's draft, whose accounts are
/// those of the later one, under other URLs.
const DIRECTORIES: [(&str, &str); 4] = [
    (
        "acme-v01.api.letsencrypt.org",
        "https://acme-v02.api.letsencrypt.org/directory",
    ),
    (
        "acme-v02.api.letsencrypt.org",
        "https://acme-v02.api.letsencrypt.org/directory",
    ),
    (
        "acme-staging.api.letsencrypt.org",
        "https://acme-staging-v02.api.letsencrypt.org/directory",
    ),
    (
        "acme-staging-v02.api.letsencrypt.org",
        "https://acme-staging-v02.api.letsencrypt.org/directory",
    ),
];

/// Hosts whose URLs of accounts mean nothing any more.
const RETIRED: [&str; 2] = [
    "acme-v01.api.letsencrypt.org",
    "acme-staging.api.letsencrypt.org",
];

/// Longest URL, mail address or name that is taken.
const LONGEST_TEXT: usize = 2048;

/// What an `acme.json` holds.
///
/// # Errors
/// It is none, or has nothing of the selected resolver.
pub fn traefik(content: &[u8], selection: &Selection<'_>) -> Result<Import, ImportError> {
    if content.len() > LONGEST {
        return Err(ImportError::TooLong(content.len()));
    }
    let value: Value =
        serde_json::from_slice(content).map_err(|error| ImportError::NoJson(error.to_string()))?;
    let top = value.as_object().ok_or(ImportError::NotAcme)?;
    let parts = selected(parts(top)?, selection)?;
    let count: usize = parts.iter().map(|part| part.certificates.len()).sum();
    if count > MOST {
        return Err(ImportError::TooMany);
    }
    let mut found = Found::default();
    for part in &parts {
        found.part(part, selection);
    }
    Ok(found.import())
}

/// What one resolver has ordered; in the first versions there was one without a name.
struct Part<'a> {
    resolver: Option<&'a str>,
    /// The object with `Email`, `Registration` and `PrivateKey`.
    account: Option<&'a Map<String, Value>>,
    certificates: Vec<Stored<'a>>,
}

/// A certificate as it is written.
struct Stored<'a> {
    /// The object with `main` and `sans`.
    domain: Option<&'a Map<String, Value>>,
    chain: Option<&'a Value>,
    key: Option<&'a Value>,
}

fn parts(top: &Map<String, Value>) -> Result<Vec<Part<'_>>, ImportError> {
    if let Some(part) = part(None, top) {
        return Ok(vec![part]);
    }
    let resolvers = top.iter().filter_map(|(name, value)| {
        let value = value.as_object()?;
        part(Some(name), value)
    });
    let parts: Vec<_> = resolvers.collect();
    match parts.is_empty() {
        true => Err(ImportError::NotAcme),
        false => Ok(parts),
    }
}

/// What an object holds if it is of a form of ours.
fn part<'a>(resolver: Option<&'a str>, value: &'a Map<String, Value>) -> Option<Part<'a>> {
    let early = object(value, "DomainsCertificate").and_then(|it| list(it, "Certs"));
    let later = list(value, "Certificates");
    let account = object(value, "Account");
    // The first form has the account at the top.
    let flat = field(value, "PrivateKey").map(|_| value);
    // A resolver that has ordered nothing yet has both, as null.
    let is_named = ["Account", "Certificates"]
        .iter()
        .all(|key| field(value, key).is_some());
    if early.is_none() && later.is_none() && account.is_none() && flat.is_none() && !is_named {
        return None;
    }
    let early = early.unwrap_or_default().iter().map(|stored| {
        let stored = stored.as_object();
        let pair = stored.and_then(|stored| object(stored, "Certificate"));
        Stored {
            domain: stored.and_then(|stored| object(stored, "Domains")),
            chain: pair.and_then(|pair| field(pair, "Certificate")),
            key: pair.and_then(|pair| field(pair, "PrivateKey")),
        }
    });
    let later = later.unwrap_or_default().iter().map(|stored| {
        let stored = stored.as_object();
        Stored {
            domain: stored.and_then(|stored| object(stored, "Domain")),
            chain: stored.and_then(|stored| field(stored, "Certificate")),
            key: stored.and_then(|stored| field(stored, "Key")),
        }
    });
    Some(Part {
        resolver,
        account: account.or(flat),
        certificates: early.chain(later).collect(),
    })
}

fn selected<'a>(
    parts: Vec<Part<'a>>,
    selection: &Selection<'_>,
) -> Result<Vec<Part<'a>>, ImportError> {
    let Some(wanted) = selection.resolver else {
        return Ok(parts);
    };
    let names = parts.iter().filter_map(|part| part.resolver);
    let found = names.map(|name| Excerpt(name).to_string()).collect();
    let parts: Vec<_> = parts
        .into_iter()
        .filter(|part| part.resolver == Some(wanted))
        .collect();
    match parts.is_empty() {
        true => Err(ImportError::NoResolver {
            wanted: wanted.to_owned(),
            found,
        }),
        false => Ok(parts),
    }
}

/// What has been found so far.
#[derive(Default)]
struct Found {
    accounts: BTreeMap<String, ImportedAccount>,
    certificates: BTreeMap<NameSet, ImportedCertificate>,
    skipped: Vec<Skipped>,
}

impl Found {
    fn part(&mut self, part: &Part<'_>, selection: &Selection<'_>) {
        if let Some(written) = part.account {
            match account(written, selection) {
                Ok(account) => self.account(account),
                Err(why) => {
                    let what = match part.resolver {
                        Some(resolver) => format!("account of resolver '{}'", Excerpt(resolver)),
                        None => "account".to_owned(),
                    };
                    self.skipped.push(Skipped { what, why });
                }
            }
        }
        for stored in &part.certificates {
            match certificate(stored, selection) {
                Ok(certificate) => self.certificate(certificate),
                Err(why) => self.skipped.push(Skipped {
                    what: described(stored.domain),
                    why,
                }),
            }
        }
    }

    fn account(&mut self, account: ImportedAccount) {
        match self.accounts.entry(account.directory.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(account);
            }
            Entry::Occupied(_) => self.skipped.push(Skipped {
                what: format!("account at {}", account.directory),
                why: "another resolver has an account there; choose one with --resolver".to_owned(),
            }),
        }
    }

    fn certificate(&mut self, certificate: ImportedCertificate) {
        let other = match self.certificates.entry(certificate.names.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(certificate);
                return;
            }
            Entry::Occupied(mut entry) if entry.get().not_after < certificate.not_after => {
                entry.insert(certificate)
            }
            Entry::Occupied(_) => certificate,
        };
        self.skipped.push(Skipped {
            what: other.names.to_string(),
            why: "another for the same names lives as long or longer".to_owned(),
        });
    }

    fn import(self) -> Import {
        Import {
            accounts: self.accounts.into_values().collect(),
            certificates: self.certificates.into_values().collect(),
            skipped: self.skipped,
        }
    }
}

fn certificate(
    stored: &Stored<'_>,
    selection: &Selection<'_>,
) -> Result<ImportedCertificate, String> {
    let chain = bytes(stored.chain, "the chain")?;
    let key = bytes(stored.key, "the key")?;
    let Checked {
        names,
        not_after,
        chain,
        key,
    } = check(chain, key, selection.now)?;
    Ok(ImportedCertificate {
        names: names.clone(),
        not_after,
        issued: IssuedCertificate {
            chain,
            key,
            issuer: selection.issuer.to_owned(),
            names,
        },
    })
}

fn described(domain: Option<&Map<String, Value>>) -> String {
    let main = domain.and_then(|domain| text(domain, "main"));
    match main {
        Some(main) => Excerpt(main).to_string(),
        None => "a certificate without names".to_owned(),
    }
}

fn account(
    written: &Map<String, Value>,
    selection: &Selection<'_>,
) -> Result<ImportedAccount, String> {
    let key = private_key(&bytes(field(written, "PrivateKey"), "its key")?)?;
    let registration = object(written, "Registration");
    let uri = registration.and_then(|registration| text(registration, "uri"));
    let uri = uri.filter(|uri| uri.starts_with("https://"));
    let host = uri.and_then(|uri| {
        let uri: http::Uri = uri.parse().ok()?;
        Some(uri.host()?.to_owned())
    });
    let known = DIRECTORIES
        .into_iter()
        .find(|(known, _)| host.as_deref() == Some(*known));
    let directory = selection
        .directory
        .or(known.map(|(_, directory)| directory));
    let directory = directory.ok_or_else(|| {
        format!(
            "nothing says which directory {} is of; name it with --directory",
            uri.map_or_else(|| "it".to_owned(), |uri| Excerpt(uri).to_string())
        )
    })?;
    let uri = uri.filter(|_| !RETIRED.iter().any(|old| host.as_deref() == Some(*old)));
    let contact = contact(written, registration);
    let mut record = Record::new(
        RecordKind::Account,
        record_name(directory, selection.external_key_id),
    );
    let mut kept = json!({ "directory": directory });
    if let Some(uri) = uri {
        kept["uri"] = uri.into();
    }
    if !contact.is_empty() {
        kept["contact"] = contact.clone().into();
    }
    let entries = [("account.json", kept.to_string()), ("tls.key", key)];
    for (entry, text) in entries {
        record.entries.insert(entry.to_owned(), text.into_bytes());
    }
    Ok(ImportedAccount {
        directory: directory.to_owned(),
        uri: uri.map(str::to_owned),
        contact,
        record,
    })
}

/// What the CA was told, else the mail address.
fn contact(written: &Map<String, Value>, registration: Option<&Map<String, Value>>) -> Vec<String> {
    let body = registration.and_then(|registration| object(registration, "body"));
    let told = body.and_then(|body| list(body, "contact"));
    let told = told.unwrap_or_default().iter().filter_map(Value::as_str);
    let told: Vec<_> = told
        .filter(|contact| contact.len() <= LONGEST_TEXT)
        .map(str::to_owned)
        .take(16)
        .collect();
    let email = text(written, "Email").filter(|email| !email.is_empty());
    match (told.is_empty(), email) {
        (true, Some(email)) => vec![format!("mailto:{email}")],
        _ => told,
    }
}

/// A private key as PEM: it is in DER of one form or another, or in PEM already.
fn private_key(bytes: &[u8]) -> Result<String, String> {
    const NO_KEY: &str = "its key is neither RSA nor ECDSA on P-256";
    if bytes.starts_with(b"-----BEGIN") {
        let text = str::from_utf8(bytes).map_err(|_| NO_KEY)?;
        let der = <rustls_pki_types::PrivateKeyDer<'_> as rustls_pki_types::pem::PemObject>::from_pem_slice(bytes)
            .map_err(|_| NO_KEY)?;
        return key_label(der.secret_der())
            .map(|_| text.to_owned())
            .ok_or_else(|| NO_KEY.to_owned());
    }
    let label = key_label(bytes).ok_or(NO_KEY)?;
    Ok(pem(label, bytes))
}

/// How PEM calls what DER holds.
fn key_label(der: &[u8]) -> Option<&'static str> {
    if RsaKeyPair::from_der(der).is_ok() {
        return Some("RSA PRIVATE KEY");
    }
    let is_ecdsa = |read: Result<EcdsaKeyPair, _>| read.is_ok();
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    if RsaKeyPair::from_pkcs8(der).is_ok() || is_ecdsa(EcdsaKeyPair::from_pkcs8(algorithm, der)) {
        return Some("PRIVATE KEY");
    }
    is_ecdsa(EcdsaKeyPair::from_private_key_der(algorithm, der)).then_some("EC PRIVATE KEY")
}

fn bytes(value: Option<&Value>, what: &str) -> Result<Vec<u8>, String> {
    let text = value.and_then(Value::as_str).unwrap_or_default();
    match text.is_empty() {
        true => Err(format!("{what} is missing")),
        false => BASE64_STANDARD
            .decode(text)
            .map_err(|error| format!("{what} is no base64: {error}")),
    }
}

/// The value of a key in any case.
fn field<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    object
        .iter()
        .find_map(|(name, value)| name.eq_ignore_ascii_case(key).then_some(value))
}

fn object<'a>(parent: &'a Map<String, Value>, key: &str) -> Option<&'a Map<String, Value>> {
    field(parent, key)?.as_object()
}

fn list<'a>(parent: &'a Map<String, Value>, key: &str) -> Option<&'a [Value]> {
    field(parent, key)?.as_array().map(Vec::as_slice)
}

fn text<'a>(parent: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    let text = field(parent, key)?.as_str()?;
    (text.len() <= LONGEST_TEXT).then_some(text)
}
