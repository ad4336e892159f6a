//! The ledger of the process that leads: one copy, changed by all orders at once, written before what depends on it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ledger::Ledger;
use crate::store::{Record, RecordKind, Store, StoreError};

/// The ledger and where it is kept.
pub(crate) struct Book<S> {
    store: Arc<S>,
    ledger: Mutex<Ledger>,
    /// One write at a time; whoever waits finds written what was changed meanwhile.
    writing: tokio::sync::Mutex<()>,
}

impl<S: Store> Book<S> {
    /// Reads what is kept.
    pub(crate) async fn open(store: Arc<S>) -> Result<Self, StoreError> {
        let records = store.load(RecordKind::Ledger).await?;
        let (ledger, complaints) = Ledger::load(records);
        for complaint in complaints {
            tracing::error!("{complaint}");
        }
        Ok(Self {
            store,
            ledger: Mutex::new(ledger),
            writing: tokio::sync::Mutex::default(),
        })
    }

    /// Looks something up.
    pub(crate) fn read<R>(&self, look: impl FnOnce(&Ledger) -> R) -> R {
        look(&self.lock())
    }

    /// Changes something, which is not written yet.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Ledger) -> R) -> R {
        change(&mut self.lock())
    }

    /// Writes all that has changed. What this task changed before is written when this comes back without an error.
    pub(crate) async fn save(&self) -> Result<(), StoreError> {
        let _one = self.writing.lock().await;
        let unsaved = self.read(Ledger::unsaved);
        for record in unsaved {
            let version = match self.store.save(&record).await {
                Err(StoreError::Conflict) => self.version_of(&record).await?,
                outcome => outcome?,
            };
            self.change(|ledger| ledger.saved(&record, version));
        }
        Ok(())
    }

    /// The version of a record that is kept as it was to be written: an earlier write came through without our knowing.
    async fn version_of(&self, record: &Record) -> Result<String, StoreError> {
        let records = self.store.load(RecordKind::Ledger).await?;
        let kept = records.into_iter().find(|kept| kept.name == record.name);
        let kept = kept.filter(|kept| kept.entries == record.entries);
        kept.and_then(|kept| kept.version)
            .ok_or(StoreError::Conflict)
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
