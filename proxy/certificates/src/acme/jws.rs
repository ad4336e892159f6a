//! Keys of accounts, and requests signed with them (RFC 7515, RFC 7517, RFC 8555 section 6.2).

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use thiserror::Error;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Why a key cannot be used.
#[derive(Debug, Error)]
pub(crate) enum KeyError {
    /// It is no key in PEM.
    #[error("it is no private key in PEM")]
    NoKey,
    /// Neither ECDSA on P-256 nor RSA.
    #[error("it is neither an ECDSA key on P-256 nor an RSA key of 2048 bits or more")]
    Unfit,
    /// The library failed.
    #[error("signing failed")]
    Crypto,
}

impl From<aws_lc_rs::error::Unspecified> for KeyError {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self::Crypto
    }
}

/// The private key of an account.
pub(crate) enum AccountKey {
    /// ECDSA on P-256 (ES256), which is what we make.
    P256(EcdsaKeyPair),
    /// RSA (RS256), of an account that was imported.
    Rsa(Box<RsaKeyPair>),
}

impl AccountKey {
    /// A new one, with its PEM.
    pub(crate) fn generate() -> Result<(Self, String), KeyError> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
        let pem = pem("PRIVATE KEY", key.to_pkcs8v1()?.as_ref());
        Ok((Self::P256(key), pem))
    }

    /// Reads a key in PEM: PKCS#8, PKCS#1 or SEC 1.
    pub(crate) fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| KeyError::NoKey)?;
        let bytes = der.secret_der();
        let p256 = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, bytes);
        if let Ok(key) = p256 {
            return Ok(Self::P256(key));
        }
        let rsa = match &der {
            PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
            _ => RsaKeyPair::from_pkcs8(bytes),
        };
        rsa.map(|key| Self::Rsa(Box::new(key)))
            .map_err(|_| KeyError::Unfit)
    }

    /// The key as `instant-acme` takes it; `None` for one that it does not take.
    pub(crate) fn pkcs8(&self) -> Result<Option<PrivatePkcs8KeyDer<'static>>, KeyError> {
        match self {
            Self::P256(key) => {
                let der = key.to_pkcs8v1()?.as_ref().to_vec();
                Ok(Some(PrivatePkcs8KeyDer::from(der)))
            }
            Self::Rsa(_) => Ok(None),
        }
    }

    /// The public key, with exactly the members that a thumbprint is made of (RFC 7638 section 3.2).
    pub(crate) fn jwk(&self) -> Result<Value, KeyError> {
        match self {
            Self::P256(key) => {
                // An uncompressed point: 0x04, x, y.
                let point = key.public_key().as_ref();
                let x = point.get(1..33).ok_or(KeyError::Crypto)?;
                let y = point.get(33..65).ok_or(KeyError::Crypto)?;
                Ok(json!({ "crv": "P-256", "kty": "EC", "x": base64url(x), "y": base64url(y) }))
            }
            Self::Rsa(key) => {
                let der: PublicKeyX509Der<'_> = key.public_key().as_der()?;
                let (_, info) =
                    SubjectPublicKeyInfo::from_der(der.as_ref()).map_err(|_| KeyError::Crypto)?;
                let Ok(PublicKey::RSA(public)) = info.parsed() else {
                    return Err(KeyError::Crypto);
                };
                let modulus = without_zeros(public.modulus);
                let exponent = without_zeros(public.exponent);
                Ok(json!({ "e": base64url(exponent), "kty": "RSA", "n": base64url(modulus) }))
            }
        }
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::P256(_) => "ES256",
            Self::Rsa(_) => "RS256",
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let random = SystemRandom::new();
        match self {
            Self::P256(key) => Ok(key.sign(&random, message)?.as_ref().to_vec()),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)?;
                Ok(signature)
            }
        }
    }
}

/// Who a request is from.
#[derive(Clone, Copy)]
pub(crate) enum Sender<'a> {
    /// Whoever has the key: `jwk`.
    Key,
    /// An account by its URL: `kid`.
    Account(&'a str),
}

/// A request to `url`, signed: flattened JSON. Without a payload it is a POST-as-GET (RFC 8555 section 6.3).
pub(crate) fn signed(
    key: &AccountKey,
    sender: Sender<'_>,
    url: &str,
    nonce: Option<&str>,
    payload: Option<&Value>,
) -> Result<Value, KeyError> {
    let mut protected = json!({ "alg": key.algorithm(), "url": url });
    match sender {
        Sender::Key => protected["jwk"] = key.jwk()?,
        Sender::Account(account) => protected["kid"] = account.into(),
    }
    if let Some(nonce) = nonce {
        protected["nonce"] = nonce.into();
    }
    flattened(&protected, payload, |message| key.sign(message))
}

