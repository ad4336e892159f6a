//! What the tests share: a CA, a fleet of nodes, a store that outlives leaders, and a clock that is driven.

mod gate;
mod nodes;
mod parsed;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidegate_certificates::issuer::{ChallengeSettings, KeyType};
use tidegate_certificates::keeper::{self, Inputs, Timing};
use tidegate_certificates::proof::Ports;
use tidegate_certificates::{
    CertificateSettings, Clock, Issuer, Issuers, Ledger, MemoryStore, NameSet, RecordKind, Report,
    Store, StoreError,
};
use tidegate_model::{
    Certificate, CertificateWish, HeldSecret, HostPattern, Issuance, NamespacedName, ObjectRef,
    SecretOwner, UnixTime,
};
use tidegate_testbed::pebble::{Pebble, PebbleOptions};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) use gate::{Gate, Verdict};
pub(crate) use nodes::Fleet;
pub(crate) use parsed::Parsed;

/// Ports that nodes listen at and the CA validates at.
pub(crate) const HTTP: u16 = 18080;
pub(crate) const HTTPS: u16 = 18443;
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(90);

/// One instance of Tidegate as far as certificates go, and its CA.
pub(crate) struct World {
    pub(crate) pebble: Arc<Pebble>,
    pub(crate) fleet: Fleet,
    store: Arc<Mutex<MemoryStore>>,
    settings: watch::Sender<Arc<CertificateSettings>>,
    wishes: Arc<Mutex<Vec<CertificateWish>>>,
    time: watch::Sender<UnixTime>,
    report: watch::Sender<Arc<Report>>,
    inputs: Inputs,
    keeper: Option<JoinHandle<()>>,
    mirror: JoinHandle<()>,
}

