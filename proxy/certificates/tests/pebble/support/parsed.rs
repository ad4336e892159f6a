//! Certificates as a node parses them.

use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use tidegate_certificates::store::IssuedCertificate;
use tidegate_model::{Certificate, Fingerprint, HostPattern, NamespacedName, PrivateKey, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// A certificate with what tests look at.
pub(crate) struct Parsed {
    pub(crate) certificate: Arc<Certificate>,
    /// OID of the key's algorithm, and its length in bits.
    pub(crate) key: (String, usize),
    /// Common name of whoever issued the topmost certificate.
    pub(crate) top: String,
    pub(crate) issuer: String,
    pub(crate) pem: String,
}

impl Parsed {
    pub(crate) fn new(secret: &NamespacedName, issued: &IssuedCertificate) -> Self {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(issued.chain.as_bytes())
            .map(Result::unwrap)
            .collect();
        let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
        let (_, last) = X509Certificate::from_der(chain.last().unwrap()).unwrap();
        let top = last.issuer().iter_common_name().next().unwrap();
        let names = leaf.subject_alternative_name().unwrap().unwrap();
        let names = names.value.general_names.iter().map(|name| match name {
            GeneralName::DNSName(name) => HostPattern::parse(name).unwrap(),
            other => panic!("a name of another kind: {other}"),
        });
        let mut names: Vec<_> = names.collect();
        names.sort_unstable();
        let mut hash = Sha256::new();
        hash.update(&issued.chain);
        hash.update(&issued.key);
        let public = leaf.public_key();
        Self {
            key: (
                public.algorithm.algorithm.to_id_string(),
                public.parsed().unwrap().key_size(),
            ),
            top: top.as_str().unwrap().to_owned(),
            issuer: issued.issuer.clone(),
            pem: issued.chain.clone(),
            certificate: Arc::new(Certificate {
                secret: secret.clone(),
                names,
                not_before: UnixTime(leaf.validity().not_before.timestamp()),
                not_after: UnixTime(leaf.validity().not_after.timestamp()),
                key: PrivateKey::new(PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap()),
                fingerprint: Fingerprint(hash.finalize().into()),
                chain,
            }),
        }
    }
}
