//! Answers to challenges in the record that every node serves.

use std::collections::{BTreeMap, BTreeSet};

use crate::ledger::Ledger;
use crate::names::SetId;
use crate::proof::Answer;
use crate::store::{Record, RecordKind, Store, StoreError};

/// Digits of a set's identity in the name of its record.
const DIGITS: usize = 10;
/// What precedes the host in the entry of a TLS-ALPN-01 answer.
const HANDSHAKE: &str = "tls-alpn-01.";
/// How often a record that others write too is read again.
const CONFLICTS: usize = 3;

/// Publishes answers of an order, in place of all that were published for it before.
pub(super) async fn publish<S: Store>(
    store: &S,
    id: &SetId,
    answers: &[Answer],
) -> Result<(), StoreError> {
    let entries: BTreeMap<_, _> = answers.iter().map(entry).collect();
    let name = record_name(id);
    for _ in 0..CONFLICTS {
        let records = store.load(RecordKind::ChallengeAnswers).await?;
        let known = records.into_iter().find(|record| record.name == name);
        let mut record =
            known.unwrap_or_else(|| Record::new(RecordKind::ChallengeAnswers, name.clone()));
        if record.entries == entries {
            return Ok(());
        }
        record.entries.clone_from(&entries);
        match store.save(&record).await {
            Ok(_) => return Ok(()),
            Err(StoreError::Conflict) => {}
            Err(error) => return Err(error),
        }
    }
    Err(StoreError::Conflict)
}

/// Takes the answers of an order back.
pub(crate) async fn withdraw<S: Store>(store: &S, id: &SetId) -> Result<(), StoreError> {
    let name = record_name(id);
    store.remove(RecordKind::ChallengeAnswers, &name).await
}

/// Takes answers back that belong to no order that is under way.
pub(crate) async fn withdraw_strays<S: Store>(
    store: &S,
    ledger: &Ledger,
) -> Result<(), StoreError> {
    let under_way: BTreeSet<_> = ledger
        .sets
        .iter()
        .filter(|(_, set)| set.order.is_some())
        .map(|(id, _)| record_name(id))
        .collect();
    for record in store.load(RecordKind::ChallengeAnswers).await? {
        if !under_way.contains(&record.name) {
            store.remove(record.kind, &record.name).await?;
        }
    }
    Ok(())
}

fn record_name(id: &SetId) -> String {
    let digits = id.as_str().get(..DIGITS).unwrap_or(id.as_str());
    format!("order-{digits}")
}

fn entry(answer: &Answer) -> (String, Vec<u8>) {
    match answer {
        Answer::Page {
            token,
            authorization,
            ..
        } => (token.clone(), authorization.clone().into_bytes()),
        Answer::Handshake {
            host,
            authorization,
        } => (
            format!("{HANDSHAKE}{host}"),
            authorization.clone().into_bytes(),
        ),
    }
}
