//! Keys of session tickets, which all nodes share (RFC 5077): made by the process that leads, published one rotation before
//! they seal, and kept while tickets that they sealed may come back.

use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tidegate_model::{TicketKey, TicketKeys, UnixTime};
use zeroize::Zeroizing;

use crate::ledger::{Seconds, seconds};
use crate::store::{Record, RecordKind, Store, StoreError};

/// The entry of a record that holds keys.
pub const ENTRY: &str = "keys.json";
/// A rotation is never shorter, whatever the settings say: nodes have to have heard of the next key.
const SHORTEST: Seconds = 60;
/// How many rotations after its time a key opens tickets still.
const KEPT: Seconds = 2;

/// Why a record of keys cannot be used.
#[derive(Debug, Error)]
pub enum TicketError {
    /// It has no keys.
    #[error("it has no entry '{ENTRY}'")]
    Missing,
    /// They are not what they should be.
    #[error("its entry '{ENTRY}' cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// A key has not the length that it should have.
    #[error(
        "a key in its entry '{ENTRY}' has a name other than 32 hexadecimal digits, or a secret other than 32 bytes in base64"
    )]
    Key,
}

/// A key as a record holds it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    /// 32 hexadecimal digits.
    name: String,
    active_from: Seconds,
    /// Base64 of 32 bytes.
    secret: String,
}

/// Reads the keys of a record's entry.
///
/// # Errors
/// It is not what [`keep`] writes.
pub fn read(entry: &[u8]) -> Result<TicketKeys, TicketError> {
    let kept: Vec<Kept> = serde_json::from_slice(entry)?;
    let keys: Result<Vec<_>, _> = kept.iter().map(key).collect();
    Ok(TicketKeys::new(keys?))
}

fn key(kept: &Kept) -> Result<TicketKey, TicketError> {
    let name = match kept.name.len() {
        32 => u128::from_str_radix(&kept.name, 16).map_err(|_| TicketError::Key)?,
        _ => return Err(TicketError::Key),
    };
    let secret = BASE64_STANDARD.decode(&kept.secret);
    let secret = Zeroizing::new(secret.map_err(|_| TicketError::Key)?);
    Ok(TicketKey {
        name: name.to_be_bytes(),
        active_from: UnixTime(kept.active_from),
        secret: secret.as_slice().try_into().map_err(|_| TicketError::Key)?,
    })
}

fn written(keys: &TicketKeys) -> Result<Vec<u8>, serde_json::Error> {
    let kept = keys.all().iter().map(|key| Kept {
        name: format!("{:032x}", u128::from_be_bytes(key.name)),
        active_from: key.active_from.0,
        secret: BASE64_STANDARD.encode(key.secret),
    });
    serde_json::to_vec(&kept.collect::<Vec<_>>())
}

/// Has the keys of the record be those of this moment, and says when that has to be done again.
///
/// # Errors
/// They cannot be read or written.
pub async fn keep<S: Store>(
    store: &S,
    rotation: Duration,
    now: UnixTime,
) -> Result<Option<UnixTime>, StoreError> {
    let rotation = seconds(rotation).max(SHORTEST);
    let records = store.load(RecordKind::TicketKeys).await?;
    let record = records.into_iter().find(|record| record.name.is_empty());
    let mut record = record.unwrap_or_else(|| Record::new(RecordKind::TicketKeys, ""));
    let known = known(&record);
    let keys = rotated(&known, rotation, now)?;
    if keys != known {
        let entry = written(&keys).map_err(|error| StoreError::Failed(error.to_string()))?;
        record.entries.insert(ENTRY.to_owned(), entry);
        store.save(&record).await?;
    }
    Ok(next(&keys, rotation))
}

fn known(record: &Record) -> TicketKeys {
    let read = match record.entries.get(ENTRY) {
        None if record.version.is_none() => return TicketKeys::default(),
        None => Err(TicketError::Missing),
        Some(entry) => read(entry),
    };
    read.unwrap_or_else(|error| {
        tracing::warn!("the record of session ticket keys is made anew: {error}");
        TicketKeys::default()
    })
}

/// The keys with those added whose publication is due, and without those whose time is long over.
fn rotated(known: &TicketKeys, rotation: Seconds, now: UnixTime) -> Result<TicketKeys, StoreError> {
    let mut keys = known.all().to_vec();
    // A clock that was ahead, or a rotation that was longer, has left keys for a time that is far off.
    keys.retain(|key| key.active_from.0 <= now.0.saturating_add(rotation.saturating_mul(2)));
    let newest = |keys: &[TicketKey]| keys.iter().map(|key| key.active_from.0).max();
    if newest(&keys).is_none_or(|newest| newest.saturating_add(rotation) < now.0) {
        // None at all, or none for long: there is no time to publish first.
        keys.push(fresh(now.0)?);
    }
    if newest(&keys).is_none_or(|newest| newest <= now.0) {
        let begins = newest(&keys).map_or(now.0, |newest| newest.saturating_add(rotation));
        // Never sooner than nodes can have heard of it.
        let begins = begins.max(now.0.saturating_add(rotation.min(SHORTEST)));
        keys.push(fresh(begins)?);
    }
    let keys = TicketKeys::new(keys);
    let is_kept = |next: Option<&TicketKey>| {
        // A key seals until the next one is active.
        next.is_none_or(|next| {
            next.active_from
                .0
                .saturating_add(rotation.saturating_mul(KEPT))
                > now.0
        })
    };
    let all = keys.all().iter().enumerate();
    let kept = all.filter(|(at, _)| is_kept(keys.all().get(at + 1)));
    Ok(TicketKeys::new(kept.map(|(_, key)| key.clone())))
}

