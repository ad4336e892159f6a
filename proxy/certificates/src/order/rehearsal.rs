//! A whole order at a staging directory, for somebody who wants to know whether it would work.

use std::sync::Arc;

use tidegate_model::{HostPattern, NamespacedName};

use super::{Desk, Unfinished};
use crate::acme::Accounts;
use crate::keeper::Inputs;
use crate::keeper::book::Book;
use crate::names::NameSet;
use crate::plan::{Environment, OrderTask};
use crate::store::{IssuedCertificate, MemoryStore, Put, Record, RecordKind, Store, StoreError};

/// Orders a certificate for a name at the staging directory of an issuer (`None` for the first) and throws it away: every
/// step is as in earnest, answers on all nodes included, and the ledger hears nothing of it. Returns what was done, in words.
///
/// # Errors
/// There is no such issuer or directory, or what went wrong.
pub async fn rehearse<S: Store>(
    store: Arc<S>,
    inputs: &Inputs,
    name: HostPattern,
    issuer: Option<&str>,
) -> Result<String, String> {
    let settings = inputs.settings.borrow().clone();
    let issuer = settings.issuers.find(issuer);
    let issuer =
        issuer.ok_or("the settings have no such issuer; `tidegate certs test` names them")?;
    let staging = issuer.staging.clone().ok_or_else(|| {
        format!(
            "the issuer '{}' has no staging directory; set `staging` to the URL of one",
            issuer.name
        )
    })?;
    let names = NameSet::new([name]).ok_or("name a host, or a wildcard such as *.example.com")?;
    let store = Arc::new(Aside {
        store,
        memory: MemoryStore::default(),
    });
    let book = Book::open(store.clone()).await;
    let book = book.map_err(|error| error.to_string())?;
    let task = OrderTask {
        names: names.clone(),
        issuer: Arc::new(issuer.clone()),
        environment: Environment::Staging,
        into: Vec::new(),
        replaces: None,
        objects: Vec::new(),
        why: "somebody wants to know whether it works".to_owned(),
        requested: None,
    };
    let accounts = Accounts::new(store.clone());
    let desk = Desk {
        store: &*store,
        accounts: &accounts,
        book: &book,
        inputs,
    };
    match desk.carry_out(&task).await {
        Ok(()) => Ok(format!(
            "{staging} has issued a certificate for {names}; it was thrown away"
        )),
        Err(Unfinished::Failed(failure)) => Err(failure.message),
        Err(Unfinished::Ledger(error)) => Err(error.to_string()),
    }
}

/// Keeps apart what is not to be remembered: only accounts and answers to challenges are real.
struct Aside<S> {
    store: Arc<S>,
    memory: MemoryStore,
}

fn is_real(kind: RecordKind) -> bool {
    matches!(kind, RecordKind::Account | RecordKind::ChallengeAnswers)
}

impl<S: Store> Store for Aside<S> {
    fn check(&self) -> Result<(), StoreError> {
        self.store.check()
    }

    async fn over(&self) {
        self.store.over().await;
    }

    async fn load(&self, kind: RecordKind) -> Result<Vec<Record>, StoreError> {
        match is_real(kind) {
            true => self.store.load(kind).await,
            false => self.memory.load(kind).await,
        }
    }

    async fn save(&self, record: &Record) -> Result<String, StoreError> {
        match is_real(record.kind) {
            true => self.store.save(record).await,
            false => self.memory.save(record).await,
        }
    }

    async fn remove(&self, kind: RecordKind, name: &str) -> Result<(), StoreError> {
        match is_real(kind) {
            true => self.store.remove(kind, name).await,
            false => self.memory.remove(kind, name).await,
        }
    }

    async fn put_certificate(
        &self,
        _secret: &NamespacedName,
        _certificate: &IssuedCertificate,
    ) -> Result<Put, StoreError> {
        Ok(Put::Done)
    }

    async fn remove_certificate(&self, _secret: &NamespacedName) -> Result<Put, StoreError> {
        Ok(Put::Done)
    }

    async fn secret_entry(&self, name: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.secret_entry(name, key).await
    }
}
