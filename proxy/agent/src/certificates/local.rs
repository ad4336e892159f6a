//! The store of a Tidegate without a cluster: a file of this machine, which the process with the ports has.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_certificates::store::{IssuedCertificate, Put};
use tidegate_certificates::{Record, RecordKind, Store, StoreError};
use tidegate_controller::certificates::Owner;
use tidegate_controller::{Change, Object};
use tidegate_model::{NamespacedName, ObjectRef};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use super::manifests::Manifests;
use super::stored::{self, Holdings};
use crate::cache::{CacheSettings, Kept, KeptEntry, KeptError};

/// How often a file is asked for that another process has.
const LOOK: Duration = Duration::from_millis(50);
/// The first pause after a failure, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The number of a term that is over before it began.
const NEVER: u64 = u64::MAX;

/// Where things are kept, and whose they are.
#[derive(Clone, Debug)]
pub(crate) struct LocalSettings {
    /// The file; `None`: everything is lost with the process.
    pub(crate) file: Option<CacheSettings>,
    /// What records are called as objects.
    pub(crate) owner: Owner,
}

/// What orders of certificates come to. Clones are the same store.
#[derive(Clone)]
pub(crate) struct Local(Arc<Inner>);

/// The time in which this process may write the store. Clones are the same time.
#[derive(Clone)]
pub(crate) struct LocalTerm {
    local: Local,
    number: u64,
}

struct Inner {
    settings: LocalSettings,
    manifests: Manifests,
    /// Held for the whole of a write, so that file, memory and what is told go the same way.
    desk: Mutex<Desk>,
    /// The number of the term that is, or 0.
    term: watch::Sender<u64>,
    /// Counts the times at which this process was told to have the file or not.
    wishes: AtomicU64,
    has_warned: AtomicBool,
}

struct Desk {
    file: Option<Kept>,
    holdings: Holdings,
    changes: mpsc::UnboundedSender<Vec<Change>>,
    terms: u64,
    versions: u64,
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Local")
    }
}

impl fmt::Debug for LocalTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocalTerm").field(&self.number).finish()
    }
}

impl Local {
    /// Reads what is kept, whoever has the file, and tells it through `changes`: certificates, answers to challenges, keys
    /// of session tickets and requests as the Secrets that they would be on a cluster, all at once at first (though there be
    /// none) and then each that changes.
    pub(crate) async fn open(
        settings: LocalSettings,
        manifests: Manifests,
        changes: mpsc::UnboundedSender<Vec<Change>>,
    ) -> Self {
        let local = Self(Arc::new(Inner {
            settings,
            manifests,
            desk: Mutex::new(Desk {
                file: None,
                holdings: Holdings::default(),
                changes,
                terms: 0,
                versions: 0,
            }),
            term: watch::Sender::new(0),
            wishes: AtomicU64::new(0),
            has_warned: AtomicBool::new(false),
        }));
        let read = local.clone();
        let read = tokio::task::spawn_blocking(move || {
            let inner = &read.0;
            let entries = match &inner.settings.file {
                None => Ok(Vec::new()),
                Some(file) => Kept::read_copy(file),
            };
            let entries = entries.unwrap_or_else(|error| {
                warn!("certificates: what is kept cannot be read yet: {error}");
                Vec::new()
            });
            inner.replace(&mut inner.desk(), entries, Telling::Everything);
        });
        // It fails with the runtime only.
        _ = read.await;
        local
    }

