//! The cache with files of its own, and with those that others left.

mod damage;
mod disk;
mod killed;
mod snapshots;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tidegate_model::{Policy, TicketKeys};

use super::*;
use crate::clock;
use snapshots::{every_form, image, numbered, ticket};

/// Within some seconds, or the test fails.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().unwrap();
    let limited = async { tokio::time::timeout(Duration::from_secs(60), future).await };
    runtime.block_on(limited).expect("done in time")
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn settings(folder: &Path) -> CacheSettings {
    CacheSettings {
        file: folder.join("data").join("test.redb"),
        instance: "test".to_owned(),
        key: None,
    }
}

fn sealed(folder: &Path, key: u8) -> CacheSettings {
    CacheSettings {
        key: Some(KeySource::Bytes(DataKey::parse(&[key; 32]).unwrap())),
        ..settings(folder)
    }
}

fn open(folder: &Path) -> Cache {
    Cache::new(settings(folder))
}

/// Saves a snapshot in a file that is closed afterwards.
async fn save(settings: CacheSettings, snapshot: &Snapshot) {
    let cache = Cache::new(settings);
    assert_eq!(cache.persist(snapshot).await, Persisted::Durable);
    cache.release().await;
}

/// What a cache finds, in text, and how it stands then. The file is closed afterwards.
async fn found(settings: CacheSettings) -> (Option<String>, CacheStanding) {
    let cache = Cache::new(settings);
    let saved = cache.last_good().await;
    let standing = cache.standing();
    cache.release().await;
    (saved.map(|saved| image(&saved.snapshot)), standing)
}

fn set_aside(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("data")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut aside: Vec<_> = paths
        .filter(|path| path.to_string_lossy().contains(".set-aside-"))
        .collect();
    aside.sort();
    aside
}

#[test]
fn a_snapshot_comes_back_whole() {
    block_on(async {
        let folder = folder();
        let snapshot = every_form();
        save(settings(folder.path()), &snapshot).await;
        let cache = open(folder.path());
        let saved = cache.last_good().await.unwrap();
        assert_eq!(image(&saved.snapshot), image(&snapshot));
        assert!(entry::changes(Some(&snapshot), &saved.snapshot).is_empty());
        assert!((clock::now().0 - saved.saved_at.0) < 60);
        assert_eq!(saved.writer, env!("CARGO_PKG_VERSION"));
        // Written again it is nothing new.
        assert_eq!(cache.persist(&saved.snapshot).await, Persisted::Durable);
        assert_eq!(cache.persist(&snapshot).await, Persisted::Durable);
        let standing = cache.standing();
        assert_eq!((standing.commits, standing.is_behind), (0, false));
        assert_eq!(standing.state, CacheState::Writing);
        assert_eq!(standing.entries, saved.entries);
        assert_eq!(standing.saved_at, Some(saved.saved_at));
    });
}

#[test]
fn a_new_cache_has_nothing_and_says_so_at_once() {
    block_on(async {
        let folder = folder();
        let cache = open(folder.path());
        assert!(cache.last_good().await.is_none());
        assert_eq!(cache.standing().state, CacheState::Writing);
        let error = cache.export().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    });
}

#[test]
fn only_what_differs_is_written() {
    block_on(async {
        let folder = folder();
        let cache = open(folder.path());
        let first = numbered(100, 1);
        assert_eq!(cache.persist(&first).await, Persisted::Durable);
        let before = cache.standing();
        // Hosts, the empty host for any, upstreams, certificates, where they are, policy, TLS.
        assert_eq!((before.entries, before.commits), (403, 1));

        let mut second = first.clone();
        let upstreams = Arc::make_mut(&mut second.upstreams);
        let id = upstreams.keys().next().unwrap().clone();
        let mut upstream = (*upstreams[&id]).clone();
        upstream.endpoints = Arc::default();
        upstreams.insert(id, Arc::new(upstream));
        assert_eq!(cache.persist(&second).await, Persisted::Durable);
        let after = cache.standing();
        assert_eq!(after.written_entries - before.written_entries, 1);
        assert!(after.written_bytes - before.written_bytes < 100);

        // Fewer of everything, made anew.
        let third = numbered(90, 1);
        assert_eq!(cache.persist(&third).await, Persisted::Durable);
        let last = cache.standing();
        assert_eq!(last.entries, 363);
        let differing = last.written_entries - after.written_entries;
        // What is gone, and the upstream if it is not.
        assert!((40..=41).contains(&differing), "{differing}");

        let mut fourth = third.clone();
        fourth.policy = Arc::new(Policy::default());
        cache.persist(&fourth).await;
        assert_eq!(cache.standing().written_entries - last.written_entries, 1);
        cache.release().await;
        let (text, _) = found(settings(folder.path())).await;
        assert_eq!(text.unwrap(), image(&fourth));
    });
}

