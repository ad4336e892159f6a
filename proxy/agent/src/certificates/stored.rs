//! The form of records and certificates in the file: postcard of the structures here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tidegate_certificates::store::IssuedCertificate;
use tidegate_certificates::{NameSet, Record, RecordKind};
use tidegate_model::{HostPattern, NamespacedName};

use crate::cache::{KeptEntry, KeptTable};

/// An entry that does not hold what it should.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the entry {0:?} does not hold what it should")]
pub(super) struct Damaged(String);

const KINDS: [RecordKind; 5] = [
    RecordKind::Ledger,
    RecordKind::Account,
    RecordKind::ChallengeAnswers,
    RecordKind::TicketKeys,
    RecordKind::Requests,
];

#[derive(Serialize, Deserialize)]
struct StoredRecord {
    version: u64,
    entries: Vec<(String, Vec<u8>)>,
}

#[derive(Serialize, Deserialize)]
struct StoredCertificate {
    chain: String,
    key: String,
    issuer: String,
    names: Vec<String>,
}

/// All that the file holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Holdings {
    pub(super) records: BTreeMap<(RecordKind, String), Record>,
    pub(super) certificates: BTreeMap<NamespacedName, IssuedCertificate>,
}

impl Holdings {
    /// What entries say, and those that cannot be read, which are left out.
    pub(super) fn of(entries: Vec<KeptEntry>) -> (Self, Vec<Damaged>) {
        let mut holdings = Self::default();
        let mut damaged = Vec::new();
        for entry in entries {
            if holdings.take(&entry).is_none() {
                damaged.push(Damaged(entry.key));
            }
        }
        (holdings, damaged)
    }

    fn take(&mut self, entry: &KeptEntry) -> Option<()> {
        let value = entry.value.as_deref()?;
        match entry.table {
            KeptTable::Records => {
                let record = record(&entry.key, value)?;
                let at = (record.kind, record.name.clone());
                self.records.insert(at, record);
            }
            KeptTable::Certificates => {
                let (namespace, name) = entry.key.split_once('/')?;
                let name = NamespacedName::new(namespace, name);
                self.certificates.insert(name, certificate(value)?);
            }
        }
        Some(())
    }
}

fn record(key: &str, value: &[u8]) -> Option<Record> {
    let (kind, name) = key.split_once('/')?;
    let kind = KINDS.into_iter().find(|known| known.as_str() == kind)?;
    let stored: StoredRecord = postcard::from_bytes(value).ok()?;
    Some(Record {
        kind,
        name: name.to_owned(),
        entries: stored.entries.into_iter().collect(),
        version: Some(stored.version.to_string()),
    })
}

fn certificate(value: &[u8]) -> Option<IssuedCertificate> {
    let stored: StoredCertificate = postcard::from_bytes(value).ok()?;
    let names = stored.names.iter().map(|name| HostPattern::parse(name));
    let names: Vec<_> = names.collect::<Result<_, _>>().ok()?;
    Some(IssuedCertificate {
        chain: stored.chain,
        key: stored.key,
        issuer: stored.issuer,
        names: NameSet::new(names)?,
    })
}

/// A record in a version, to be written.
pub(super) fn record_entry(record: &Record, version: u64) -> KeptEntry {
    let entries = record.entries.iter();
    let stored = StoredRecord {
        version,
        entries: entries
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    };
    KeptEntry {
        value: Some(encode(&stored)),
        ..no_record(record.kind, &record.name)
    }
}

/// A record taken out.
pub(super) fn no_record(kind: RecordKind, name: &str) -> KeptEntry {
    KeptEntry {
        table: KeptTable::Records,
        key: format!("{}/{name}", kind.as_str()),
        value: None,
    }
}

/// A certificate, to be written.
pub(super) fn certificate_entry(secret: &NamespacedName, issued: &IssuedCertificate) -> KeptEntry {
    let stored = StoredCertificate {
        chain: issued.chain.clone(),
        key: issued.key.clone(),
        issuer: issued.issuer.clone(),
        names: issued.names.iter().map(ToString::to_string).collect(),
    };
    KeptEntry {
        value: Some(encode(&stored)),
        ..no_certificate(secret)
    }
}

/// A certificate taken out.
pub(super) fn no_certificate(secret: &NamespacedName) -> KeptEntry {
    KeptEntry {
        table: KeptTable::Certificates,
        key: secret.to_string(),
        value: None,
    }
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Fails for types only that none of these is: sequences without a length.
    postcard::to_stdvec(value).unwrap_or_default()
}
