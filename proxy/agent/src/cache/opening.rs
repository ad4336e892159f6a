//! Opening the file: whose it is, what it holds, and what is wrong with it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use tidegate_model::Snapshot;
use tracing::info;

use super::assemble::{self, Failed};
use super::entry::changes;
use super::file::{CacheFile, FileError, Meta};
use super::key::Seal;
use super::place::{Place, PlaceError};
use super::stored::FORMAT;
use super::{CacheSettings, Saved};
use crate::clock;

/// How the file is opened.
pub(super) struct Opening {
    settings: CacheSettings,
    pub(super) place: Place,
}

/// The file, while it is this process's.
pub(super) struct Open {
    pub(super) file: CacheFile,
    pub(super) meta: Meta,
    pub(super) seal: Option<Seal>,
    /// What is in it.
    pub(super) written: Option<Snapshot>,
    /// How long opening and reading took.
    pub(super) load: Duration,
}

/// Why the file cannot be used.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Another process has it.
    Locked,
    /// The disk, the folder or the key's file; as likely as not it passes.
    Lasting(String),
    /// The content: it is set aside.
    Useless(String),
}

impl From<FileError> for Trouble {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Locked => Self::Locked,
            FileError::Io(error) => Self::Lasting(error.to_string()),
            FileError::Unreadable(why) => Self::Useless(why),
        }
    }
}

impl From<PlaceError> for Trouble {
    fn from(error: PlaceError) -> Self {
        match error {
            PlaceError::Io(error) => Self::Lasting(error.to_string()),
            PlaceError::NotOurs(why) => Self::Useless(why.to_owned()),
        }
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Lasting(error.to_string())
    }
}

impl From<Failed<FileError>> for Trouble {
    fn from(failed: Failed<FileError>) -> Self {
        match failed {
            Failed::Reading(error) => error.into(),
            Failed::Missing(section) => Self::Useless(format!("no {} in it", section.name())),
            Failed::Panicked => Self::Useless("reading it panics".to_owned()),
        }
    }
}

impl Opening {
    pub(super) fn new(settings: CacheSettings) -> Self {
        Self {
            place: Place::new(settings.file.clone()),
            settings,
        }
    }

    /// Opens the file and reads it; `None` for a new one.
    pub(super) fn read(&self) -> Result<(Open, Option<Saved>), Trouble> {
        let seal = self.seal()?;
        let begin = Instant::now();
        let file = self.place.open()?;
        let same = file.try_clone()?;
        let file = CacheFile::open(file)?;
        if !self.place.is_still(&same)? {
            // Another process has set it aside meanwhile.
            return Err(Trouble::Locked);
        }
        drop(same);
        let Some((meta, saved)) = self.load(&file, seal.as_ref())? else {
            self.place.sync_folder();
            let meta = self.meta(seal.as_ref())?;
            let open = Open {
                file,
                meta,
                seal,
                written: None,
                load: begin.elapsed(),
            };
            return Ok((open, None));
        };
        let mut open = Open {
            file,
            meta,
            seal,
            written: Some(saved.snapshot.clone()),
            load: begin.elapsed(),
        };
        if open.seal.is_some() && open.meta.seal.is_none() {
            open = self.sealed(open, &saved.snapshot)?;
        }
        Ok((open, Some(saved)))
    }

    fn seal(&self) -> Result<Option<Seal>, Trouble> {
        let Some(source) = &self.settings.key else {
            return Ok(None);
        };
        let key = source
            .read()
            .map_err(|error| Trouble::Lasting(error.to_string()))?;
        let seal = Seal::new(&key).map_err(|error| Trouble::Lasting(error.to_string()))?;
        Ok(Some(seal))
    }

    /// Of a file that is begun now.
    fn meta(&self, seal: Option<&Seal>) -> Result<Meta, Trouble> {
        let sample = seal.map(Seal::sample).transpose();
        Ok(Meta {
            format: FORMAT,
            instance: self.settings.instance.clone(),
            saved_at: clock::now(),
            writer: env!("CARGO_PKG_VERSION").to_owned(),
            commits: 0,
            seal: sample.map_err(|error| Trouble::Lasting(error.to_string()))?,
        })
    }

    /// The snapshot in a file, `None` if it is new.
    fn load(
        &self,
        file: &CacheFile,
        seal: Option<&Seal>,
    ) -> Result<Option<(Meta, Saved)>, Trouble> {
        let Some(meta) = file.meta()? else {
            return Ok(None);
        };
        self.refuse(&meta, seal)?;
        let seal = seal.filter(|_| meta.seal.is_some());
        let snapshot = assemble::snapshot(&file.entries(seal)?)?;
        let saved = Saved {
            snapshot,
            saved_at: meta.saved_at,
            writer: meta.writer.clone(),
            entries: file.count()?,
        };
        Ok(Some((meta, saved)))
    }

    /// Refuses a file that is not for this program, instance or key.
    fn refuse(&self, meta: &Meta, seal: Option<&Seal>) -> Result<(), Trouble> {
        let instance = &self.settings.instance;
        let why = match (&meta.seal, seal) {
            _ if meta.format != FORMAT => format!(
                "it has format {}, and this program ({}) knows {FORMAT}; version {} wrote it",
                meta.format,
                env!("CARGO_PKG_VERSION"),
                meta.writer
            ),
            _ if meta.instance != *instance => {
                format!("it is of instance {}, not of {instance}", meta.instance)
            }
            (Some(_), None) => {
                "private keys in it are encrypted and no key is given: name it with --data-key-file, and put the file \
                 back"
                    .to_owned()
            }
            (Some(sample), Some(seal)) if !seal.fits(sample) => {
                "private keys in it are encrypted with another key than the one given".to_owned()
            }
            _ => return Ok(()),
        };
        Err(Trouble::Useless(why))
    }

    /// The same in a new file, with private keys encrypted: pages that a file uses no more keep what they held.
    fn sealed(&self, open: Open, snapshot: &Snapshot) -> Result<Open, Trouble> {
        let Open {
            file,
            seal,
            meta,
            load,
            ..
        } = open;
        let place = self.place.successor();
        place.remove()?;
        let next = CacheFile::open(place.open()?)?;
        let mut fresh = self.meta(seal.as_ref())?;
        fresh.saved_at = meta.saved_at;
        next.commit(&fresh, &changes(None, snapshot), seal.as_ref())?;
        // Under its new name it is locked already, so nobody comes between.
        place.replace(&self.place)?;
        file.close()?;
        info!(
            "cache: private keys in {} are encrypted now",
            self.place.path().display()
        );
        Ok(Open {
            file: next,
            meta: fresh,
            seal,
            written: Some(snapshot.clone()),
            load,
        })
    }

    /// What a file holds that cannot be opened for writing.
    pub(super) fn read_copy(&self) -> Option<Saved> {
        let read = || -> Result<Option<Saved>, Trouble> {
            let seal = self.seal()?;
            let file = CacheFile::over_copy(&self.place.read()?)?;
            Ok(self.load(&file, seal.as_ref())?.map(|(_, saved)| saved))
        };
        unwound(read).ok().flatten()
    }
}

/// What the act comes to; a panic within it, as redb may have at a file that was altered, makes the file useless.
pub(super) fn unwound<T>(act: impl FnOnce() -> Result<T, Trouble>) -> Result<T, Trouble> {
    catch_unwind(AssertUnwindSafe(act))
        .unwrap_or_else(|_| Err(Trouble::Useless("reading or writing it panics".to_owned())))
}
