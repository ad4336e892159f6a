//! A pod from its binding to its end.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::future::join_all;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use tidegate_testbed_inside::MARK;
use tokio::sync::watch;
use tokio::time::sleep;

use super::standing::{Place, Standing};
use super::volumes::Volumes;
use super::{Kubelet, RETRY, Task, container, is_passing};
use crate::node::{Holder, Node};

/// How long a pod has to end when it does not say so itself.
const GRACE: Duration = Duration::from_secs(30);

/// When a pod is to end: with how much time for its containers.
pub(super) type Stop = watch::Receiver<Option<Duration>>;

/// Where a pod is, and what it is: what everything that is done for it needs.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) kubelet: Arc<Kubelet>,
    pub(super) node: Arc<Node>,
    pub(super) pod: Arc<Pod>,
    pub(super) spec: PodSpec,
    pub(super) namespace: String,
    pub(super) name: String,
    /// The node's own for a pod on the host's network.
    pub(super) address: Ipv4Addr,
    /// For what belongs to this pod only.
    pub(super) folder: PathBuf,
    pub(super) standing: Arc<Standing>,
    /// The namespaces of a pod that is not on the host's network.
    holder: Option<Holder>,
}

impl Drop for Site {
    fn drop(&mut self) {
        if self.holder.is_some() {
            self.kubelet.give_back(self.address);
        }
        // Its mounts were in namespaces that are gone. What cannot be removed goes with the testbed.
        _ = fs::remove_dir_all(&self.folder);
    }
}

/// Sees a pod through. It ends at once when the sender of its states is gone.
pub(super) async fn live(
    kubelet: Arc<Kubelet>,
    node: Arc<Node>,
    mut pod: watch::Receiver<Arc<Pod>>,
) {
    let first = Arc::clone(&pod.borrow());
    let phase = first
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let is_over = matches!(phase, Some("Succeeded" | "Failed"));
    if let (Some(spec), false) = (first.spec.clone(), is_over) {
        let standing = Arc::new(Standing::new(&first, &spec, node.address));
        let _reports = Task::spawn(report(
            kubelet.client.clone(),
            Arc::clone(&first),
            Arc::clone(&standing),
        ));
        let (stopper, stop) = watch::channel(None);
        let run = run(&kubelet, &node, &first, spec, &standing, stop);
        let follow = async {
            let grace = deletion(&mut pod).await;
            stopper.send_replace(Some(grace));
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = run => {}
            () = follow => {}
        }
        deletion(&mut pod).await;
    } else {
        deletion(&mut pod).await;
    }
    forget(&kubelet, &first).await;
}

/// Waits until the pod is to go. How long its containers may take.
async fn deletion(pod: &mut watch::Receiver<Arc<Pod>>) -> Duration {
    let deleted = pod.wait_for(|pod| pod.metadata.deletion_timestamp.is_some());
    match deleted.await {
        Ok(pod) => {
            let grace = pod.metadata.deletion_grace_period_seconds;
            let seconds = grace.and_then(|seconds| u64::try_from(seconds).ok());
            seconds.map_or(GRACE, Duration::from_secs)
        }
        Err(_) => Duration::ZERO,
    }
}

/// Takes the pod out of the API, now that nothing of it runs.
async fn forget(kubelet: &Kubelet, pod: &Pod) {
    let metadata = &pod.metadata;
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let name = metadata.name.as_deref().unwrap_or_default();
    let api = Api::<Pod>::namespaced(kubelet.client.clone(), namespace);
    let only_this = Preconditions {
        uid: metadata.uid.clone(),
        resource_version: None,
    };
    let now = DeleteParams::default()
        .grace_period(0)
        .preconditions(only_this);
    while api
        .delete(name, &now)
        .await
        .is_err_and(|error| is_passing(&error))
    {
        sleep(RETRY).await;
    }
}

/// Keeps the status in the API as the pod stands.
async fn report(client: kube::Client, pod: Arc<Pod>, standing: Arc<Standing>) {
    let metadata = &pod.metadata;
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let name = metadata.name.as_deref().unwrap_or_default();
    let api = Api::<Pod>::namespaced(client, namespace);
    let mut sent = None;
    loop {
        standing.changed.notified().await;
        loop {
            let patch = standing.patch();
            if sent.as_ref() == Some(&patch) {
                break;
            }
            let params = PatchParams::default();
            match api.patch_status(name, &params, &Patch::Merge(&patch)).await {
                Ok(_) => sent = Some(patch),
                Err(error) if is_passing(&error) => sleep(RETRY).await,
                // It is gone.
                Err(_) => return,
            }
        }
    }
}

