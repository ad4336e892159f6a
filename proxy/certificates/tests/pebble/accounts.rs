//! Accounts: made once, found again, bound, and given another key.

use std::collections::BTreeMap;

use rcgen::{KeyPair, RsaKeySize};
use serde_json::{Value, json};
use tidegate_certificates::issuer::{ExternalAccount, SecretSource};
use tidegate_certificates::{Record, RecordKind, Store, acme};

use crate::support::World;

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_found_again_by_its_key_alone() {
    let mut world = World::new().await;
    world.wish("one", &["one.test"]);
    world.lead();
    world.issued("one", &["one.test"]).await;
    world.kill().await;
    let account = only_account(&world).await;
    let url = kept(&account)["uri"].as_str().unwrap().to_owned();
    // All that is left is the key, as after a crash between the CA's answer and its record.
    let mut bare = account.clone();
    let text = json!({ "directory": world.pebble.directory() }).to_string();
    bare.entries
        .insert("account.json".to_owned(), text.into_bytes());
    world.store().save(&bare).await.unwrap();
    world.wish("two", &["two.test"]);
    world.lead();
    world.issued("two", &["two.test"]).await;
    let again = only_account(&world).await;
    assert_eq!(kept(&again)["uri"], url);
    assert_eq!(again.entries["tls.key"], account.entries["tls.key"]);
    assert_eq!(world.accounts(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_the_ca_has_forgotten_is_made_again_with_the_same_key() {
    let mut world = World::new().await;
    world.wish("one", &["one.test"]);
    world.lead();
    world.issued("one", &["one.test"]).await;
    world.settled().await;
    let before = only_account(&world).await;
    world.pebble.kill();
    world.pebble.start().unwrap();
    world.wish("two", &["two.test"]);
    world.issued("two", &["two.test"]).await;
    let after = only_account(&world).await;
    assert_eq!(before.entries["tls.key"], after.entries["tls.key"]);
    assert_eq!(world.pebble.orders(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_that_changes_is_told_to_the_ca() {
    let mut world = World::new().await;
    world.wish("one", &["one.test"]);
    world.lead();
    world.issued("one", &["one.test"]).await;
    let contact = vec!["mailto:other@example.com".to_owned()];
    world.set_issuer(|issuer| issuer.contact.clone_from(&contact));
    world.wish("two", &["two.test"]);
    world.issued("two", &["two.test"]).await;
    assert_eq!(kept(&only_account(&world).await)["contact"], json!(contact));
    assert_eq!(world.accounts(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_account_is_bound_and_what_is_wrong_with_it_is_told() {
    const MAC: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let accounts = BTreeMap::from([("kid-1".to_owned(), MAC.to_owned())]);
    let mut world = World::with(|options| options.external_accounts = accounts, 1).await;
    world.wish("one", &["one.test"]);
    world.lead();
    let error = world.failure("externalAccountRequired").await;
    assert!(
        error.contains("set externalAccount of the issuer"),
        "{error}"
    );
    assert_eq!((world.accounts(), world.pebble.orders()), (0, 0));

    let external = ExternalAccount {
        key_id: "kid-1".to_owned(),
        key: SecretSource::Secret {
            name: "eab".to_owned(),
            key: "mac".to_owned(),
        },
    };
    world.set_issuer(|issuer| issuer.external_account = Some(external));
    world.skip(std::time::Duration::from_secs(60 * 60));
    let error = world
        .failure("the entry 'mac' of Secret 'eab' is not there")
        .await;
    assert!(
        error.contains("externalAccount of issuer 'pebble'"),
        "{error}"
    );

    world
        .store()
        .set_secret_entry("eab", "mac", format!("{MAC}\n").as_bytes());
    world.skip(std::time::Duration::from_secs(60 * 60));
    world.issued("one", &["one.test"]).await;
    assert_eq!((world.accounts(), world.pebble.orders()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imported_account_with_an_rsa_key_goes_on_with_an_ecdsa_key() {
    let mut world = World::new().await;
    let directory = world.pebble.directory();
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    // The CA comes to know it when it is opened, as it knows the account of an import; then its key is changed.
    let mut record = Record::new(RecordKind::Account, acme::record_name(&directory, None));
    let text = json!({ "directory": directory }).to_string();
    record
        .entries
        .insert("account.json".to_owned(), text.into_bytes());
    record
        .entries
        .insert("tls.key".to_owned(), rsa.serialize_pem().into_bytes());
    world.store().save(&record).await.unwrap();
    world.wish("one", &["one.test"]);
    world.lead();
    world.issued("one", &["one.test"]).await;
    let changed = only_account(&world).await;
    let key = String::from_utf8(changed.entries["tls.key"].clone()).unwrap();
    let key = KeyPair::from_pem(&key).unwrap();
    assert!(key.is_compatible(&rcgen::PKCS_ECDSA_P256_SHA256));
    assert!(!changed.entries.contains_key("next.key"));
    assert_eq!(world.accounts(), 1);

    // A process that ended after the CA changed the key, and before that was kept.
    world.kill().await;
    let mut half = only_account(&world).await;
    let next = half
        .entries
        .insert("tls.key".to_owned(), rsa.serialize_pem().into_bytes());
    half.entries.insert("next.key".to_owned(), next.unwrap());
    world.store().save(&half).await.unwrap();
    world.wish("two", &["two.test"]);
    world.lead();
    world.issued("two", &["two.test"]).await;
    assert_eq!(only_account(&world).await.entries, changed.entries);
    assert_eq!(world.accounts(), 1);
}

async fn only_account(world: &World) -> Record {
    let mut records = world.store().load(RecordKind::Account).await.unwrap();
    assert_eq!(records.len(), 1, "{records:?}");
    records.remove(0)
}

fn kept(record: &Record) -> Value {
    serde_json::from_slice(&record.entries["account.json"]).unwrap()
}
