//! Time of one plan by the number of sets of names that are wanted: `cargo bench -p tidegate-certificates --bench plan`.
#![allow(clippy::print_stdout, reason = "the table is the outcome")]
#![allow(clippy::expect_used, reason = "a bench ends at the first surprise")]

use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use rustls_pki_types::PrivateKeyDer;
use tidegate_certificates::issuer::{ChallengeSettings, Issuer, Issuers, KeyType};
use tidegate_certificates::ledger::Renewal;
use tidegate_certificates::plan::{plan, renewal_id};
use tidegate_certificates::{CertificateSettings, Ledger, NameSet};
use tidegate_model::{
    Certificate, CertificateWish, Fingerprint, HeldSecret, HostPattern, Issuance, NamespacedName,
    ObjectRef, PrivateKey, SecretOwner, UnixTime,
};

const SIZES: [usize; 3] = [100, 1_000, 10_000];
const NOW: UnixTime = UnixTime(1_800_000_000);
const DAY: i64 = 24 * 60 * 60;

fn main() {
    let leaf = Leaf::new();
    for size in SIZES {
        for held in [Held::Nothing, Held::Everything] {
            let (settings, issuance, ledger) = world(size, held, &leaf);
            let begin = Instant::now();
            let made = plan(NOW, &settings, "tidegate", "tidegate", &issuance, &ledger);
            let took = begin.elapsed();
            println!(
                "{size:6} sets, {held:?} held: {took:?}, {} actions",
                black_box(made).actions.len()
            );
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Nothing,
    Everything,
}

/// A real certificate, of which only the identifier matters.
struct Leaf {
    der: rustls_pki_types::CertificateDer<'static>,
    key: Vec<u8>,
}

impl Leaf {
    fn new() -> Self {
        let ca_key = rcgen::KeyPair::generate().expect("a key");
        let mut ca = rcgen::CertificateParams::new(Vec::new()).expect("no names");
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = rcgen::Issuer::new(ca, ca_key);
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut leaf =
            rcgen::CertificateParams::new(vec!["a.example.com".to_owned()]).expect("a name");
        leaf.use_authority_key_identifier_extension = true;
        let signed = leaf.signed_by(&key, &issuer).expect("a certificate");
        Self {
            der: signed.der().clone(),
            key: key.serialize_der(),
        }
    }
}

fn world(size: usize, held: Held, leaf: &Leaf) -> (CertificateSettings, Issuance, Ledger) {
    let settings = CertificateSettings {
        issuers: Issuers(vec![issuer()]),
        ..CertificateSettings::default()
    };
    let mut issuance = Issuance::default();
    let mut ledger = Ledger::default();
    for at in 0..size {
        let host =
            HostPattern::parse(&format!("app-{at}.customer-{}.example", at / 10)).expect("a host");
        let name = NamespacedName::new("default", format!("tls-{at}"));
        if held == Held::Everything {
            let (secret, names) = (
                held_secret(&name, &host, leaf),
                NameSet::new([host.clone()]).expect("a name"),
            );
            let certificate = secret.certificate.as_ref().expect("it is held");
            ledger.renewal(
                &names.id(),
                renewal(renewal_id(certificate).expect("it has one")),
            );
            issuance.secrets.insert(name.clone(), secret);
        }
        issuance.wishes.push(CertificateWish {
            names: BTreeSet::from([host]),
            issuer: None,
            secret: Some(name.clone()),
            object: ObjectRef::new("Ingress", name),
            field: "spec.tls[0]".to_owned(),
        });
    }
    (settings, issuance, ledger)
}

fn held_secret(secret: &NamespacedName, host: &HostPattern, leaf: &Leaf) -> HeldSecret {
    let key = PrivateKeyDer::try_from(leaf.key.clone()).expect("a key");
    let certificate = Certificate {
        secret: secret.clone(),
        names: vec![host.clone()],
        not_before: UnixTime(NOW.0 - DAY),
        not_after: UnixTime(NOW.0 + 89 * DAY),
        chain: vec![leaf.der.clone()],
        key: PrivateKey::new(key),
        fingerprint: Fingerprint([0; 32]),
    };
    HeldSecret {
        owner: SecretOwner::Tidegate,
        certificate: Some(Arc::new(certificate)),
        issuer: Some("letsencrypt".to_owned()),
    }
}

fn renewal(certificate: String) -> Renewal {
    Renewal {
        certificate,
        start: NOW.0 + 59 * DAY,
        end: NOW.0 + 61 * DAY,
        at: NOW.0 + 60 * DAY,
        ask_at: NOW.0 + DAY,
        explanation: None,
    }
}

fn issuer() -> Issuer {
    Issuer {
        name: "letsencrypt".to_owned(),
        directory: "https://acme.example/directory".to_owned(),
        staging: None,
        contact: Vec::new(),
        external_account: None,
        profile: None,
        key_type: KeyType::default(),
        challenge: ChallengeSettings::Http01,
        ca_bundle: None,
        preferred_chain: None,
        fallback: Vec::new(),
    }
}
