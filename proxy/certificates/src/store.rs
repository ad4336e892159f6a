//! Where everything is kept that has to survive: Secrets of a cluster, or a file of this machine.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;
use tidegate_model::NamespacedName;

/// What a record is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// A part of the [ledger](crate::ledger): entry `ledger.json`.
    Ledger,
    /// An ACME account: entries `account.json` and `tls.key`.
    Account,
    /// Answers of one order, which every node serves: an entry for each token with its key authorization, and for
    /// TLS-ALPN-01 an entry `tls-alpn-01.HOST` with the key authorization.
    ChallengeAnswers,
    /// Keys of session tickets, which every node uses: an entry `keys.json`.
    TicketKeys,
    /// Requests of people and handshakes: entries `renew.HOST` and `on-demand.HOST` (a wildcard's `*` written as `_`), each
    /// with the time at which it was made (RFC 3339).
    Requests,
}

impl RecordKind {
    /// Its word in names of objects and in labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Account => "account",
            Self::ChallengeAnswers => "challenge-answers",
            Self::TicketKeys => "ticket-keys",
            Self::Requests => "certificate-requests",
        }
    }
}

/// Something that is kept: named entries, written as a whole.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// What it is for.
    pub kind: RecordKind,
    /// Its name among those of its kind: lower-case letters, digits and `-`; empty where there is only one.
    pub name: String,
    /// What it holds. May be secret, so its `Debug` shows only the keys.
    pub entries: BTreeMap<String, Vec<u8>>,
    /// The version that was read or written last; `None` for one that is not kept yet.
    pub version: Option<String>,
}

impl Record {
    /// One that is not kept yet.
    pub fn new(kind: RecordKind, name: impl Into<String>) -> Self {
        Self {
            kind,
            name: name.into(),
            entries: BTreeMap::new(),
            version: None,
        }
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("kind", &self.kind)
            .field("name", &self.name)
            .field("entries", &self.entries.keys())
            .field("version", &self.version)
            .finish()
    }
}

/// A certificate to be put into a Secret. Its `Debug` leaves the key out.
#[derive(Clone, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// Chain in PEM, the leaf first.
    pub chain: String,
    /// Private key in PEM.
    pub key: String,
    /// The issuer that it came from, as the settings name it.
    pub issuer: String,
    /// The names that it was ordered for.
    pub names: crate::NameSet,
}

impl fmt::Debug for IssuedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedCertificate")
            .field("issuer", &self.issuer)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

/// What became of a certificate that was to be put into a Secret, or of a Secret that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is there.
    Done,
    /// The Secret exists and is not Tidegate's: it is as it was.
    NotOurs,
    /// Its namespace is gone, or it is.
    Gone,
}

/// Why something was not kept, or is not known to be.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StoreError {
    /// This process does not lead any more: nothing was written, and nothing will be.
    #[error("this process does not lead any more")]
    NotLeading,
    /// Another has written the record since: read it again.
    #[error("it was written by another since it was read")]
    Conflict,
    /// Not allowed, or refused for good.
    #[error("{0}")]
    Refused(String),
    /// Anything that may pass.
    #[error("{0}")]
    Failed(String),
}

/// Keeps records and certificates for as long as this process leads. Every write looks at that first.
pub trait Store: Send + Sync + 'static {
    /// Whether this process leads now. To be asked before anything is asked of a CA.
    ///
    /// # Errors
    /// [`StoreError::NotLeading`]
    fn check(&self) -> Result<(), StoreError>;

    /// Comes back when it does not any more.
    fn over(&self) -> impl Future<Output = ()> + Send;

    /// Every record of a kind as it is now.
    fn load(
        &self,
        kind: RecordKind,
    ) -> impl Future<Output = Result<Vec<Record>, StoreError>> + Send;

    /// Writes a record, if nobody has written it since its version was read; returns its new version.
    fn save(&self, record: &Record) -> impl Future<Output = Result<String, StoreError>> + Send;

    /// Removes a record, whatever its version. One that is not there is removed already.
    fn remove(
        &self,
        kind: RecordKind,
        name: &str,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Puts a certificate into a Secret, which is made when it is not there.
    fn put_certificate(
        &self,
        secret: &NamespacedName,
        certificate: &IssuedCertificate,
    ) -> impl Future<Output = Result<Put, StoreError>> + Send;

    /// Removes a Secret with a certificate if it is ours.
    fn remove_certificate(
        &self,
        secret: &NamespacedName,
    ) -> impl Future<Output = Result<Put, StoreError>> + Send;

    /// An entry of a Secret in Tidegate's own namespace; `None` when there is none.
    fn secret_entry(
        &self,
        name: &str,
        key: &str,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, StoreError>> + Send;
}

/// A store in memory, for tests and rehearsals: it always leads, until it is told that it does not. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    records: BTreeMap<(RecordKind, String), Record>,
    certificates: BTreeMap<NamespacedName, IssuedCertificate>,
    others: std::collections::BTreeSet<NamespacedName>,
    secrets: BTreeMap<(String, String), Vec<u8>>,
    versions: u64,
    has_lost: bool,
}

