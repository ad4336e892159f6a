//! What is kept, for those who do not lead.

use tidegate_certificates::store::{IssuedCertificate, Put};
use tidegate_certificates::{Record, RecordKind, Store, StoreError};
use tidegate_model::NamespacedName;

use super::object::Owner;
use super::shelf::Shelf;

/// Reads what the leader keeps, and refuses every write.
#[derive(Clone)]
pub struct ReadOnly(Shelf);

/// A store that reads what the leader of an instance keeps.
pub fn read_only(client: kube::Client, owner: Owner) -> ReadOnly {
    ReadOnly(Shelf { client, owner })
}

impl Store for ReadOnly {
    fn check(&self) -> Result<(), StoreError> {
        Err(StoreError::NotLeading)
    }

    async fn over(&self) {}

    async fn load(&self, kind: RecordKind) -> Result<Vec<Record>, StoreError> {
        self.0.load(kind).await
    }

    async fn save(&self, _record: &Record) -> Result<String, StoreError> {
        Err(StoreError::NotLeading)
    }

    async fn remove(&self, _kind: RecordKind, _name: &str) -> Result<(), StoreError> {
        Err(StoreError::NotLeading)
    }

    async fn put_certificate(
        &self,
        _secret: &NamespacedName,
        _certificate: &IssuedCertificate,
    ) -> Result<Put, StoreError> {
        Err(StoreError::NotLeading)
    }

    async fn remove_certificate(&self, _secret: &NamespacedName) -> Result<Put, StoreError> {
        Err(StoreError::NotLeading)
    }

    async fn secret_entry(&self, name: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.entry(name, key).await
    }
}
