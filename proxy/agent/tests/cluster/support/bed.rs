//! A testbed on which the shipped manifests are applied.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_testbed::{Options, Testbed};

use super::make::NAMESPACE;
use super::{eventually, web};

/// Where the shipped manifests put Tidegate.
pub(crate) const SYSTEM: &str = "tidegate";
/// The pods of the base.
const AGENTS: &str = "app.kubernetes.io/name=tidegate,app.kubernetes.io/instance=tidegate";

/// Tests take turns: what they measure, and the machine, bears one cluster at a time.
static TURN: Mutex<()> = Mutex::new(());

/// A cluster with Tidegate on every node.
pub(crate) struct Bed {
    pub(crate) testbed: Testbed,
    pub(crate) client: Client,
    _turn: MutexGuard<'static, ()>,
}

/// Runs a test on a cluster of its own.
pub(crate) fn on_cluster<F: Future<Output = ()>>(nodes: usize, test: impl FnOnce(Bed) -> F) {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let options = Options {
            nodes,
            tidegate: Some(env!("CARGO_BIN_EXE_tidegate").into()),
            ..Options::default()
        };
        let testbed = Testbed::up(options).unwrap();
        let client = testbed.client().unwrap();
        test(Bed {
            testbed,
            client,
            _turn: turn,
        })
        .await;
    });
}

/// Runs a test on a cluster on which Tidegate serves, by the base of the manifests.
pub(crate) fn with_tidegate<F: Future<Output = ()>>(nodes: usize, test: impl FnOnce(Bed) -> F) {
    on_cluster(nodes, async |bed: Bed| {
        bed.apply(&manifests("base"));
        bed.all_ready().await;
        test(bed).await;
    });
}

/// A folder of the manifests that are shipped.
pub(crate) fn manifests(folder: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests");
    root.join(folder)
}

impl Bed {
    /// Applies a folder of kustomize.
    pub(crate) fn apply(&self, folder: &Path) {
        let folder = folder.to_str().unwrap();
        self.kubectl(&["apply", "--server-side", "-k", folder]);
    }

    /// Runs kubectl, which must succeed.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        let Output {
            status,
            stdout,
            stderr,
        } = self.testbed.kubectl().args(arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&stderr);
        assert!(status.success(), "kubectl {arguments:?}: {stderr}");
        String::from_utf8_lossy(&stdout).into_owned()
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// Creates an object.
    pub(crate) async fn create<K>(&self, object: &K)
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
        K::DynamicType: Default,
    {
        let created = self.api().create(&PostParams::default(), object).await;
        created.unwrap();
    }

    /// Deletes an object.
    pub(crate) async fn delete<K>(&self, name: &str)
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        let api = self.api::<K>();
        api.delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Where every node takes requests in plain text.
    pub(crate) fn http(&self) -> Vec<SocketAddr> {
        self.ports(80)
    }

    /// Where every node takes requests by TLS.
    pub(crate) fn https(&self) -> Vec<SocketAddr> {
        self.ports(443)
    }

    fn ports(&self, port: u16) -> Vec<SocketAddr> {
        let nodes = self.testbed.nodes().iter();
        nodes
            .map(|node| SocketAddr::from((node.address, port)))
            .collect()
    }

    /// Tidegate's pods by the name of their node, those that are being deleted left out.
    pub(crate) async fn agents(&self) -> BTreeMap<String, Pod> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), SYSTEM);
        let found = pods.list(&ListParams::default().labels(AGENTS)).await;
        let staying = found
            .unwrap()
            .items
            .into_iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none());
        staying
            .filter_map(|pod| {
                let node = pod.spec.as_ref()?.node_name.clone()?;
                Some((node, pod))
            })
            .collect()
    }

    /// The process of Tidegate on a node.
    pub(crate) async fn process(&self, node: &str) -> u32 {
        let agents = self.agents().await;
        let name = agents[node].name_any();
        let processes = self.testbed.processes(SYSTEM, &name);
        *processes.first().expect("Tidegate runs on the node")
    }

    /// Waits until Tidegate is ready on every node.
    pub(crate) async fn all_ready(&self) {
        let nodes = self.testbed.nodes().len();
        let all_ready = async || {
            let agents = self.agents().await;
            agents.len() == nodes && agents.values().all(is_ready)
        };
        eventually("Tidegate is ready on every node", all_ready).await;
    }

    /// Waits until every node answers for a host with a status.
    pub(crate) async fn everywhere(&self, host: &str, status: u16) -> std::time::Duration {
        let what = format!("{host} is answered {status} everywhere");
        let all = async || {
            for node in self.http() {
                if web::status(node, host).await != Some(status) {
                    return false;
                }
            }
            true
        };
        eventually(&what, all).await
    }

    /// Creates a Deployment with its Service, and waits until its pods are ready.
    pub(crate) async fn backend(&self, name: &str, replicas: usize) {
        self.create(&super::make::deployment(name, replicas)).await;
        self.create(&super::make::service(name, name)).await;
        self.pods_ready(name, replicas).await;
    }

    /// Waits until so many pods of a Deployment are ready, and no other is there.
    pub(crate) async fn pods_ready(&self, name: &str, replicas: usize) {
        let pods = self.api::<Pod>();
        let selected = ListParams::default().labels(&format!("app={name}"));
        let ready = async || {
            let found = pods.list(&selected).await.unwrap().items;
            found.len() == replicas && found.iter().all(is_ready)
        };
        eventually("the backend's pods are ready", ready).await;
    }
}

/// Whether a pod's condition says so.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let status = pod.status.iter();
    let mut conditions = status.flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