impl World {
    /// A CA as it is by default, and one node.
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}, 1).await
    }

    /// A CA with other options, and so many nodes.
    pub(crate) async fn with(set: impl FnOnce(&mut PebbleOptions), nodes: u8) -> Self {
        let mut options = PebbleOptions::at(Pebble::free_address());
        (options.http_port, options.tls_port) = (HTTP, HTTPS);
        set(&mut options);
        let brings_names = options.name_server.is_none();
        let pebble = Arc::new(Pebble::new(options).expect("Pebble runs; it is built by Go"));
        let store = Arc::new(Mutex::new(MemoryStore::default()));
        let fleet = Fleet::start(store.clone(), nodes).await;
        if brings_names {
            pebble.set_default_address(Some(fleet.address(0))).unwrap();
        }
        let (settings, settings_seen) = watch::channel(Arc::default());
        let (issuance, issuance_seen) = watch::channel(Arc::default());
        let (time, clock) = watch::channel(real_time());
        let report = watch::Sender::new(Arc::default());
        let wishes = Arc::default();
        let inputs = Inputs {
            issuance: issuance_seen,
            settings: settings_seen,
            nodes: fleet.nodes(),
            ports: Ports {
                http: Some(HTTP),
                https: Some(HTTPS),
            },
            instance: "tidegate".to_owned(),
            own_namespace: "own".to_owned(),
            clock: Clock::driven(clock),
            report: report.clone(),
            timing: Timing {
                proof: Duration::from_secs(2),
                look: Duration::from_millis(50),
                public_look: Duration::ZERO,
                poll: Duration::from_millis(100),
                store: Duration::from_millis(100),
                ..Timing::default()
            },
        };
        let mirror = tokio::spawn(mirror(store.clone(), Arc::clone(&wishes), issuance));
        let world = Self {
            pebble,
            fleet,
            store,
            settings,
            wishes,
            time,
            report,
            inputs,
            keeper: None,
            mirror,
        };
        world.set_issuers(vec![world.issuer("pebble")]);
        world
    }

    /// An issuer that orders at the CA by HTTP-01.
    pub(crate) fn issuer(&self, name: &str) -> Issuer {
        Issuer {
            name: name.to_owned(),
            directory: self.pebble.directory(),
            staging: None,
            contact: vec!["mailto:admin@example.com".to_owned()],
            external_account: None,
            // Where none is named, Pebble takes any.
            profile: Some("default".to_owned()),
            key_type: KeyType::EcdsaP256,
            challenge: ChallengeSettings::Http01,
            ca_bundle: Some(self.pebble.authority().as_bytes().to_vec()),
            preferred_chain: None,
            fallback: Vec::new(),
        }
    }

    pub(crate) fn set_issuers(&self, issuers: Vec<Issuer>) {
        self.settings.send_modify(|settings| {
            Arc::make_mut(settings).issuers = Issuers(issuers);
        });
    }

    /// Changes the one issuer.
    pub(crate) fn set_issuer(&self, set: impl FnOnce(&mut Issuer)) {
        let mut issuer = self.issuer("pebble");
        set(&mut issuer);
        self.set_issuers(vec![issuer]);
    }

    /// An Ingress wishes for a certificate of these names in the Secret `default/NAME`.
    pub(crate) fn wish(&self, secret: &str, names: &[&str]) {
        self.wish_of(None, secret, names);
    }

    pub(crate) fn wish_of(&self, issuer: Option<&str>, secret: &str, names: &[&str]) {
        let object = ObjectRef::new("Ingress", NamespacedName::new("default", secret));
        self.wishes.lock().unwrap().push(CertificateWish {
            names: names.iter().map(|name| pattern(name)).collect(),
            issuer: issuer.map(str::to_owned),
            secret: Some(NamespacedName::new("default", secret)),
            object,
            field: "spec.tls[0]".to_owned(),
        });
    }

    /// Nobody wishes for anything any more.
    pub(crate) fn wish_nothing(&self) {
        self.wishes.lock().unwrap().clear();
    }

    /// What is kept.
    pub(crate) fn store(&self) -> MemoryStore {
        self.store.lock().unwrap().clone()
    }

    /// A process begins to lead.
    pub(crate) fn lead(&mut self) {
        let store = self.store();
        self.lead_through(store);
    }

    /// A process begins to lead that writes through this.
    pub(crate) fn lead_through(&mut self, store: impl Store) {
        let inputs = self.inputs.clone();
        self.keeper = Some(tokio::spawn(async move {
            keeper::run(store, &inputs).await;
        }));
    }

    /// The process that leads is gone at once, and nothing that it still does is kept.
    pub(crate) async fn kill(&mut self) {
        let store = self.store();
        store.lose();
        if let Some(keeper) = self.keeper.take() {
            keeper.abort();
            let _ = keeper.await;
        }
        *self.store.lock().unwrap() = store.successor();
    }

    /// Waits until the process that leads has noticed that it does not any more.
    pub(crate) async fn lost(&mut self) {
        let keeper = self.keeper.take().expect("one that leads");
        tokio::time::timeout(PATIENCE, keeper)
            .await
            .expect("a keeper ends with its term")
            .expect("without a panic");
        let store = self.store();
        *self.store.lock().unwrap() = store.successor();
    }

    /// Sets the clock forward.
    pub(crate) fn skip(&self, time: Duration) {
        let seconds = i64::try_from(time.as_secs()).unwrap();
        self.time.send_modify(|now| now.0 += seconds);
    }

    pub(crate) fn now(&self) -> UnixTime {
        *self.time.borrow()
    }

    /// Waits until the certificate of a Secret is of these names, and returns it.
    pub(crate) async fn issued(&self, secret: &str, names: &[&str]) -> Parsed {
        let secret = NamespacedName::new("default", secret);
        let wanted = names.iter().map(|name| pattern(name)).collect::<Vec<_>>();
        self.until(&format!("a certificate in {secret}"), || {
            let certificates = self.store().certificates();
            let parsed = Parsed::new(&secret, certificates.get(&secret)?);
            let is_it = wanted
                .iter()
                .all(|name| parsed.certificate.names.contains(name));
            is_it.then_some(parsed)
        })
        .await
    }

    /// Waits until a report tells a failure with this text, and returns it whole.
    pub(crate) async fn failure(&self, text: &str) -> String {
        self.until(&format!("a failure with '{text}'"), || {
            let report = self.report.borrow();
            let errors = report
                .outlook
                .iter()
                .filter_map(|outlook| outlook.last_error.clone());
            errors.into_iter().find(|error| error.contains(text))
        })
        .await
    }

    /// Looks again and again until something is there.
    pub(crate) async fn until<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        let start = tokio::time::Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "no {what} after {PATIENCE:?}; report: {:#?}\n{}",
                self.report.borrow(),
                last_lines(&self.pebble.log())
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The ledger as it is kept.
    pub(crate) async fn ledger(&self) -> Ledger {
        let records = self.store().load(RecordKind::Ledger).await.unwrap();
        let (ledger, complaints) = Ledger::load(records);
        assert_eq!(complaints, Vec::<String>::new());
        ledger
    }

    /// Names of the records of a kind.
    pub(crate) async fn records(&self, kind: RecordKind) -> BTreeMap<String, usize> {
        let records = self.store().load(kind).await.unwrap();
        let records = records.into_iter();
        records
            .map(|record| (record.name, record.entries.len()))
            .collect()
    }

    /// Waits until no order is under way, no answer is out, and everything that was put is seen by the keeper.
    pub(crate) async fn settled(&self) {
        let start = tokio::time::Instant::now();
        loop {
            let ledger = self.ledger().await;
            let is_idle = ledger.sets.values().all(|set| set.order.is_none());
            if is_idle
                && self.is_seen()
                && self.records(RecordKind::ChallengeAnswers).await.is_empty()
            {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "not settled: {ledger:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether the objects are seen as they are in the store.
    fn is_seen(&self) -> bool {
        let certificates = self.store().certificates();
        let seen = self.inputs.issuance.borrow().clone();
        certificates.len() == seen.secrets.len()
            && certificates.iter().all(|(secret, certificate)| {
                let seen = seen
                    .secrets
                    .get(secret)
                    .and_then(|held| held.certificate.as_ref());
                seen.is_some_and(|seen| same(seen, &Parsed::new(secret, certificate).certificate))
            })
    }

    /// Accounts that the CA has made in all its lives.
    pub(crate) fn accounts(&self) -> usize {
        self.pebble.count(" accounts in memory")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.mirror.abort();
        if let Some(keeper) = &self.keeper {
            keeper.abort();
        }
    }
}

/// Shows what is in the store as a cluster's watches would.
async fn mirror(
    store: Arc<Mutex<MemoryStore>>,
    wishes: Arc<Mutex<Vec<CertificateWish>>>,
    issuance: watch::Sender<Arc<Issuance>>,
) {
    let mut shown = None;
    loop {
        let certificates = store.lock().unwrap().certificates();
        let wishes = wishes.lock().unwrap().clone();
        let seen = (certificates, wishes);
        if shown.as_ref() != Some(&seen) {
            let secrets = seen.0.iter().map(|(secret, certificate)| {
                let held = HeldSecret {
                    owner: SecretOwner::Tidegate,
                    certificate: Some(Parsed::new(secret, certificate).certificate),
                    issuer: Some(certificate.issuer.clone()),
                };
                (secret.clone(), held)
            });
            issuance.send_replace(Arc::new(Issuance {
                wishes: seen.1.clone(),
                secrets: secrets.collect(),
                ..Issuance::default()
            }));
            shown = Some(seen);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn pattern(name: &str) -> HostPattern {
    HostPattern::parse(name).unwrap()
}

pub(crate) fn set(names: &[&str]) -> NameSet {
    NameSet::new(names.iter().map(|name| pattern(name))).unwrap()
}

pub(crate) fn real_time() -> UnixTime {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UnixTime(i64::try_from(now.as_secs()).unwrap())
}

/// Whether two certificates are the same.
pub(crate) fn same(one: &Certificate, other: &Certificate) -> bool {
    one.fingerprint == other.fingerprint
}

fn last_lines(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}

/// A store that does something right after a certificate was put.
#[derive(Clone)]
pub(crate) struct Trapped {
    pub(crate) store: MemoryStore,
    pub(crate) after_put: fn(&MemoryStore, &NamespacedName),
}

impl Store for Trapped {
    fn check(&self) -> Result<(), StoreError> {
        self.store.check()
    }

    async fn over(&self) {
        self.store.over().await;
    }

    async fn load(
        &self,
        kind: RecordKind,
    ) -> Result<Vec<tidegate_certificates::Record>, StoreError> {
        self.store.load(kind).await
    }

    async fn save(&self, record: &tidegate_certificates::Record) -> Result<String, StoreError> {
        self.store.save(record).await
    }

    async fn remove(&self, kind: RecordKind, name: &str) -> Result<(), StoreError> {
        self.store.remove(kind, name).await
    }

    async fn put_certificate(
        &self,
        secret: &NamespacedName,
        certificate: &tidegate_certificates::store::IssuedCertificate,
    ) -> Result<tidegate_certificates::store::Put, StoreError> {
        let put = self.store.put_certificate(secret, certificate).await;
        (self.after_put)(&self.store, secret);
        put
    }

    async fn remove_certificate(
        &self,
        secret: &NamespacedName,
    ) -> Result<tidegate_certificates::store::Put, StoreError> {
        self.store.remove_certificate(secret).await
    }

    async fn secret_entry(&self, name: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.secret_entry(name, key).await
    }
}
