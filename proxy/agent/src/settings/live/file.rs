//! Following one file: what the kernel reports of its folder, and a slow look for when it reports nothing.
//!
//! The folder is watched and not the file, for files are replaced: by a rename, or, in a mounted ConfigMap, by the swap of
//! the link `..data` that the file's own link goes through.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// Longest text, as for a ConfigMap.
const LONGEST: u64 = 1024 * 1024;

/// Quiet time after a change that is whole.
const QUIET: Duration = Duration::from_millis(100);

/// Quiet time after a change that may go on, as while a file is written in place.
const WRITING: Duration = Duration::from_secs(2);

/// How often the file is read though nothing was reported.
const LOOK: Duration = Duration::from_secs(15);

/// The same, where the folder cannot be watched.
const LOOK_UNWATCHED: Duration = Duration::from_secs(2);

/// A text, or why it cannot be read.
pub(super) type Read = Result<String, String>;

/// What an event says of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hint {
    /// It may be another one.
    Changed,
    /// Somebody is writing it.
    Writing,
}

/// What a read is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// Something was reported, or nothing was read yet.
    Report,
    /// Time has passed.
    Time,
}

/// Follows a file until the receiver is gone; `None` before the first look. Call it within a tokio runtime.
pub(super) fn follow(path: PathBuf) -> watch::Receiver<Option<Read>> {
    let (texts, text) = watch::channel(None);
    tokio::spawn(run(path, texts));
    text
}

async fn run(path: PathBuf, texts: watch::Sender<Option<Read>>) {
    let (hints_to, mut hints) = mpsc::channel(64);
    let mut folder = Folder::of(&path, hints_to);
    let mut cause = Cause::Report;
    loop {
        let (file, at) = (path.clone(), cause);
        let task = tokio::task::spawn_blocking(move || {
            // First, so that nothing happens between the read and the watch.
            folder.watch();
            (read(&file, at), folder)
        });
        let Ok((read, returned)) = task.await else {
            // The runtime is going down.
            return;
        };
        folder = returned;
        let look = Instant::now() + folder.patience();
        let mut due = look;
        match read {
            Some(read) => {
                texts.send_if_modified(|text| {
                    let differs = text.as_ref() != Some(&read);
                    *text = Some(read);
                    differs
                });
            }
            None => due = look.min(Instant::now() + WRITING),
        }
        cause = Cause::Time;
        loop {
            tokio::select! {
                Some(hint) = hints.recv() => {
                    let (quiet, why) = match hint {
                        Hint::Changed => (QUIET, Cause::Report),
                        Hint::Writing => (WRITING, Cause::Time),
                    };
                    cause = why;
                    due = look.min(Instant::now() + quiet);
                }
                () = sleep_until(due) => break,
                () = texts.closed() => return,
            }
        }
    }
}

/// The text of the file; `None` while somebody may be writing it.
fn read(path: &Path, cause: Cause) -> Option<Read> {
    let attempt = || {
        let file = fs::File::open(path)?;
        let is_fresh = || {
            let changed = file.metadata().and_then(|facts| facts.modified()).ok();
            let age = changed.and_then(|changed| changed.elapsed().ok());
            age.is_some_and(|age| age < WRITING / 2)
        };
        if cause == Cause::Time && is_fresh() {
            return Ok(None);
        }
        let mut text = String::new();
        (&file).take(LONGEST + 1).read_to_string(&mut text)?;
        Ok(Some(text))
    };
    let name = path.display();
    match attempt() {
        Ok(None) => None,
        Ok(Some(text)) if text.len() as u64 > LONGEST => Some(Err(format!(
            "settings file {name} has more than 1 MiB; is it the right one?"
        ))),
        Ok(Some(text)) => Some(Ok(text)),
        Err(error) => {
            let error: std::io::Error = error;
            Some(Err(format!("cannot read settings file {name}: {error}")))
        }
    }
}

/// The folder that the file is in.
struct Folder {
    path: PathBuf,
    /// Of the file.
    name: OsString,
    hints: mpsc::Sender<Hint>,
    watched: Option<Watched>,
}

/// A folder that events come from.
struct Watched {
    /// Device and inode, for a folder can be replaced, too.
    identity: (u64, u64),
    _watcher: RecommendedWatcher,
}

impl Folder {
    fn of(path: &Path, hints: mpsc::Sender<Hint>) -> Self {
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        Self {
            path: folder.unwrap_or(Path::new(".")).to_owned(),
            name: path.file_name().unwrap_or_default().to_owned(),
            hints,
            watched: None,
        }
    }

