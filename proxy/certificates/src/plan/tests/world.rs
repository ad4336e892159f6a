//! A small world to plan in: objects, a ledger, a clock and a CA that does what it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tidegate_model::{
    Certificate, CertificateWish, Fingerprint, HeldSecret, HostPattern, Issuance, NamespacedName,
    ObjectRef, PrivateKey, SecretOwner, UnixTime,
};

use crate::issuer::{ChallengeSettings, Dns01, DnsProvider, Issuer, Issuers, KeyType};
use crate::ledger::{DAY, Failure, FailureKind, InFlight, Ledger, Renewal};
use crate::names::NameSet;
use crate::plan::{Action, Environment, OrderTask, Outlook, Plan, plan, renewal_id};
use crate::settings::CertificateSettings;

pub(super) const START: i64 = 1_800_000_000;
pub(super) const OWN: &str = "tidegate";

pub(super) struct World {
    pub(super) now: UnixTime,
    pub(super) settings: CertificateSettings,
    pub(super) issuance: Issuance,
    pub(super) ledger: Ledger,
    /// Seconds that a certificate lives.
    pub(super) life: i64,
    /// How many certificates were issued.
    pub(super) issued: u64,
}

/// What becomes of an order.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Issued,
    Failed(Failure),
    /// The process ends before the CA has answered.
    Killed,
}

impl World {
    pub(super) fn new() -> Self {
        let settings = CertificateSettings {
            issuers: Issuers(vec![issuer("first")]),
            ..CertificateSettings::default()
        };
        Self {
            now: UnixTime(START),
            settings,
            issuance: Issuance::default(),
            ledger: Ledger::default(),
            life: 90 * DAY,
            issued: 0,
        }
    }

    pub(super) fn wishing(mut self, wish: CertificateWish) -> Self {
        self.wish(wish);
        self
    }

    pub(super) fn wish(&mut self, wish: CertificateWish) {
        self.issuance.wishes.push(wish);
        self.issuance.wishes.sort();
    }

    pub(super) fn plan(&self) -> Plan {
        plan(
            self.now,
            &self.settings,
            "tg",
            OWN,
            &self.issuance,
            &self.ledger,
        )
    }

    pub(super) fn pass(&mut self, seconds: i64) {
        self.now.0 += seconds;
    }

    /// Puts a certificate into a Secret.
    pub(super) fn hold(
        &mut self,
        secret: &NamespacedName,
        owner: SecretOwner,
        certificate: Option<Certificate>,
    ) {
        let held = HeldSecret {
            owner,
            certificate: certificate.map(Arc::new),
            issuer: Some("first".to_owned()),
        };
        self.issuance.secrets.insert(secret.clone(), held);
    }

    /// Carries a plan out as the keeper does, with one outcome for every order.
    pub(super) fn carry_out(&mut self, plan: &Plan, outcome: &Outcome) {
        for action in &plan.actions {
            self.carry_out_one(action, outcome);
        }
    }

    /// Plans and carries out until nothing is to be done; the plan that says so.
    pub(super) fn settle(&mut self, outcome: &Outcome) -> Plan {
        for _ in 0..100 {
            let plan = self.plan();
            if plan.actions.is_empty() {
                return plan;
            }
            self.carry_out(&plan, outcome);
        }
        panic!("it never settles: {:?}", self.plan().actions);
    }

    pub(super) fn carry_out_one(&mut self, action: &Action, outcome: &Outcome) {
        let now = self.now;
        match action {
            Action::Order(task) => self.order(task, outcome),
            Action::Copy {
                from, issuer, into, ..
            } => {
                for secret in into {
                    self.put(secret, copy(from, secret), issuer);
                }
            }
            Action::AskRenewal {
                names, certificate, ..
            } => {
                let id = renewal_id(certificate).unwrap_or_default();
                self.ledger.renewal(
                    &names.id(),
                    Renewal::unsupported(id, UnixTime(now.0 + 30 * DAY)),
                );
            }
            Action::NoteUnwanted(id) => self.ledger.unwanted(id, now),
            Action::NoteWanted(id) => self.ledger.wanted(id),
            Action::Remove { id, secrets } => {
                for secret in secrets {
                    self.issuance.secrets.remove(secret);
                }
                self.ledger.removed(id);
            }
            Action::Abandon(id) => self.ledger.abandoned(id),
            Action::Answered(key) => {
                self.issuance
                    .requests
                    .retain(|request, _| super::request_key(request) != *key);
            }
            Action::NoteDemand(names) => self.ledger.demanded(names, now),
        }
    }

    fn order(&mut self, task: &OrderTask, outcome: &Outcome) {
        let (id, now) = (task.names.id(), self.now);
        let order = self
            .ledger
            .sets
            .get(&id)
            .and_then(|entry| entry.order.clone());
        match &order {
            Some(_) => self.ledger.resumed(task, now),
            None => self.ledger.begin(task, in_flight(task, now)),
        }
        if order.is_none_or(|order| order.url.is_none()) {
            if matches!(outcome, Outcome::Killed) {
                return;
            }
            self.ledger.placed(&id, "https://ca/order/1", now);
        }
        match outcome {
            Outcome::Issued => self.issue(task),
            Outcome::Failed(failure) => self.ledger.failed(&id, failure, now),
            Outcome::Killed => {}
        }
    }

