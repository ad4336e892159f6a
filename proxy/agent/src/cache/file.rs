//! Files of this process: redb, here and nowhere else.
//!
//! A table a section, and one that says what the file is. Every page has a checksum, which is verified when the file is
//! opened; a commit is durable before it returns.

use std::fmt;
use std::io;

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{
    Builder, Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    StorageBackend, Table, TableDefinition, TableError, WriteTransaction,
};
use thiserror::Error;
use tidegate_model::UnixTime;

use super::assemble::{Entries, Visitor};
use super::entry::{Change, Section};
use super::key::Seal;

/// Pages that redb keeps in memory: a snapshot is read once and then only written.
const PAGE_CACHE: usize = 8 << 20;

type Definition = TableDefinition<'static, &'static str, &'static [u8]>;

/// The table that says what the file is. Its first form is that of all later ones.
const META: Definition = TableDefinition::new("tidegate");

impl Section {
    fn table(self) -> Definition {
        TableDefinition::new(self.name())
    }
}

/// Why the file cannot be used.
#[derive(Debug, Error)]
pub(super) enum FileError {
    /// Another process has it open.
    #[error("another process has it open")]
    Locked,
    /// The disk refuses.
    #[error(transparent)]
    Io(io::Error),
    /// Its content is not what we wrote.
    #[error("{0}")]
    Unreadable(String),
}

impl FileError {
    fn of(error: impl Into<redb::Error>) -> Self {
        use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        match error.into() {
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => Self::Locked,
            redb::Error::Io(error) => match error.kind() {
                InvalidData | InvalidInput | UnexpectedEof => {
                    Self::Unreadable(format!("no redb file, or part of one ({error})"))
                }
                _ => Self::Io(error),
            },
            error @ (redb::Error::PreviousIo | redb::Error::DatabaseClosed) => {
                Self::Io(io::Error::other(error.to_string()))
            }
            error => Self::Unreadable(error.to_string()),
        }
    }
}

/// What a file says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    /// Of the entries; see [`super::stored::FORMAT`].
    pub(super) format: u32,
    /// Whose it is.
    pub(super) instance: String,
    /// When it was written last.
    pub(super) saved_at: UnixTime,
    /// The version of the program that wrote it.
    pub(super) writer: String,
    /// Commits since it was made.
    pub(super) commits: u64,
    /// A sample of the seal, if secret entries are sealed.
    pub(super) seal: Option<Vec<u8>>,
}

impl Meta {
    fn fields(&self) -> Vec<(&'static str, Vec<u8>)> {
        let mut fields = vec![
            ("format", self.format.to_le_bytes().to_vec()),
            ("instance", self.instance.clone().into_bytes()),
            ("saved-at", self.saved_at.0.to_le_bytes().to_vec()),
            ("writer", self.writer.clone().into_bytes()),
            ("commits", self.commits.to_le_bytes().to_vec()),
        ];
        fields.extend(self.seal.clone().map(|sample| ("seal", sample)));
        fields
    }

    fn parse(field: impl Fn(&str) -> Option<Vec<u8>>) -> Option<Self> {
        let text = |name| String::from_utf8(field(name)?).ok();
        Some(Self {
            format: u32::from_le_bytes(field("format")?.try_into().ok()?),
            instance: text("instance")?,
            saved_at: UnixTime(i64::from_le_bytes(field("saved-at")?.try_into().ok()?)),
            writer: text("writer")?,
            commits: u64::from_le_bytes(field("commits")?.try_into().ok()?),
            seal: field("seal"),
        })
    }
}

/// What a commit wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// Bytes of values.
    pub(super) bytes: u64,
    /// Entries in the file now.
    pub(super) entries: u64,
}

/// An open file.
pub(super) struct CacheFile {
    database: Database,
}

impl fmt::Debug for CacheFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CacheFile")
    }
}

impl CacheFile {
    /// Opens a file that is empty or one of ours, verifies it whole, and repairs it if its process was killed: the last
    /// commit that was durable stands.
    pub(super) fn open(file: std::fs::File) -> Result<Self, FileError> {
        Self::over(FileBackend::new(file).map_err(FileError::of)?)
    }

    /// Opens a copy of a file that cannot be written.
    pub(super) fn over_copy(content: &[u8]) -> Result<Self, FileError> {
        let copy = InMemoryBackend::new();
        copy.set_len(content.len() as u64)
            .and_then(|()| copy.write(0, content))
            .map_err(FileError::Io)?;
        Self::over(copy)
    }

    fn over(backend: impl StorageBackend) -> Result<Self, FileError> {
        let database = Builder::new()
            .set_cache_size(PAGE_CACHE)
            .set_check_integrity_on_open(true)
            .create_with_backend(backend)
            .map_err(FileError::of)?;
        Ok(Self { database })
    }

    /// What it says about itself; `None` for a new one.
    pub(super) fn meta(&self) -> Result<Option<Meta>, FileError> {
        let reading = self.database.begin_read().map_err(FileError::of)?;
        let mut tables = reading.list_tables().map_err(FileError::of)?;
        if tables.next().is_none() {
            return Ok(None);
        }
        let table = match reading.open_table(META) {
            Ok(table) => table,
            Err(TableError::Storage(error)) => return Err(FileError::of(error)),
            Err(_) => {
                return Err(FileError::Unreadable(
                    "a redb file of another program".into(),
                ));
            }
        };
        let field = |name: &str| Some(table.get(name).ok()??.value().to_vec());
        let meta = Meta::parse(field);
        meta.map(Some)
            .ok_or_else(|| FileError::Unreadable("it does not say what it is".into()))
    }

