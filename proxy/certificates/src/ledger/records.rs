//! The ledger as records: sixteen shards of sets by the first digit of their identity, and one record of directories.
//!
//! A record that cannot be read is never written over at once. Its sets may have orders under way that nobody knows of, so
//! none is placed for them for [`QUIET`]: long enough for somebody to restore or remove the record, and short beside the last
//! third of even a 6-day certificate's life. The time is noted in the record beside what could not be read, so that it goes
//! on over restarts. Then what could not be read is moved to a record called `NAME-set-aside`, and the shard begins empty; at
//! worst one more order is placed for a set whose first one nobody can finish. The same goes for a record that a newer
//! version has written: that version, when it comes back soon, finds it as it was.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tidegate_model::UnixTime;

use super::{DAY, DirectoryEntry, Ledger, Seconds, SetEntry};
use crate::names::SetId;
use crate::store::{Record, RecordKind};

/// The version of what is written here. A higher one is not understood.
const FORMAT: u32 = 1;
/// The entry of a record that holds the ledger's part.
const ENTRY: &str = "ledger.json";
/// The entry that says since when the other cannot be read.
const UNREADABLE: &str = "unreadable-since";
/// Name of the record that holds directories.
pub const DIRECTORIES: &str = "directories";
/// End of the names of records that hold what could not be read.
const ASIDE: &str = "-set-aside";
/// How long nothing is ordered for sets whose record cannot be read.
const QUIET: Seconds = DAY;
/// Most bytes of a part: a Secret holds 1 MiB (1.4 MiB as base64, of the 1.5 MiB that etcd takes).
const LIMIT: usize = 900 * 1024;
/// Characters of a message that are left when a part is too large.
const SHORT: usize = 100;

/// What is kept of the ledger, and what of it could not be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Records {
    kept: BTreeMap<String, Kept>,
    sealed: BTreeMap<String, Sealed>,
    aside: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
}

/// A record as the store has it.
#[derive(Clone, Debug, PartialEq)]
struct Kept {
    version: Option<String>,
    digest: [u8; 32],
}

/// A record that could not be read.
#[derive(Clone, Debug, PartialEq)]
struct Sealed {
    entries: BTreeMap<String, Vec<u8>>,
    since: Option<Seconds>,
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

#[derive(Deserialize)]
struct ReadSets {
    sets: BTreeMap<SetId, SetEntry>,
}

#[derive(Serialize)]
struct WrittenSets<'a, E> {
    format: u32,
    sets: &'a BTreeMap<&'a SetId, E>,
}

#[derive(Deserialize)]
struct ReadDirectories {
    directories: BTreeMap<String, DirectoryEntry>,
}

#[derive(Serialize)]
struct WrittenDirectories<'a> {
    format: u32,
    directories: &'a BTreeMap<String, DirectoryEntry>,
}

impl Ledger {
    /// Reads the ledger, and complains of every record that cannot be read.
    pub fn load(records: Vec<Record>) -> (Self, Vec<String>) {
        let mut ledger = Self::default();
        let mut complaints = Vec::new();
        for record in records {
            if record.kind != RecordKind::Ledger {
                continue;
            }
            ledger.records.kept.insert(
                record.name.clone(),
                Kept {
                    version: record.version,
                    digest: digest(&record.entries),
                },
            );
            if is_aside(&record.name) {
                continue;
            }
            if !is_part(&record.name) {
                complaints.push(format!(
                    "the ledger's record '{}' is none that this version of Tidegate writes; it is left as it is",
                    record.name
                ));
                continue;
            }
            if let Err(why) = ledger.read(&record.name, &record.entries) {
                complaints.push(complaint(&record.name, &why));
                let since = record
                    .entries
                    .get(UNREADABLE)
                    .and_then(|text| std::str::from_utf8(text).ok()?.trim().parse().ok());
                let sealed = Sealed {
                    entries: record.entries,
                    since,
                };
                ledger.records.sealed.insert(record.name, sealed);
            }
        }
        (ledger, complaints)
    }

