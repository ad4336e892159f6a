//! TLS Secrets: parsed and checked once, before anything is served from them.

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys};
use rustls_pki_types::pem::{self, PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tidegate_model::{
    Certificate, Excerpt, Fingerprint, HostPattern, NamespacedName, PrivateKey, UnixTime,
};
use x509_parser::oid_registry::{
    OID_KEY_TYPE_EC_PUBLIC_KEY, OID_PKCS1_RSAENCRYPTION, OID_SIG_ED25519,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

const CHAIN: &str = "tls.crt";
const KEY: &str = "tls.key";

/// What a key is good for, in the order in which certificates are offered: clients that know several take the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum KeyAlgorithm {
    Ecdsa,
    Ed25519,
    Rsa,
}

/// A usable TLS Secret.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) certificate: Arc<Certificate>,
    pub(super) algorithm: KeyAlgorithm,
    pub(super) naming: Naming,
}

/// Where the leaf's names stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// In its subject alternative names (RFC 9525 section 2).
    AlternativeNames,
    /// In its common name alone, which most clients no longer read.
    CommonName,
}

/// Why a Secret is no use for TLS.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum SecretError {
    #[error("the type is '{}'; only Secrets of type kubernetes.io/tls or Opaque are used for TLS", Excerpt(.0))]
    Type(String),
    #[error("the key '{0}' is missing; put the {contents} in PEM there", contents = contents(.0))]
    Missing(&'static str),
    #[error("'{key}' is no valid PEM: {cause}")]
    Pem { key: &'static str, cause: String },
    #[error(
        "'{CHAIN}' holds {found} as PEM block {block}; put only certificates there, the server's own first"
    )]
    ForeignBlock { block: usize, found: &'static str },
    #[error("'{CHAIN}' holds no PEM block 'CERTIFICATE'; put the certificate chain there")]
    NoCertificate,
    #[error(
        "PEM block {block} of '{CHAIN}' is no X.509 certificate; put the chain there as the CA gave it"
    )]
    Certificate { block: usize },
    #[error(
        "the key algorithm of the certificate ({0}) is not supported; use RSA, ECDSA or Ed25519"
    )]
    Algorithm(String),
    #[error(
        "'{KEY}' is encrypted; a server cannot ask for its passphrase: store the key without one"
    )]
    EncryptedKey,
    #[error(
        "'{KEY}' holds no private key; put a PEM block 'PRIVATE KEY', 'RSA PRIVATE KEY' or 'EC PRIVATE KEY' there"
    )]
    NoKey,
    #[error("'{KEY}' holds {0} private keys; keep the one that belongs to the certificate")]
    SeveralKeys(usize),
    #[error(
        "the private key in '{KEY}' cannot be used: {0}; use a key for RSA (2048 to 8192 bits), ECDSA or Ed25519"
    )]
    Key(String),
    #[error(
        "the private key in '{KEY}' does not belong to the first certificate of '{CHAIN}'; put the server's own \
         certificate first and its key beside it"
    )]
    KeyMismatch,
}

impl SecretError {
    /// The field of the Secret to put right.
    pub(super) fn field(&self) -> &'static str {
        match self {
            Self::Type(_) => "type",
            Self::Missing(key) | Self::Pem { key, .. } if *key == KEY => "data[tls.key]",
            Self::EncryptedKey
            | Self::NoKey
            | Self::SeveralKeys(_)
            | Self::Key(_)
            | Self::KeyMismatch => "data[tls.key]",
            _ => "data[tls.crt]",
        }
    }
}

fn contents(key: &str) -> &'static str {
    if key == KEY {
        "private key"
    } else {
        "certificate chain"
    }
}

/// Parses a Secret and checks that chain and key belong together. Validity in time is not looked at.
pub(super) fn parse(name: &NamespacedName, secret: &Secret) -> Result<Parsed, SecretError> {
    match secret.type_.as_deref() {
        None | Some("kubernetes.io/tls" | "Opaque" | "") => {}
        Some(other) => return Err(SecretError::Type(other.to_owned())),
    }
    let chain = parse_chain(&entry(secret, CHAIN)?)?;
    let key = parse_key(&entry(secret, KEY)?)?;
    let leaf = parse_certificate(&chain, 0)?;
    for block in 1..chain.len() {
        parse_certificate(&chain, block)?;
    }
    let algorithm = key_algorithm(&leaf)?;
    check_pair(&chain, &key)?;
    let (names, naming) = names(&leaf);
    let validity = leaf.validity();
    let certificate = Certificate {
        secret: name.clone(),
        names,
        not_before: UnixTime(validity.not_before.timestamp()),
        not_after: UnixTime(validity.not_after.timestamp()),
        fingerprint: fingerprint(&chain, &key),
        key: PrivateKey::new(key),
        chain: chain.clone(),
    };
    Ok(Parsed {
        certificate: Arc::new(certificate),
        algorithm,
        naming,
    })
}

/// Whether two versions of a Secret are the same for TLS.
pub(super) fn same_content(left: &Secret, right: &Secret) -> bool {
    left.type_ == right.type_ && left.data == right.data && left.string_data == right.string_data
}

/// `stringData` has precedence over `data`, as it does in the API.
fn entry<'a>(secret: &'a Secret, key: &'static str) -> Result<Cow<'a, [u8]>, SecretError> {
    let text = secret.string_data.as_ref().and_then(|all| all.get(key));
    if let Some(text) = text {
        return Ok(Cow::Borrowed(text.as_bytes()));
    }
    let bytes = secret.data.as_ref().and_then(|all| all.get(key));
    let bytes = bytes.ok_or(SecretError::Missing(key))?;
    Ok(Cow::Borrowed(bytes.0.as_slice()))
}

