//! The store with files of its own.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use tidegate_certificates::store::{IssuedCertificate, Put};
use tidegate_certificates::{NameSet, Record, RecordKind, Store, StoreError};
use tidegate_controller::certificates::Owner;
use tidegate_controller::source::Update;
use tidegate_controller::{Change, Object};
use tidegate_model::{HostPattern, NamespacedName, ObjectRef};
use tokio::sync::mpsc;

use super::*;
use crate::cache::{DataKey, KeptError};

type Told = mpsc::UnboundedReceiver<Vec<Change>>;

fn owner() -> Owner {
    Owner {
        namespace: "tidegate".to_owned(),
        instance: "edge".to_owned(),
        lease_name: "tidegate-edge".to_owned(),
    }
}

fn key(number: u8) -> Option<KeySource> {
    Some(KeySource::Bytes(DataKey::parse(&[number; 32]).unwrap()))
}

async fn open(folder: &Path, key: Option<KeySource>, manifests: &Manifests) -> (Local, Told) {
    let settings = LocalSettings {
        file: Some(file(folder, "edge", key)),
        owner: owner(),
    };
    let (changes, told) = mpsc::unbounded_channel();
    (
        Local::open(settings, manifests.clone(), changes).await,
        told,
    )
}

/// Opens the store in a folder, and leads.
async fn led(folder: &Path, key: Option<KeySource>) -> (Local, LocalTerm, Told) {
    let (local, told) = open(folder, key, &Manifests::default()).await;
    let term = tokio::time::timeout(Duration::from_secs(30), local.lead()).await;
    (local, term.expect("it leads in time"), told)
}

fn record(kind: RecordKind, name: &str, text: &str) -> Record {
    let mut record = Record::new(kind, name);
    let entry = ("entry".to_owned(), text.as_bytes().to_vec());
    record.entries.insert(entry.0, entry.1);
    record
}

fn issued(name: &str) -> IssuedCertificate {
    IssuedCertificate {
        chain: format!("chain of {name}"),
        key: "not for your eyes".to_owned(),
        issuer: "main".to_owned(),
        names: NameSet::new([HostPattern::parse(name).unwrap()]).unwrap(),
    }
}

fn secret(name: &str) -> NamespacedName {
    NamespacedName::new("shop", name)
}

/// What was told last of each Secret: its labels, or nothing for one that is gone.
fn seen(told: &mut Told) -> BTreeMap<String, Option<BTreeMap<String, String>>> {
    let mut seen = BTreeMap::new();
    while let Ok(changes) = told.try_recv() {
        for change in changes {
            match change {
                Change::Put(object) => {
                    let labels = object.metadata().labels.clone().unwrap_or_default();
                    seen.insert(object.reference().name.to_string(), Some(labels));
                }
                Change::Remove(reference) => {
                    seen.insert(reference.name.to_string(), None);
                }
                Change::Resolved(..) => {}
            }
        }
    }
    seen
}

#[tokio::test]
async fn what_is_kept_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (local, term, mut told) = led(folder.path(), None).await;
    assert!(seen(&mut told).is_empty());
    let mut account = record(RecordKind::Account, "0011", "one");
    let first = term.save(&account).await.unwrap();
    assert_eq!(term.save(&account).await, Err(StoreError::Conflict));
    account.version = Some(first.clone());
    account.entries.insert("next".to_owned(), vec![1]);
    let second = term.save(&account).await.unwrap();
    assert_ne!(first, second);
    let answers = record(RecordKind::ChallengeAnswers, "0a", "x");
    term.save(&answers).await.unwrap();
    let put = term
        .put_certificate(&secret("web-tls"), &issued("a.example"))
        .await;
    assert_eq!(put, Ok(Put::Done));
    let now = seen(&mut told);
    let names: Vec<_> = now.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "shop/web-tls",
            "tidegate/tidegate-edge-challenge-answers-0a"
        ],
        "an account is nobody's to see"
    );
    let labels = now["shop/web-tls"].as_ref().unwrap();
    assert_eq!(labels["tidegate.dev/certificate"], "edge");

    local.release().await;
    assert_eq!(term.check(), Err(StoreError::NotLeading));
    term.over().await;
    assert_eq!(
        term.remove(RecordKind::Account, "0011").await,
        Err(StoreError::NotLeading)
    );

    let (again, term, mut told) = led(folder.path(), None).await;
    assert_eq!(seen(&mut told), now);
    let records = term.load(RecordKind::Account).await.unwrap();
    assert_eq!(records[0].entries, account.entries);
    assert_eq!(records[0].version.as_ref(), Some(&second));
    let put = term.remove_certificate(&secret("web-tls")).await;
    assert_eq!(put, Ok(Put::Done));
    let put = term.remove_certificate(&secret("web-tls")).await;
    assert_eq!(put, Ok(Put::Gone));
    term.remove(RecordKind::ChallengeAnswers, "0a")
        .await
        .unwrap();
    let gone = seen(&mut told);
    assert_eq!(gone.values().collect::<Vec<_>>(), [&None, &None]);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&file(folder.path(), "edge", None).file), 0o600);
    again.release().await;
}

