//! A real Kubernetes control plane, and nodes and pods made of namespaces and processes.
//!
//! [`Testbed::up`] starts etcd, kube-apiserver and kube-controller-manager, which [`programs::ensure`] builds once, and
//! any number of nodes. A node is a network, mount and UTS namespace on a bridge that this machine is on too. A stand-in
//! for the kubelet (its module says what it does otherwise) runs pods as processes. Dropping the [`Testbed`] ends and
//! removes all of it; should the process that made it be killed, a guard does so. It needs root, `ip`, `nsenter`,
//! `unshare`, and Go for the first time.
//!
//! ```no_run
//! use tidegate_testbed::{Options, Part, Testbed};
//!
//! # fn main() -> anyhow::Result<()> {
//! let testbed = Testbed::up(Options {
//!     nodes: 2,
//!     tidegate: Some("target/debug/tidegate".into()), // in its tests: env!("CARGO_BIN_EXE_tidegate")
//!     ..Options::default()
//! })?;
//! testbed.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: web}\n")?;
//! testbed.control_plane().kill(Part::ApiServer)?;
//! testbed.control_plane().start(Part::ApiServer)?;
//! println!("{}", testbed.nodes()[0].address);
//! # Ok(())
//! # }
//! ```
//!
//! Nothing here needs a runtime of the caller's: methods block, and may be called from within a runtime or without one.
#![forbid(unsafe_code)]

mod access;
mod audit;
mod certificates;
mod control_plane;
pub mod knot;
mod kubelet;
pub mod moto;
mod network;
mod node;
pub mod pebble;
pub mod programs;
pub mod run;

use std::env;
use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use k8s_openapi::api::core::v1::{Node as NodeObject, ServiceAccount};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tidegate_testbed_inside::MARK;
use tidegate_testbed_inside::sweep::{Folder, sweep};
use tokio::runtime::{Handle, Runtime};

pub use audit::AuditEvent;
pub use control_plane::{ControlPlane, Part};
pub use network::remove_orphans;
pub use node::Node;

use access::{Account, Identity};
use kubelet::Kubelet;
use network::{MOST_NODES, Network};
use node::Maker;

/// When it is set, folders of testbeds stay, to be looked at.
const KEEP: &str = "TIDEGATE_TESTBED_KEEP";

/// How a testbed is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many nodes it has, 1 to 250.
    pub nodes: usize,
    /// Where everything of it is kept: a folder that does not exist or is empty, which goes with the testbed. A
    /// temporary one when none is named.
    pub folder: Option<PathBuf>,
    /// The program of containers whose image is called `tidegate`.
    pub tidegate: Option<PathBuf>,
    /// How long the tokens in pods live; what the pods ask for when it is not said. The API server gives none for less
    /// than ten minutes, so with this they are made here. They are renewed after 80 % of their life.
    pub token_lifetime: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: 1,
            folder: None,
            tidegate: None,
            token_lifetime: None,
        }
    }
}

/// A running testbed. It is taken down when this is dropped.
#[derive(Debug)]
pub struct Testbed {
    folder: PathBuf,
    fate: Folder,
    control_plane: ControlPlane,
    kubelet: Arc<Kubelet>,
    nodes: Vec<Arc<Node>>,
    kubeconfigs: AtomicU32,
    runtime: Option<Runtime>,
    remains: Remains,
}

/// What is left when everything else is gone, and removes it.
#[derive(Debug)]
struct Remains {
    name: String,
    folder: PathBuf,
    fate: Folder,
    guard: Option<Child>,
}