/// What binds a new account's key to an account that the CA knows by other means (RFC 8555 section 7.3.4).
pub(crate) fn binding(
    key: &AccountKey,
    external_id: &str,
    external_key: &[u8],
    url: &str,
) -> Result<Value, KeyError> {
    let protected = json!({ "alg": "HS256", "kid": external_id, "url": url });
    let mac = hmac::Key::new(hmac::HMAC_SHA256, external_key);
    flattened(&protected, Some(&key.jwk()?), |message| {
        Ok(hmac::sign(&mac, message).as_ref().to_vec())
    })
}

fn flattened(
    protected: &Value,
    payload: Option<&Value>,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, KeyError>,
) -> Result<Value, KeyError> {
    let protected = base64url(protected.to_string().as_bytes());
    let payload = payload.map_or_else(String::new, |payload| {
        base64url(payload.to_string().as_bytes())
    });
    let signature = sign(format!("{protected}.{payload}").as_bytes())?;
    Ok(json!({
        "protected": protected,
        "payload": payload,
        "signature": base64url(&signature),
    }))
}

/// A text as short hexadecimal digits of its SHA-256.
pub(crate) fn short_hash(text: &str) -> String {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    let bytes = digest.as_ref().iter().take(8);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

fn base64url(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// A positive INTEGER of DER without the zero that keeps it positive.
fn without_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

/// DER as PEM (RFC 7468).
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::prelude::BASE64_STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
    };

    use super::*;

    fn decoded(jws: &Value, part: &str) -> Vec<u8> {
        BASE64_URL_SAFE_NO_PAD
            .decode(jws[part].as_str().unwrap())
            .unwrap()
    }

    fn message(jws: &Value) -> String {
        let part = |name: &str| jws[name].as_str().unwrap().to_owned();
        format!("{}.{}", part("protected"), part("payload"))
    }

    #[test]
    fn a_new_key_is_read_again_and_its_signature_holds() {
        let (key, pem) = AccountKey::generate().unwrap();
        let again = AccountKey::from_pem(pem.as_bytes()).unwrap();
        assert_eq!(key.jwk().unwrap(), again.jwk().unwrap());
        let sender = Sender::Account("https://ca.test/1");
        let jws = signed(&again, sender, "https://ca.test/new", Some("n"), None).unwrap();
        let protected: Value = serde_json::from_slice(&decoded(&jws, "protected")).unwrap();
        assert_eq!(
            protected,
            json!({ "alg": "ES256", "kid": "https://ca.test/1", "nonce": "n", "url": "https://ca.test/new" })
        );
        assert_eq!(jws["payload"], "", "a POST-as-GET");
        let AccountKey::P256(pair) = key else {
            panic!("another kind of key");
        };
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref())
            .verify(message(&jws).as_bytes(), &decoded(&jws, "signature"))
            .unwrap();
    }

    #[test]
    fn an_rsa_key_signs_and_shows_its_public_key() {
        let pair =
            rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)
                .unwrap();
        let key = AccountKey::from_pem(pair.serialize_pem().as_bytes()).unwrap();
        assert!(key.pkcs8().unwrap().is_none());
        let jwk = key.jwk().unwrap();
        assert_eq!((&jwk["kty"], &jwk["e"]), (&json!("RSA"), &json!("AQAB")));
        assert_eq!(decoded(&jwk, "n").len(), 256, "no leading zero");
        let jws = signed(
            &key,
            Sender::Key,
            "https://ca.test/",
            None,
            Some(&json!({})),
        )
        .unwrap();
        let AccountKey::Rsa(rsa) = key else {
            panic!("another kind of key");
        };
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, rsa.public_key().as_ref())
            .verify(message(&jws).as_bytes(), &decoded(&jws, "signature"))
            .unwrap();
    }

    #[test]
    fn keys_of_other_kinds_are_told_apart_from_garbage() {
        assert!(matches!(
            AccountKey::from_pem(b"nothing"),
            Err(KeyError::NoKey)
        ));
        let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        assert!(matches!(
            AccountKey::from_pem(p384.serialize_pem().as_bytes()),
            Err(KeyError::Unfit)
        ));
    }
}