#[test]
fn challenges_come_and_go() {
    block_on(async {
        let folder = folder();
        let cache = open(folder.path());
        let with = every_form();
        cache.persist(&with).await;
        let before = cache.standing();
        let mut without = with.clone();
        without.challenges = Arc::default();
        assert_eq!(cache.persist(&without).await, Persisted::Durable);
        let after = cache.standing();
        assert_eq!(after.written_entries - before.written_entries, 3);
        cache.release().await;
        assert_eq!(
            found(settings(folder.path())).await.0,
            Some(image(&without))
        );
    });
}

#[test]
fn ticket_keys_and_tls_come_and_go() {
    block_on(async {
        let folder = folder();
        let cache = open(folder.path());
        let first = every_form();
        cache.persist(&first).await;
        let before = cache.standing().written_entries;
        let mut second = first.clone();
        second.tickets = Arc::new(TicketKeys::new([1, 2].map(ticket)));
        assert_eq!(cache.persist(&second).await, Persisted::Durable);
        let rotated = cache.standing().written_entries;
        assert_eq!(rotated - before, 2, "one more and one less");
        let mut third = second.clone();
        Arc::make_mut(&mut third.policy).on_demand = None;
        cache.persist(&third).await;
        assert_eq!(cache.standing().written_entries - rotated, 1);
        cache.release().await;
        let (text, _) = found(settings(folder.path())).await;
        assert_eq!(text, Some(image(&third)));
    });
}

#[test]
fn a_file_of_an_earlier_version_is_read() {
    block_on(async {
        let folder = folder();
        let snapshot = numbered(2, 1);
        save(settings(folder.path()), &snapshot).await;
        let file = settings(folder.path()).file;
        let database = redb::Database::create(&file).unwrap();
        let writing = database.begin_write().unwrap();
        let later = redb::TableDefinition::<&str, &[u8]>::new("tls");
        assert!(writing.delete_table(later).unwrap());
        writing.commit().unwrap();
        drop(database);
        let (text, standing) = found(settings(folder.path())).await;
        assert_eq!((text, standing.set_aside), (Some(image(&snapshot)), 0));
    });
}

#[test]
fn the_file_is_its_owners_alone() {
    block_on(async {
        let folder = folder();
        let file = settings(folder.path()).file;
        save(settings(folder.path()), &numbered(1, 1)).await;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(file.parent().unwrap()), 0o700);
        assert_eq!(mode(&file), 0o600);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(found(settings(folder.path())).await.0.is_some());
        assert_eq!(mode(&file), 0o600);
    });
}

#[test]
fn the_file_goes_from_process_to_process() {
    block_on(async {
        let folder = folder();
        let first = open(folder.path());
        let one = numbered(3, 1);
        assert_eq!(first.persist(&one).await, Persisted::Durable);

        // The newcomer finds the file taken, and asks the owner.
        let second = open(folder.path());
        assert!(second.last_good().await.is_none());
        assert_eq!(second.standing().state, CacheState::Elsewhere);
        let saved = second.import(first.export().await.unwrap()).unwrap();
        assert_eq!(image(&saved.snapshot), image(&one));
        assert_eq!(second.persist(&saved.snapshot).await, Persisted::Pending);
        let two = numbered(3, 2);
        assert_eq!(second.persist(&two).await, Persisted::Pending);
        assert!(second.standing().is_behind);

        // It gets the file, and what it has is written.
        let claim = tokio::spawn({
            let second = second.clone();
            async move { second.claim().await }
        });
        tokio::time::sleep(Duration::from_millis(200)).await;
        first.release().await;
        assert_eq!(first.standing().state, CacheState::Released);
        claim.await.unwrap();
        assert_eq!(second.standing().state, CacheState::Writing);
        assert!(!second.standing().is_behind);
        assert_eq!(first.persist(&numbered(3, 9)).await, Persisted::Pending);

        // It dies, and the first takes the file again.
        drop(second);
        first.claim().await;
        let three = numbered(3, 3);
        assert_eq!(first.persist(&three).await, Persisted::Durable);
        first.release().await;
        assert_eq!(found(settings(folder.path())).await.0, Some(image(&three)));
        assert_eq!(set_aside(folder.path()), [] as [PathBuf; 0]);
    });
}