impl Testbed {
    /// Starts a testbed and waits until its API server is ready and its nodes are registered, some seconds.
    ///
    /// # Errors
    /// When something is missing on this machine or does not start; the message says what to do.
    pub fn up(options: Options) -> Result<Self> {
        let count = u8::try_from(options.nodes).unwrap_or(u8::MAX);
        ensure!(
            (1..=MOST_NODES).contains(&count),
            "a testbed has 1 to {MOST_NODES} nodes"
        );
        let tidegate = options.tidegate.as_deref().map(existing).transpose()?;
        run::ensure_tools()?;
        let programs = programs::ensure()?;
        let inside = run::inside()?.to_owned();
        let folder = make_folder(options.folder)?;
        let network = Network::make(&folder)?;
        let fate = if env::var_os(KEEP).is_some() {
            Folder::Keep
        } else {
            Folder::Remove
        };
        // From here on whatever fails is cleaned up after.
        let remains = Remains::guard(&network.name, &folder, fate, &inside)?;
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build()?;
        let control_plane = ControlPlane::new(
            network.name.clone(),
            folder.clone(),
            network.gateway(),
            programs,
            runtime.handle().clone(),
        )?;
        let maker = Maker { network, inside };
        let nodes =
            (1..=count).map(|number| Ok(Arc::new(maker.node(number, &folder.join("nodes"))?)));
        let nodes = nodes.collect::<Result<Vec<_>>>()?;
        control_plane.start_all()?;
        let kubeconfig = folder.join("kubelet.kubeconfig");
        let client = wait(runtime.handle(), async move {
            access::client(&kubeconfig).await
        })??;
        let kubelet = Arc::new(Kubelet {
            client,
            maker,
            nodes: nodes.clone(),
            folder: folder.clone(),
            tidegate,
            api: control_plane.endpoint(),
            certificates: control_plane.certificates.clone(),
            token_lifetime: options.token_lifetime,
            state: Mutex::default(),
            turn: AtomicUsize::default(),
        });
        wait(runtime.handle(), register(Arc::clone(&kubelet)))??;
        runtime.spawn(kubelet::run(Arc::clone(&kubelet)));
        Ok(Self {
            folder,
            fate,
            control_plane,
            kubelet,
            nodes,
            kubeconfigs: AtomicU32::default(),
            runtime: Some(runtime),
            remains,
        })
    }

    /// The name of the testbed, which is that of its bridge and the start of its interfaces' names.
    pub fn name(&self) -> &str {
        &self.remains.name
    }

    /// The folder with everything of the testbed.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A kubeconfig that may do everything. It works from this machine and from every node.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// A client that may do everything, on the runtime that it is called in, or else on the testbed's own: then use it
    /// within [`Testbed::block_on`].
    ///
    /// # Errors
    /// When the kubeconfig cannot be used.
    pub fn client(&self) -> Result<kube::Client> {
        let handle = Handle::try_current().or_else(|_| self.handle())?;
        let kubeconfig = self.kubeconfig();
        // Made on the other runtime's thread, for this one: making it does no work that waits.
        let _on = handle.enter();
        futures_util::FutureExt::now_or_never(access::client(&kubeconfig))
            .context("a client takes time to make")?
    }

