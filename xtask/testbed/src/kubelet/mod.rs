//! The stand-in for kubelet, container runtime and scheduler.
//!
//! It binds pods that no node has yet: those of a DaemonSet to the node that their affinity names, the others in turn to
//! the nodes that fit their node selector. It runs the containers of a pod as processes in the pod's namespaces and
//! keeps the pod's status. What differs from a kubelet:
//!
//! - An image is known by the last part of its name: `tidegate` and `echo` are programs of this workspace; any other
//!   image needs a `command`, which is one of this machine's programs.
//! - A container restarts after 1 s, then 2 s, 4 s, 8 s, 10 s; after it ran for 10 s it is 1 s again.
//! - A readiness or startup probe that has not succeeded yet is repeated every 250 ms for its first 5 s.
//! - ConfigMaps and Secrets reach volumes at once.
//! - CPU and memory limits, seccomp, AppArmor, SELinux and image pull do nothing. A `hostPort` is a proxy: the pod sees
//!   the node's address as the client's.

mod container;
mod environment;
mod pod;
mod probe;
mod process;
mod standing;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::{NodeSelectorTerm, Pod};
use kube::api::{Api, PostParams};
use kube::runtime::watcher::{self, watcher};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::certificates::Certificates;
use crate::node::{Maker, Node};

/// How long to wait before something is tried again that the API server did not take.
const RETRY: Duration = Duration::from_millis(300);

/// What all pods of the testbed have in common.
pub(crate) struct Kubelet {
    pub(crate) client: kube::Client,
    pub(crate) maker: Maker,
    pub(crate) nodes: Vec<Arc<Node>>,
    /// The testbed's folder.
    pub(crate) folder: PathBuf,
    /// The program of images called `tidegate`.
    pub(crate) tidegate: Option<PathBuf>,
    /// The API server.
    pub(crate) api: SocketAddr,
    pub(crate) certificates: Certificates,
    /// Of the tokens in pods, when it is not what the pods ask for.
    pub(crate) token_lifetime: Option<Duration>,
    pub(crate) state: Mutex<State>,
    /// Counts pods that any node can have.
    pub(crate) turn: AtomicUsize,
}

impl fmt::Debug for Kubelet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kubelet")
            .field("nodes", &self.nodes)
            .finish_non_exhaustive()
    }
}

/// What changes.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Processes of containers, by namespace and name of the pod, then by container.
    processes: BTreeMap<(String, String), BTreeMap<String, u32>>,
    /// Addresses of pods.
    taken: BTreeSet<Ipv4Addr>,
    /// The last address that was given, by node: they come again as late as possible.
    last: BTreeMap<u8, u8>,
    /// Counts pods that ever were.
    pods: u64,
}

/// A task that ends when this is dropped.
#[derive(Debug)]
struct Task(AbortHandle);

impl Task {
    fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task).abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Follows the pods, for as long as the testbed lives.
pub(crate) async fn run(kubelet: Arc<Kubelet>) {
    let pods = watcher(
        Api::<Pod>::all(kubelet.client.clone()),
        watcher::Config::default(),
    );
    pin_mut!(pods);
    let mut workers: BTreeMap<String, watch::Sender<Arc<Pod>>> = BTreeMap::new();
    let mut listed = BTreeSet::new();
    while let Some(event) = pods.next().await {
        match event {
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(pod)) => {
                listed.extend(pod.metadata.uid.clone());
                admit(&kubelet, &mut workers, pod);
            }
            Ok(watcher::Event::InitDone) => workers.retain(|uid, _| listed.contains(uid)),
            Ok(watcher::Event::Apply(pod)) => admit(&kubelet, &mut workers, pod),
            Ok(watcher::Event::Delete(pod)) => {
                workers.remove(&pod.metadata.uid.unwrap_or_default());
            }
            Err(_) => sleep(RETRY).await,
        }
    }
}

/// Starts work on a pod that is new, tells the worker of one that is not.
fn admit(
    kubelet: &Arc<Kubelet>,
    workers: &mut BTreeMap<String, watch::Sender<Arc<Pod>>>,
    pod: Pod,
) {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let pod = Arc::new(pod);
    if let Some(worker) = workers.get(&uid) {
        worker.send_replace(pod);
        return;
    }
    let bound = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    match bound {
        Some(name) => {
            let node = kubelet.nodes.iter().find(|node| node.name == name);
            if let Some(node) = node {
                let (sender, receiver) = watch::channel(pod);
                workers.insert(uid, sender);
                let (kubelet, node) = (Arc::clone(kubelet), Arc::clone(node));
                tokio::spawn(pod::live(kubelet, node, receiver));
            }
        }
        None if pod.metadata.deletion_timestamp.is_none() => {
            tokio::spawn(bind(Arc::clone(kubelet), pod));
        }
        None => {}
    }
}

