//! Chains: fetched, chosen among those that the CA offers, and looked at before anything is done with them.

use std::collections::BTreeSet;

use http::HeaderMap;
use rcgen::{KeyPair, PublicKeyData};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tidegate_model::{HostPattern, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::acme::account::Session;
use crate::acme::failure::AcmeError;
use crate::names::NameSet;

/// More alternatives than any CA offers.
const ALTERNATIVES: usize = 8;

/// Fetches the chain at this URL; where a preference is set, the first one offered whose topmost certificate was issued by
/// somebody with that text in the common name (RFC 8555 section 7.4.2), else the one that the CA gives by itself.
pub(crate) async fn fetch(
    session: &Session,
    url: &str,
    preferred: Option<&str>,
) -> Result<String, AcmeError> {
    let answer = session.read(url).await?;
    let chain = text(url, answer.body())?;
    let Some(preferred) = preferred else {
        return Ok(chain);
    };
    if top_issuer(&chain).is_some_and(|name| name.contains(preferred)) {
        return Ok(chain);
    }
    for alternative in alternatives(answer.headers(), url)
        .iter()
        .take(ALTERNATIVES)
    {
        let answer = session.read(alternative).await?;
        let other = text(alternative, answer.body())?;
        if top_issuer(&other).is_some_and(|name| name.contains(preferred)) {
            return Ok(other);
        }
    }
    tracing::warn!(
        "the CA offers no chain with '{preferred}' in the common name of its topmost issuer; its usual chain is used"
    );
    Ok(chain)
}

/// Why a chain is not what was ordered; `None` when it is.
pub(crate) fn fault(chain: &str, key: &KeyPair, names: &NameSet, now: UnixTime) -> Option<String> {
    let Ok(chain) = parsed(chain) else {
        return Some("it cannot be read as certificates in PEM".to_owned());
    };
    let Some(leaf) = chain.first() else {
        return Some("it is empty".to_owned());
    };
    let Ok((_, leaf)) = X509Certificate::from_der(leaf) else {
        return Some("its first certificate cannot be read".to_owned());
    };
    if leaf.public_key().raw != key.subject_public_key_info() {
        return Some("it is for another key".to_owned());
    }
    let covered = names_of(&leaf);
    if let Some(missing) = names.iter().find(|name| !covered.contains(name)) {
        return Some(format!("it is not for {missing}"));
    }
    (leaf.validity().not_after.timestamp() <= now.0).then(|| "its life is over".to_owned())
}

fn names_of(leaf: &X509Certificate<'_>) -> BTreeSet<HostPattern> {
    let Ok(Some(extension)) = leaf.subject_alternative_name() else {
        return BTreeSet::new();
    };
    let names = extension.value.general_names.iter();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => HostPattern::parse(&name.to_ascii_lowercase()).ok(),
            _ => None,
        })
        .collect()
}

fn text(url: &str, body: &[u8]) -> Result<String, AcmeError> {
    let text = String::from_utf8(body.to_vec()).ok();
    text.filter(|text| text.contains("-----BEGIN CERTIFICATE-----"))
        .ok_or_else(|| AcmeError::not_acme(url, "its chain is no PEM", body))
}

fn parsed(chain: &str) -> Result<Vec<CertificateDer<'static>>, rustls_pki_types::pem::Error> {
    CertificateDer::pem_slice_iter(chain.as_bytes()).collect()
}

/// Common name of whoever issued the topmost certificate.
fn top_issuer(chain: &str) -> Option<String> {
    let chain = parsed(chain).ok()?;
    let (_, top) = X509Certificate::from_der(chain.last()?).ok()?;
    let name = top.issuer().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}

/// URLs of `Link` headers with `rel="alternate"` (RFC 8288), those of this server only.
fn alternatives(headers: &HeaderMap, base: &str) -> Vec<String> {
    let origin = |url: &str| {
        let url: http::Uri = url.parse().ok()?;
        Some((url.scheme()?.clone(), url.authority()?.clone()))
    };
    let links = headers.get_all(http::header::LINK).iter();
    links
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|link| {
            let (url, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
            let is_alternate = parameters
                .split(';')
                .any(|text| matches!(text.trim(), "rel=\"alternate\"" | "rel=alternate"));
            (is_alternate && origin(url).is_some() && origin(url) == origin(base))
                .then(|| url.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::LINK;
    use rcgen::CertificateParams;

    use super::*;

    fn certificate(name: &str) -> (String, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        let year = rcgen::date_time_ymd;
        (params.not_before, params.not_after) = (year(2026, 1, 1), year(2026, 4, 1));
        (params.self_signed(&key).unwrap().pem(), key)
    }

    fn set(name: &str) -> NameSet {
        NameSet::new([HostPattern::parse(name).unwrap()]).unwrap()
    }

    #[test]
    fn what_is_not_what_was_ordered_is_found() {
        const DURING: UnixTime = UnixTime(1_770_000_000);
        let (chain, key) = certificate("a.test");
        let (_, other) = certificate("a.test");
        assert_eq!(fault(&chain, &key, &set("a.test"), DURING), None);
        for (fault, wanted) in [
            (fault(&chain, &other, &set("a.test"), DURING), "another key"),
            (
                fault(&chain, &key, &set("b.test"), DURING),
                "not for b.test",
            ),
            (
                fault(&chain, &key, &set("a.test"), UnixTime(1_800_000_000)),
                "over",
            ),
            (fault("", &key, &set("a.test"), DURING), "empty"),
        ] {
            assert!(
                fault.as_ref().is_some_and(|text| text.contains(wanted)),
                "{fault:?}"
            );
        }
    }

    #[test]
    fn alternatives_are_those_of_the_same_server() {
        let mut headers = HeaderMap::new();
        let mut link = |text: &'static str| headers.append(LINK, HeaderValue::from_static(text));
        link("<https://ca.test/dir>;rel=\"index\"");
        link("<https://ca.test/c/1>;rel=\"alternate\", <https://ca.test/c/2>; rel=alternate");
        link("<https://elsewhere.test/c/3>;rel=\"alternate\"");
        link("/c/4;rel=\"alternate\"");
        assert_eq!(
            alternatives(&headers, "https://ca.test/c"),
            ["https://ca.test/c/1", "https://ca.test/c/2"]
        );
    }
}
