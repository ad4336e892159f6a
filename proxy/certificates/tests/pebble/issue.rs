//! Certificates issued when nothing goes wrong.

use std::time::Instant;

use rustls_pki_types::pem::PemObject;
use tidegate_certificates::issuer::{ChallengeSettings, KeyType};
use tidegate_certificates::{RecordKind, Store};

use crate::support::{World, set};

/// OIDs of public keys.
const EC: &str = "1.2.840.10045.2.1";
const RSA: &str = "1.2.840.113549.1.1.1";

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_are_issued_by_http_01_with_one_order_on_three_nodes() {
    let mut world = World::with(|_| {}, 3).await;
    // The CA asks a node that does not lead; here none does.
    world
        .pebble
        .set_default_address(Some(world.fleet.address(2)))
        .unwrap();
    world.lead();
    let start = Instant::now();
    world.wish("web", &["a.test", "b.test"]);
    let issued = world.issued("web", &["a.test", "b.test"]).await;
    println!("issued by http-01 after {:?}", start.elapsed());
    assert_eq!(issued.key, (EC.to_owned(), 256));
    assert_eq!(issued.issuer, "pebble");
    world.settled().await;
    assert_eq!(world.pebble.orders(), 1);
    assert_eq!(world.accounts(), 1);
    for node in 0..3 {
        assert!(
            world.fleet.answered(node) >= 2,
            "node {node} was not looked at"
        );
    }
    let ledger = world.ledger().await;
    let entry = &ledger.sets[&set(&["a.test", "b.test"]).id()];
    assert_eq!((entry.issued.len(), entry.failures), (1, 0));
    assert_eq!(
        ledger.directories[&world.pebble.directory()].orders.len(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_alpn_01_is_answered_by_every_node_too() {
    let mut world = World::with(|_| {}, 2).await;
    world.set_issuer(|issuer| issuer.challenge = ChallengeSettings::TlsAlpn01);
    world
        .pebble
        .set_default_address(Some(world.fleet.address(1)))
        .unwrap();
    world.lead();
    world.wish("web", &["a.test", "b.test"]);
    world.issued("web", &["a.test", "b.test"]).await;
    world.settled().await;
    assert_eq!(world.pebble.orders(), 1);
    assert!(world.fleet.answered(0) >= 2 && world.fleet.answered(1) >= 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_of_the_kind_that_the_issuer_is_set_to() {
    let mut world = World::new().await;
    let kinds = [
        ("p384", KeyType::EcdsaP384, (EC.to_owned(), 384)),
        ("rsa2048", KeyType::Rsa2048, (RSA.to_owned(), 2048)),
        ("rsa3072", KeyType::Rsa3072, (RSA.to_owned(), 3072)),
        ("rsa4096", KeyType::Rsa4096, (RSA.to_owned(), 4096)),
    ];
    let issuers = kinds.iter().map(|(name, kind, _)| {
        let mut issuer = world.issuer(name);
        issuer.key_type = *kind;
        issuer
    });
    world.set_issuers(issuers.collect());
    for (name, _, _) in &kinds {
        world.wish_of(Some(name), name, &[&format!("{name}.test")]);
    }
    world.lead();
    for (name, _, wanted) in &kinds {
        let issued = world.issued(name, &[&format!("{name}.test")]).await;
        assert_eq!(
            (issued.key, issued.issuer),
            (wanted.clone(), (*name).to_owned())
        );
    }
    assert_eq!(
        world.accounts(),
        1,
        "issuers of one directory share an account"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn names_in_several_secrets_are_one_order() {
    let mut world = World::new().await;
    world.wish("one", &["a.test", "b.test"]);
    world.wish("two", &["b.test", "a.test"]);
    world.lead();
    let one = world.issued("one", &["a.test", "b.test"]).await;
    let two = world.issued("two", &["a.test", "b.test"]).await;
    assert_eq!(one.pem, two.pem);
    // One that is wished for later gets a copy.
    world.wish("three", &["a.test", "b.test"]);
    let three = world.issued("three", &["a.test", "b.test"]).await;
    assert_eq!(one.pem, three.pem);
    assert_eq!(world.pebble.orders(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_somebody_else_is_never_written() {
    let mut world = World::new().await;
    let secret = tidegate_model::NamespacedName::new("default", "theirs");
    world.store().disown(&secret);
    world.wish("theirs", &["a.test"]);
    world.lead();
    world.wish("ours", &["b.test"]);
    world.issued("ours", &["b.test"]).await;
    assert!(!world.store().certificates().contains_key(&secret));
}

#[tokio::test(flavor = "multi_thread")]
async fn ticket_keys_are_made_and_rotated() {
    let mut world = World::new().await;
    world.lead();
    let keys = async || {
        let records = world.store().load(RecordKind::TicketKeys).await.unwrap();
        let entry = records.first()?.entries.get("keys.json")?.clone();
        Some(tidegate_certificates::tickets::read(&entry).unwrap())
    };
    let mut seen = Vec::new();
    for _ in 0..4 {
        let wanted = seen.len() + 1;
        let sealing = loop {
            if let Some(keys) = keys().await
                && let Some(key) = keys.sealing(world.now())
                && !seen.contains(&key.name)
                && keys.all().last().unwrap().active_from > world.now()
            {
                break key.name;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        };
        seen.push(sealing);
        assert_eq!(seen.len(), wanted);
        world.skip(std::time::Duration::from_secs(8 * 60 * 60));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chain_that_is_preferred_is_taken_where_the_ca_offers_it() {
    let mut world = World::with(|options| options.alternate_roots = 2, 1).await;
    let roots = [0, 1, 2].map(|number| {
        let root = world.pebble.root_of_chain(number).unwrap();
        common_name(&root)
    });
    let issuers = [0, 1, 2].map(|number| {
        let mut issuer = world.issuer(&format!("root-{number}"));
        issuer.preferred_chain = Some(roots[number].clone());
        issuer
    });
    let mut issuers = issuers.to_vec();
    issuers.push(world.issuer("any"));
    let mut unknown = world.issuer("unknown");
    unknown.preferred_chain = Some("no such root".to_owned());
    issuers.push(unknown);
    let names: Vec<_> = issuers.iter().map(|issuer| issuer.name.clone()).collect();
    world.set_issuers(issuers);
    for name in &names {
        world.wish_of(Some(name), name, &[&format!("{name}.test")]);
    }
    world.lead();
    for (name, wanted) in names.iter().zip([0, 1, 2, 0, 0]) {
        let issued = world.issued(name, &[&format!("{name}.test")]).await;
        assert_eq!(issued.top, roots[wanted], "{name}");
    }
}

fn common_name(pem: &str) -> String {
    use x509_parser::prelude::FromDer;
    let der = rustls_pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(&der).unwrap();
    let name = certificate.subject().iter_common_name().next().unwrap();
    name.as_str().unwrap().to_owned()
}
