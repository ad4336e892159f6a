//! A snapshot in memory that a successor can map: sealed, so that it cannot change under the one who reads it.
//!
//! In it: a header, the entries that a file would have, unencrypted as it never leaves the two processes, and SHA-256
//! over all of it.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tidegate_model::{Snapshot, UnixTime};

use super::Saved;
use super::assemble::{self, Entries, Failed, Visitor};
use super::entry::{Section, changes};
use super::stored::{Damaged, FORMAT};

/// What such memory begins with.
const MAGIC: &[u8; 16] = b"tidegate-saved\0\n";
/// Longest that is read, in bytes: a hundred times what 10,000 hosts with certificates need.
const LONGEST: u64 = 4 << 30;

/// Why exported memory is of no use.
#[derive(Debug, Error)]
pub(crate) enum ImportError {
    /// It cannot be read.
    #[error("cannot read it: {0}")]
    Io(#[from] io::Error),
    /// The other process could still change it.
    #[error("it is not sealed")]
    NotSealed,
    /// Longer than anything we know.
    #[error("it has {0} bytes, which is too many")]
    TooLong(u64),
    /// Not what was exported.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// Of a format that this version does not know.
    #[error("it has format {0}, and this program knows {FORMAT}")]
    Format(u32),
    /// Of another instance.
    #[error("it is of instance {0}")]
    Instance(String),
}

impl From<Damaged> for ImportError {
    fn from(damaged: Damaged) -> Self {
        Self::Damaged(damaged.to_string())
    }
}

impl From<postcard::Error> for ImportError {
    fn from(error: postcard::Error) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// Follows the format's number, which later versions keep in its place.
#[derive(Serialize, Deserialize)]
struct Header<'a> {
    instance: &'a str,
    writer: &'a str,
    saved_at: i64,
    entries: u64,
}

#[derive(Serialize, Deserialize)]
struct Record<'a> {
    section: u8,
    key: &'a str,
    length: u64,
}

/// Everything that a successor needs.
pub(super) fn export(
    snapshot: &Snapshot,
    saved_at: UnixTime,
    instance: &str,
) -> io::Result<OwnedFd> {
    let content = encode(snapshot, saved_at, instance).map_err(io::Error::other)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut memory = File::from(memfd_create("tidegate-last-good", flags)?);
    memory.write_all(&content)?;
    fcntl_add_seals(&memory, seals())?;
    Ok(memory.into())
}

fn seals() -> SealFlags {
    SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL
}

fn encode(
    snapshot: &Snapshot,
    saved_at: UnixTime,
    instance: &str,
) -> Result<Vec<u8>, postcard::Error> {
    let entries = changes(None, snapshot);
    let mut content = MAGIC.to_vec();
    content.extend(FORMAT.to_le_bytes());
    let header = Header {
        instance,
        writer: env!("CARGO_PKG_VERSION"),
        saved_at: saved_at.0,
        entries: entries.len() as u64,
    };
    content = postcard::to_extend(&header, content)?;
    for entry in &entries {
        let value = entry.value.map(|value| value.encode()).unwrap_or_default();
        let record = Record {
            section: entry.section as u8,
            key: &entry.key,
            length: value.len() as u64,
        };
        content = postcard::to_extend(&record, content)?;
        content.extend(value);
    }
    let digest = digest(&SHA256, &content);
    content.extend(digest.as_ref());
    Ok(content)
}

/// What a predecessor exported.
pub(super) fn import(memory: OwnedFd, instance: &str) -> Result<Saved, ImportError> {
    let content = read(memory)?;
    let (body, stated) = content
        .split_last_chunk::<SHA256_OUTPUT_LEN>()
        .ok_or(Damaged)?;
    if digest(&SHA256, body).as_ref() != stated {
        return Err(ImportError::Damaged("its digest does not fit".to_owned()));
    }
    let rest = body.strip_prefix(MAGIC).ok_or(Damaged)?;
    let (format, rest) = rest.split_first_chunk().ok_or(Damaged)?;
    let format = u32::from_le_bytes(*format);
    if format != FORMAT {
        return Err(ImportError::Format(format));
    }
    let (header, rest): (Header<'_>, _) = postcard::take_from_bytes(rest)?;
    if header.instance != instance {
        return Err(ImportError::Instance(header.instance.to_owned()));
    }
    let records = Records::parse(rest)?;
    if records.0.len() as u64 != header.entries {
        return Err(Damaged.into());
    }
    let snapshot = assemble::snapshot(&records).map_err(|failed| match failed {
        Failed::Reading(damaged) => ImportError::from(damaged),
        failed => ImportError::Damaged(format!("{failed:?}")),
    })?;
    Ok(Saved {
        snapshot,
        saved_at: UnixTime(header.saved_at),
        writer: header.writer.to_owned(),
        entries: header.entries,
    })
}

fn read(memory: OwnedFd) -> Result<Vec<u8>, ImportError> {
    // Fails for what is no memory of this kind.
    let sealed = fcntl_get_seals(&memory).map_err(|_| ImportError::NotSealed)?;
    if !sealed.contains(seals()) {
        return Err(ImportError::NotSealed);
    }
    let mut memory = File::from(memory);
    let length = memory.metadata()?.len();
    if length > LONGEST {
        return Err(ImportError::TooLong(length));
    }
    memory.rewind()?;
    let mut content = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    memory.read_to_end(&mut content)?;
    Ok(content)
}

/// Entries in memory; those of a section that a later version knows are passed over.
struct Records<'a>(Vec<(Option<Section>, &'a str, &'a [u8])>);

impl<'a> Records<'a> {
    fn parse(mut rest: &'a [u8]) -> Result<Self, ImportError> {
        let mut records = Vec::new();
        while !rest.is_empty() {
            let (record, after): (Record<'_>, _) = postcard::take_from_bytes(rest)?;
            let length = usize::try_from(record.length).map_err(|_| Damaged)?;
            let (value, after) = after.split_at_checked(length).ok_or(Damaged)?;
            records.push((Section::numbered(record.section), record.key, value));
            rest = after;
        }
        Ok(Self(records))
    }
}

impl Entries for Records<'_> {
    type Error = Damaged;

    fn visit(&self, section: Section, visitor: &mut Visitor<'_>) -> Result<(), Damaged> {
        let records = self.0.iter().filter(|(of, ..)| *of == Some(section));
        for (_, key, value) in records {
            visitor(key, value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    //! Memory that is not as it was exported.

    use super::*;

    /// What is in it.
    pub(in crate::cache) fn content(memory: &OwnedFd) -> Vec<u8> {
        read(memory.try_clone().unwrap()).unwrap()
    }

    pub(in crate::cache) fn unsealed(content: &[u8]) -> OwnedFd {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut memory = File::from(memfd_create("test", flags).unwrap());
        memory.write_all(content).unwrap();
        memory.into()
    }

    pub(in crate::cache) fn sealed(content: &[u8]) -> OwnedFd {
        let memory = unsealed(content);
        fcntl_add_seals(&memory, seals()).unwrap();
        memory
    }

    /// The same, as a version would write it that has this format.
    pub(in crate::cache) fn with_format(content: &[u8], format: u32) -> Vec<u8> {
        let (body, _) = content.split_last_chunk::<SHA256_OUTPUT_LEN>().unwrap();
        let mut body = body.to_vec();
        body[MAGIC.len()..MAGIC.len() + 4].copy_from_slice(&format.to_le_bytes());
        let stated = digest(&SHA256, &body);
        body.extend(stated.as_ref());
        body
    }
}