#[tokio::test]
async fn only_the_process_with_the_file_leads_and_the_other_sees_what_it_keeps() {
    let folder = tempfile::tempdir().unwrap();
    let (first, term, _told) = led(folder.path(), None).await;
    term.put_certificate(&secret("web-tls"), &issued("a.example"))
        .await
        .unwrap();

    let (second, mut told) = open(folder.path(), None, &Manifests::default()).await;
    assert!(seen(&mut told).contains_key("shop/web-tls"));
    assert!(matches!(second.lead_now().await, Err(KeptError::Locked)));
    let waiting = tokio::spawn({
        let second = second.clone();
        async move { second.lead().await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished());
    // What is written meanwhile is told once the file is had.
    term.put_certificate(&secret("pay-tls"), &issued("b.example"))
        .await
        .unwrap();
    term.remove_certificate(&secret("web-tls")).await.unwrap();
    first.release().await;
    let term = waiting.await.unwrap();
    assert_eq!(term.check(), Ok(()));
    let now = seen(&mut told);
    assert!(now["shop/pay-tls"].is_some() && now["shop/web-tls"].is_none());
    second.release().await;
}

#[tokio::test]
async fn a_wish_that_was_taken_back_takes_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let (first, _term, _told) = led(folder.path(), None).await;
    let (second, _told) = open(folder.path(), None, &Manifests::default()).await;
    let waiting = tokio::spawn({
        let second = second.clone();
        async move { second.lead().await }
    });
    tokio::time::sleep(Duration::from_millis(120)).await;
    second.release().await;
    first.release().await;
    let over = tokio::time::timeout(Duration::from_secs(10), waiting).await;
    let term = over.unwrap().unwrap();
    assert_eq!(term.check(), Err(StoreError::NotLeading));
    // So the file is free.
    let term = first.lead_now().await.unwrap();
    assert_eq!(term.check(), Ok(()));
    first.release().await;
}

#[tokio::test]
async fn a_file_whose_process_was_killed_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (local, term, _told) = led(folder.path(), None).await;
    for number in 0..20 {
        let name = format!("host-{number}.example");
        term.put_certificate(&secret(&format!("tls-{number}")), &issued(&name))
            .await
            .unwrap();
    }
    // As it is on disk while the process lives: what a kill leaves.
    let other = tempfile::tempdir().unwrap();
    let place = file(folder.path(), "edge", None).file;
    std::fs::copy(&place, file(other.path(), "edge", None).file).unwrap();
    let (_again, _term, mut told) = led(other.path(), None).await;
    assert_eq!(seen(&mut told).len(), 20);
    local.release().await;
}

#[tokio::test]
async fn everything_is_encrypted_with_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let place = file(folder.path(), "edge", None).file;
    let holds = |text: &str| {
        let content = std::fs::read(&place).unwrap();
        content
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    let (local, term, _told) = led(folder.path(), None).await;
    term.put_certificate(&secret("web-tls"), &issued("a.example"))
        .await
        .unwrap();
    term.save(&record(RecordKind::Account, "0011", "an account's key"))
        .await
        .unwrap();
    local.release().await;
    assert!(holds("not for your eyes") && holds("an account's key"));

    // With a key from now on: the file is written anew.
    let (local, term, _told) = led(folder.path(), key(1)).await;
    assert_eq!(term.load(RecordKind::Account).await.unwrap().len(), 1);
    term.save(&record(RecordKind::TicketKeys, "", "a ticket's key"))
        .await
        .unwrap();
    local.release().await;
    for text in ["not for your eyes", "an account's key", "a ticket's key"] {
        assert!(!holds(text), "{text}");
    }
    // Without the key, or with another, nothing is lost and nothing is ordered.
    for wrong in [None, key(2)] {
        let (local, mut told) = open(folder.path(), wrong, &Manifests::default()).await;
        assert!(seen(&mut told).is_empty());
        let error = local.lead_now().await.unwrap_err().to_string();
        assert!(
            error.contains("--data-key-file") && error.contains("encrypted"),
            "{error}"
        );
    }
    let (local, term, _told) = led(folder.path(), key(1)).await;
    assert_eq!(term.load(RecordKind::TicketKeys).await.unwrap().len(), 1);
    local.release().await;
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_and_another_ones_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let place = file(folder.path(), "edge", None).file;
    std::fs::write(&place, "kind: Ingress\n").unwrap();
    let (local, term, _told) = led(folder.path(), None).await;
    term.save(&record(RecordKind::Ledger, "0", "x"))
        .await
        .unwrap();
    local.release().await;
    let files = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files, 2, "the old one is beside it");

    let settings = LocalSettings {
        file: Some(CacheSettings {
            instance: "other".to_owned(),
            ..file(folder.path(), "edge", None)
        }),
        owner: owner(),
    };
    let (changes, _told) = mpsc::unbounded_channel();
    let other = Local::open(settings, Manifests::default(), changes).await;
    let error = other.lead_now().await.unwrap_err().to_string();
    assert!(error.contains("of instance edge, not of other"), "{error}");
    let (local, term, _told) = led(folder.path(), None).await;
    assert_eq!(term.load(RecordKind::Ledger).await.unwrap().len(), 1);
    local.release().await;
}