    /// Opens the file as soon as no other process has it. From then on this process leads, until it
    /// [lets go](Self::release); a term that it has let go of before it began is over.
    pub(crate) async fn lead(&self) -> LocalTerm {
        let wish = self.0.wish();
        let mut pause = PAUSES.0;
        let mut trouble = None;
        loop {
            let local = self.clone();
            let taken = tokio::task::spawn_blocking(move || local.0.take(wish)).await;
            let wait = match taken {
                Ok(Ok(number)) => {
                    if trouble.is_some() {
                        info!("certificates: what is kept can be used again");
                    }
                    let local = self.clone();
                    return LocalTerm { local, number };
                }
                Ok(Err(KeptError::Locked)) => LOOK,
                Ok(Err(KeptError::Unusable(why))) => {
                    if trouble.as_ref() != Some(&why) {
                        warn!(
                            "certificates: none is ordered, for what is kept cannot be used: {why}"
                        );
                        trouble = Some(why);
                    }
                    pause = (pause * 2).min(PAUSES.1);
                    pause
                }
                // The runtime goes down.
                Err(_) => PAUSES.1,
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Opens the file and leads at once, or tells why that cannot be.
    pub(crate) async fn lead_now(&self) -> Result<LocalTerm, KeptError> {
        let wish = self.0.wish();
        let local = self.clone();
        let taken = tokio::task::spawn_blocking(move || local.0.take(wish)).await;
        let number = taken.map_err(|error| KeptError::Unusable(error.to_string()))??;
        let local = self.clone();
        Ok(LocalTerm { local, number })
    }

    /// Whether there is such a record.
    pub(crate) fn has_record(&self, kind: RecordKind, name: &str) -> bool {
        let at = (kind, name.to_owned());
        self.0.desk().holdings.records.contains_key(&at)
    }

    /// Whether a certificate was put into this Secret.
    pub(crate) fn has_certificate(&self, secret: &NamespacedName) -> bool {
        self.0.desk().holdings.certificates.contains_key(secret)
    }

    /// Ends the term, and closes the file for a successor. Comes back when it is closed.
    pub(crate) async fn release(&self) {
        self.0.wish();
        self.0.term.send_replace(0);
        let local = self.clone();
        let closed = tokio::task::spawn_blocking(move || {
            let mut desk = local.0.desk();
            let file = desk.file.take();
            if let Some(file) = file {
                file.close();
            }
        });
        _ = closed.await;
    }
}

/// How much of a change in what is held is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Telling {
    Everything,
    Differences,
}

impl Inner {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on, earlier wishes are void.
    fn wish(&self) -> u64 {
        self.wishes.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Opens the file, and begins a term if that is still wished.
    fn take(&self, wish: u64) -> Result<u64, KeptError> {
        let mut desk = self.desk();
        if self.wishes.load(Ordering::SeqCst) != wish {
            return Ok(NEVER);
        }
        self.open_file(&mut desk)?;
        desk.terms += 1;
        self.term.send_replace(desk.terms);
        Ok(desk.terms)
    }

    /// Opens the file if it is not open, and takes what it holds.
    fn open_file(&self, desk: &mut Desk) -> Result<(), KeptError> {
        if let Some(settings) = &self.settings.file
            && desk.file.is_none()
        {
            let file = Kept::open(settings)?;
            let entries = file.entries()?;
            desk.file = Some(file);
            self.replace(desk, entries, Telling::Differences);
        }
        Ok(())
    }

    /// Takes what a file holds in place of what was known.
    fn replace(&self, desk: &mut Desk, entries: Vec<KeptEntry>, telling: Telling) {
        let (holdings, damaged) = Holdings::of(entries);
        for entry in damaged {
            warn!("certificates: {entry}; it is left out, and ordered or made again where needed");
        }
        let before = std::mem::replace(&mut desk.holdings, holdings);
        let versions = desk.holdings.records.values();
        let versions = versions.filter_map(|record| record.version.as_ref()?.parse::<u64>().ok());
        desk.versions = versions.max().unwrap_or_default().max(desk.versions);
        let changes = self.differences(&before, &desk.holdings);
        if !changes.is_empty() || telling == Telling::Everything {
            desk.tell(changes);
        }
    }

    fn differences(&self, before: &Holdings, now: &Holdings) -> Vec<Change> {
        let mut changes = Vec::new();
        for (at, record) in &now.records {
            if before.records.get(at).map(|known| &known.entries) != Some(&record.entries) {
                changes.extend(self.record(record));
            }
        }
        for (kind, name) in before.records.keys() {
            if !now.records.contains_key(&(*kind, name.clone())) {
                changes.extend(self.no_record(*kind, name));
            }
        }
        for (name, issued) in &now.certificates {
            if before.certificates.get(name) != Some(issued) {
                changes.push(self.certificate(name, issued));
            }
        }
        let gone = before.certificates.keys();
        let gone = gone.filter(|name| !now.certificates.contains_key(*name));
        changes.extend(gone.map(no_secret));
        changes
    }

    fn record(&self, record: &Record) -> Option<Change> {
        is_served(record.kind)
            .then(|| Change::Put(Object::Secret(Arc::new(self.settings.owner.secret(record)))))
    }

    fn no_record(&self, kind: RecordKind, name: &str) -> Option<Change> {
        is_served(kind).then(|| no_secret(&self.settings.owner.object(kind, name)))
    }

    fn certificate(&self, name: &NamespacedName, issued: &IssuedCertificate) -> Change {
        let secret = Owner::new_certificate(name);
        let secret = self.settings.owner.with_certificate(secret, issued);
        Change::Put(Object::Secret(Arc::new(secret)))
    }

    /// Says once that nothing outlives the process.
    fn warn_of_memory(&self) {
        if self.settings.file.is_none() && !self.has_warned.swap(true, Ordering::Relaxed) {
            warn!(
                "certificates: account and certificates are kept in memory only, so that every restart orders again until \
                 the CA refuses: name a folder with --data-dir"
            );
        }
    }
}

impl Desk {
    fn tell(&self, changes: Vec<Change>) {
        // Nobody listens when the control plane has ended.
        _ = self.changes.send(changes);
    }

    fn write(&mut self, entry: KeptEntry) -> Result<(), StoreError> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        file.write(&[entry]).map_err(|error| {
            // What it has in memory may not be what is on disk any more: it is opened again before the next write.
            self.file = None;
            StoreError::Failed(error.to_string())
        })
    }
}

/// Whether translation reads records of this kind. The others are nobody's but the leader's.
fn is_served(kind: RecordKind) -> bool {
    match kind {
        RecordKind::ChallengeAnswers | RecordKind::TicketKeys | RecordKind::Requests => true,
        RecordKind::Ledger | RecordKind::Account => false,
    }
}

fn no_secret(name: &NamespacedName) -> Change {
    Change::Remove(ObjectRef::new("Secret", name.clone()))
}

impl LocalTerm {
    /// Does something with the desk, on a thread that may wait for the disk, while this process leads.
    async fn at_desk<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Inner, &mut Desk) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.check()?;
        let term = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let inner = &term.local.0;
            let mut desk = inner.desk();
            // The term may have ended while another wrote.
            term.check()?;
            let opened = inner.open_file(&mut desk);
            opened.map_err(|error| StoreError::Failed(error.to_string()))?;
            act(inner, &mut desk)
        });
        done.await
            .unwrap_or_else(|error| Err(StoreError::Failed(error.to_string())))
    }
}

