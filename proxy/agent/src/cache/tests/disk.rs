//! Disks that are full, read-only or do not answer; and how fast all is.

use std::fs;
use std::time::Instant;

use rustix::fs::StatVfsMountFlags;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change, mount_remount};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::*;

/// Runs with a small disk of its own mounted at a folder, which no other thread sees. `None`, and said aloud, without the
/// right to mount.
fn with_disk<T: Send + 'static>(
    test: &str,
    size: &str,
    act: impl FnOnce(&Path) -> T + Send + 'static,
) -> Option<T> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("{test}: CANNOT RUN without root, which mounting a small disk takes");
        return None;
    }
    let size = format!("size={size}");
    let on_disk = move || {
        // SAFETY: the thread has just begun and shares no file descriptors' state that this would change.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }.unwrap();
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).unwrap();
        let folder = folder();
        let options = std::ffi::CString::new(size).unwrap();
        let (none, flags) = ("tmpfs", MountFlags::empty());
        mount(none, folder.path(), none, flags, Some(options.as_c_str())).unwrap();
        let done = act(folder.path());
        rustix::mount::unmount(folder.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
        done
    };
    Some(std::thread::spawn(on_disk).join().expect("no panic"))
}

#[test]
fn a_full_disk_costs_the_cache_only() {
    with_disk("a_full_disk_costs_the_cache_only", "8m", |folder| {
        block_on(async {
            let cache = open(folder);
            let one = numbered(50, 1);
            assert_eq!(cache.persist(&one).await, Persisted::Durable);
            let filler = folder.join("filler");
            let _ = fs::write(&filler, vec![1; 16 << 20]);
            // Far more than the file has room for.
            let begin = Instant::now();
            let many = numbered(3000, 2);
            assert_eq!(cache.persist(&many).await, Persisted::Pending);
            assert!(begin.elapsed() < 3 * PATIENCE, "{:?}", begin.elapsed());
            let standing = cache.standing();
            assert_eq!(standing.state, CacheState::Failing);
            assert!(standing.is_behind && standing.failures > 0);
            assert!(standing.last_error.unwrap().contains("space"), "ENOSPC");
            // Nobody waits for it now, and a successor gets all the same the newest.
            let begin = Instant::now();
            let newest = numbered(60, 3);
            assert_eq!(cache.persist(&newest).await, Persisted::Pending);
            assert!(begin.elapsed() < PATIENCE, "{:?}", begin.elapsed());
            let exported = cache.import(cache.export().await.unwrap()).unwrap();
            assert_eq!(image(&exported.snapshot), image(&newest));
            // With room again the newest is written, by itself.
            fs::remove_file(&filler).unwrap();
            while cache.standing().is_behind {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            assert_eq!(cache.standing().state, CacheState::Writing);
            cache.release().await;
            assert_eq!(found(settings(folder)).await.0, Some(image(&newest)));
            assert_eq!(set_aside(folder), [] as [PathBuf; 0]);
        });
    });
}

#[test]
fn a_read_only_disk_still_gives_what_it_holds() {
    with_disk(
        "a_read_only_disk_still_gives_what_it_holds",
        "8m",
        |folder| {
            block_on(async {
                let one = numbered(20, 1);
                save(settings(folder), &one).await;
                let remount = |flags| mount_remount(folder, flags, "").unwrap();
                remount(MountFlags::RDONLY);
                let flags = rustix::fs::statvfs(folder).unwrap().f_flag;
                assert!(flags.contains(StatVfsMountFlags::RDONLY));

                let cache = open(folder);
                let saved = cache.last_good().await.expect("it can be read");
                assert_eq!(image(&saved.snapshot), image(&one));
                assert_eq!(cache.standing().state, CacheState::ReadOnly);
                let two = numbered(20, 2);
                assert_eq!(cache.persist(&two).await, Persisted::Pending);
                remount(MountFlags::empty());
                while cache.standing().is_behind {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                assert_eq!(cache.standing().state, CacheState::Writing);
                cache.release().await;
                assert_eq!(found(settings(folder)).await.0, Some(image(&two)));
            });
        },
    );
}

#[test]
fn a_folder_that_cannot_be_made_costs_the_cache_only() {
    block_on(async {
        let folder = folder();
        fs::write(folder.path().join("data"), "no folder").unwrap();
        let cache = open(folder.path());
        assert!(cache.last_good().await.is_none());
        let one = numbered(2, 1);
        assert_eq!(cache.persist(&one).await, Persisted::Pending);
        assert_eq!(cache.standing().state, CacheState::Failing);
        fs::remove_file(folder.path().join("data")).unwrap();
        while cache.standing().is_behind {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        cache.release().await;
        assert_eq!(found(settings(folder.path())).await.0, Some(image(&one)));
    });
}

#[test]
fn a_disk_that_does_not_answer_is_waited_for_once() {
    block_on(async {
        // Nobody takes what is offered.
        let shared = Arc::new(Shared::new());
        let instance = "test".to_owned();
        let inner = Inner {
            shared: shared.clone(),
            instance,
        };
        let cache = Cache {
            inner: Arc::new(inner),
        };
        let timed = async || {
            let begin = Instant::now();
            let persisted = cache.persist(&numbered(1, 1)).await;
            (persisted, begin.elapsed())
        };
        let (persisted, waited) = timed().await;
        assert_eq!(persisted, Persisted::Pending);
        assert!((PATIENCE..PATIENCE * 2).contains(&waited), "{waited:?}");
        let standing = cache.standing();
        assert_eq!(
            (standing.state, standing.is_behind),
            (CacheState::Hanging, true)
        );
        let (persisted, waited) = timed().await;
        assert_eq!(persisted, Persisted::Pending);
        assert!(waited < PATIENCE / 2, "{waited:?}");
        // It answers again.
        shared.advance(|progress| {
            progress.answered = 2;
            progress.durable = 2;
        });
        assert_eq!(cache.standing().state, CacheState::Starting);
        assert!(!cache.standing().is_behind);
    });
}

/// Prints how long 200 and 10,000 hosts with certificates take.
#[test]
#[ignore = "measures; run it alone, with --release --nocapture"]
fn measure() {
    for hosts in [200, 10_000] {
        block_on(async {
            let folder = folder();
            let cache = open(folder.path());
            cache.last_good().await;
            let snapshot = numbered(hosts, 1);
            let first = numbered(hosts, 1);
            let timed = async |snapshot: &Snapshot| {
                let begin = Instant::now();
                let persisted = cache.persist(snapshot).await;
                (persisted, begin.elapsed())
            };
            let whole = timed(&first).await;
            let length = cache.standing().file_bytes;
            let mut changed = first.clone();
            let mut small = Vec::new();
            for number in 1..=20 {
                let upstreams = Arc::make_mut(&mut changed.upstreams);
                let id = upstreams.keys().nth(number).unwrap().clone();
                let mut upstream = (*upstreams[&id]).clone();
                upstream.endpoints = Arc::default();
                upstreams.insert(id, Arc::new(upstream));
                small.push(timed(&changed).await.1);
            }
            small.sort();
            let equal = timed(&snapshot).await;
            let begin = Instant::now();
            let memory = cache.export().await.unwrap();
            let export = begin.elapsed();
            let begin = Instant::now();
            cache.import(memory).unwrap();
            let import = begin.elapsed();
            cache.release().await;
            let begin = Instant::now();
            let cache = open(folder.path());
            let saved = cache.last_good().await.unwrap();
            let load = begin.elapsed();
            println!(
                "{hosts} hosts: whole {whole:?}, file {length}, one change {:?} (longest {:?}), all made anew {equal:?}, \
                 export {export:?}, import {import:?}, last good {load:?} ({} entries)",
                small[10], small[19], saved.entries
            );
        });
    }
}
