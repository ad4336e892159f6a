//! Whether a chain and a key in PEM are a certificate that can be served.

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tidegate_model::{HostPattern, UnixTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::names::NameSet;

/// Longest chain or key in PEM, in bytes: both have to fit into a Secret.
const LONGEST: usize = 256 << 10;

/// What a certificate says.
pub(super) struct Checked {
    pub(super) names: NameSet,
    pub(super) not_after: UnixTime,
    pub(super) chain: String,
    pub(super) key: String,
}

/// Reads chain and key, and checks that they belong together and are alive.
pub(super) fn check(chain: Vec<u8>, key: Vec<u8>, now: UnixTime) -> Result<Checked, String> {
    let chain = text(chain, "the chain")?;
    let key = text(key, "the key")?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| format!("the chain is no PEM: {error}"))?;
    let leaf = certificates
        .first()
        .ok_or("there is no certificate in the chain")?;
    let (names, not_after) = leaf_of(leaf)?;
    if not_after <= now {
        return Err(format!("it expired {}", age(now, not_after)));
    }
    let private = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|error| format!("the key is no PEM: {error}"))?;
    let signing = any_supported_type(&private)
        .map_err(|error| format!("the key is of no kind that can be served: {error}"))?;
    match CertifiedKey::new(certificates, signing).keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(_) => return Err("the key does not belong to the certificate".to_owned()),
    }
    Ok(Checked {
        names,
        not_after,
        chain,
        key,
    })
}

fn text(bytes: Vec<u8>, what: &str) -> Result<String, String> {
    if bytes.len() > LONGEST {
        return Err(format!(
            "{what} has {} bytes, which is too many",
            bytes.len()
        ));
    }
    String::from_utf8(bytes).map_err(|_| format!("{what} is no text"))
}

/// The DNS names of a certificate and the end of its life.
fn leaf_of(der: &CertificateDer<'_>) -> Result<(NameSet, UnixTime), String> {
    let (_, leaf) = X509Certificate::from_der(der)
        .map_err(|error| format!("the certificate cannot be read: {error}"))?;
    let names = leaf
        .subject_alternative_name()
        .map_err(|error| format!("its names cannot be read: {error}"))?;
    let names = names.map(|extension| &extension.value.general_names);
    let names = names.into_iter().flatten().filter_map(|name| match name {
        GeneralName::DNSName(name) => HostPattern::parse(&name.to_ascii_lowercase()).ok(),
        _ => None,
    });
    let names = NameSet::new(names).ok_or("it is for no DNS name")?;
    Ok((names, UnixTime(leaf.validity().not_after.timestamp())))
}

fn age(now: UnixTime, then: UnixTime) -> String {
    match now.0.saturating_sub(then.0) / (24 * 3600) {
        0 => "today".to_owned(),
        1 => "a day ago".to_owned(),
        days => format!("{days} days ago"),
    }
}