    /// Sees to it that the folder is watched, if it can be.
    fn watch(&mut self) {
        let facts = fs::metadata(&self.path).ok();
        let identity = facts.map(|facts| (facts.dev(), facts.ino()));
        if self.watched.as_ref().map(|watched| watched.identity) == identity {
            return;
        }
        self.watched = identity.and_then(|identity| {
            let (name, hints) = (self.name.clone(), self.hints.clone());
            let tell = move |event: notify::Result<notify::Event>| {
                if let Some(hint) = hint(&event, &name) {
                    // With as many hints as there is room for, the file is read soon.
                    _ = hints.try_send(hint);
                }
            };
            let mut watcher = notify::recommended_watcher(tell).ok()?;
            watcher
                .watch(&self.path, RecursiveMode::NonRecursive)
                .ok()?;
            Some(Watched {
                identity,
                _watcher: watcher,
            })
        });
    }

    /// How long it may take until somebody looks again.
    fn patience(&self) -> Duration {
        match self.watched {
            Some(_) => LOOK,
            None => LOOK_UNWATCHED,
        }
    }
}

/// What an event of the folder says of the file with this name.
fn hint(event: &notify::Result<notify::Event>, name: &OsStr) -> Option<Hint> {
    let Ok(event) = event else {
        return Some(Hint::Changed);
    };
    if event.need_rescan() {
        return Some(Hint::Changed);
    }
    // Links of a mounted ConfigMap begin so: `..data`.
    let concerns = |path: &PathBuf| {
        path.file_name()
            .is_none_or(|other| other == name || other.as_encoded_bytes().starts_with(b".."))
    };
    if !event.paths.iter().any(concerns) {
        return None;
    }
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Name(_) | ModifyKind::Metadata(_))
        | EventKind::Remove(_) => Some(Hint::Changed),
        EventKind::Create(_) | EventKind::Modify(_) | EventKind::Any | EventKind::Other => {
            Some(Hint::Writing)
        }
        EventKind::Access(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn reads(text: &mut watch::Receiver<Option<Read>>, wanted: impl Fn(&Read) -> bool) {
        let found = text.wait_for(|text| text.as_ref().is_some_and(&wanted));
        let in_time = tokio::time::timeout(PATIENCE, found).await.is_ok();
        assert!(in_time, "it still reads {:?}", *text.borrow());
    }

    fn is(wanted: &str) -> impl Fn(&Read) -> bool {
        move |read| read.as_deref() == Ok(wanted)
    }

    #[tokio::test]
    async fn a_file_is_read_again_however_it_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.yaml");
        fs::write(&path, "one").unwrap();
        let mut text = follow(path.clone());
        reads(&mut text, is("one")).await;

        fs::write(&path, "two").unwrap();
        reads(&mut text, is("two")).await;

        fs::write(folder.path().join("draft"), "three").unwrap();
        fs::rename(folder.path().join("draft"), &path).unwrap();
        reads(&mut text, is("three")).await;

        fs::remove_file(&path).unwrap();
        let is_gone = |read: &Read| {
            read.as_ref()
                .is_err_and(|error| error.contains("settings.yaml"))
        };
        reads(&mut text, is_gone).await;
        fs::write(&path, "four").unwrap();
        reads(&mut text, is("four")).await;

        fs::remove_dir_all(folder.path()).unwrap();
        reads(&mut text, is_gone).await;
        fs::create_dir(folder.path()).unwrap();
        fs::write(&path, "five").unwrap();
        reads(&mut text, is("five")).await;
    }

    #[tokio::test]
    async fn the_swap_of_a_mounted_config_map_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let version = |name: &str, text: &str| {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("settings.yaml"), text).unwrap();
        };
        version("..2026_1", "one");
        symlink("..2026_1", at("..data")).unwrap();
        symlink("..data/settings.yaml", at("settings.yaml")).unwrap();
        let mut text = follow(at("settings.yaml"));
        reads(&mut text, is("one")).await;

        version("..2026_2", "two");
        symlink("..2026_2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        fs::remove_dir_all(at("..2026_1")).unwrap();
        reads(&mut text, is("two")).await;
    }

    #[tokio::test]
    async fn a_file_that_is_being_written_is_not_read_half() {
        use std::io::Write as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.yaml");
        fs::write(&path, "whole").unwrap();
        let mut text = follow(path.clone());
        reads(&mut text, is("whole")).await;
        text.mark_unchanged();

        let mut file = fs::File::create(&path).unwrap();
        for part in ["a: ", "1", "\n"] {
            tokio::time::sleep(3 * QUIET).await;
            file.write_all(part.as_bytes()).unwrap();
        }
        assert!(!text.has_changed().unwrap(), "{:?}", *text.borrow());
        drop(file);
        reads(&mut text, is("a: 1\n")).await;
    }

    #[test]
    fn a_file_too_long_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.yaml");
        fs::write(&path, vec![b'#'; 2 * 1024 * 1024]).unwrap();
        let error = read(&path, Cause::Report).unwrap().unwrap_err();
        assert!(error.contains("1 MiB"), "{error}");
    }
}
