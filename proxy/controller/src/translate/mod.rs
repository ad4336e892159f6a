//! Objects to what is served: pure, total, and no more work than a change needs.
//!
//! Each Ingress becomes a derived part by itself; hosts, server names and upstreams are put together from these
//! parts. Reverse indexes say which parts a change touches, and only those are made again.

mod annotation;
mod backend;
mod certificate;
mod challenges;
mod class;
mod hosts;
mod index;
mod ingress;
mod issuance;
pub(crate) mod labels;
mod namespaces;
mod objects;
mod own_secrets;
mod referenced;
mod report;
mod secrets;
mod selector;
mod server_names;
mod service;
mod settings;
mod solver;
mod tls;
mod upstream;
mod upstreams;
mod wishes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::HashMap;
use k8s_openapi::api::networking::v1::Ingress;
use serde::Serialize;
use tidegate_model::{
    Hostname, Issuance, NamespacedName, Policy, Problem, RouteRank, Snapshot, TlsRedirect,
    UnixTime, UpstreamId,
};

use self::annotation::CertificateAnnotations;
use self::backend::Backends;
use self::challenges::Challenges;
use self::class::{Classes, Ownership};
use self::hosts::Hosts as HostTable;
use self::index::Index;
use self::ingress::{Context, Derived};
use self::objects::{Dirty, Objects};
use self::own_secrets::OwnSecrets;
use self::report::{Part, Problems, Report};
use self::secrets::{Found, Secrets};
use self::server_names::ServerNames;
use self::tls::Offer;
use self::upstream::UpstreamSource;
use self::upstreams::Upstreams;
use crate::Change;

pub use self::class::{CONTROLLER, DEFAULT_CLASS};
pub use self::labels::{
    CERTIFICATE_LABEL, CHALLENGE_ANSWERS_LABEL, INSTANCE_LABEL, ISSUER_ANNOTATION,
    NAMES_ANNOTATION, REQUESTS_LABEL, TICKET_KEYS_LABEL,
};
pub use self::referenced::Referenced;
pub use self::selector::{Selector, SelectorError, SelectorFault};
pub use self::settings::{PortRef, ServicePort, Settings};
pub use self::wishes::{CanWildcard, CertificateDefaults, Hosts, Issue};

/// What came of one served Ingress.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IngressStatus {
    /// Routes in force that come from it.
    pub routes: usize,
    /// Whether it terminates TLS for a host, or will when there is a certificate.
    pub tls: bool,
}

/// Everything that follows from the objects at one moment.
#[derive(Clone, Debug, Default)]
pub struct Translation {
    /// What to serve.
    pub snapshot: Snapshot,
    /// Every Ingress that is ours. The same allocation as before when no status changed.
    pub statuses: Arc<BTreeMap<NamespacedName, IngressStatus>>,
    /// Everything that is wrong, sorted.
    pub problems: Vec<Problem>,
    /// ExternalNames to resolve.
    pub names: BTreeSet<Hostname>,
    /// What is referred to, and so has to be held. The same allocation as before when nothing of it changed.
    pub referenced: Arc<Referenced>,
    /// Which certificates are asked for, and what there is. The same allocation as before when nothing of it changed.
    pub issuance: Arc<Issuance>,
    /// When to translate again though nothing changed, because a certificate begins or ends its life then.
    pub recheck_at: Option<UnixTime>,
}

/// What the Ingresses that are ours ask for.
type Ingresses = HashMap<NamespacedName, Arc<Derived>>;

/// Keeps the objects and translates them.
#[derive(Debug)]
pub struct Translator {
    settings: Settings,
    policy: Arc<Policy>,
    objects: Objects,
    classes: Classes,
    ingresses: Ingresses,
    secrets: Secrets,
    users_of_services: Index<NamespacedName>,
    users_of_secrets: Index<NamespacedName>,
    challenges: Challenges,
    own_secrets: OwnSecrets,
    issuance: issuance::Kept,
    referenced: referenced::Kept,
    /// What the controller's own default backend leads to.
    default_upstreams: BTreeMap<UpstreamId, UpstreamSource>,
    hosts: HostTable,
    server_names: ServerNames,
    upstreams: Upstreams,
    statuses: Arc<BTreeMap<NamespacedName, IngressStatus>>,
    problems: Problems,
    /// When it was last done; `None` before the first time.
    done: Option<UnixTime>,
}