#[tokio::test]
async fn without_a_file_it_is_kept_in_memory() {
    let settings = LocalSettings {
        file: None,
        owner: owner(),
    };
    let (changes, mut told) = mpsc::unbounded_channel();
    let local = Local::open(settings, Manifests::default(), changes).await;
    let term = local.lead().await;
    term.put_certificate(&secret("web-tls"), &issued("a.example"))
        .await
        .unwrap();
    assert_eq!(seen(&mut told).len(), 1);
    local.release().await;
    let again = local.lead().await;
    assert_eq!(term.check(), Err(StoreError::NotLeading));
    assert_eq!(again.check(), Ok(()));
    let put = again.remove_certificate(&secret("web-tls")).await;
    assert_eq!(put, Ok(Put::Done));
}

/// A Secret as a manifest has it.
fn manifest(name: &str) -> Object {
    let issued = issued("theirs.example");
    let secret = Owner::new_certificate(&NamespacedName::new("shop", name));
    Object::Secret(owner().with_certificate(secret, &issued).into())
}

#[tokio::test]
async fn a_secret_of_the_manifests_goes_before_ours() {
    let folder = tempfile::tempdir().unwrap();
    let manifests = Manifests::default();
    let (local, told) = open(folder.path(), None, &manifests).await;
    let term = local.lead().await;
    term.put_certificate(&secret("web-tls"), &issued("a.example"))
        .await
        .unwrap();

    let (from_manifests, updates) = mpsc::channel(4);
    let (joint, mut joined) = mpsc::channel(4);
    tokio::spawn(beside(updates, told, manifests.clone(), joint));
    let put = |name| Update {
        changes: vec![Change::Put(manifest(name))],
        ..Update::default()
    };
    from_manifests.send(put("other-tls")).await.unwrap();
    let texts = |update: &Update| {
        let texts = update.changes.iter().map(|change| match change {
            Change::Put(object) => format!("+{}", object.reference().name.name),
            Change::Remove(reference) => format!("-{}", reference.name.name),
            Change::Resolved(..) => String::new(),
        });
        texts.collect::<Vec<_>>()
    };
    let mut told = Vec::new();
    while told.len() < 2 {
        told.extend(texts(&joined.recv().await.unwrap()));
    }
    told.sort();
    assert_eq!(told, ["+other-tls", "+web-tls"]);

    // A manifest takes the name, and gives it back.
    from_manifests.send(put("web-tls")).await.unwrap();
    assert_eq!(texts(&joined.recv().await.unwrap()), ["+web-tls"]);
    let put = term
        .put_certificate(&secret("web-tls"), &issued("b.example"))
        .await;
    assert_eq!(put, Ok(Put::NotOurs));
    let other = term.remove_certificate(&secret("other-tls")).await;
    assert_eq!(other, Ok(Put::NotOurs));
    let entry = manifests.entry(&secret("other-tls"), "tls.crt");
    assert_eq!(
        entry.as_deref(),
        Some(b"chain of theirs.example".as_slice())
    );
    assert_eq!(manifests.entry(&secret("other-tls"), "x"), None);
    let reference = ObjectRef::new("Secret", secret("web-tls"));
    let removed = Update {
        changes: vec![Change::Remove(reference)],
        ..Update::default()
    };
    from_manifests.send(removed).await.unwrap();
    assert_eq!(texts(&joined.recv().await.unwrap()), ["+web-tls"]);
    let put = term
        .put_certificate(&secret("web-tls"), &issued("b.example"))
        .await;
    assert_eq!(put, Ok(Put::Done));
    assert_eq!(texts(&joined.recv().await.unwrap()), ["+web-tls"]);
    drop(from_manifests);
    assert!(joined.recv().await.is_none());
    local.release().await;
}
