//! A file of entries that nobody can make again: what orders of certificates have come to, and their private keys. It is
//! apart from the cache's, which is set aside as soon as it is of no use.

use std::fmt;

use thiserror::Error;
use tracing::{info, warn};

use super::CacheSettings;
use super::file::{CacheFile, FileError, Meta, Row};
use super::key::Seal;
use super::opening::{Trouble, unwound};
use super::place::Place;
use crate::clock;

/// Counts changes of the form of entries.
const FORMAT: u32 = 1;

/// How often a file is read that its owner is writing at the same time.
const ATTEMPTS: usize = 5;

/// What entries are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum KeptTable {
    /// Accounts, ledger, keys of session tickets, answers to challenges and requests.
    Records,
    /// Certificates with their private keys.
    Certificates,
}

impl KeptTable {
    const ALL: [Self; 2] = [Self::Records, Self::Certificates];

    fn name(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Certificates => "issued-certificates",
        }
    }
}

/// An entry to write or to take out.
#[derive(Clone)]
pub(crate) struct KeptEntry {
    pub(crate) table: KeptTable,
    pub(crate) key: String,
    /// `None` takes it out.
    pub(crate) value: Option<Vec<u8>>,
}

/// Why the file cannot be used.
#[derive(Debug, Error)]
pub(crate) enum KeptError {
    /// Another process has it.
    #[error("another process has it open")]
    Locked,
    /// The disk, the folder, the key or the file's content.
    #[error("{0}")]
    Unusable(String),
}

impl From<Trouble> for KeptError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Locked => Self::Locked,
            Trouble::Lasting(why) | Trouble::Useless(why) => Self::Unusable(why),
        }
    }
}

/// The file, while it is this process's.
pub(crate) struct Kept {
    file: CacheFile,
    meta: Meta,
    seal: Option<Seal>,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

impl Kept {
    /// Opens the file, or begins one. One that is damaged is set aside; one that is of another instance, version or key is
    /// left as it is.
    pub(crate) fn open(settings: &CacheSettings) -> Result<Self, KeptError> {
        let opening = Opening::of(settings);
        match unwound(|| opening.open()) {
            Err(Trouble::Useless(why)) => {
                let aside = opening.place.set_aside().map_err(Trouble::from)?;
                warn!(
                    "certificates: {} cannot be read: {why}; it is set aside as {} and a new one is begun: certificates are \
                     ordered again, by a new account",
                    opening.place.path().display(),
                    aside.display()
                );
                Ok(unwound(|| opening.open())?)
            }
            opened => Ok(opened?),
        }
    }

    /// All entries of a file, which another process may have and be writing; none when there is no file.
    pub(crate) fn read_copy(settings: &CacheSettings) -> Result<Vec<KeptEntry>, KeptError> {
        let opening = Opening::of(settings);
        let mut trouble = None;
        for _ in 0..ATTEMPTS {
            match unwound(|| opening.read_copy()) {
                Ok(entries) => return Ok(entries),
                Err(failed) => trouble = Some(failed),
            }
        }
        Err(trouble.map_or(KeptError::Locked, KeptError::from))
    }

    /// Its entries.
    pub(crate) fn entries(&self) -> Result<Vec<KeptEntry>, KeptError> {
        Ok(unwound(|| entries(&self.file, self.seal.as_ref()))?)
    }

    /// Writes entries, all or none, durably.
    pub(crate) fn write(&mut self, entries: &[KeptEntry]) -> Result<(), KeptError> {
        let mut meta = self.meta.clone();
        meta.saved_at = clock::now();
        meta.writer = env!("CARGO_PKG_VERSION").to_owned();
        meta.commits += 1;
        unwound(|| write(&self.file, &meta, entries, self.seal.as_ref()))?;
        self.meta = meta;
        Ok(())
    }

    /// Closes it, so that the next one to open it finds nothing to repair.
    pub(crate) fn close(self) {
        if let Err(trouble) = unwound(|| self.file.close().map_err(Trouble::from)) {
            tracing::debug!("certificates: the file is not closed cleanly: {trouble:?}");
        }
    }
}

/// How the file is opened.
struct Opening<'a> {
    settings: &'a CacheSettings,
    place: Place,
}

impl<'a> Opening<'a> {
    fn of(settings: &'a CacheSettings) -> Self {
        Self {
            settings,
            place: Place::new(settings.file.clone()),
        }
    }

