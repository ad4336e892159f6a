//! Parsing of Secrets made on the spot.

use k8s_openapi::ByteString;
use rcgen::{CertificateParams, DnType, KeyPair, SanType};

use super::*;

fn secret(chain: &str, key: &str) -> Secret {
    let entry = |name: &str, text: &str| (name.to_owned(), ByteString(text.as_bytes().to_vec()));
    Secret {
        data: Some([entry(CHAIN, chain), entry(KEY, key)].into()),
        ..Secret::default()
    }
}

/// A certificate for these names, with its key, in PEM.
fn issue(names: &[&str]) -> (String, String) {
    let key = KeyPair::generate().expect("key");
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    let address = [10, 0, 0, 1].into();
    params.subject_alt_names.push(SanType::IpAddress(address));
    params
        .distinguished_name
        .push(DnType::CommonName, "common.example.com");
    let certificate = params.self_signed(&key).expect("certificate");
    (certificate.pem(), key.serialize_pem())
}

fn parse_pair(chain: &str, key: &str) -> Result<Parsed, SecretError> {
    let name = NamespacedName::new("default", "cert");
    parse(&name, &secret(chain, key))
}

#[test]
fn names_are_the_dns_names_alone_in_lower_case() -> Result<(), SecretError> {
    let (chain, key) = issue(&["*.Example.com", "b.example.com", "B.example.com"]);
    let parsed = parse_pair(&chain, &key)?;
    let names: Vec<_> = parsed
        .certificate
        .names
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(names, ["b.example.com", "*.example.com"]);
    assert_eq!(parsed.naming, Naming::AlternativeNames);
    assert_eq!(parsed.algorithm, KeyAlgorithm::Ecdsa);
    Ok(())
}

#[test]
fn a_fingerprint_is_of_the_content() -> Result<(), SecretError> {
    let (chain, key) = issue(&["a.example.com"]);
    let (other_chain, other_key) = issue(&["a.example.com"]);
    let print = |chain: &str, key: &str| Ok(parse_pair(chain, key)?.certificate.fingerprint);
    let first = print(&chain, &key)?;
    assert_eq!(first, print(&format!("\n{chain}\n"), &key)?);
    assert_ne!(first, print(&other_chain, &other_key)?);
    assert_ne!(first, print(&format!("{chain}{other_chain}"), &key)?);
    Ok(())
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let (chain, _) = issue(&["a.example.com"]);
    let (_, other) = issue(&["a.example.com"]);
    let error = parse_pair(&chain, &other).expect_err("mismatch");
    assert_eq!(error, SecretError::KeyMismatch);
}

#[test]
fn a_bad_certificate_behind_the_leaf_is_named_by_its_place() {
    let (chain, key) = issue(&["a.example.com"]);
    let bad = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    let error = parse_pair(&format!("{chain}{bad}"), &key).expect_err("bad chain");
    assert_eq!(error, SecretError::Certificate { block: 2 });
}

#[test]
fn errors_and_debug_output_never_show_the_key() -> Result<(), SecretError> {
    let (chain, key) = issue(&["a.example.com"]);
    let body = key.lines().nth(1).expect("body");
    let shown = format!("{:?}", parse_pair(&chain, &key)?);
    assert!(shown.contains("redacted") && !shown.contains(body));
    let broken = key.replace("-----END", "*****END");
    let error = parse_pair(&chain, &broken).expect_err("broken");
    assert!(!error.to_string().contains(body), "{error}");
    Ok(())
}

#[test]
fn string_data_goes_before_data() -> Result<(), SecretError> {
    let (chain, key) = issue(&["a.example.com"]);
    let mut secret = secret("nonsense", &key);
    secret.string_data = Some([(CHAIN.to_owned(), chain)].into());
    parse(&NamespacedName::new("default", "cert"), &secret).map(drop)
}