/// Runs the containers of a pod until all have ended for good or it is to stop.
async fn run(
    kubelet: &Arc<Kubelet>,
    node: &Arc<Node>,
    pod: &Arc<Pod>,
    spec: PodSpec,
    standing: &Arc<Standing>,
    mut stop: Stop,
) {
    let preparing = prepare(kubelet, node, pod, &spec, standing);
    let Some((site, volumes)) = unless_stopped(&mut stop, preparing).await else {
        return;
    };
    let volumes = Arc::new(volumes);
    let _ports = forward_ports(&site);
    let mut running = Vec::new();
    for (index, init) in spec.init_containers.iter().flatten().enumerate() {
        let life = container::Life {
            site: Arc::clone(&site),
            volumes: Arc::clone(&volumes),
            container: init.clone(),
            place: Place::Init(index),
            stop: stop.clone(),
        };
        if init.restart_policy.as_deref() == Some("Always") {
            running.push(tokio::spawn(life.run()));
        } else if life.run().await != container::Outcome::Succeeded {
            return;
        }
    }
    standing.set_initialized();
    for (index, container) in spec.containers.iter().enumerate() {
        let life = container::Life {
            site: Arc::clone(&site),
            volumes: Arc::clone(&volumes),
            container: container.clone(),
            place: Place::Main(index),
            stop: stop.clone(),
        };
        running.push(tokio::spawn(life.run()));
    }
    join_all(running).await;
}

/// The outcome of some work, or nothing when the pod is to stop before it is done.
async fn unless_stopped<T>(stop: &mut Stop, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        _ = stop.wait_for(Option::is_some) => None,
    }
}

/// Makes the pod's namespaces and volumes, however often it takes.
async fn prepare(
    kubelet: &Arc<Kubelet>,
    node: &Arc<Node>,
    pod: &Arc<Pod>,
    spec: &PodSpec,
    standing: &Arc<Standing>,
) -> (Arc<Site>, Volumes) {
    let site = loop {
        match make_site(kubelet, node, pod, spec, standing).await {
            Ok(site) => break Arc::new(site),
            Err(error) => standing.set_waiting("ContainerCreating", &format!("{error:#}")),
        }
        sleep(RETRY).await;
    };
    standing.set_address(site.address);
    loop {
        match Volumes::make(&site).await {
            Ok(volumes) => return (site, volumes),
            Err(error) => standing.set_waiting("ContainerCreating", &format!("{error:#}")),
        }
        sleep(RETRY).await;
    }
}

async fn make_site(
    kubelet: &Arc<Kubelet>,
    node: &Arc<Node>,
    pod: &Arc<Pod>,
    spec: &PodSpec,
    standing: &Arc<Standing>,
) -> Result<Site> {
    let metadata = &pod.metadata;
    let uid = metadata.uid.as_deref().unwrap_or_default();
    let name = metadata.name.clone().unwrap_or_default();
    let folder = kubelet.folder.join("pods").join(uid);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let (address, holder) = if spec.host_network == Some(true) {
        (node.address, None)
    } else {
        let (address, holder) = make_network(kubelet, node, &name).await?;
        (address, Some(holder))
    };
    Ok(Site {
        kubelet: Arc::clone(kubelet),
        node: Arc::clone(node),
        pod: Arc::clone(pod),
        spec: spec.clone(),
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name,
        address,
        folder,
        standing: Arc::clone(standing),
        holder,
    })
}

async fn make_network(
    kubelet: &Arc<Kubelet>,
    node: &Node,
    name: &str,
) -> Result<(Ipv4Addr, Holder)> {
    let address = kubelet
        .take_address(node.number)
        .with_context(|| format!("{} has no more addresses for pods", node.name))?;
    let port = format!("p{}", kubelet.count_pod());
    let hostname: String = name.chars().take(63).collect();
    let (maker, made_for) = (kubelet.maker.clone(), hostname.clone());
    let made = tokio::task::spawn_blocking(move || maker.pod(&made_for, &port, address));
    let made = made.await.context("the pod's network was given up")?;
    if made.is_err() {
        kubelet.give_back(address);
    }
    let holder = made.with_context(|| format!("cannot make the network of {hostname}"))?;
    Ok((address, holder))
}

/// Starts a proxy for every `hostPort` of a pod that has an address of its own.
fn forward_ports(site: &Site) -> Vec<tokio::process::Child> {
    if site.holder.is_none() {
        return Vec::new();
    }
    let containers = site.spec.containers.iter();
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let forwards = ports.filter_map(|port| {
        let from = format!("{}:{}", site.node.address, port.host_port?);
        let to = format!("{}:{}", site.address, port.container_port);
        let maker = &site.kubelet.maker;
        let mut command = site.node.command(&maker.inside);
        command
            .args(["forward", &from, &to])
            .env(MARK, &maker.network.name)
            .stdin(Stdio::null());
        let mut command = tokio::process::Command::from(command);
        command.kill_on_drop(true).spawn().ok()
    });
    forwards.collect()
}

impl Site {
    /// The process whose network and UTS namespaces the containers join.
    pub(super) fn network_process(&self) -> u32 {
        match &self.holder {
            Some(holder) => holder.process(),
            None => self.node.process(),
        }
    }
}
