//! Requests that were carried out.

use crate::store::{RecordKind, Store, StoreError};

/// How often the record of requests is read again because others write it too.
const CONFLICTS: usize = 5;

/// Removes a request from their record, which others write too.
pub(super) async fn answered<S: Store>(store: &S, key: &str) -> Result<(), StoreError> {
    for _ in 0..CONFLICTS {
        let records = store.load(RecordKind::Requests).await?;
        let Some(mut record) = records
            .into_iter()
            .find(|one| one.entries.contains_key(key))
        else {
            return Ok(());
        };
        record.entries.remove(key);
        match store.save(&record).await {
            Err(StoreError::Conflict) => {}
            outcome => return outcome.map(drop),
        }
    }
    Err(StoreError::Conflict)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MemoryStore, Record};

    #[tokio::test]
    async fn one_request_is_removed_and_the_others_stay() {
        let store = MemoryStore::default();
        answered(&store, "renew.a.test").await.unwrap();
        let mut record = Record::new(RecordKind::Requests, "");
        for key in ["renew.a.test", "renew._.b.test"] {
            record
                .entries
                .insert(key.to_owned(), b"2026-01-01T00:00:00Z".to_vec());
        }
        store.save(&record).await.unwrap();
        answered(&store, "renew.a.test").await.unwrap();
        let kept = store.load(RecordKind::Requests).await.unwrap();
        let keys: Vec<_> = kept[0].entries.keys().collect();
        assert_eq!(keys, ["renew._.b.test"]);
    }
}
