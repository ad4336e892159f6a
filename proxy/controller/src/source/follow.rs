//! Following files: what the kernel reports, put in order, and a slow look at everything for file systems that report
//! nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use super::Update;
use super::directory::{Directory, Patience, WRITING, parent};

/// How long a path must be quiet before it is read again.
const QUIET: Duration = Duration::from_millis(20);

/// How often everything is looked at, where every folder is watched.
const RESCAN: Duration = Duration::from_secs(15);

/// How often everything is looked at, where a folder could not be watched.
const RESCAN_UNWATCHED: Duration = Duration::from_secs(2);

/// Events taken at once.
const BATCH: usize = 1024;

type Signal = notify::Result<notify::Event>;

/// The folders whose events arrive.
#[derive(Debug)]
pub(super) struct Watches {
    watcher: RecommendedWatcher,
    /// Folders as they were named, with the identity (device, inode) that is watched.
    watched: BTreeMap<PathBuf, (u64, u64)>,
    /// The names of a folder by its absolute path, which is what events bear.
    names: HashMap<PathBuf, BTreeSet<PathBuf>>,
    failed: bool,
}

impl Watches {
    fn new(signals: mpsc::UnboundedSender<Signal>) -> notify::Result<Self> {
        let watcher = notify::recommended_watcher(move |signal: Signal| {
            // Opening and reading, which we do a lot ourselves, is of no interest.
            let is_idle = |event: &notify::Event| matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write));
            if !signal.as_ref().is_ok_and(is_idle) {
                // The receiver ends together with the watcher.
                _ = signals.send(signal);
            }
        })?;
        Ok(Self {
            watcher,
            watched: BTreeMap::new(),
            names: HashMap::new(),
            failed: false,
        })
    }

    /// Watches the folder that now stands at this path.
    pub(super) fn watch(&mut self, folder: &Path) {
        let Ok(metadata) = fs::metadata(folder) else {
            return;
        };
        let identity = (metadata.dev(), metadata.ino());
        if self.watched.get(folder) == Some(&identity) {
            return;
        }
        let Ok(absolute) = std::path::absolute(folder) else {
            return;
        };
        match self.watcher.watch(&absolute, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.watched.insert(folder.to_owned(), identity);
                let names = self.names.entry(absolute).or_default();
                names.insert(folder.to_owned());
            }
            Err(error) => {
                if !self.failed {
                    tracing::warn!(
                        folder = %folder.display(),
                        %error,
                        "cannot watch a folder; changes are found by looking every {RESCAN_UNWATCHED:?}. On Linux, \
                         raise fs.inotify.max_user_watches"
                    );
                }
                self.failed = true;
            }
        }
    }

    /// What an event's path is called by those who named the folder.
    fn named(&self, absolute: &Path) -> Vec<PathBuf> {
        let within = absolute.parent().and_then(|folder| self.names.get(folder));
        let name = absolute.file_name();
        let children = within
            .into_iter()
            .flatten()
            .filter_map(|folder| Some(folder.join(name?)));
        let itself = self.names.get(absolute).into_iter().flatten().cloned();
        let mut paths: Vec<_> = children.chain(itself).collect();
        paths.sort();
        paths.dedup();
        paths
    }
}

/// What is to be read, and when.
#[derive(Debug)]
struct Agenda {
    due: BTreeMap<PathBuf, Due>,
    everything_at: Instant,
}

#[derive(Clone, Copy, Debug)]
enum Due {
    /// The path is whole once it is quiet.
    Quiet(Instant),
    /// Somebody writes to the file. It is read when they close it, or else at this time.
    Writing(Instant),
}

impl Due {
    fn at(self) -> Instant {
        match self {
            Self::Quiet(at) | Self::Writing(at) => at,
        }
    }
}

/// Work that is due now.
#[derive(Debug, Default)]
struct Round {
    /// Whole and quiet.
    whole: Vec<PathBuf>,
    /// Written to, and then no more.
    abandoned: Vec<PathBuf>,
    everything: bool,
    writing: BTreeSet<PathBuf>,
}

impl Agenda {
    fn next(&self) -> Instant {
        let due = self.due.values().map(|due| due.at());
        due.chain([self.everything_at])
            .min()
            .unwrap_or(self.everything_at)
    }

    fn take(&mut self, now: Instant, rescan: Duration) -> Round {
        let mut round = Round {
            everything: self.everything_at <= now,
            ..Round::default()
        };
        self.due.retain(|path, due| {
            let is_due = due.at() <= now;
            match due {
                Due::Quiet(_) if is_due => round.whole.push(path.clone()),
                Due::Writing(_) if is_due => round.abandoned.push(path.clone()),
                Due::Writing(_) => _ = round.writing.insert(path.clone()),
                Due::Quiet(_) => {}
            }
            !is_due
        });
        if round.everything {
            self.everything_at = now + rescan;
        }
        round
    }