    /// Runs asynchronous work on the testbed's runtime and waits for it.
    ///
    /// # Panics
    /// When the work does.
    pub fn block_on<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        wait(&self.handle()?, work)
    }

    /// kubectl that may do everything.
    pub fn kubectl(&self) -> Command {
        self.control_plane.kubectl()
    }

    /// Applies manifests as `kubectl apply --server-side -f -` does.
    ///
    /// # Errors
    /// What kubectl said.
    pub fn apply(&self, manifests: &str) -> Result<()> {
        let mut kubectl = self.kubectl();
        kubectl.args(["apply", "--server-side", "--force-conflicts", "-f", "-"]);
        run::feed(&mut kubectl, manifests)?;
        Ok(())
    }

    /// The nodes, `node-1` first.
    pub fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    /// The programs of the control plane.
    pub fn control_plane(&self) -> &ControlPlane {
        &self.control_plane
    }

    /// What the API server's audit log has: every write, and every request of a service account.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn audit(&self) -> Result<Vec<AuditEvent>> {
        audit::read(&self.control_plane.audit_log())
    }

    /// A kubeconfig with a token of a service account, which has to be there. The token may be as short-lived as one
    /// likes, and is not renewed. The API server remembers for 10 s that a token was good.
    ///
    /// # Errors
    /// When there is no such service account.
    pub fn token_kubeconfig(
        &self,
        namespace: &str,
        account: &str,
        lifetime: Duration,
    ) -> Result<PathBuf> {
        let accounts = Api::<ServiceAccount>::namespaced(self.kubelet.client.clone(), namespace);
        let name = account.to_owned();
        let found = self.block_on(async move { accounts.get(&name).await })?;
        let found = found.with_context(|| format!("no service account {namespace}/{account}"))?;
        let account = Account {
            namespace,
            name: account,
            uid: found.metadata.uid.as_deref().unwrap_or_default(),
        };
        let token = access::token(&self.control_plane.certificates, &account, lifetime)?;
        let folder = self.folder.join("kubeconfigs");
        fs::create_dir_all(&folder)?;
        let number = self.kubeconfigs.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("{namespace}-{}-{number}", account.name));
        self.control_plane
            .write_kubeconfig(&path, &Identity::Token(&token), namespace)?;
        Ok(path)
    }

    /// The processes of a pod's containers that run now, in the order of the containers' names.
    pub fn processes(&self, namespace: &str, pod: &str) -> Vec<u32> {
        self.kubelet.processes(namespace, pod)
    }

    /// What the containers of a pod said, one container after the other; also after the pod is gone.
    pub fn logs(&self, namespace: &str, pod: &str) -> String {
        let folder = self.folder.join("logs").join(namespace).join(pod);
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        files.sort();
        let texts = files.iter().filter_map(|file| fs::read(file).ok());
        texts
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .collect()
    }

    fn handle(&self) -> Result<Handle> {
        let runtime = self.runtime.as_ref().context("the testbed is gone")?;
        Ok(runtime.handle().clone())
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        if self.fate == Folder::Keep {
            say(&format!("testbed: kept {}", self.folder.display()));
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Remains {
    /// Starts the process that cleans up should this one be killed. It has a session of its own, so that what a
    /// terminal sends does not reach it.
    fn guard(name: &str, folder: &Path, fate: Folder, inside: &Path) -> Result<Self> {
        let mut remains = Self {
            name: name.to_owned(),
            folder: folder.to_owned(),
            fate,
            guard: None,
        };
        let mut guard = Command::new(inside);
        guard.args(["guard", name]).arg(folder);
        if fate == Folder::Keep {
            guard.arg("--keep");
        }
        guard.process_group(0).env_remove(MARK);
        guard.stdin(Stdio::piped()).stdout(Stdio::null());
        remains.guard = Some(guard.spawn().context("cannot start the testbed's guard")?);
        Ok(remains)
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            // Its standard input ends here, and it does its work.
            drop(guard.stdin.take());
            _ = guard.wait();
        }
        if let Err(error) = sweep(&self.name, &self.folder, self.fate) {
            say(&error);
        }
    }
}

/// Registers the nodes as their kubelets would.
async fn register(kubelet: Arc<Kubelet>) -> Result<()> {
    let api = Api::<NodeObject>::all(kubelet.client.clone());
    for node in &kubelet.nodes {
        let labels = kubelet::node_labels(&node.name);
        let labels = labels
            .into_iter()
            .collect::<std::collections::BTreeMap<_, _>>();
        let object = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": node.name, "labels": labels},
            "spec": {"podCIDR": format!("{}/24", kubelet.maker.network.pod(node.number, 0))},
        });
        api.create(&PostParams::default(), &serde_json::from_value(object)?)
            .await
            .with_context(|| format!("cannot register {}", node.name))?;
        let resources = json!({"cpu": "64", "memory": "64Gi", "pods": "254"});
        let status = json!({"status": {
            "addresses": [
                {"type": "InternalIP", "address": node.address},
                {"type": "ExternalIP", "address": node.external_address},
                {"type": "Hostname", "address": node.name},
            ],
            "capacity": resources,
            "allocatable": resources,
            // Nothing ever finds it otherwise: no controller looks for heartbeats.
            "conditions": [{"type": "Ready", "status": "True", "reason": "Testbed", "message": "it is up"}],
        }});
        api.patch_status(&node.name, &PatchParams::default(), &Patch::Merge(&status))
            .await?;
    }
    Ok(())
}

fn make_folder(named: Option<PathBuf>) -> Result<PathBuf> {
    let Some(folder) = named else {
        return Ok(tempfile::TempDir::with_prefix("tidegate-testbed-")?.keep());
    };
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let is_empty = fs::read_dir(&folder)?.next().is_none();
    ensure!(
        is_empty,
        "{} is not empty: it would go with the testbed, so name another folder",
        folder.display()
    );
    Ok(folder.canonicalize()?)
}

fn existing(program: &Path) -> Result<PathBuf> {
    let found = program.canonicalize();
    found.with_context(|| {
        format!(
            "there is no program {} (Options::tidegate)",
            program.display()
        )
    })
}

/// Runs work on a runtime and waits for it, from within another runtime as well as without one.
fn wait<T: Send + 'static>(
    on: &Handle,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T> {
    let (done, outcome) = mpsc::sync_channel(1);
    on.spawn(async move {
        // Nobody waits any more when the caller has panicked.
        _ = done.send(work.await);
    });
    outcome
        .recv()
        .map_err(|_| anyhow!("the work was given up; see the panic above"))
}

/// The end of a log.
fn last_lines(path: &Path, count: usize) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(count);
    lines.get(from..).unwrap_or_default().join("\n")
}

/// A line on standard error.
fn say(line: &str) {
    _ = writeln!(std::io::stderr(), "{line}");
}
