//! Manifests in folders and files, read once or followed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::ops::Bound;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tidegate_model::{Level, Problem, Reason};
use tokio::sync::mpsc;

use super::catalog::Catalog;
use super::fault;
use super::follow::{self, Watches};
use super::{Update, View};

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// Two versions of a file that are written within this time may bear the same time stamps.
const CLOCK_GRAIN: Duration = Duration::from_millis(50);

/// A file that is written in place counts as whole when nothing was written for so long.
pub(super) const WRITING: Duration = Duration::from_secs(2);

/// Folders and files with manifests.
///
/// Of folders, however deep, the files named `*.yaml`, `*.yml` and `*.json` are read; names that begin with a dot are
/// passed over. A file that is named here is read whatever it is called. Files are taken in order of their paths.
///
/// What is named here and vanishes keeps what was last read from it, as does everything that cannot be read; a file that is
/// removed from a readable folder is removed.
#[derive(Debug)]
pub struct Directory {
    roots: BTreeSet<PathBuf>,
    catalog: Catalog,
    seen: BTreeMap<PathBuf, Seen>,
    folders: BTreeSet<PathBuf>,
    unreadable: BTreeMap<PathBuf, Problem>,
    patience: Patience,
    watches: Option<Watches>,
}

/// What to do with files that were found changed, but not reported as whole.
#[derive(Debug, Default)]
pub(super) enum Patience {
    /// They are read as they are.
    #[default]
    ReadAll,
    /// Those that are being written, or were just now, are left for later.
    LeaveYoung {
        /// Files that are known to be open for writing.
        writing: BTreeSet<PathBuf>,
        /// Files that turned out to be young.
        left: Vec<PathBuf>,
    },
}

/// What tells two versions of a file apart without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    /// Tells a file from a former one whose number it got, where the file system knows it.
    born: Option<SystemTime>,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A version of a file that was read.
#[derive(Clone, Copy, Debug)]
struct Seen {
    stamp: Stamp,
    /// Whether it was so new that a later version may bear the same stamp.
    fresh: bool,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            born: metadata.created().ok(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode, self.born) == (other.device, other.inode, other.born)
    }
}