impl Store for LocalTerm {
    fn check(&self) -> Result<(), StoreError> {
        match *self.local.0.term.borrow() == self.number {
            true => Ok(()),
            false => Err(StoreError::NotLeading),
        }
    }

    async fn over(&self) {
        let mut term = self.local.0.term.subscribe();
        _ = term.wait_for(|number| *number != self.number).await;
    }

    async fn load(&self, kind: RecordKind) -> Result<Vec<Record>, StoreError> {
        let local = self.local.clone();
        let read = tokio::task::spawn_blocking(move || {
            let desk = local.0.desk();
            let records = desk.holdings.records.values();
            let records = records.filter(|record| record.kind == kind);
            records.cloned().collect()
        });
        read.await
            .map_err(|error| StoreError::Failed(error.to_string()))
    }

    async fn save(&self, record: &Record) -> Result<String, StoreError> {
        let mut record = record.clone();
        self.at_desk(move |inner, desk| {
            if record.kind == RecordKind::Account {
                inner.warn_of_memory();
            }
            let at = (record.kind, record.name.clone());
            let known = desk.holdings.records.get(&at);
            if known.and_then(|known| known.version.clone()) != record.version {
                return Err(StoreError::Conflict);
            }
            let number = desk.versions + 1;
            desk.write(stored::record_entry(&record, number))?;
            desk.versions = number;
            let version = number.to_string();
            record.version = Some(version.clone());
            if let Some(change) = inner.record(&record) {
                desk.tell(vec![change]);
            }
            desk.holdings.records.insert(at, record);
            Ok(version)
        })
        .await
    }

    async fn remove(&self, kind: RecordKind, name: &str) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.at_desk(move |inner, desk| {
            let at = (kind, name);
            if !desk.holdings.records.contains_key(&at) {
                return Ok(());
            }
            desk.write(stored::no_record(kind, &at.1))?;
            desk.holdings.records.remove(&at);
            if let Some(change) = inner.no_record(kind, &at.1) {
                desk.tell(vec![change]);
            }
            Ok(())
        })
        .await
    }

    async fn put_certificate(
        &self,
        secret: &NamespacedName,
        certificate: &IssuedCertificate,
    ) -> Result<Put, StoreError> {
        let (secret, issued) = (secret.clone(), certificate.clone());
        self.at_desk(move |inner, desk| {
            if inner.manifests.has(&secret) {
                return Ok(Put::NotOurs);
            }
            inner.warn_of_memory();
            desk.write(stored::certificate_entry(&secret, &issued))?;
            desk.tell(vec![inner.certificate(&secret, &issued)]);
            desk.holdings.certificates.insert(secret, issued);
            Ok(Put::Done)
        })
        .await
    }

    async fn remove_certificate(&self, secret: &NamespacedName) -> Result<Put, StoreError> {
        let secret = secret.clone();
        self.at_desk(move |inner, desk| {
            if !desk.holdings.certificates.contains_key(&secret) {
                return Ok(match inner.manifests.has(&secret) {
                    true => Put::NotOurs,
                    false => Put::Gone,
                });
            }
            desk.write(stored::no_certificate(&secret))?;
            desk.holdings.certificates.remove(&secret);
            desk.tell(vec![no_secret(&secret)]);
            Ok(Put::Done)
        })
        .await
    }

    async fn secret_entry(&self, name: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let namespace = &self.local.0.settings.owner.namespace;
        let secret = NamespacedName::new(namespace, name);
        Ok(self.local.0.manifests.entry(&secret, key))
    }
}