/// When the newest key becomes active, and the one after it is to be published.
fn next(keys: &TicketKeys, rotation: Seconds) -> Option<UnixTime> {
    let newest = keys.all().last()?.active_from;
    let oldest_over = keys.all().get(1).map(|second| {
        second
            .active_from
            .0
            .saturating_add(rotation.saturating_mul(KEPT))
    });
    let moment = oldest_over.map_or(newest.0, |over| over.min(newest.0));
    Some(UnixTime(moment))
}

fn fresh(active_from: Seconds) -> Result<TicketKey, StoreError> {
    let random = SystemRandom::new();
    let (mut name, mut secret) = ([0; 16], [0; 32]);
    let filled = random
        .fill(&mut name)
        .and_then(|()| random.fill(&mut secret));
    filled.map_err(|_| StoreError::Failed("the system gives no random numbers".to_owned()))?;
    Ok(TicketKey {
        name,
        active_from: UnixTime(active_from),
        secret,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    const ROTATION: Duration = Duration::from_secs(100);

    async fn kept(store: &MemoryStore) -> TicketKeys {
        let records = store.load(RecordKind::TicketKeys).await.unwrap();
        read(&records[0].entries[ENTRY]).unwrap()
    }

    #[tokio::test]
    async fn every_key_is_published_before_it_seals_and_opens_for_two_rotations_more() {
        let store = MemoryStore::default();
        let (mut now, mut seals) = (UnixTime(1000), Vec::new());
        let mut published: Vec<([u8; 16], i64)> = Vec::new();
        for _ in 0..40 {
            let wake_at = keep(&store, ROTATION, now).await.unwrap().unwrap();
            let keys = kept(&store).await;
            assert!(keys.all().len() <= 5, "{keys:?}");
            for key in keys.all() {
                if !published.iter().any(|(name, _)| *name == key.name) {
                    published.push((key.name, now.0));
                    let is_first = published.len() == 1;
                    assert!(
                        is_first || key.active_from.0 >= now.0 + 60,
                        "{key:?} at {now:?}"
                    );
                }
            }
            let sealing = keys.sealing(now).unwrap().name;
            seals.push((now.0, sealing));
            // Whatever was sealed within the last two rotations is opened.
            for (_, name) in seals.iter().filter(|(at, _)| *at > now.0 - 200) {
                assert!(keys.named(name).is_some(), "at {now:?}");
            }
            assert!(wake_at > now, "no time passes");
            now = UnixTime(wake_at.0.min(now.0 + 37));
        }
        assert!(now.0 > 2000 && published.len() >= 10, "{published:?}");
    }

    #[tokio::test]
    async fn a_look_in_between_writes_nothing() {
        let store = MemoryStore::default();
        keep(&store, ROTATION, UnixTime(1000)).await.unwrap();
        let version = |records: Vec<Record>| records[0].version.clone();
        let before = version(store.load(RecordKind::TicketKeys).await.unwrap());
        keep(&store, ROTATION, UnixTime(1050)).await.unwrap();
        assert_eq!(
            version(store.load(RecordKind::TicketKeys).await.unwrap()),
            before
        );
    }

    #[tokio::test]
    async fn after_a_long_time_without_a_leader_a_new_key_seals_at_once() {
        let store = MemoryStore::default();
        keep(&store, ROTATION, UnixTime(1000)).await.unwrap();
        let old = kept(&store).await.sealing(UnixTime(1000)).unwrap().name;
        let late = UnixTime(1_000_000);
        keep(&store, ROTATION, late).await.unwrap();
        let keys = kept(&store).await;
        assert_eq!(keys.sealing(late).unwrap().active_from, late);
        assert!(keys.named(&old).is_none());
    }

    #[tokio::test]
    async fn keys_that_cannot_be_read_are_made_anew() {
        let store = MemoryStore::default();
        for entry in ["[", r#"[{"name":"zz","activeFrom":1,"secret":""}]"#] {
            let records = store.load(RecordKind::TicketKeys).await.unwrap();
            let mut record = records
                .into_iter()
                .next()
                .unwrap_or_else(|| Record::new(RecordKind::TicketKeys, ""));
            record.entries.insert(ENTRY.to_owned(), entry.into());
            store.save(&record).await.unwrap();
            keep(&store, ROTATION, UnixTime(1000)).await.unwrap();
            assert_eq!(kept(&store).await.all().len(), 2, "{entry}");
        }
    }
}
