//! Files of Traefik's three forms with keys that are made here, and hostile ones.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::*;
use crate::acme::record_name;

const DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";
const STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";
const ACCOUNT: &str = "https://acme-v02.api.letsencrypt.org/acme/acct/1";

fn now() -> UnixTime {
    UnixTime(OffsetDateTime::now_utc().unix_timestamp())
}

fn selection() -> Selection<'static> {
    Selection {
        resolver: None,
        issuer: "letsencrypt",
        directory: None,
        external_key_id: None,
        now: now(),
    }
}

/// Chain and key in PEM for these names, with so many days left.
fn pair(names: &[&str], days: i64) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>(),
    )
    .unwrap();
    params.not_before = OffsetDateTime::now_utc() - Duration::days(90);
    params.not_after = OffsetDateTime::now_utc() + Duration::days(days);
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_STANDARD.encode(bytes)
}

/// An RSA key in PKCS#1, as Traefik keeps it: the key within its PKCS#8.
fn account_key() -> Vec<u8> {
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let pkcs8 = key.serialize_der();
    // RFC 5208: version, algorithm, and the key as the octets at the end.
    let at = pkcs8
        .windows(4)
        .skip(8)
        .position(|four| four[..2] == [0x30, 0x82])
        .unwrap()
        + 8;
    pkcs8[at..].to_vec()
}

fn account(uri: &str) -> Value {
    json!({
        "Email": "admin@example.com",
        "Registration": {"body": {"status": "valid", "contact": ["mailto:admin@example.com"]}, "uri": uri},
        "PrivateKey": base64(account_key()),
        "KeyType": "4096"
    })
}

/// As Traefik 1.6 and 1.7 write it.
fn upper(names: &[&str], days: i64) -> Value {
    let (chain, key) = pair(names, days);
    json!({
        "Domain": {"Main": names[0], "SANs": names[1..]},
        "Certificate": base64(chain),
        "Key": base64(key)
    })
}

/// As Traefik 2 and 3 write it.
fn lower(names: &[&str], days: i64) -> Value {
    let (chain, key) = pair(names, days);
    json!({
        "domain": {"main": names[0], "sans": names[1..]},
        "certificate": base64(chain),
        "key": base64(key),
        "Store": "default"
    })
}

fn read(file: &Value, selection: &Selection<'_>) -> Result<Import, ImportError> {
    traefik(file.to_string().as_bytes(), selection)
}

fn names(import: &Import) -> Vec<String> {
    let certificates = import.certificates.iter();
    certificates
        .map(|certificate| certificate.names.to_string())
        .collect()
}

#[test]
fn traefik_1() {
    let file = json!({
        "Account": account(ACCOUNT),
        "Certificates": [upper(&["b.example", "www.b.example"], 30), upper(&["a.example"], 30)],
        "HTTPChallenges": {},
        "TLSChallenges": null
    });
    let import = read(&file, &selection()).unwrap();
    assert_eq!(names(&import), ["a.example", "b.example, www.b.example"]);
    assert_eq!(import.skipped, []);
    let issued = &import.certificates[0].issued;
    assert_eq!(issued.issuer, "letsencrypt");
    assert!(issued.chain.contains("BEGIN CERTIFICATE") && issued.key.contains("PRIVATE KEY"));
    let [account] = &*import.accounts else {
        panic!("{:?}", import.accounts);
    };
    assert_eq!(account.directory, DIRECTORY);
    assert_eq!(account.record.name, record_name(DIRECTORY, None));
    let kept: Value = serde_json::from_slice(&account.record.entries["account.json"]).unwrap();
    let wanted =
        json!({"directory": DIRECTORY, "uri": ACCOUNT, "contact": ["mailto:admin@example.com"]});
    assert_eq!(kept, wanted);
    let key = &account.record.entries["tls.key"];
    assert!(key.starts_with(b"-----BEGIN RSA PRIVATE KEY-----"));
}