impl Translator {
    /// A translator without objects.
    pub fn new(settings: Settings) -> Self {
        Self {
            policy: Arc::new(settings.policy.clone()),
            settings,
            objects: Objects::default(),
            classes: Classes::default(),
            ingresses: Ingresses::new(),
            secrets: Secrets::default(),
            users_of_services: Index::default(),
            users_of_secrets: Index::default(),
            challenges: Challenges::default(),
            own_secrets: OwnSecrets::default(),
            issuance: issuance::Kept::default(),
            referenced: referenced::Kept::default(),
            default_upstreams: BTreeMap::new(),
            hosts: HostTable::default(),
            server_names: ServerNames::default(),
            upstreams: Upstreams::default(),
            statuses: Arc::default(),
            problems: Problems::default(),
            done: None,
        }
    }

    /// Puts other settings in force. The next [`apply`](Self::apply) translates everything by them.
    pub fn set_settings(&mut self, settings: Settings) {
        let objects = std::mem::take(&mut self.objects);
        *self = Self::new(settings);
        self.objects = objects;
    }

    /// Takes changes in and says what follows from all objects as of `now`.
    ///
    /// The outcome depends on the objects and on `now` alone, not on the order in which they came.
    pub fn apply(
        &mut self,
        changes: impl IntoIterator<Item = Change>,
        now: UnixTime,
    ) -> Translation {
        let mut dirty = Dirty::default();
        for change in changes {
            self.objects.apply(change, &mut dirty);
        }
        let mut stale_secrets = dirty.secrets.clone();
        self.update_settings(&dirty);
        let touched = self.touched_ingresses(&dirty);
        for name in &touched {
            self.update_ingress(name, &mut stale_secrets);
        }
        self.report_namespaces(&touched, &dirty);
        self.update_own_secrets(&dirty, &mut stale_secrets);
        stale_secrets.extend(self.pass_time(now));
        self.update_secrets(&stale_secrets, now);
        let (ingresses, problems) = (&self.ingresses, &mut self.problems);
        for host in self.server_names.update(ingresses, now, problems) {
            self.hosts.touch_listed(host);
        }
        let mut concerned = self.hosts.update(ingresses, &self.server_names, problems);
        self.upstreams.update(&dirty, &self.objects, problems);
        concerned.extend(touched);
        self.update_statuses(&concerned);
        self.update_challenges(&dirty);
        self.referenced.update(
            &self.settings,
            &self.users_of_services,
            &self.users_of_secrets,
            &self.challenges,
            &self.own_secrets,
        );
        self.issuance.update(
            &stale_secrets,
            self.settings.owner().map(|owner| owner.instance),
            &self.objects,
            &mut self.secrets,
            &self.own_secrets,
            &self.hosts,
        );
        self.done = Some(now);
        self.translation(now)
    }

    fn translation(&self, now: UnixTime) -> Translation {
        Translation {
            snapshot: Snapshot {
                routes: self.hosts.table().clone(),
                upstreams: self.upstreams.built().clone(),
                certificates: self.server_names.index().clone(),
                challenges: self.challenges.answers().clone(),
                tickets: self.own_secrets.ticket_keys().clone(),
                policy: self.policy.clone(),
            },
            statuses: self.statuses.clone(),
            problems: self.problems.sorted(),
            names: self.upstreams.names(),
            referenced: self.referenced.current().clone(),
            issuance: self.issuance.current().clone(),
            recheck_at: self.secrets.next_edge(now),
        }
    }

    /// What the settings refer to: the default backend and the default certificate.
    fn update_settings(&mut self, dirty: &Dirty) {
        let first = self.done.is_none();
        if let Some(wanted) = self.settings.default_backend.clone()
            && (first || dirty.services.contains(&wanted.service))
        {
            self.update_default_backend(&wanted);
        }
        if let Some(name) = self.settings.default_certificate.clone()
            && (first || dirty.secrets.contains(&name))
        {
            let found = self.secrets.refer(&name, &self.objects);
            let offer = match found {
                Found::Usable(parsed) => Some(Offer::from(&*parsed)),
                Found::Unusable | Found::Missing => None,
            };
            self.server_names.set_fallback(offer);
        }
    }