    fn read(&mut self, name: &str, entries: &BTreeMap<String, Vec<u8>>) -> Result<(), String> {
        let text = entries
            .get(ENTRY)
            .ok_or_else(|| format!("it has no entry '{ENTRY}'"))?;
        let Format { format } = parse(text)?;
        if format != FORMAT {
            return Err(format!(
                "its format is {format}, this version of Tidegate reads format {FORMAT}"
            ));
        }
        if name == DIRECTORIES {
            let read: ReadDirectories = parse(text)?;
            self.directories = read.directories;
            return Ok(());
        }
        let ReadSets { sets } = parse(text)?;
        if let Some(stray) = sets.keys().find(|id| id.shard() != name) {
            return Err(format!("set {stray} does not belong in it"));
        }
        self.sets.extend(sets);
        Ok(())
    }

    /// The records that are to be written, in this order; none when nothing has changed.
    pub fn unsaved(&self) -> Vec<Record> {
        let aside = self
            .records
            .aside
            .iter()
            .map(|(name, entries)| (name.clone(), entries.clone()));
        let parts = part_names().filter_map(|name| {
            let entries = self.part(&name)?;
            Some((name, entries))
        });
        aside
            .chain(parts)
            .filter_map(|(name, entries)| {
                let kept = self.records.kept.get(&name);
                if kept.is_some_and(|kept| kept.digest == digest(&entries)) {
                    return None;
                }
                let version = kept.and_then(|kept| kept.version.clone());
                Some(Record {
                    kind: RecordKind::Ledger,
                    name,
                    entries,
                    version,
                })
            })
            .collect()
    }

    /// A record of [`Ledger::unsaved`] was written and has this version now. What has changed meanwhile is still unsaved.
    pub fn saved(&mut self, record: &Record, version: impl Into<String>) {
        let kept = Kept {
            version: Some(version.into()),
            digest: digest(&record.entries),
        };
        self.records.kept.insert(record.name.clone(), kept);
        if self.records.aside.get(&record.name) == Some(&record.entries) {
            self.records.aside.remove(&record.name);
        }
    }

    /// Until when nothing may be ordered for a set because its part of the ledger cannot be read.
    pub fn sealed_until(&self, id: &SetId, now: UnixTime) -> Option<UnixTime> {
        self.records.sealed_until(id.shard(), now)
    }

    /// Until when no new order may be placed because it is not known how many were.
    pub fn directories_sealed_until(&self, now: UnixTime) -> Option<UnixTime> {
        self.records.sealed_until(DIRECTORIES, now)
    }

    /// Lets go of records that could not be read for long enough.
    pub(super) fn set_aside(&mut self, now: UnixTime) {
        let records = &mut self.records;
        let mut open = BTreeSet::new();
        for (name, sealed) in &mut records.sealed {
            let since = *sealed.since.get_or_insert(now.0);
            // A time of the future is a clock that was wrong.
            sealed.since = Some(since.min(now.0));
            if since.saturating_add(QUIET) <= now.0 {
                open.insert(name.clone());
            }
        }
        for name in open {
            if let Some(mut sealed) = records.sealed.remove(&name) {
                sealed.entries.remove(UNREADABLE);
                records
                    .aside
                    .insert(format!("{name}{ASIDE}"), sealed.entries);
            }
        }
    }

    /// The entries of a part's record; `None` for one that is neither kept nor holds anything.
    fn part(&self, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        if let Some(sealed) = self.records.sealed.get(name) {
            let mut entries = sealed.entries.clone();
            if let Some(since) = sealed.since {
                entries.insert(UNREADABLE.to_owned(), since.to_string().into_bytes());
            }
            return Some(entries);
        }
        let is_kept = self.records.kept.contains_key(name);
        let text = if name == DIRECTORIES {
            (is_kept || !self.directories.is_empty()).then(|| directories_text(&self.directories))
        } else {
            let sets: BTreeMap<_, _> = self
                .sets
                .iter()
                .filter(|(id, _)| id.shard() == name)
                .collect();
            (is_kept || !sets.is_empty()).then(|| sets_text(&sets))
        }?;
        Some(BTreeMap::from([(ENTRY.to_owned(), text)]))
    }
}