#[test]
fn the_first_form_of_traefik_1() {
    let (chain, key) = pair(&["a.example"], 30);
    let mut file = account("https://acme-v01.api.letsencrypt.org/acme/reg/1");
    file["Registration"]["body"] = Value::Null;
    file["DomainsCertificate"] = json!({"Certs": [{
        "Domains": {"Main": "a.example", "SANs": null},
        "Certificate": {"Domain": "a.example", "CertURL": "", "PrivateKey": base64(key), "Certificate": base64(chain)}
    }]});
    let import = read(&file, &selection()).unwrap();
    assert_eq!(names(&import), ["a.example"]);
    let account = &import.accounts[0];
    // The CA tells the URL that it has now.
    assert_eq!((&*account.directory, &account.uri), (DIRECTORY, &None));
    assert_eq!(account.contact, ["mailto:admin@example.com"]);
}

#[test]
fn traefik_2_and_3_by_resolver() {
    let file = json!({
        "web": {"Account": account(ACCOUNT), "Certificates": [lower(&["a.example"], 30)]},
        "zone": {
            "Account": account("https://acme-staging-v02.api.letsencrypt.org/acme/acct/2"),
            "Certificates": [lower(&["*.b.example"], 30), lower(&["a.example"], 60)]
        },
        "idle": {"Account": null, "Certificates": null}
    });
    let all = read(&file, &selection()).unwrap();
    assert_eq!(names(&all), ["a.example", "*.b.example"]);
    assert_eq!(all.accounts.len(), 2);
    let left: i64 = all.certificates[0].not_after.0 - now().0;
    assert!(left > 50 * 24 * 3600, "the one that lives longer");
    assert_eq!(all.skipped.len(), 1);
    assert!(all.skipped[0].why.contains("lives as long"));

    let zone = Selection {
        resolver: Some("zone"),
        ..selection()
    };
    let zone = read(&file, &zone).unwrap();
    assert_eq!(zone.accounts.len(), 1);
    assert_eq!(zone.accounts[0].directory, STAGING);
    let missing = Selection {
        resolver: Some("dns"),
        ..selection()
    };
    let error = read(&file, &missing).unwrap_err().to_string();
    assert!(
        error.contains("'dns'") && error.contains("idle, web, zone"),
        "{error}"
    );
}

#[test]
fn what_is_expired_or_broken_is_left_out_with_a_word() {
    let (chain, _) = pair(&["a.example"], 30);
    let (_, other) = pair(&["a.example"], 30);
    let pem = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n";
    let stored = |chain: &str, key: &str| json!({"Domain": {"Main": "x.example"}, "Certificate": chain, "Key": key});
    let ca = {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    };
    let wrong = [
        (upper(&["old.example"], -3), "expired 3 days ago"),
        (stored(&base64(&chain), &base64(&other)), "does not belong"),
        (stored(&base64(&chain), ""), "the key is missing"),
        (stored("?", &base64(&other)), "no base64"),
        (stored(&base64("hello"), &base64(&other)), "no certificate"),
        (stored(&base64(pem), &base64(&other)), "cannot be read"),
        (
            stored(&base64(&chain), &base64("hello")),
            "the key is no PEM",
        ),
        (stored(&base64(ca.0), &base64(ca.1)), "for no DNS name"),
        (stored(&base64([0xff, 0xfe]), &base64(&other)), "no text"),
        (
            stored(&base64(vec![b' '; 300 << 10]), &base64(&other)),
            "too many",
        ),
        (json!(7), "missing"),
    ];
    let file = json!({
        "Account": {"Email": "", "PrivateKey": base64("no key"), "Registration": {"uri": ACCOUNT}},
        "Certificates": wrong.iter().map(|(stored, _)| stored.clone()).chain([upper(&["good.example"], 1)]).collect::<Vec<_>>()
    });
    let import = read(&file, &selection()).unwrap();
    assert_eq!(names(&import), ["good.example"]);
    assert_eq!(import.accounts.len(), 0);
    assert!(import.skipped[0].why.contains("neither RSA nor ECDSA"));
    for ((_, wanted), skipped) in wrong.iter().zip(&import.skipped[1..]) {
        assert!(skipped.why.contains(wanted), "{skipped:?} / {wanted}");
    }
    assert_eq!(import.skipped.len(), wrong.len() + 1);
}