    fn open(&self) -> Result<Kept, Trouble> {
        let seal = self.seal()?;
        let file = self.place.open()?;
        let same = file.try_clone()?;
        let file = CacheFile::open(file)?;
        if !self.place.is_still(&same)? {
            return Err(Trouble::Locked);
        }
        let Some(meta) = file.meta()? else {
            self.place.sync_folder();
            let meta = self.meta(seal.as_ref())?;
            file.commit_rows(&meta, &[])?;
            return Ok(Kept { file, meta, seal });
        };
        self.refuse(&meta, seal.as_ref())?;
        // Whether all of it can be read is to be known before anything is written.
        let all = entries(&file, seal.as_ref().filter(|_| meta.seal.is_some()))?;
        match (&seal, &meta.seal) {
            (Some(_), None) => self.sealed(Kept { file, meta, seal }, &all),
            _ => Ok(Kept { file, meta, seal }),
        }
    }

    fn read_copy(&self) -> Result<Vec<KeptEntry>, Trouble> {
        if self.place.length() == 0 {
            return Ok(Vec::new());
        }
        let seal = self.seal()?;
        let file = CacheFile::over_copy(&self.place.read()?)?;
        let Some(meta) = file.meta()? else {
            return Ok(Vec::new());
        };
        self.refuse(&meta, seal.as_ref())?;
        entries(&file, seal.as_ref().filter(|_| meta.seal.is_some()))
    }

    fn seal(&self) -> Result<Option<Seal>, Trouble> {
        let Some(source) = &self.settings.key else {
            return Ok(None);
        };
        let failed = |error: &dyn fmt::Display| Trouble::Lasting(error.to_string());
        let key = source.read().map_err(|error| failed(&error))?;
        Seal::new(&key).map(Some).map_err(|error| failed(&error))
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

    /// Refuses a file that is not for this program, instance or key. It stays where it is.
    fn refuse(&self, meta: &Meta, seal: Option<&Seal>) -> Result<(), Trouble> {
        let instance = &self.settings.instance;
        let file = self.place.path().display();
        let why = match (&meta.seal, seal) {
            _ if meta.format != FORMAT => format!(
                "{file} has format {}, and this program knows {FORMAT}; version {} wrote it: use that one, or a later one",
                meta.format, meta.writer
            ),
            _ if meta.instance != *instance => format!(
                "{file} is of instance {}, not of {instance}; name another --data-dir",
                meta.instance
            ),
            (Some(_), None) => {
                format!("{file} is encrypted and no key is given: name it with --data-key-file")
            }
            (Some(sample), Some(seal)) if !seal.fits(sample) => format!(
                "{file} is encrypted with another key than the one given: give that one with --data-key-file"
            ),
            _ => return Ok(()),
        };
        Err(Trouble::Lasting(why))
    }

    /// The same entries in a new file, encrypted: pages that a file uses no more keep what they held.
    fn sealed(&self, kept: Kept, all: &[KeptEntry]) -> Result<Kept, Trouble> {
        let place = self.place.successor();
        place.remove()?;
        let file = CacheFile::open(place.open()?)?;
        let meta = self.meta(kept.seal.as_ref())?;
        write(&file, &meta, all, kept.seal.as_ref())?;
        place.replace(&self.place)?;
        kept.file.close()?;
        info!(
            "certificates: {} is encrypted now",
            self.place.path().display()
        );
        let seal = kept.seal;
        Ok(Kept { file, meta, seal })
    }
}

fn entries(file: &CacheFile, seal: Option<&Seal>) -> Result<Vec<KeptEntry>, Trouble> {
    let mut entries = Vec::new();
    for table in KeptTable::ALL {
        for (key, value) in file.rows(table.name())? {
            let value = match seal {
                None => value,
                Some(seal) => seal.open(table.name(), &key, &value).map_err(|error| {
                    FileError::Unreadable(format!("{} {key:?}: {error}", table.name()))
                })?,
            };
            entries.push(KeptEntry {
                table,
                key,
                value: Some(value),
            });
        }
    }
    Ok(entries)
}

fn write(
    file: &CacheFile,
    meta: &Meta,
    entries: &[KeptEntry],
    seal: Option<&Seal>,
) -> Result<(), Trouble> {
    let rows = entries.iter().map(|entry| {
        let table = entry.table.name();
        let value = entry.value.clone().map(|value| match seal {
            None => Ok(value),
            Some(seal) => seal.seal(table, &entry.key, value),
        });
        Ok(Row {
            table,
            key: &entry.key,
            value: value
                .transpose()
                .map_err(|error| Trouble::Lasting(error.to_string()))?,
        })
    });
    let rows: Vec<_> = rows.collect::<Result<_, Trouble>>()?;
    Ok(file.commit_rows(meta, &rows)?)
}