fn blocks(text: &[u8], key: &'static str) -> Result<Vec<(SectionKind, Vec<u8>)>, SecretError> {
    <(SectionKind, Vec<u8>)>::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|error| SecretError::Pem {
            key,
            cause: pem_cause(&error),
        })
}

/// What is wrong with a PEM text, without any of its content: it may be a key.
fn pem_cause(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a block has no END line".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is malformed".to_owned(),
        pem::Error::Base64Decode(_) => "a block is no valid Base64".to_owned(),
        _ => "it cannot be read".to_owned(),
    }
}

fn parse_chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, SecretError> {
    let mut chain = Vec::new();
    for (index, (kind, der)) in blocks(text, CHAIN)?.into_iter().enumerate() {
        match kind {
            SectionKind::Certificate => chain.push(CertificateDer::from(der)),
            other => {
                return Err(SecretError::ForeignBlock {
                    block: index + 1,
                    found: describe(other),
                });
            }
        }
    }
    if chain.is_empty() {
        return Err(SecretError::NoCertificate);
    }
    Ok(chain)
}

fn describe(kind: SectionKind) -> &'static str {
    match kind {
        SectionKind::RsaPrivateKey | SectionKind::PrivateKey | SectionKind::EcPrivateKey => {
            "a private key"
        }
        SectionKind::PublicKey => "a public key",
        SectionKind::Csr => "a certificate request",
        SectionKind::Crl => "a revocation list",
        _ => "something else",
    }
}

fn parse_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, SecretError> {
    let mut keys: Vec<_> = blocks(text, KEY)?
        .into_iter()
        .filter_map(|(kind, der)| PrivateKeyDer::from_pem(kind, der))
        .collect();
    let encrypted = || {
        let marks: [&[u8]; 2] = [b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED"];
        marks
            .iter()
            .any(|mark| memchr::memmem::find(text, mark).is_some())
    };
    match (keys.pop(), keys.len()) {
        (_, _) if encrypted() => Err(SecretError::EncryptedKey),
        (None, _) => Err(SecretError::NoKey),
        (Some(key), 0) => Ok(key),
        (Some(_), others) => Err(SecretError::SeveralKeys(others + 1)),
    }
}

fn parse_certificate<'a>(
    chain: &'a [CertificateDer<'static>],
    index: usize,
) -> Result<X509Certificate<'a>, SecretError> {
    let parsed = X509Certificate::from_der(&chain[index]);
    parsed
        .map(|(_, certificate)| certificate)
        .map_err(|_| SecretError::Certificate { block: index + 1 })
}

fn key_algorithm(leaf: &X509Certificate<'_>) -> Result<KeyAlgorithm, SecretError> {
    let oid = &leaf.public_key().algorithm.algorithm;
    if *oid == OID_KEY_TYPE_EC_PUBLIC_KEY {
        Ok(KeyAlgorithm::Ecdsa)
    } else if *oid == OID_SIG_ED25519 {
        Ok(KeyAlgorithm::Ed25519)
    } else if *oid == OID_PKCS1_RSAENCRYPTION {
        Ok(KeyAlgorithm::Rsa)
    } else {
        Err(SecretError::Algorithm(oid.to_id_string()))
    }
}

fn check_pair(
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
) -> Result<(), SecretError> {
    let checked = CertifiedKey::from_der(chain.to_vec(), key.clone_key(), &default_provider());
    match checked {
        Ok(_) => Ok(()),
        Err(TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(SecretError::KeyMismatch)
        }
        Err(TlsError::InvalidCertificate(_)) => Err(SecretError::Certificate { block: 1 }),
        Err(TlsError::General(cause)) => Err(SecretError::Key(cause)),
        Err(error) => Err(SecretError::Key(error.to_string())),
    }
}

/// The hosts that the leaf is valid for. Addresses are left out: an Ingress cannot name them.
fn names(leaf: &X509Certificate<'_>) -> (Vec<HostPattern>, Naming) {
    let alternative = leaf.subject_alternative_name().ok().flatten();
    let (mut names, naming): (Vec<_>, _) = match alternative {
        Some(extension) => {
            let names = extension.value.general_names.iter();
            let dns = names.filter_map(|name| match name {
                GeneralName::DNSName(name) => host(name),
                _ => None,
            });
            (dns.collect(), Naming::AlternativeNames)
        }
        None => {
            let common = leaf.subject().iter_common_name();
            let names = common.filter_map(|name| name.as_str().ok().and_then(host));
            (names.collect(), Naming::CommonName)
        }
    };
    names.sort();
    names.dedup();
    (names, naming)
}

fn host(name: &str) -> Option<HostPattern> {
    let pattern = HostPattern::parse(&name.to_ascii_lowercase()).ok()?;
    (pattern != HostPattern::Any).then_some(pattern)
}

fn fingerprint(chain: &[CertificateDer<'_>], key: &PrivateKeyDer<'_>) -> Fingerprint {
    let mut hash = Sha256::new();
    for part in chain.iter().map(AsRef::as_ref).chain([key.secret_der()]) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    Fingerprint(hash.finalize().into())
}

#[cfg(test)]
mod tests;
