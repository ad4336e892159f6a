//! Where the cache's file is: its folder, its permissions, and what becomes of a file that is of no use.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;
use tracing::{info, warn};

use crate::clock;

/// Files that were set aside and are kept.
const KEPT: usize = 3;

/// The path of a cache's file.
#[derive(Clone, Debug)]
pub(super) struct Place {
    file: PathBuf,
}

/// Why the file cannot be opened.
#[derive(Debug, Error)]
pub(super) enum PlaceError {
    /// The disk or the folder does not let us.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is no file, or not ours.
    #[error("{0}")]
    NotOurs(&'static str),
}

impl Place {
    pub(super) fn new(file: PathBuf) -> Self {
        Self { file }
    }

    pub(super) fn path(&self) -> &Path {
        &self.file
    }

    /// Opens the file, for its owner alone; makes it and its folder if they are missing.
    pub(super) fn open(&self) -> Result<File, PlaceError> {
        if let Some(folder) = self.file.parent()
            && !folder.as_os_str().is_empty()
        {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)?;
        }
        self.refuse_what_is_no_file()?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.file)?;
        let found = file.metadata()?;
        if found.uid() != rustix::process::geteuid().as_raw() {
            return Err(PlaceError::NotOurs("it belongs to another user"));
        }
        self.narrow(&file, found.mode())?;
        Ok(file)
    }

    /// Reads it whole, where it cannot be opened for writing.
    pub(super) fn read(&self) -> Result<Vec<u8>, PlaceError> {
        self.refuse_what_is_no_file()?;
        Ok(fs::read(&self.file)?)
    }

    /// Before it is opened, which may wait for ever at what is no file.
    fn refuse_what_is_no_file(&self) -> Result<(), PlaceError> {
        match fs::metadata(&self.file) {
            Ok(found) if !found.is_file() => Err(PlaceError::NotOurs("it is no regular file")),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn narrow(&self, file: &File, mode: u32) -> io::Result<()> {
        if mode & 0o077 == 0 {
            return Ok(());
        }
        file.set_permissions(Permissions::from_mode(0o600))?;
        warn!(
            "cache: {} was open to other users (mode {:o}); it is its owner's alone now (mode 600)",
            self.file.display(),
            mode & 0o777
        );
        Ok(())
    }

    /// Whether this is still the file of that name: another process may have set it aside since it was opened.
    pub(super) fn is_still(&self, file: &File) -> io::Result<bool> {
        let (opened, named) = (file.metadata()?, fs::metadata(&self.file)?);
        Ok((opened.dev(), opened.ino()) == (named.dev(), named.ino()))
    }

    /// Length of the file in bytes, 0 if it is not there.
    pub(super) fn length(&self) -> u64 {
        fs::metadata(&self.file).map_or(0, |found| found.len())
    }

    /// A name beside it for a file that is to take its place.
    pub(super) fn successor(&self) -> Self {
        let mut name = self.file.clone().into_os_string();
        name.push(".new");
        Self { file: name.into() }
    }

    /// Puts this file in the place of another.
    pub(super) fn replace(&self, other: &Self) -> io::Result<()> {
        fs::rename(&self.file, &other.file)?;
        other.sync_folder();
        Ok(())
    }

    /// Removes the file if it is there.
    pub(super) fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Makes the folder's entries durable. Not all file systems can.
    pub(super) fn sync_folder(&self) {
        if let Some(folder) = self.file.parent() {
            let _ = File::open(folder).and_then(|folder| folder.sync_all());
        }
    }

    /// Gives the file another name, under which it is kept until some more have followed it.
    pub(super) fn set_aside(&self) -> io::Result<PathBuf> {
        // Later than all that are kept, however many there were in this second.
        let newest = self
            .kept_aside()
            .into_iter()
            .map(|(time, _)| time + 1)
            .max();
        let time = clock::now().0.max(newest.unwrap_or_default());
        let aside = self.aside(&time.to_string());
        fs::rename(&self.file, &aside)?;
        self.sync_folder();
        self.remove_the_oldest();
        Ok(aside)
    }

    fn aside(&self, time: &str) -> PathBuf {
        let mut name = self.file.clone().into_os_string();
        name.push(".set-aside-");
        name.push(time);
        name.into()
    }

    fn remove_the_oldest(&self) {
        let mut kept: Vec<(i64, PathBuf)> = self.kept_aside();
        kept.sort();
        let surplus = kept.len().saturating_sub(KEPT);
        for (_, path) in kept.into_iter().take(surplus) {
            // Of folders those that are empty: what is in one was never ours.
            match fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)) {
                Ok(()) => info!("cache: removed {}, set aside long ago", path.display()),
                Err(error) => warn!("cache: cannot remove {}: {error}", path.display()),
            }
        }
    }

    fn kept_aside(&self) -> Vec<(i64, PathBuf)> {
        let prefix = self.aside("");
        let folder = self.file.parent().map(fs::read_dir);
        let entries = folder.and_then(Result::ok).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        paths
            .filter_map(|path| {
                let name = path.to_str()?;
                let time = name.strip_prefix(prefix.to_str()?)?.parse().ok()?;
                Some((time, path))
            })
            .collect()
    }
}