impl Directory {
    /// Names what to read; nothing is read yet.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self {
            roots: paths.into_iter().collect(),
            catalog: Catalog::default(),
            seen: BTreeMap::new(),
            folders: BTreeSet::new(),
            unreadable: BTreeMap::new(),
            patience: Patience::ReadAll,
            watches: None,
        }
    }

    /// Reads whatever changed since the last call; at first everything.
    pub fn load(&mut self) -> Update {
        self.refresh_all();
        self.update()
    }

    /// Follows the files until the receiver is gone. The first update is the complete view.
    pub async fn run(self, updates: mpsc::Sender<Update>) {
        follow::run(self, updates).await;
    }

    /// From now on folders are watched before they are read.
    pub(super) fn watch(&mut self, watches: Watches) {
        self.watches = Some(watches);
    }

    pub(super) fn watches(&mut self) -> Option<&mut Watches> {
        self.watches.as_mut()
    }

    /// Sets how young files are treated and returns those that were left since.
    pub(super) fn set_patience(&mut self, patience: Patience) -> Vec<PathBuf> {
        match std::mem::replace(&mut self.patience, patience) {
            Patience::ReadAll => Vec::new(),
            Patience::LeaveYoung { left, .. } => left,
        }
    }

    /// Whether a path, or what a folder of this path would hold, is to be read.
    pub(super) fn is_relevant(&self, path: &Path) -> bool {
        let named = self.roots.contains(path);
        let within = || path.ancestors().any(|folder| self.roots.contains(folder));
        let hidden = || is_hidden(path);
        named
            || self.catalog.knows(path)
            || self.folders.contains(path)
            || within() && !hidden() && (is_manifest(path) || path.is_dir())
    }

    /// What changed since the last update, and all problems.
    pub(super) fn update(&mut self) -> Update {
        let mut problems = self.catalog.problems();
        problems.extend(self.unreadable.values().cloned());
        problems.sort();
        problems.dedup();
        Update {
            changes: self.catalog.changes(),
            problems,
            view: View::Complete,
            answered: None,
        }
    }

    /// Looks at everything again.
    pub(super) fn refresh_all(&mut self) {
        for root in self.roots.clone() {
            self.refresh_root(&root);
        }
    }

    /// Reads again what stands at a path that was reported as changed and whole.
    pub(super) fn refresh(&mut self, path: &Path) {
        let is_root = self.roots.contains(path);
        if !is_root && !path.ancestors().any(|folder| self.roots.contains(folder)) {
            let mut beside = self.roots.clone();
            beside.retain(|root| parent(root) == path);
            return beside.iter().for_each(|root| self.refresh_root(root));
        }
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => self.refresh_folder(path),
            Ok(metadata) if metadata.is_file() && (is_root || is_manifest(path)) => {
                self.read(path, Stamp::of(&metadata));
            }
            _ if is_root => self.refresh_root(path),
            Ok(_) => self.forget(path),
            Err(error) => self.lost(path, &error),
        }
    }

    /// Reads what stands at a path that nobody has reported as whole for a while, unless it is still being written.
    pub(super) fn reconsider(&mut self, path: &Path) {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => self.consider(path, &metadata),
            _ => self.refresh(path),
        }
    }

    /// Something within a folder cannot be looked at: is it gone, or the folder with it?
    fn lost(&mut self, path: &Path, error: &io::Error) {
        let gone = error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_err();
        match path.parent() {
            Some(folder) if gone && !folder.is_dir() => self.refresh(folder),
            _ if gone => self.forget(path),
            _ => self.refuse(path, error),
        }
    }

    fn refresh_root(&mut self, root: &Path) {
        if let Some(watches) = &mut self.watches {
            // Tells when the root itself is replaced or returns.
            watches.watch(parent(root));
        }
        match fs::metadata(root) {
            Ok(metadata) if metadata.is_dir() => self.refresh_folder(root),
            Ok(metadata) if metadata.is_file() => self.consider(root, &metadata),
            Ok(_) => self.refuse(root, &io::Error::other("it is neither a file nor a folder")),
            Err(error) => self.refuse(root, &error),
        }
    }

    fn refresh_folder(&mut self, folder: &Path) {
        if let Some(watches) = &mut self.watches {
            watches.watch(folder);
        }
        let listing = match listing(folder) {
            Ok(listing) => listing,
            Err(error) => return self.refuse(folder, &error),
        };
        self.unreadable.remove(folder);
        self.folders.insert(folder.to_owned());
        self.forget_all_but(folder, &listing);
        for path in listing {
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() && !is_loop(&path) => self.refresh_folder(&path),
                Ok(metadata) if metadata.is_file() && is_manifest(&path) => {
                    self.consider(&path, &metadata);
                }
                Ok(_) => self.forget(&path),
                Err(error) if is_manifest(&path) || self.folders.contains(&path) => {
                    self.lost(&path, &error);
                }
                Err(_) => {}
            }
        }
    }

    /// Forgets what a folder no longer lists.
    fn forget_all_but(&mut self, folder: &Path, listing: &BTreeSet<PathBuf>) {
        let child = |path: &Path| {
            let first = path.strip_prefix(folder).ok()?.components().next()?;
            Some(folder.join(first))
        };
        let files = self.catalog.under(folder);
        let folders = self
            .folders
            .range::<Path, _>((Bound::Included(folder), Bound::Unbounded))
            .map(PathBuf::as_path)
            .take_while(|path| path.starts_with(folder));
        let unreadable = self
            .unreadable
            .range::<Path, _>((Bound::Included(folder), Bound::Unbounded))
            .map(|(path, _)| path.as_path())
            .take_while(|path| path.starts_with(folder));
        let known = files.chain(folders).chain(unreadable);
        let gone: BTreeSet<_> = known
            .filter_map(child)
            .filter(|child| !listing.contains(child) && !self.roots.contains(child))
            .collect();
        gone.iter().for_each(|path| self.forget(path));
    }

    fn forget(&mut self, path: &Path) {
        self.catalog.forget(path);
        self.seen.retain_under(path);
        self.unreadable.retain_under(path);
        if self.folders.contains(path) {
            self.folders.retain(|folder| !folder.starts_with(path));
        }
    }

    /// Something cannot be read: what was read from it stays.
    fn refuse(&mut self, path: &Path, error: &io::Error) {
        self.seen.remove(path);
        let message = format!(
            "{}: {error}. What was read from it before stays in force; make it readable, or name another path.",
            path.display()
        );
        self.report(path, Reason::Unreadable, message);
    }

    fn report(&mut self, path: &Path, reason: Reason, message: String) {
        let problem = Problem {
            level: Level::Error,
            object: fault::file(path),
            field: String::new(),
            reason,
            message,
        };
        self.unreadable.insert(path.to_owned(), problem);
    }

    /// Reads a file that was found, unless it is as it was or should be left for later.
    fn consider(&mut self, path: &Path, metadata: &Metadata) {
        let stamp = Stamp::of(metadata);
        let seen = self.seen.get(path);
        if seen.is_some_and(|seen| seen.stamp == stamp && !seen.fresh) {
            return;
        }
        if let Patience::LeaveYoung { writing, left } = &mut self.patience {
            let replaced = seen.is_some_and(|seen| !seen.stamp.is_same_file(&stamp));
            if writing.contains(path) {
                return;
            }
            if !replaced && age(metadata).is_some_and(|age| age < WRITING) {
                return left.push(path.to_owned());
            }
        }
        self.read(path, stamp);
    }

    fn read(&mut self, path: &Path, stamp: Stamp) {
        let bytes = match bytes(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return self.refuse(path, &error),
        };
        self.unreadable.remove(path);
        let fresh = is_fresh(stamp);
        self.seen.insert(path.to_owned(), Seen { stamp, fresh });
        match std::str::from_utf8(&bytes) {
            _ if bytes.len() as u64 > MAX_FILE => {
                let message = format!(
                    "{} has more than {MAX_FILE} bytes and is not read. What was read from it before stays in force; \
                     split the file.",
                    path.display()
                );
                self.report(path, Reason::InvalidDocument, message);
            }
            Ok(text) => self.catalog.read(path, text),
            Err(error) => {
                let before = &bytes[..error.valid_up_to()];
                let line = 1 + memchr::memchr_iter(b'\n', before).count();
                let message = format!(
                    "{} line {line}: the text is not UTF-8. What was read from the file before stays in force; save it \
                     as UTF-8.",
                    path.display()
                );
                self.report(path, Reason::InvalidDocument, message);
            }
        }
    }
}