/// Binds a pod to a node. A pod that fits none waits, as it would in a cluster.
async fn bind(kubelet: Arc<Kubelet>, pod: Arc<Pod>) {
    let (Some(name), Some(namespace)) = (&pod.metadata.name, &pod.metadata.namespace) else {
        return;
    };
    let Some(node) = kubelet.node_for(&pod) else {
        return;
    };
    let api = Api::<Pod>::namespaced(kubelet.client.clone(), namespace);
    let binding = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": name, "namespace": namespace, "uid": pod.metadata.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node.name},
    });
    let params = PostParams::default();
    loop {
        let answer =
            api.create_subresource::<_, serde_json::Value>("binding", name, &params, &binding);
        match answer.await {
            Err(error) if is_passing(&error) => sleep(RETRY).await,
            // Bound already, or gone.
            _ => return,
        }
    }
}

/// Whether an error may go away by itself: the API server is not there, or not well.
fn is_passing(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code >= 500 || status.code == 429,
        _ => true,
    }
}

impl Kubelet {
    fn node_for(&self, pod: &Pod) -> Option<&Arc<Node>> {
        let fitting: Vec<_> = self.nodes.iter().filter(|node| fits(node, pod)).collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        fitting.get(turn % fitting.len().max(1)).copied()
    }

    /// The processes of a pod's containers that run now, in the order of the containers' names.
    pub(crate) fn processes(&self, namespace: &str, pod: &str) -> Vec<u32> {
        let key = (namespace.to_owned(), pod.to_owned());
        let containers = self.locked(|state| state.processes.get(&key).cloned());
        containers.unwrap_or_default().into_values().collect()
    }

    /// An address for a pod that has its own network.
    fn take_address(&self, node: u8) -> Option<Ipv4Addr> {
        self.locked(|state| {
            let last = state.last.get(&node).copied().unwrap_or(0);
            let numbers = (1..=254).map(|step: u16| {
                let number = (u16::from(last) + step - 1) % 254 + 1;
                u8::try_from(number).unwrap_or(1)
            });
            let network = &self.maker.network;
            let mut free =
                numbers.filter(|number| !state.taken.contains(&network.pod(node, *number)));
            let number = free.next()?;
            let address = network.pod(node, number);
            state.last.insert(node, number);
            state.taken.insert(address);
            Some(address)
        })
    }

    fn give_back(&self, address: Ipv4Addr) {
        self.locked(|state| state.taken.remove(&address));
    }

    /// A number that no other pod has.
    fn count_pod(&self) -> u64 {
        self.locked(|state| {
            state.pods += 1;
            state.pods
        })
    }

    fn set_process(&self, pod: &Pod, container: &str, process: Option<u32>) {
        let metadata = &pod.metadata;
        let key = (
            metadata.namespace.clone().unwrap_or_default(),
            metadata.name.clone().unwrap_or_default(),
        );
        self.locked(|state| {
            let containers = state.processes.entry(key.clone()).or_default();
            match process {
                Some(process) => containers.insert(container.to_owned(), process),
                None => containers.remove(container),
            };
            if containers.is_empty() {
                state.processes.remove(&key);
            }
        });
    }

    fn locked<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether a pod may be on a node: its node selector, and the required part of its node affinity as far as DaemonSets
/// use it, which is the node's name.
fn fits(node: &Node, pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else {
        return false;
    };
    let labels = node_labels(&node.name);
    let mut selector = spec.node_selector.iter().flatten();
    if !selector.all(|(key, value)| labels.iter().any(|(k, v)| k == key && v == value)) {
        return false;
    }
    let affinity = spec.affinity.as_ref();
    let affinity = affinity.and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|node| {
        node.required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    required.is_none_or(|required| {
        let mut terms = required.node_selector_terms.iter();
        terms.any(|term| names(term).is_none_or(|names| names.contains(&node.name)))
    })
}

/// The nodes that a term names; `None` when it does not go by names.
fn names(term: &NodeSelectorTerm) -> Option<&Vec<String>> {
    let mut fields = term.match_fields.iter().flatten();
    let field = fields.find(|field| field.key == "metadata.name" && field.operator == "In")?;
    field.values.as_ref()
}

/// The labels of a node.
pub(crate) fn node_labels(name: &str) -> [(&'static str, &str); 3] {
    [
        ("kubernetes.io/hostname", name),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
    ]
}

/// As Go names it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