#[test]
fn what_is_exported_is_checked_before_it_is_believed() {
    block_on(async {
        let folder = folder();
        let cache = open(folder.path());
        let snapshot = every_form();
        cache.persist(&snapshot).await;
        let memory = cache.export().await.unwrap();
        let content = memory::tests::content(&memory);
        let saved = cache.import(memory).unwrap();
        assert_eq!(image(&saved.snapshot), image(&snapshot));

        let file = std::fs::File::open(settings(folder.path()).file).unwrap();
        assert!(matches!(
            cache.import(file.into()),
            Err(ImportError::NotSealed)
        ));
        let unsealed = memory::tests::unsealed(&content);
        assert!(matches!(
            cache.import(unsealed),
            Err(ImportError::NotSealed)
        ));
        let step = content.len() / 150 + 1;
        for place in (0..content.len()).step_by(step) {
            let mut changed = content.clone();
            changed[place] ^= 0x20;
            assert!(memory::import(memory::tests::sealed(&changed), "test").is_err());
            let cut = &content[..place];
            assert!(memory::import(memory::tests::sealed(cut), "test").is_err());
        }
        let other = memory::import(memory::tests::sealed(&content), "other");
        assert!(matches!(other, Err(ImportError::Instance(of)) if of == "test"));
        let later = memory::tests::with_format(&content, 2);
        let later = memory::import(memory::tests::sealed(&later), "test");
        assert!(matches!(later, Err(ImportError::Format(2))));
    });
}

#[test]
fn private_keys_are_encrypted_with_a_key() {
    block_on(async {
        let folder = folder();
        let snapshot = every_form();
        let file = settings(folder.path()).file;
        let secret = b"not for your eyes";
        let is_readable = |path: &Path| {
            let content = std::fs::read(path).unwrap();
            content.windows(secret.len()).any(|part| part == secret)
        };

        save(settings(folder.path()), &snapshot).await;
        assert!(is_readable(&file));
        // With a key from now on: the file is written anew.
        let (text, _) = found(sealed(folder.path(), 1)).await;
        assert_eq!(text, Some(image(&snapshot)));
        assert!(!is_readable(&file));
        let (text, standing) = found(sealed(folder.path(), 1)).await;
        assert_eq!((text, standing.set_aside), (Some(image(&snapshot)), 0));

        // Without the key, or with another, nothing is lost.
        for settings in [settings(folder.path()), sealed(folder.path(), 2)] {
            let (text, standing) = found(settings).await;
            assert_eq!((text, standing.set_aside), (None, 1));
            assert!(standing.last_error.unwrap().contains("encrypted"));
            let [aside] = &*set_aside(folder.path()) else {
                panic!("one file is set aside")
            };
            std::fs::rename(aside, &file).unwrap();
        }
        let (text, _) = found(sealed(folder.path(), 1)).await;
        assert_eq!(text, Some(image(&snapshot)));
    });
}

#[test]
fn a_key_that_cannot_be_read_destroys_nothing() {
    block_on(async {
        let folder = folder();
        let key = folder.path().join("key");
        let from_file = CacheSettings {
            key: Some(KeySource::File(key.clone())),
            ..settings(folder.path())
        };
        save(sealed(folder.path(), 7), &numbered(1, 1)).await;
        let (text, standing) = found(from_file.clone()).await;
        assert_eq!((text, standing.set_aside), (None, 0));
        assert_eq!(standing.state, CacheState::Failing);
        let why = standing.last_error.unwrap();
        assert!(why.contains("key file"), "{why}");
        std::fs::write(&key, [7; 32]).unwrap();
        assert!(found(from_file).await.0.is_some());
    });
}
