//! The last good snapshot on disk, so that an instance serves at once after its start, with the API server or without.
//!
//! A thread of its own does all that touches the disk. Whoever publishes waits for it a bounded time: a disk that is full,
//! read-only or does not answer costs the cache and never the serving.

mod assemble;
mod entry;
mod file;
mod keeper;
mod kept;
mod key;
mod memory;
mod opening;
mod place;
mod shared;
mod standing;
mod stored;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidegate_model::{Snapshot, UnixTime};

use self::keeper::Keeper;
use self::shared::{Progress, Shared, Wish};

pub(crate) use kept::{Kept, KeptEntry, KeptError, KeptTable};
pub(crate) use key::{DataKey, KeySource};
pub(crate) use memory::ImportError;
pub(crate) use standing::{CacheStanding, CacheState};

/// Longest time that a publication waits for its commit.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest time that a start waits for what is on disk. More than [`PATIENCE`]: there is nothing to serve meanwhile.
const LOAD_PATIENCE: Duration = Duration::from_secs(5);

/// Where a cache is and whose.
#[derive(Clone, Debug)]
pub(crate) struct CacheSettings {
    /// The file. Its folder is made if it is missing.
    pub(crate) file: PathBuf,
    /// The instance that it must be of.
    pub(crate) instance: String,
    /// Seals private keys. None: they are in the file as they are, which only its owner can read.
    pub(crate) key: Option<KeySource>,
}

/// A snapshot that was saved.
#[derive(Clone, Debug)]
pub(crate) struct Saved {
    /// What it is.
    pub(crate) snapshot: Snapshot,
    /// When it was saved.
    pub(crate) saved_at: UnixTime,
    /// The version of the program that saved it.
    pub(crate) writer: String,
    /// Entries that it was put together from.
    pub(crate) entries: u64,
}

/// What became of a snapshot that was to be persisted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persisted {
    /// It is on disk.
    Durable,
    /// It is not, and [`Cache::standing`] says why. It is written as soon as it can be, unless a newer one comes.
    Pending,
}

/// The cache of an instance. Clones are the same cache; the last one dropped ends its thread.
#[derive(Clone)]
pub(crate) struct Cache {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    instance: String,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = self.shared.wish(Wish::End);
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cache")
    }
}

impl Cache {
    /// Starts to open the file and to read it.
    pub(crate) fn new(settings: CacheSettings) -> Self {
        let shared = Arc::new(Shared::new());
        let instance = settings.instance.clone();
        Keeper::start(settings, &shared);
        Self {
            inner: Arc::new(Inner { shared, instance }),
        }
    }

    /// What the file held when it was opened, once; `None` when there was nothing of use, or the disk takes too long, or
    /// another process has the file.
    pub(crate) async fn last_good(&self) -> Option<Saved> {
        let shared = &self.inner.shared;
        shared
            .progressed(LOAD_PATIENCE, |progress| progress.is_read)
            .await;
        shared.take_saved()
    }

    /// Writes a snapshot. Only what differs from the one before is written, and nothing if it is equal.
    pub(crate) async fn persist(&self, snapshot: &Snapshot) -> Persisted {
        let shared = &self.inner.shared;
        let number = shared.offer(snapshot);
        let answered = |progress: &Progress| progress.answered >= number;
        // One that is late already is not waited for again, until it moves.
        if !shared.is_late() && !shared.progressed(PATIENCE, answered).await {
            shared.note_late();
        }
        match shared.progress().durable >= number {
            true => Persisted::Durable,
            false => Persisted::Pending,
        }
    }

    /// The newest snapshot in sealed memory, for a successor: whatever the disk does.
    ///
    /// # Errors
    /// There is no snapshot yet, or no memory for it.
    pub(crate) async fn export(&self) -> io::Result<OwnedFd> {
        let newest = self.inner.shared.newest();
        let (snapshot, saved_at) = newest
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "nothing is saved yet"))?;
        let instance = self.inner.instance.clone();
        let export = move || memory::export(&snapshot, saved_at, &instance);
        tokio::task::spawn_blocking(export)
            .await
            .map_err(io::Error::other)?
    }

    /// What a predecessor [exported](Self::export). It counts as the newest snapshot here too, until one is persisted.
    ///
    /// # Errors
    /// It is not sealed, too long, of another format or instance, or damaged.
    pub(crate) fn import(&self, memory: OwnedFd) -> Result<Saved, ImportError> {
        let saved = memory::import(memory, &self.inner.instance)?;
        self.inner.shared.adopt(&saved);
        Ok(saved)
    }

    /// Closes the file, for a successor or for good. Comes back when it is closed, or after a bounded time.
    pub(crate) async fn release(&self) {
        let shared = &self.inner.shared;
        let (wish, _) = shared.wish(Wish::Release);
        let done = |progress: &Progress| progress.wishes >= wish;
        if !shared.progressed(PATIENCE, done).await {
            shared.note_late();
        }
    }

    /// Opens the file as soon as no other process has it, and writes what has changed since. Comes back when that is done,
    /// or after a bounded time, and goes on by itself.
    pub(crate) async fn claim(&self) {
        let shared = &self.inner.shared;
        let (wish, number) = shared.wish(Wish::Hold);
        let done = |progress: &Progress| {
            progress.wishes >= wish && progress.is_held && progress.durable >= number
        };
        shared.progressed(PATIENCE, done).await;
    }

    /// How it stands.
    pub(crate) fn standing(&self) -> CacheStanding {
        self.inner.shared.standing()
    }
}

#[cfg(test)]
mod tests;