#[test]
fn an_account_of_another_ca_needs_its_directory() {
    let file = json!({"Account": account("https://ca.example.com/acct/7"), "Certificates": []});
    let import = read(&file, &selection()).unwrap();
    assert!(import.skipped[0].why.contains("--directory"), "{import:?}");
    let named = Selection {
        directory: Some("https://ca.example.com/directory"),
        external_key_id: Some("kid"),
        ..selection()
    };
    let import = read(&file, &named).unwrap();
    let account = &import.accounts[0];
    assert_eq!(account.directory, "https://ca.example.com/directory");
    assert_eq!(
        account.uri.as_deref(),
        Some("https://ca.example.com/acct/7")
    );
    assert_eq!(
        account.record.name,
        record_name(&account.directory, Some("kid"))
    );
}

#[test]
fn account_keys_in_every_form() {
    let ecdsa = KeyPair::generate().unwrap();
    let rsa = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    for key in [
        ecdsa.serialize_der(),
        rsa.serialize_der(),
        ecdsa.serialize_pem().into_bytes(),
    ] {
        let mut written = account(ACCOUNT);
        written["PrivateKey"] = base64(key).into();
        let import = read(
            &json!({"Account": written, "Certificates": null}),
            &selection(),
        )
        .unwrap();
        let key = &import.accounts[0].record.entries["tls.key"];
        assert!(key.starts_with(b"-----BEGIN PRIVATE KEY-----"));
    }
}

#[test]
fn what_is_no_acme_json_is_told_apart() {
    let error = |content: &[u8]| traefik(content, &selection()).unwrap_err();
    assert!(matches!(error(b""), ImportError::NoJson(_)));
    assert!(matches!(error(b"kind: Ingress"), ImportError::NoJson(_)));
    assert!(matches!(error(b"[]"), ImportError::NotAcme));
    assert!(matches!(
        error(b"{\"kind\": \"List\", \"a\": {\"b\": 1}}"),
        ImportError::NotAcme
    ));
    assert!(matches!(
        error(&vec![b' '; LONGEST + 1]),
        ImportError::TooLong(_)
    ));
    let deep = [vec![b'['; 10_000], vec![b']'; 10_000]].concat();
    assert!(matches!(error(&deep), ImportError::NoJson(_)));
    let many = json!({"Account": null, "Certificates": vec![0; MOST + 1]});
    assert!(matches!(
        read(&many, &selection()),
        Err(ImportError::TooMany)
    ));
}

/// JSON whose keys are mostly those that are looked for.
fn hostile() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec![
        "Account",
        "account",
        "Certificates",
        "DomainsCertificate",
        "Certs",
        "Domain",
        "Domains",
        "main",
        "SANs",
        "Certificate",
        "certificate",
        "Key",
        "PrivateKey",
        "Registration",
        "uri",
        "body",
        "contact",
        "Email",
        "x",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
        prop::collection::vec(any::<u8>(), 0..60).prop_map(|bytes| base64(bytes).into()),
        Just(Value::from(base64(
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
        ))),
        Just(Value::from("https://acme-v02.api.letsencrypt.org/x")),
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..6).prop_map(|pairs| {
                let pairs = pairs
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value));
                Value::Object(pairs.collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn hostile_json_is_refused_or_left_out(file in hostile()) {
        if let Ok(import) = read(&file, &selection()) {
            prop_assert!(import.certificates.is_empty());
        }
    }

    #[test]
    fn hostile_bytes_are_refused(content in prop::collection::vec(any::<u8>(), 0..400)) {
        let import = traefik(&content, &selection());
        prop_assert!(import.is_err());
    }
}
