//! Keys of certificates, and requests for certificates.

use rcgen::{CertificateParams, DistinguishedName, KeyPair, RsaKeySize};

use crate::issuer::KeyType;
use crate::ledger::{Failure, FailureKind};

/// Makes a key. One of RSA takes up to seconds, so it is not made on a thread that others wait for.
pub(super) async fn generate(key_type: KeyType) -> Result<KeyPair, Failure> {
    let made = tokio::task::spawn_blocking(move || pair(key_type)).await;
    let failed = |error: String| {
        let text = format!("no key can be made for the certificate: {error}");
        Failure::new(FailureKind::Internal, text)
    };
    made.map_err(|error| failed(error.to_string()))?
        .map_err(|error| failed(error.to_string()))
}

fn pair(key_type: KeyType) -> Result<KeyPair, rcgen::Error> {
    let rsa = |size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size);
    match key_type {
        KeyType::EcdsaP256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        KeyType::EcdsaP384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
        KeyType::Rsa2048 => rsa(RsaKeySize::_2048),
        KeyType::Rsa3072 => rsa(RsaKeySize::_3072),
        KeyType::Rsa4096 => rsa(RsaKeySize::_4096),
    }
}

/// A request for a certificate with these names (RFC 2986), in DER. It has no subject: names are in its extension only.
pub(super) fn request(names: &[String], key: &KeyPair) -> Result<Vec<u8>, Failure> {
    let made = CertificateParams::new(names).and_then(|mut params| {
        params.distinguished_name = DistinguishedName::new();
        params.serialize_request(key)
    });
    match made {
        Ok(request) => Ok(request.der().to_vec()),
        Err(error) => Err(Failure::new(
            FailureKind::Internal,
            format!(
                "no certificate can be requested for {}: {error}",
                names.join(", ")
            ),
        )
        .without_order()),
    }
}