impl MemoryStore {
    /// Every certificate that was put and not removed.
    pub fn certificates(&self) -> BTreeMap<NamespacedName, IssuedCertificate> {
        self.held().certificates.clone()
    }

    /// From here on, the Secret is somebody else's.
    pub fn disown(&self, secret: &NamespacedName) {
        let mut held = self.held();
        held.certificates.remove(secret);
        held.others.insert(secret.clone());
    }

    /// Puts an entry of a Secret in Tidegate's own namespace there.
    pub fn set_secret_entry(&self, name: &str, key: &str, value: &[u8]) {
        let at = (name.to_owned(), key.to_owned());
        self.held().secrets.insert(at, value.to_owned());
    }

    /// Ends the leadership of this and every clone.
    pub fn lose(&self) {
        self.held().has_lost = true;
    }

    /// A store with the same contents that leads: what the next leader finds.
    pub fn successor(&self) -> Self {
        let held = self.held();
        Self(Arc::new(Mutex::new(Held {
            records: held.records.clone(),
            certificates: held.certificates.clone(),
            others: held.others.clone(),
            secrets: held.secrets.clone(),
            versions: held.versions,
            has_lost: false,
        })))
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leading(&self) -> Result<std::sync::MutexGuard<'_, Held>, StoreError> {
        self.check()?;
        Ok(self.held())
    }
}

impl Store for MemoryStore {
    fn check(&self) -> Result<(), StoreError> {
        match self.held().has_lost {
            true => Err(StoreError::NotLeading),
            false => Ok(()),
        }
    }

    async fn over(&self) {
        while self.check().is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    async fn load(&self, kind: RecordKind) -> Result<Vec<Record>, StoreError> {
        let held = self.held();
        let records = held.records.values().filter(|record| record.kind == kind);
        Ok(records.cloned().collect())
    }

    async fn save(&self, record: &Record) -> Result<String, StoreError> {
        let mut held = self.leading()?;
        let at = (record.kind, record.name.clone());
        let known = held
            .records
            .get(&at)
            .and_then(|known| known.version.clone());
        if known != record.version {
            return Err(StoreError::Conflict);
        }
        held.versions += 1;
        let version = held.versions.to_string();
        let mut record = record.clone();
        record.version = Some(version.clone());
        held.records.insert(at, record);
        Ok(version)
    }

    async fn remove(&self, kind: RecordKind, name: &str) -> Result<(), StoreError> {
        self.leading()?.records.remove(&(kind, name.to_owned()));
        Ok(())
    }

    async fn put_certificate(
        &self,
        secret: &NamespacedName,
        certificate: &IssuedCertificate,
    ) -> Result<Put, StoreError> {
        let mut held = self.leading()?;
        if held.others.contains(secret) {
            return Ok(Put::NotOurs);
        }
        held.certificates
            .insert(secret.clone(), certificate.clone());
        Ok(Put::Done)
    }

    async fn remove_certificate(&self, secret: &NamespacedName) -> Result<Put, StoreError> {
        let mut held = self.leading()?;
        if held.others.contains(secret) {
            return Ok(Put::NotOurs);
        }
        held.certificates.remove(secret);
        Ok(Put::Done)
    }

    async fn secret_entry(&self, name: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let at = (name.to_owned(), key.to_owned());
        Ok(self.held().secrets.get(&at).cloned())
    }
}
