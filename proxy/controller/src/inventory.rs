//! What those who write to the cluster must know of it, kept by the source and read by the writers.
//!
//! It has nothing that decides what is served: whoever reads it may be a moment behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_model::{NamespacedName, ObjectRef};
use tokio::sync::watch;

/// Where clients reach an Ingress: an entry of `status.loadBalancer.ingress`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PublishedAddress {
    /// `ip`
    Ip(IpAddr),
    /// `hostname`
    Hostname(String),
}

impl fmt::Display for PublishedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Hostname(name) => name.fmt(f),
        }
    }
}

/// The status of an Ingress as the API server has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IngressRecord {
    /// `status.loadBalancer.ingress`, in its order.
    pub addresses: Vec<PublishedAddress>,
    /// Whether `metadata.managedFields` say that our field manager has written the status.
    pub is_ours: bool,
}

/// A pod that runs this instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// `spec.nodeName`; empty before it is bound.
    pub node: String,
    /// Whether its condition `Ready` is true and nobody has deleted it.
    pub is_ready: bool,
    /// `status.hostIPs`: the node's internal addresses, IPv4 and IPv6.
    pub host_addresses: BTreeSet<IpAddr>,
    /// `status.podIPs`; those of the node with `hostNetwork`.
    pub pod_addresses: BTreeSet<IpAddr>,
}

/// What is known of the cluster. Clones share one state.
#[derive(Clone, Debug)]
pub struct Inventory(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    known: Mutex<Known>,
    /// Counts changes.
    version: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Known {
    ingresses: BTreeMap<NamespacedName, IngressRecord>,
    agents: BTreeMap<NamespacedName, Agent>,
    published: Option<Vec<PublishedAddress>>,
    uids: BTreeMap<ObjectRef, String>,
    is_complete: bool,
}

impl Default for Inventory {
    fn default() -> Self {
        Self(Arc::new(Shared {
            known: Mutex::default(),
            version: watch::Sender::new(0),
        }))
    }
}

impl Inventory {
    /// Changes whenever something here does.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.version.subscribe()
    }

    /// Whether every kind has been seen whole; before that, what is missing here may well exist.
    pub fn is_complete(&self) -> bool {
        self.read(|known| known.is_complete)
    }

    /// What the API server has of an Ingress, whosever it is.
    pub fn ingress(&self, name: &NamespacedName) -> Option<IngressRecord> {
        self.read(|known| known.ingresses.get(name).cloned())
    }

    /// The Ingresses whose status our field manager has written.
    pub fn written(&self) -> Vec<NamespacedName> {
        self.read(|known| {
            let written = known.ingresses.iter().filter(|(_, record)| record.is_ours);
            written.map(|(name, _)| name.clone()).collect()
        })
    }

    /// The pods of this instance, by name.
    pub fn agents(&self) -> BTreeMap<NamespacedName, Agent> {
        self.read(|known| known.agents.clone())
    }

    /// `status.loadBalancer.ingress` of the Service whose addresses are published; `None` while it does not exist.
    pub fn published(&self) -> Option<Vec<PublishedAddress>> {
        self.read(|known| known.published.clone())
    }

    /// `metadata.uid`, which an Event about the object carries.
    pub fn uid(&self, object: &ObjectRef) -> Option<String> {
        self.read(|known| known.uids.get(object).cloned())
    }

    /// Takes in what the API server has of an Ingress; `None` when it is gone.
    pub fn set_ingress(&self, name: &NamespacedName, record: Option<IngressRecord>) {
        self.update(|known| set(&mut known.ingresses, name, record));
    }

    /// Takes in a pod of this instance; `None` when it is gone.
    pub fn set_agent(&self, name: &NamespacedName, agent: Option<Agent>) {
        self.update(|known| set(&mut known.agents, name, agent));
    }

    /// Takes in the addresses of the Service that is published.
    pub fn set_published(&self, addresses: Option<Vec<PublishedAddress>>) {
        self.update(|known| {
            let differs = known.published != addresses;
            known.published = addresses;
            differs
        });
    }

    /// Takes in an object's `metadata.uid`; `None` when it is gone.
    pub fn set_uid(&self, object: &ObjectRef, uid: Option<String>) {
        self.update(|known| set(&mut known.uids, object, uid));
    }

    /// From here on, what is missing does not exist.
    pub fn set_complete(&self) {
        self.update(|known| !std::mem::replace(&mut known.is_complete, true));
    }

    fn read<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        look(&self.0.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Wakes those who wait, when something is different.
    fn update(&self, change: impl FnOnce(&mut Known) -> bool) {
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        let differs = change(&mut known);
        drop(known);
        if differs {
            self.0.version.send_modify(|version| *version += 1);
        }
    }
}

/// Whether the map is different now.
fn set<K: Ord + Clone, V: PartialEq>(map: &mut BTreeMap<K, V>, key: &K, value: Option<V>) -> bool {
    match value {
        Some(value) => {
            let differs = map.get(key) != Some(&value);
            map.insert(key.clone(), value);
            differs
        }
        None => map.remove(key).is_some(),
    }
}