/// Maps by path, of which a whole folder is dropped at once.
trait RetainUnder {
    /// Drops the path and everything below it.
    fn retain_under(&mut self, path: &Path);
}

impl<T> RetainUnder for BTreeMap<PathBuf, T> {
    fn retain_under(&mut self, path: &Path) {
        let gone: Vec<PathBuf> = self
            .range::<Path, _>((Bound::Included(path), Bound::Unbounded))
            .map(|(known, _)| known.clone())
            .take_while(|known| known.starts_with(path))
            .collect();
        for path in gone {
            self.remove(&path);
        }
    }
}

/// The folder that a path stands in.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// Whether a name begins with a dot.
pub(super) fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.as_encoded_bytes());
    name.is_some_and(|name| name.starts_with(b"."))
}

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("yaml" | "yml" | "json"))
}

fn listing(folder: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut listing = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if !is_hidden(&path) {
            listing.insert(path);
        }
    }
    Ok(listing)
}

/// Whether a folder is a link to one that it stands in.
fn is_loop(path: &Path) -> bool {
    let is_link = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
    let target = || fs::canonicalize(path).ok();
    let here = || fs::canonicalize(parent(path)).ok();
    is_link
        && match (target(), here()) {
            (Some(target), Some(here)) => here.starts_with(target),
            _ => true,
        }
}

fn age(metadata: &Metadata) -> Option<Duration> {
    SystemTime::now()
        .duration_since(metadata.modified().ok()?)
        .ok()
}

fn is_fresh(stamp: Stamp) -> bool {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = since.unwrap_or_default();
    let (seconds, nanos) = stamp.changed;
    let changed = Duration::new(
        u64::try_from(seconds).unwrap_or_default(),
        u32::try_from(nanos).unwrap_or_default(),
    );
    now.saturating_sub(changed) < CLOCK_GRAIN
}

/// The file's content, cut one byte after the limit.
fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path)?;
    let size = file.metadata().map_or(0, |metadata| metadata.len());
    bytes.reserve(usize::try_from(size.min(MAX_FILE)).unwrap_or_default() + 1);
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