    fn note(&mut self, signal: Signal, directory: &mut Directory, now: Instant) {
        let event = match signal {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(%error, "watching files failed; looking at all of them");
                return self.everything_at = now;
            }
        };
        if event.need_rescan() {
            directory.forget_watches();
            return self.everything_at = now;
        }
        for absolute in &event.paths {
            for path in directory.named(absolute) {
                self.note_path(event.kind, path, directory, now);
            }
        }
    }

    fn note_path(
        &mut self,
        kind: EventKind,
        path: PathBuf,
        directory: &mut Directory,
        now: Instant,
    ) {
        if matches!(
            kind,
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))
        ) {
            directory.forget_watch(&path);
        }
        if is_swap(&path) {
            // Behind this name stand the files of a mounted ConfigMap or Secret.
            let folder = parent(&path).to_owned();
            self.due.insert(folder, Due::Quiet(now + QUIET));
            return;
        }
        if !directory.is_relevant(&path) {
            return;
        }
        let quiet = Due::Quiet(now + QUIET);
        let writing = Due::Writing(now + WRITING);
        match kind {
            EventKind::Modify(ModifyKind::Data(_)) => _ = self.due.insert(path, writing),
            EventKind::Create(CreateKind::File) if !is_link(&path) => {
                self.due.insert(path, writing);
            }
            EventKind::Modify(ModifyKind::Metadata(_)) => _ = self.due.entry(path).or_insert(quiet),
            _ => _ = self.due.insert(path, quiet),
        }
    }
}

/// Whether a name is one that the kubelet swaps: `..data`, or the folder that it points to.
fn is_swap(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.as_encoded_bytes());
    name.is_some_and(|name| name.starts_with(b".."))
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink())
}

impl Directory {
    fn named(&mut self, absolute: &Path) -> Vec<PathBuf> {
        let watches = self.watches();
        watches.map_or_else(Vec::new, |watches| watches.named(absolute))
    }

    fn forget_watch(&mut self, folder: &Path) {
        if let Some(watches) = self.watches() {
            watches.watched.retain(|path, _| !path.starts_with(folder));
        }
    }

    fn forget_watches(&mut self) {
        if let Some(watches) = self.watches() {
            watches.watched.clear();
        }
    }

    fn rescan_interval(&mut self) -> Duration {
        match self.watches() {
            Some(watches) if !watches.failed => RESCAN,
            _ => RESCAN_UNWATCHED,
        }
    }

    /// Does a round's work. Returns what it came to, and young files to read later.
    fn work(&mut self, round: Round) -> (Update, Vec<PathBuf>) {
        self.set_patience(Patience::LeaveYoung {
            writing: round.writing,
            left: Vec::new(),
        });
        for path in round.whole {
            self.refresh(&path);
        }
        for path in round.abandoned {
            self.reconsider(&path);
        }
        if round.everything {
            self.refresh_all();
        }
        let left = self.set_patience(Patience::ReadAll);
        (self.update(), left)
    }
}

/// Follows a directory until the receiver is gone.
pub(super) async fn run(mut directory: Directory, updates: mpsc::Sender<Update>) {
    let (sender, mut signals) = mpsc::unbounded_channel();
    match Watches::new(sender) {
        Ok(watches) => directory.watch(watches),
        Err(error) => {
            tracing::warn!(%error, "cannot watch files; changes are found by looking every {RESCAN_UNWATCHED:?}");
        }
    }
    let Some((mut directory, first)) = in_background(directory, |directory| directory.load()).await
    else {
        return;
    };
    let mut problems = first.problems.clone();
    if updates.send(first).await.is_err() {
        return;
    }
    let mut agenda = Agenda {
        due: BTreeMap::new(),
        everything_at: Instant::now() + directory.rescan_interval(),
    };
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            () = updates.closed() => return,
            _ = signals.recv_many(&mut batch, BATCH), if !signals.is_closed() => {
                let now = Instant::now();
                batch.drain(..).for_each(|signal| agenda.note(signal, &mut directory, now));
                continue;
            }
            () = sleep_until(agenda.next()) => {}
        }
        let round = agenda.take(Instant::now(), directory.rescan_interval());
        let done = in_background(directory, |directory| directory.work(round)).await;
        let Some((returned, (update, left))) = done else {
            return;
        };
        directory = returned;
        let later = Due::Writing(Instant::now() + WRITING);
        for path in left {
            agenda.due.entry(path).or_insert(later);
        }
        if !update.changes.is_empty() || update.problems != problems {
            problems.clone_from(&update.problems);
            if updates.send(update).await.is_err() {
                return;
            }
        }
    }
}

/// Reads files where waiting for a disk holds nobody up. `None` when the runtime is going down.
async fn in_background<T: Send + 'static>(
    mut directory: Directory,
    work: impl FnOnce(&mut Directory) -> T + Send + 'static,
) -> Option<(Directory, T)> {
    let task = spawn_blocking(move || {
        let done = work(&mut directory);
        (directory, done)
    });
    match task.await {
        Ok(done) => Some(done),
        Err(error) => {
            tracing::error!(%error, "reading manifests ended; what was read stays in force");
            None
        }
    }
}

#[cfg(test)]
mod tests;