    fn update_default_backend(&mut self, wanted: &ServicePort) {
        let mut report = Report::about("Service", &wanted.service);
        let mut backends = Backends::new(&self.objects, None, None);
        let destination = backends.resolve_port(wanted, "", &mut report);
        let rank = RouteRank {
            created: None,
            object: NamespacedName::default(),
            position: 0,
        };
        let route = ingress::default_route(destination, TlsRedirect::Inherit, rank);
        let upstreams = backends.upstreams;
        let before = Some(&self.default_upstreams);
        self.upstreams.replace(before, Some(&upstreams));
        self.default_upstreams = upstreams;
        self.hosts.set_fallback(route);
        self.problems.set(Part::Settings, report.into_problems());
    }

    /// The Ingresses that have to be read again.
    fn touched_ingresses(&mut self, dirty: &Dirty) -> BTreeSet<NamespacedName> {
        let mut touched = dirty.ingresses.clone();
        if dirty.classes || self.done.is_none() {
            let classes = Classes::new(&self.settings, &self.objects.classes);
            let problems = class::problems(&self.settings, &self.objects.classes);
            self.problems.set(Part::Classes, problems);
            if classes != self.classes {
                self.classes = classes;
                touched.extend(self.objects.ingresses.keys().cloned());
            }
        }
        if !self.settings.namespace_selector.is_empty() {
            let namespaces = dirty.namespaces.iter();
            let ingresses = namespaces.flat_map(|name| self.objects.ingresses_of(name));
            touched.extend(ingresses.cloned());
        }
        for service in &dirty.services {
            touched.extend(self.users_of_services.of(service).cloned());
        }
        for secret in &dirty.secrets {
            touched.extend(self.users_of_secrets.of(secret).cloned());
        }
        touched
    }

    /// Reads one Ingress and tells whoever is concerned by what became of it.
    fn update_ingress(
        &mut self,
        name: &NamespacedName,
        stale_secrets: &mut BTreeSet<NamespacedName>,
    ) {
        let mut report = Report::about("Ingress", name);
        let new = self.derive(name, &mut report).map(Arc::new);
        let problems = report.into_problems();
        self.problems.set(Part::Ingress(name.clone()), problems);
        let old = match new.clone() {
            Some(new) => self.ingresses.insert(name.clone(), new),
            None => self.ingresses.remove(name),
        };
        let (old, new) = (old.as_deref(), new.as_deref());
        if old == new {
            return;
        }
        let services = |derived: Option<&Derived>| derived.map(|d| d.services.clone());
        relink(
            &mut self.users_of_services,
            name,
            services(old),
            services(new),
        );
        let secrets = |derived: Option<&Derived>| derived.map(|d| d.secrets.clone());
        stale_secrets.extend(secrets(old).into_iter().chain(secrets(new)).flatten());
        relink(&mut self.users_of_secrets, name, secrets(old), secrets(new));
        self.issuance.replace(name, old, new);
        self.hosts.replace(name, old, new);
        for host in self.server_names.replace(name, old, new) {
            self.hosts.touch_listed(host);
        }
        let upstreams = |derived: &'_ Derived| derived.upstreams.clone();
        let (old, new) = (old.map(upstreams), new.map(upstreams));
        self.upstreams.replace(old.as_ref(), new.as_ref());
    }

    fn derive(&mut self, name: &NamespacedName, report: &mut Report) -> Option<Derived> {
        let ingress = self.objects.ingresses.get(name)?;
        if !self.selects(name, ingress) {
            return None;
        }
        match self.classes.ownership(ingress, report) {
            Ownership::Foreign => None,
            Ownership::Ours => {
                let silent = CertificateAnnotations::default();
                let mut context = Context {
                    objects: &self.objects,
                    secrets: &mut self.secrets,
                    settings: &self.settings,
                    class: self.classes.certificates(ingress).unwrap_or(&silent),
                };
                Some(ingress::derive(name, ingress, &mut context, report))
            }
        }
    }

    fn selects(&self, name: &NamespacedName, ingress: &Ingress) -> bool {
        let labels = self.objects.namespaces.get(&name.namespace);
        namespaces::names(&self.settings, &name.namespace)
            && self.settings.namespace_selector.matches(labels)
            && self
                .settings
                .selector
                .matches(ingress.metadata.labels.as_ref())
    }

    /// Tells of namespaces that the selector cannot judge because there is no object for them.
    fn report_namespaces(&mut self, touched: &BTreeSet<NamespacedName>, dirty: &Dirty) {
        if self.settings.namespace_selector.is_empty() {
            return;
        }
        let touched = touched.iter().map(|name| &name.namespace);
        for namespace in touched.chain(&dirty.namespaces).collect::<BTreeSet<_>>() {
            let problems = namespaces::problems(&self.settings, namespace, &self.objects);
            self.problems
                .set(Part::Namespace(namespace.clone()), problems);
        }
    }

