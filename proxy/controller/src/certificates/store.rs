//! What the leader keeps: records in its own namespace, certificates wherever they are wished for.

use std::time::Duration;

use tidegate_certificates::store::{IssuedCertificate, Put};
use tidegate_certificates::{Record, RecordKind, Store, StoreError};
use tidegate_model::NamespacedName;

use super::object::{OPAQUE, Owner, TLS};
use super::shelf::Shelf;
use crate::leader::{Interrupted, Leadership};
use crate::write::{Kind, WriteError, Writer};

/// How often a Secret is read again when another writes it at the same time.
const TRIES: usize = 3;
/// How late the end of a term may be noticed while nothing is written.
const WATCH: Duration = Duration::from_millis(200);

/// Keeps records and certificates of an instance in Secrets for as long as one term of leadership lasts.
#[derive(Clone)]
pub struct ClusterStore {
    shelf: Shelf,
    writer: Writer,
    leadership: Leadership,
}

impl ClusterStore {
    /// A store for one term.
    pub fn new(writer: Writer, leadership: Leadership, owner: Owner) -> Self {
        Self {
            shelf: Shelf {
                client: writer.client(),
                owner,
            },
            writer,
            leadership,
        }
    }

    fn owner(&self) -> &Owner {
        &self.shelf.owner
    }

    /// Reads the Secret and writes it as it has to be; `Conflict` when another was faster.
    async fn try_put(
        &self,
        name: &NamespacedName,
        issued: &IssuedCertificate,
    ) -> Result<Put, StoreError> {
        let found = self.shelf.secret(name).await?;
        if let Some(found) = &found {
            if !self.owner().owns(found) {
                return Ok(Put::NotOurs);
            }
            let kind = found.type_.as_deref().unwrap_or(OPAQUE);
            if kind != TLS && kind != OPAQUE {
                return Err(StoreError::Refused(format!(
                    "the Secret '{name}' has the type '{kind}', which cannot be changed and holds no certificate; delete \
                     it, and it is made again"
                )));
            }
        }
        let before = found.unwrap_or_else(|| Owner::new_certificate(name));
        let is_new = before.metadata.resource_version.is_none();
        let secret = self.owner().with_certificate(before.clone(), issued);
        let is_there = !is_new
            && secret.data == before.data
            && secret.metadata.labels == before.metadata.labels
            && secret.metadata.annotations == before.metadata.annotations;
        if is_there {
            return Ok(Put::Done);
        }
        let put = self
            .writer
            .put_secret(&self.leadership, Kind::Certificate, &secret);
        match put.await {
            Ok(_) => Ok(Put::Done),
            // There is no such namespace, or it is being deleted.
            Err(WriteError::Gone) if is_new => Ok(Put::Gone),
            // The Secret was deleted since.
            Err(WriteError::Gone) => Err(StoreError::Conflict),
            Err(error) => Err(failure(error, name)),
        }
    }

    async fn try_remove(&self, name: &NamespacedName) -> Result<Put, StoreError> {
        let Some(found) = self.shelf.secret(name).await? else {
            return Ok(Put::Gone);
        };
        if !self.owner().owns(&found) {
            return Ok(Put::NotOurs);
        }
        let as_read = Some(&found.metadata);
        let delete = self
            .writer
            .delete_secret(&self.leadership, Kind::Certificate, name, as_read);
        match delete.await {
            Ok(()) => Ok(Put::Done),
            Err(WriteError::Gone) => Ok(Put::Gone),
            Err(error) => Err(failure(error, name)),
        }
    }
}

impl Store for ClusterStore {
    fn check(&self) -> Result<(), StoreError> {
        self.leadership.check().map_err(|_| StoreError::NotLeading)
    }

    async fn over(&self) {
        while self.leadership.check().is_ok() {
            tokio::time::sleep(WATCH.min(self.leadership.remaining())).await;
        }
    }

    async fn load(&self, kind: RecordKind) -> Result<Vec<Record>, StoreError> {
        self.shelf.load(kind).await
    }

    async fn save(&self, record: &Record) -> Result<String, StoreError> {
        let secret = self.owner().secret(record);
        let put = self
            .writer
            .put_secret(&self.leadership, Kind::Record, &secret);
        let name = || self.owner().object(record.kind, &record.name);
        match put.await {
            // It was deleted since it was read.
            Err(WriteError::Gone) if record.version.is_some() => Err(StoreError::Conflict),
            outcome => outcome.map_err(|error| failure(error, &name())),
        }
    }

    async fn remove(&self, kind: RecordKind, name: &str) -> Result<(), StoreError> {
        let name = self.owner().object(kind, name);
        let delete = self
            .writer
            .delete_secret(&self.leadership, Kind::Record, &name, None);
        match delete.await {
            Ok(()) | Err(WriteError::Gone) => Ok(()),
            Err(error) => Err(failure(error, &name)),
        }
    }

    async fn put_certificate(
        &self,
        secret: &NamespacedName,
        certificate: &IssuedCertificate,
    ) -> Result<Put, StoreError> {
        let mut outcome = Err(StoreError::Conflict);
        for _ in 0..TRIES {
            self.check()?;
            outcome = self.try_put(secret, certificate).await;
            if outcome != Err(StoreError::Conflict) {
                break;
            }
        }
        outcome
    }

    async fn remove_certificate(&self, secret: &NamespacedName) -> Result<Put, StoreError> {
        let mut outcome = Err(StoreError::Conflict);
        for _ in 0..TRIES {
            self.check()?;
            outcome = self.try_remove(secret).await;
            if outcome != Err(StoreError::Conflict) {
                break;
            }
        }
        outcome
    }

    async fn secret_entry(&self, name: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.shelf.entry(name, key).await
    }
}

fn failure(error: WriteError, name: &NamespacedName) -> StoreError {
    match error {
        WriteError::Interrupted(Interrupted::Lost(_)) => StoreError::NotLeading,
        WriteError::Interrupted(Interrupted::TimedOut) => StoreError::Failed(format!(
            "Secret '{name}': no answer in time, so it may be written or not"
        )),
        WriteError::Conflict => StoreError::Conflict,
        WriteError::Gone => StoreError::Failed(format!(
            "Secret '{name}': its namespace does not exist or is being deleted"
        )),
        WriteError::Forbidden(message) => StoreError::Refused(format!(
            "Secret '{name}': forbidden: {message}; grant create, update and delete on secrets in namespace '{}'",
            name.namespace
        )),
        WriteError::Refused(message) => {
            StoreError::Refused(format!("Secret '{name}': refused: {message}"))
        }
        WriteError::Failed(error) => StoreError::Failed(format!("Secret '{name}': {error}")),
    }
}