    fn issue(&mut self, task: &OrderTask) {
        if task.environment == Environment::Production {
            self.issued += 1;
            for secret in &task.into {
                let names: Vec<_> = task.names.iter().cloned().collect();
                let certificate = certificate(secret, names, self.now, self.life, self.issued);
                self.put(secret, certificate, &task.issuer.name);
            }
        }
        self.ledger.issued(&task.names.id(), task, self.now);
    }

    fn put(&mut self, secret: &NamespacedName, certificate: Certificate, issuer: &str) {
        let held = HeldSecret {
            owner: SecretOwner::Tidegate,
            certificate: Some(Arc::new(certificate)),
            issuer: Some(issuer.to_owned()),
        };
        self.issuance.secrets.insert(secret.clone(), held);
    }
}

pub(super) fn orders(plan: &Plan) -> Vec<&OrderTask> {
    let tasks = plan.actions.iter().filter_map(|action| match action {
        Action::Order(task) => Some(task),
        _ => None,
    });
    tasks.collect()
}

/// The only order of a plan.
pub(super) fn only_order(plan: &Plan) -> &OrderTask {
    match orders(plan).as_slice() {
        [task] => task,
        others => panic!("{} orders: {plan:#?}", others.len()),
    }
}

/// What a plan says of the only set there is.
pub(super) fn only_outlook(plan: &Plan) -> &Outlook {
    match plan.outlook.as_slice() {
        [outlook] => outlook,
        others => panic!("{} sets: {plan:#?}", others.len()),
    }
}

pub(super) fn in_flight(task: &OrderTask, now: UnixTime) -> InFlight {
    InFlight {
        issuer: task.issuer.name.clone(),
        directory: task.directory().to_owned(),
        is_rehearsal: task.environment == Environment::Staging,
        begun: now.0,
        url: None,
        key: "a key".to_owned(),
    }
}

pub(super) fn failure(kind: FailureKind) -> Failure {
    Failure {
        kind,
        message: "something is wrong; put it right".to_owned(),
        retry_after: None,
        keep_order: kind == FailureKind::NotProven,
        failed_names: Vec::new(),
    }
}

pub(super) fn failed(kind: FailureKind) -> Outcome {
    Outcome::Failed(failure(kind))
}

pub(super) fn issuer(name: &str) -> Issuer {
    Issuer {
        name: name.to_owned(),
        directory: format!("https://{name}.ca.example/directory"),
        staging: None,
        contact: Vec::new(),
        external_account: None,
        profile: None,
        key_type: KeyType::default(),
        challenge: ChallengeSettings::Http01,
        ca_bundle: None,
        preferred_chain: None,
        fallback: Vec::new(),
    }
}

pub(super) fn dns_issuer(name: &str) -> Issuer {
    let provider = DnsProvider::Exec {
        command: vec!["true".to_owned()],
    };
    let propagation_timeout = Duration::from_secs(60);
    let dns = Dns01 {
        provider,
        propagation_timeout,
        resolvers: Vec::new(),
    };
    Issuer {
        challenge: ChallengeSettings::Dns01(Box::new(dns)),
        ..issuer(name)
    }
}

pub(super) fn pattern(text: &str) -> HostPattern {
    HostPattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

pub(super) fn names(list: &[&str]) -> BTreeSet<HostPattern> {
    list.iter().map(|name| pattern(name)).collect()
}

pub(super) fn set(list: &[&str]) -> NameSet {
    NameSet::new(names(list)).unwrap_or_else(|| panic!("{list:?}"))
}

pub(super) fn secret(name: &str) -> NamespacedName {
    NamespacedName::new("default", name)
}

/// A wish of Ingress `default/{ingress}`.
pub(super) fn wish(ingress: &str, list: &[&str], secret_name: Option<&str>) -> CertificateWish {
    CertificateWish {
        names: names(list),
        issuer: None,
        secret: secret_name.map(secret),
        object: ObjectRef::new("Ingress", NamespacedName::new("default", ingress)),
        field: "spec.tls[0]".to_owned(),
    }
}

pub(super) fn certificate(
    secret: &NamespacedName,
    mut names: Vec<HostPattern>,
    from: UnixTime,
    life: i64,
    serial: u64,
) -> Certificate {
    names.sort();
    let mut fingerprint = [0; 32];
    for (at, byte) in fingerprint.iter_mut().zip(serial.to_be_bytes()) {
        *at = byte;
    }
    Certificate {
        secret: secret.clone(),
        names,
        not_before: from,
        not_after: UnixTime(from.0.saturating_add(life)),
        chain: vec![CertificateDer::from(vec![0])],
        key: PrivateKey::new(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(Vec::new()))),
        fingerprint: Fingerprint(fingerprint),
    }
}

fn copy(from: &Certificate, secret: &NamespacedName) -> Certificate {
    Certificate {
        secret: secret.clone(),
        names: from.names.clone(),
        not_before: from.not_before,
        not_after: from.not_after,
        chain: from.chain.clone(),
        key: PrivateKey::new(from.key.der().clone_key()),
        fingerprint: from.fingerprint,
    }
}

/// Every set that is wanted has a certificate that is alive in each of these Secrets.
pub(super) fn alive(world: &World, secrets: &BTreeMap<NamespacedName, NameSet>) -> bool {
    secrets.iter().all(|(secret, names)| {
        let held = world
            .issuance
            .secrets
            .get(secret)
            .and_then(|held| held.certificate.as_ref());
        held.is_some_and(|held| held.not_after > world.now && names.are_covered_by(held))
    })
}