impl Records {
    fn sealed_until(&self, name: &str, now: UnixTime) -> Option<UnixTime> {
        let sealed = self.sealed.get(name)?;
        let since = sealed.since.unwrap_or(now.0).min(now.0);
        Some(UnixTime(since.saturating_add(QUIET)))
    }
}

fn parse<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(text).map_err(|error| error.to_string())
}

fn complaint(name: &str, why: &str) -> String {
    let affected = match name {
        DIRECTORIES => "no new order is placed",
        _ => "no new order is placed for its sets of names",
    };
    format!(
        "the ledger's record '{name}' cannot be read: {why}; for a day {affected}, then it is moved to '{name}{ASIDE}' and \
         begun anew. Restore the record, or remove it to begin anew at once"
    )
}

/// Names of the records that this version writes.
fn part_names() -> impl Iterator<Item = String> {
    SetId::shards()
        .map(str::to_owned)
        .chain([DIRECTORIES.to_owned()])
}

fn is_part(name: &str) -> bool {
    name == DIRECTORIES || SetId::shards().any(|shard| shard == name)
}

fn is_aside(name: &str) -> bool {
    name.strip_suffix(ASIDE).is_some_and(is_part)
}

fn digest(entries: &BTreeMap<String, Vec<u8>>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for (key, value) in entries {
        for part in [key.as_bytes(), value] {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
    }
    hash.finalize().into()
}

/// The sets as text. When they are too many for one record, what can be done without is left out: first long texts, then
/// names that wishes repeat anyway, then whole entries with nothing under way, the longest untouched first.
fn sets_text(sets: &BTreeMap<&SetId, &SetEntry>) -> Vec<u8> {
    let mut bytes = to_text(&WrittenSets {
        format: FORMAT,
        sets,
    });
    if bytes.len() <= LIMIT {
        return bytes;
    }
    let mut written: BTreeMap<&SetId, SetEntry> = sets
        .iter()
        .map(|(id, entry)| (*id, (*entry).clone()))
        .collect();
    let text = |sets: &BTreeMap<&SetId, SetEntry>| {
        to_text(&WrittenSets {
            format: FORMAT,
            sets,
        })
    };
    for shorten in [shorten_texts, shorten_names] {
        if bytes.len() <= LIMIT {
            return bytes;
        }
        written.values_mut().for_each(shorten);
        bytes = text(&written);
    }
    let mut idle: Vec<_> = sets
        .iter()
        .filter(|(_, entry)| entry.order.is_none())
        .map(|(id, entry)| (entry.last_touched(), *id))
        .collect();
    idle.sort();
    for some in idle.chunks(idle.len().div_ceil(20).max(1)) {
        if bytes.len() <= LIMIT {
            break;
        }
        for (_, id) in some {
            written.remove(id);
        }
        bytes = text(&written);
    }
    bytes
}

fn shorten_texts(entry: &mut SetEntry) {
    if let Some(failure) = &mut entry.last_failure {
        failure.message = failure.message.chars().take(SHORT).collect();
        failure.names.clear();
    }
    if let Some(renewal) = &mut entry.renewal {
        renewal.explanation = None;
    }
}

fn shorten_names(entry: &mut SetEntry) {
    if entry.order.is_none() && entry.on_demand.is_none() {
        entry.names.truncate(1);
    }
}

/// The directories as text. When they are too many, domains are left out that are furthest from any limit.
fn directories_text(directories: &BTreeMap<String, DirectoryEntry>) -> Vec<u8> {
    let text = |directories: &BTreeMap<String, DirectoryEntry>| {
        to_text(&WrittenDirectories {
            format: FORMAT,
            directories,
        })
    };
    let mut bytes = text(directories);
    let mut written = directories.clone();
    let mut least = 1;
    while bytes.len() > LIMIT
        && written
            .values()
            .any(|directory| !directory.issued.is_empty())
    {
        for directory in written.values_mut() {
            directory.issued.retain(|_, moments| moments.len() > least);
        }
        least = least.saturating_mul(2);
        bytes = text(&written);
    }
    bytes
}

/// JSON of something that cannot fail to be JSON: maps with text as keys, numbers and texts.
fn to_text(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