    fn update_challenges(&mut self, dirty: &Dirty) {
        let Some(own) = &self.settings.own_namespace else {
            return;
        };
        let (objects, problems) = (&self.objects, &mut self.problems);
        match self.done {
            None => self
                .challenges
                .update(own, objects.secrets_of(own), objects, problems),
            Some(_) => self
                .challenges
                .update(own, &dirty.secrets, objects, problems),
        }
    }

    /// Takes in what changed of our own Secrets. What is a certificate there is served for its names.
    fn update_own_secrets(&mut self, dirty: &Dirty, stale: &mut BTreeSet<NamespacedName>) {
        let Some(owner) = self.settings.owner() else {
            return;
        };
        let (objects, problems) = (&self.objects, &mut self.problems);
        let concerned = match self.done {
            None => {
                let all = objects.secrets.keys();
                self.own_secrets.update(owner, all, objects, problems)
            }
            Some(_) => self
                .own_secrets
                .update(owner, &dirty.secrets, objects, problems),
        };
        for name in &concerned {
            let is_held = self.own_secrets.certificates().contains(name);
            let found = is_held.then(|| self.secrets.refer(name, objects));
            let offer = match &found {
                Some(Found::Usable(parsed)) => Some(Offer::from(&**parsed)),
                _ => None,
            };
            if name.namespace == owner.namespace {
                self.server_names.keep(name, offer.as_ref());
            }
        }
        stale.extend(concerned);
    }

    /// The Secrets whose validity changed since the last time. Their hosts choose again.
    fn pass_time(&mut self, now: UnixTime) -> BTreeSet<NamespacedName> {
        let turned = self.secrets.turned(self.done.unwrap_or(now), now);
        for name in turned.intersection(self.own_secrets.certificates()) {
            self.server_names.touch_kept(name);
        }
        let users = turned
            .iter()
            .flat_map(|name| self.users_of_secrets.of(name));
        for derived in users.filter_map(|name| self.ingresses.get(name)) {
            for host in derived.tls.keys() {
                self.server_names.touch(host.clone());
            }
        }
        turned
    }

    fn update_secrets(&mut self, stale: &BTreeSet<NamespacedName>, now: UnixTime) {
        let first = self.done.is_none();
        let default = self.settings.default_certificate.as_ref();
        for name in stale.iter().chain(default.filter(|_| first)) {
            let mut problems = Vec::new();
            let is_used = default == Some(name)
                || self.users_of_secrets.contains(name)
                || self.own_secrets.certificates().contains(name);
            if is_used {
                problems = self.secrets.problems(name, now);
            } else {
                self.secrets.forget(name);
            }
            if default == Some(name) && !self.objects.secrets.contains_key(name) {
                problems = missing_default_certificate(name);
            }
            self.problems.set(Part::Secret(name.clone()), problems);
        }
    }

    fn update_statuses(&mut self, concerned: &BTreeSet<NamespacedName>) {
        for name in concerned {
            let status = self.ingresses.get(name).map(|derived| IngressStatus {
                routes: self.hosts.routes_in_force(name, derived),
                tls: !derived.tls.is_empty() || !derived.wishes.rule_hosts.is_empty(),
            });
            if self.statuses.get(name) == status.as_ref() {
                continue;
            }
            let statuses = Arc::make_mut(&mut self.statuses);
            match status {
                Some(status) => _ = statuses.insert(name.clone(), status),
                None => _ = statuses.remove(name),
            }
        }
    }
}

fn missing_default_certificate(name: &NamespacedName) -> Vec<Problem> {
    let mut report = Report::about("Secret", name);
    report.error(
        tidegate_model::Reason::SecretNotFound,
        "",
        format!(
            "the default certificate is to come from the Secret '{name}', which does not exist; clients that name no \
             known host get another certificate until it does"
        ),
    );
    report.into_problems()
}

fn relink(
    index: &mut Index<NamespacedName>,
    ingress: &NamespacedName,
    old: Option<BTreeSet<NamespacedName>>,
    new: Option<BTreeSet<NamespacedName>>,
) {
    let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
    for key in old.difference(&new) {
        index.unlink(key, ingress);
    }
    for key in new.difference(&old) {
        index.link(key, ingress);
    }
}

#[cfg(test)]
mod tests;