    /// Its entries.
    pub(super) fn entries<'a>(
        &'a self,
        seal: Option<&'a Seal>,
    ) -> Result<FileEntries<'a>, FileError> {
        let reading = self.database.begin_read().map_err(FileError::of)?;
        Ok(FileEntries { reading, seal })
    }

    /// Writes changes and what the file says about itself, all or nothing, durably.
    pub(super) fn commit(
        &self,
        meta: &Meta,
        changes: &[Change<'_>],
        seal: Option<&Seal>,
    ) -> Result<Written, FileError> {
        let writing = self.database.begin_write().map_err(FileError::of)?;
        let mut written = Written::default();
        // They come section by section.
        for changes in changes.chunk_by(|a, b| a.section == b.section) {
            written.bytes += write(&writing, changes, seal)?;
        }
        note(&writing, meta)?;
        writing.commit().map_err(FileError::of)?;
        written.entries = self.count()?;
        Ok(written)
    }

    /// The entries of a table that is no section.
    pub(super) fn rows(&self, table: &'static str) -> Result<Vec<(String, Vec<u8>)>, FileError> {
        let reading = self.database.begin_read().map_err(FileError::of)?;
        let table = match reading.open_table(Definition::new(table)) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(FileError::of(error)),
        };
        let rows = table.iter().map_err(FileError::of)?.map(|row| {
            let (key, value) = row.map_err(FileError::of)?;
            Ok((key.value().to_owned(), value.value().to_owned()))
        });
        rows.collect()
    }

    /// Writes rows, and what the file says about itself, all or nothing, durably.
    pub(super) fn commit_rows(&self, meta: &Meta, rows: &[Row<'_>]) -> Result<(), FileError> {
        let writing = self.database.begin_write().map_err(FileError::of)?;
        for Row { table, key, value } in rows {
            let mut table = writing
                .open_table(Definition::new(table))
                .map_err(FileError::of)?;
            match value {
                Some(value) => table.insert(*key, &**value).map(drop),
                None => table.remove(*key).map(drop),
            }
            .map_err(FileError::of)?;
        }
        note(&writing, meta)?;
        writing.commit().map_err(FileError::of)
    }

    /// Entries in all sections.
    pub(super) fn count(&self) -> Result<u64, FileError> {
        let reading = self.database.begin_read().map_err(FileError::of)?;
        let counts =
            Section::ALL
                .into_iter()
                .map(|section| match reading.open_table(section.table()) {
                    Ok(table) => table.len().map_err(FileError::of),
                    Err(TableError::TableDoesNotExist(_)) => Ok(0),
                    Err(error) => Err(FileError::of(error)),
                });
        counts.sum()
    }

    /// Closes it, so that the next one to open it finds nothing to repair.
    pub(super) fn close(self) -> Result<(), FileError> {
        self.database.close().map_err(FileError::of)
    }
}

/// A row of a table that is no section.
pub(super) struct Row<'a> {
    pub(super) table: &'static str,
    pub(super) key: &'a str,
    /// `None` takes it out.
    pub(super) value: Option<Vec<u8>>,
}

/// Writes what a file says about itself.
fn note(writing: &WriteTransaction, meta: &Meta) -> Result<(), FileError> {
    let mut table = writing.open_table(META).map_err(FileError::of)?;
    for (name, value) in meta.fields() {
        table.insert(name, &*value).map_err(FileError::of)?;
    }
    if meta.seal.is_none() {
        table.remove("seal").map_err(FileError::of)?;
    }
    Ok(())
}

/// Writes changes of one section and returns the bytes of their values.
fn write(
    writing: &WriteTransaction,
    changes: &[Change<'_>],
    seal: Option<&Seal>,
) -> Result<u64, FileError> {
    let Some(Change { section, .. }) = changes.first() else {
        return Ok(0);
    };
    let mut table = writing.open_table(section.table()).map_err(FileError::of)?;
    let seal = Seal::of(seal, *section);
    let mut bytes = 0;
    for change in changes {
        bytes += write_entry(&mut table, change, seal)?;
    }
    Ok(bytes)
}

fn write_entry(
    table: &mut Table<'_, &'static str, &'static [u8]>,
    change: &Change<'_>,
    seal: Option<&Seal>,
) -> Result<u64, FileError> {
    let key = change.key.as_str();
    let Some(value) = change.value else {
        table.remove(key).map_err(FileError::of)?;
        return Ok(0);
    };
    let mut value = value.encode();
    if let Some(seal) = seal {
        let sealed = seal.seal(change.section.name(), key, value);
        value = sealed.map_err(|error| FileError::Io(io::Error::other(error)))?;
    }
    table.insert(key, &*value).map_err(FileError::of)?;
    Ok(value.len() as u64)
}

/// The entries of a file at one moment.
pub(super) struct FileEntries<'a> {
    reading: ReadTransaction,
    seal: Option<&'a Seal>,
}

impl Entries for FileEntries<'_> {
    type Error = FileError;

    fn visit(&self, section: Section, visitor: &mut Visitor<'_>) -> Result<(), FileError> {
        let table = match self.reading.open_table(section.table()) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(()),
            Err(error) => return Err(FileError::of(error)),
        };
        let seal = Seal::of(self.seal, section);
        for entry in table.iter().map_err(FileError::of)? {
            let (key, value) = entry.map_err(FileError::of)?;
            let (key, value) = (key.value(), value.value());
            let refused = |why: &dyn fmt::Display| {
                FileError::Unreadable(format!("{} {key:?}: {why}", section.name()))
            };
            let taken = match seal {
                None => visitor(key, value),
                Some(seal) => {
                    let plain = seal.open(section.name(), key, value);
                    visitor(key, &plain.map_err(|error| refused(&error))?)
                }
            };
            taken.map_err(|error| refused(&error))?;
        }
        Ok(())
    }
}
