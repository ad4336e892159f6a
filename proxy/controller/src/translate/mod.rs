//! Objects to what is served: pure, total, and no more work than a change needs.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use tidegate_model::{Hostname, NamespacedName, Policy, Problem, Snapshot, UnixTime};

use crate::Change;

/// What decides which objects are ours and how they are served.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Names of the served classes. `None`: `tidegate`, and every IngressClass with our controller.
    pub ingress_class: Option<BTreeSet<String>>,
    /// Whether Ingresses that name no class are served.
    pub watch_ingress_without_class: bool,
    /// Namespaces whose Ingresses are served; empty for all.
    pub namespaces: BTreeSet<String>,
    /// Answers what nothing else does.
    pub default_backend: Option<ServicePort>,
    /// Secret with the certificate for clients that nothing else is for.
    pub default_certificate: Option<NamespacedName>,
    /// Settings for every request, passed through to the snapshot.
    pub policy: Policy,
}

/// A Service and one of its ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServicePort {
    /// The Service.
    pub service: NamespacedName,
    /// Number or name of the port.
    pub port: PortRef,
}

/// How a backend names a port of its Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortRef {
    /// `port.number`
    Number(u16),
    /// `port.name`
    Name(String),
}

/// What came of one served Ingress.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IngressStatus {
    /// Routes in force that come from it.
    pub routes: usize,
    /// Whether it terminates TLS for a host.
    pub tls: bool,
}

/// Everything that follows from the objects at one moment.
#[derive(Clone, Debug, Default)]
pub struct Translation {
    /// What to serve.
    pub snapshot: Snapshot,
    /// Every Ingress that is ours.
    pub statuses: BTreeMap<NamespacedName, IngressStatus>,
    /// Everything that is wrong, sorted.
    pub problems: Vec<Problem>,
    /// ExternalNames to resolve.
    pub names: BTreeSet<Hostname>,
    /// When to translate again though nothing changed, because a certificate begins or ends its life then.
    pub recheck_at: Option<UnixTime>,
}

/// Keeps the objects and translates them.
#[derive(Debug, Default)]
pub struct Translator {}

impl Translator {
    /// A translator without objects.
    pub fn new(_settings: Settings) -> Self {
        Self {}
    }

    /// Takes changes in and says what follows from all objects as of `now`.
    pub fn apply(
        &mut self,
        _changes: impl IntoIterator<Item = Change>,
        _now: UnixTime,
    ) -> Translation {
        Translation::default()
    }
}
