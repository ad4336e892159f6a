//! The composition root: the one place where control plane and data plane meet.
//!
//! [`start`] binds every listener before anything serves, starts the workers, the control plane and the admin pages, and
//! returns what was bound. Beside a process of the same instance it prepares only, and [`Running::enter`] takes the ports
//! over once everything is ready. Whatever starts an instance — `tidegate serve`, the demo, a test — starts it here.

mod before;
mod control;
mod guarding;
mod in_force;
mod inputs;
mod ports;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use prometheus_client::registry::Registry;
use tidegate_dataplane::{BoundAddress, Dataplane, DrainReport, ListenerProtocol, Queued};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::admin::{self, Admin};
use crate::cache::Cache;
use crate::ebpf;
use crate::hand_over::{self, Found, Owner, Ownership, Predecessor, Standing};
use crate::listening;
use crate::metrics::{
    CacheMetrics, CertificateMetrics, ClusterMetrics, ControlMetrics, SteeringMetrics,
};
use crate::probe::ProbeSocket;
use crate::readiness::{Guard, Readiness};
use crate::settings::live::Live;
use crate::settings::{Settings, SteeringMode};
use crate::verbose::Parts;
use before::{last_good, predecessor_of, refuse_taken};
pub(crate) use control::Shared;
use control::{ControlInputs, ControlPlane, Publication, SourceInputs};
use guarding::Guarding;
pub use in_force::{InForce, Origin, Serving};
pub(crate) use ports::SharedSteering;
use ports::{Plan, Ports};

/// What holds readiness back until the ports are this process's.
const HAND_OVER: &str = "hand-over";

/// How long a newcomer prepares before it says what it waits for, each time.
const PREPARING: Duration = Duration::from_secs(30);

/// Names that handshakes ask certificates for and nobody has looked at yet, at most; more are dropped, and asked for again.
const ASKED: usize = 256;

/// What a process is to its instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Another process has the ports, and this one gets ready to take them.
    Preparing,
    /// It has the ports.
    Serving,
    /// Another process has taken the ports; connections end, sockets stay in reserve.
    Retired,
    /// It ends.
    Draining,
}

impl Phase {
    /// The word for it in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Serving => "serving",
            Self::Retired => "retired",
            Self::Draining => "draining",
        }
    }
}

/// What a running instance has to react to.
#[derive(Debug)]
pub(crate) enum Event {
    /// It stands to a successor in another way.
    Standing(Standing),
    /// The control plane ended, which is not expected.
    ControlEnded,
}

/// A running instance.
#[derive(Debug)]
pub struct Running {
    addresses: Vec<BoundAddress>,
    admin: Option<Admin>,
    probe: Option<ProbeSocket>,
    dataplane: Dataplane,
    control: ControlPlane,
    cache: Option<Cache>,
    shared: Shared,
    readiness: Readiness,
    serving: Serving,
    ports: Ports,
    guarding: Guarding,
    phase: watch::Sender<Phase>,
    /// Until the ports are this process's.
    entry: Option<Entry>,
    owner: Option<Owner>,
    /// The process before this one, for as long as it may have to take the ports back.
    predecessor: Option<Predecessor>,
    /// While connections are to end.
    leaving: Option<Guard>,
}

/// What is left to do before the ports are this process's.
#[derive(Debug)]
struct Entry {
    from: Found,
    _waiting: Guard,
}

/// Starts an instance. Call it within a tokio runtime, which serves the admin pages.
///
/// # Errors
/// When a listener cannot be bound, a thread cannot be started, or what is needed to reach the cluster is missing.
pub async fn start(settings: Settings) -> anyhow::Result<Running> {
    let readiness = Readiness::new();
    let first_snapshot = readiness.guard("first snapshot");
    let workers_started = readiness.guard("workers");
    let waiting = readiness.guard(HAND_OVER);

    let instance = settings.instance.to_string();
    let live = match settings.live.clone() {
        Some(live) => live,
        None => Live::still(&settings),
    };
    let mut from = hand_over::find(&instance).await?.among(&settings.dataplane);
    let predecessor = predecessor_of(&from, &instance);
    if !matches!(from, Found::Silent) {
        refuse_taken(&settings, predecessor)?;
    }
    // While the listeners are made, what was served last is read.
    let cache = inputs::cache(&settings)?;
    let mut dataplane_settings = settings.dataplane.clone();
    let (on_demand, names) = mpsc::channel(ASKED);
    dataplane_settings.on_demand = Some(on_demand);
    let plan = Plan::of(settings.steering, &instance, &mut dataplane_settings);
    let bound = tidegate_dataplane::bind(dataplane_settings)
        .map_err(|error| listening::failed(error.address, &error.source))?;
    let addresses = bound.addresses().to_vec();
    if let Some(predecessor) = predecessor {
        info!(
            version = predecessor.version,
            generation = predecessor.generation,
            "hand-over: takes over from a running process when ready"
        );
    }
    let admin = settings.admin.map(admin::Bound::new).transpose()?;

    let mut ports = Ports::prepare(&plan, &addresses, predecessor);
    let (dataplane, listeners) = bound
        .start(ports.loads())
        .context("cannot start the worker threads")?;
    ports.set_listeners(listeners);
    drop(workers_started);

    let phase = watch::Sender::new(Phase::Preparing);
    let (in_force, serving) = watch::channel(None);
    let saved = last_good(cache.as_ref(), &mut from).await;
    let shared = Shared::default();
    let source = inputs::source(&settings, &live, &phase, &shared)?;
    let cluster = matches!(source, SourceInputs::Cluster(_)).then(|| shared.clone());
    let report = watch::Sender::new(Arc::default());
    let certificates = inputs::certificates(&settings, &live, &addresses, names, report.clone());
    let desk = certificates.desk.clone();
    let control = ControlPlane::start(ControlInputs {
        certificates,
        translation: live.translation,
        resolver: live.resolver,
        publication: Publication {
            publisher: dataplane.publisher(),
            in_force,
            settings: live.problems.clone(),
            origin: source.origin(),
            saved,
            cache: cache.clone(),
            first: Some(first_snapshot),
        },
        source,
    })
    .await?;
    let guarding = Guarding::new(settings.guard, settings.drain);
    let mut registry = registry(cluster.is_some().then_some(instance));
    dataplane.register(&mut registry);
    registry.register_collector(Box::new(ControlMetrics::new(serving.clone())));
    let steering = SteeringMetrics::new(ports.steering(), phase.subscribe());
    registry.register_collector(Box::new(steering));
    registry.register_collector(Box::new(guarding.metrics()));
    if let Some(cache) = cache.clone() {
        registry.register_collector(Box::new(CacheMetrics::new(cache)));
    }
    if let Some(shared) = cluster.clone() {
        registry.register_collector(Box::new(ClusterMetrics::new(shared)));
    }
    registry.register_collector(Box::new(CertificateMetrics::new(report.subscribe())));
    registry.register_collector(Box::new(live.pending.clone()));
    let parts = Parts {
        cache: cache.clone(),
        cluster,
        pending: live.pending,
        certs: desk.get().cloned(),
    };
    let pages = admin::Pages::new(readiness.clone(), serving.clone(), registry, parts);
    let pages = Arc::new(pages);
    let probe = settings.probe_socket.as_deref();
    let probe = probe.map(|path| ProbeSocket::open(path, pages.clone()));
    let probe = probe.transpose()?;
    let mut running = Running {
        addresses,
        admin: admin.map(|admin| admin.with(pages)),
        probe,
        dataplane,
        control,
        cache,
        shared,
        readiness,
        serving,
        ports,
        guarding,
        phase,
        entry: None,
        owner: None,
        predecessor: None,
        leaving: None,
    };
    match from {
        Found::Someone(_) => {
            running.entry = Some(Entry {
                from,
                _waiting: waiting,
            });
        }
        // Connections may wait while the first snapshot is made: nobody else serves them.
        from => running.open(from).await?,
    }
    Ok(running)
}

/// For metrics. Instances of a cluster are side by side on its nodes and in one Prometheus, and are told apart by a label.
fn registry(instance: Option<String>) -> Registry {
    let label = |instance: String| ("tidegate_instance".into(), instance.into());
    Registry::with_prefix_and_labels("tidegate", instance.into_iter().map(label))
}

/// Waits until the ports are all that is missing, and says from time to time what else is.
async fn ready(readiness: &Readiness) {
    let ready = readiness.ready_but_for(HAND_OVER);
    let mut ready = std::pin::pin!(ready);
    while tokio::time::timeout(PREPARING, &mut ready).await.is_err() {
        let waiting = readiness.waiting_for().join(", ");
        warn!("hand-over: not ready to take over; waiting for: {waiting}");
    }
}

impl Plan {
    /// What the settings ask for; workers get CPUs of their own where connections are steered by CPU.
    fn of(
        mode: SteeringMode,
        instance: &str,
        dataplane: &mut tidegate_dataplane::Settings,
    ) -> Self {
        let workers = dataplane.workers.get();
        let cpus = match mode {
            SteeringMode::Cpu => ebpf::allowed_cpus().unwrap_or_else(|error| {
                warn!("steering: cannot tell which CPUs this process may use: {error}");
                Vec::new()
            }),
            SteeringMode::LeastLoaded | SteeringMode::Kernel => Vec::new(),
        };
        if !cpus.is_empty() {
            dataplane.pin = Some(cpus.iter().copied().cycle().take(workers).collect());
        }
        Self {
            mode,
            instance: instance.to_owned(),
            cpus,
            workers,
        }
    }
}

impl Running {
    /// What the data plane listens on.
    pub fn addresses(&self) -> &[BoundAddress] {
        &self.addresses
    }

    /// The first address with this protocol.
    pub fn address(&self, protocol: ListenerProtocol) -> Option<SocketAddr> {
        let found = self
            .addresses
            .iter()
            .find(|bound| bound.protocol == protocol);
        found.map(|bound| bound.address)
    }

    /// Where the admin pages are.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Admin::address)
    }

    /// Whether the instance is ready.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// The socket that answers probes, for a process that is still there when the instance has ended.
    pub(crate) fn take_probe(&mut self) -> Option<ProbeSocket> {
        self.probe.take()
    }

    /// What is served.
    pub fn serving(&self) -> Serving {
        self.serving.clone()
    }

    /// Waits for something that the running instance has to react to.
    pub(crate) async fn event(&mut self) -> Event {
        let standing = async {
            match &mut self.owner {
                Some(owner) => owner.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            standing = standing => Event::Standing(standing),
            () = self.control.ended() => Event::ControlEnded,
        }
    }

    /// Takes the ports over from the process that has them, as soon as everything here is ready; or at once when that
    /// process ends by itself. Comes back at once when there was none. Dropping the future before its end changes nothing.
    ///
    /// # Errors
    /// The ports cannot be had; the other process goes on.
    pub async fn enter(&mut self) -> anyhow::Result<()> {
        let Some(entry) = &mut self.entry else {
            return Ok(());
        };
        if let Found::Someone(predecessor) = &mut entry.from {
            tokio::select! {
                () = ready(&self.readiness) => {}
                () = predecessor.gone() => warn!("hand-over: the old process has ended by itself"),
            }
        }
        let Some(Entry { from, _waiting }) = self.entry.take() else {
            return Ok(());
        };
        self.open(from).await
    }

    async fn open(&mut self, from: Found) -> anyhow::Result<()> {
        let (name, predecessor) = match from {
            Found::Nobody(name) => (Some(name), None),
            Found::Silent | Found::Apart(_) | Found::Foreign(_) => (None, None),
            Found::Someone(mut predecessor) => {
                (Some(predecessor.take_name().await?), Some(predecessor))
            }
        };
        self.ports.open(&self.dataplane)?;
        if let Some(admin) = &mut self.admin {
            admin.open()?;
        }
        self.owner = name.map(|name| Owner::start(name, self.ownership(), self.cache.clone()));
        self.phase.send_replace(Phase::Serving);
        if let Some(mut predecessor) = predecessor {
            predecessor.in_force(self.ports.is_steered()).await;
            info!(generation = self.ports.generation(), "hand-over: in force");
            self.predecessor = Some(predecessor);
        }
        if let Some(cache) = self.cache.clone() {
            // As soon as the old process has closed it. Nobody waits for that.
            tokio::spawn(async move { cache.claim().await });
        }
        // Last: it takes a moment, and requests do not wait for it.
        self.guarding.begin(self.ports.pins());
        Ok(())
    }

    fn ownership(&self) -> Ownership {
        Ownership::new(
            self.ports.generation(),
            self.ports.is_pinned(),
            self.addresses.iter().map(|bound| bound.address).collect(),
            self.admin(),
        )
    }

    /// How it stands to a process that takes over from it.
    pub(crate) fn standing(&self) -> Standing {
        self.owner.as_ref().map_or(Standing::Alone, Owner::standing)
    }

    /// Lets connections end, now that another process has the ports; sockets stay in reserve.
    pub(crate) async fn retire(&mut self) {
        self.leaving = Some(self.readiness.guard("retired"));
        self.phase.send_replace(Phase::Retired);
        self.release_predecessor().await;
        self.guarding.leave();
        if let Some(admin) = &mut self.admin {
            admin.close();
        }
        self.dataplane.retire();
        if let Some(cache) = self.cache.clone() {
            // The successor waits for it. A disk that hangs must not hold up anything here.
            tokio::spawn(async move { cache.release().await });
        }
    }

    /// Serves again, after the process that had taken the ports has died.
    pub(crate) fn take_back(&mut self) -> anyhow::Result<()> {
        self.ports.take_back();
        self.dataplane.resume();
        if let Some(cache) = self.cache.clone() {
            tokio::spawn(async move { cache.claim().await });
        }
        self.guarding.begin(self.ports.pins());
        self.leaving = None;
        self.phase.send_replace(Phase::Serving);
        match &mut self.admin {
            Some(admin) => admin.open(),
            None => Ok(()),
        }
    }

    /// Whether the kernel moves what waits at a socket that is closed.
    pub(crate) fn migrates(&self) -> bool {
        self.ports.migrates()
    }

    /// Connections that are open.
    pub(crate) fn open_connections(&self) -> usize {
        self.dataplane.open_connections()
    }

    /// The process before this one needs not be in reserve any more.
    async fn release_predecessor(&mut self) {
        if let Some(predecessor) = self.predecessor.take() {
            predecessor.release().await;
        }
    }

    /// Ends the instance: not ready at once, no new connections, then up to the deadline for those that are open. The
    /// admin pages answer to the end, and manifests are followed to the end.
    pub async fn drain(self, deadline: Duration) -> DrainReport {
        self.end(deadline, Queued::Served).await
    }

    /// The same, with connections that wait at the listening sockets served or left to a successor.
    pub(crate) async fn end(mut self, deadline: Duration, queued: Queued) -> DrainReport {
        let _draining = self.readiness.guard("draining");
        self.phase.send_replace(Phase::Draining);
        self.release_predecessor().await;
        // The name is free for a process that starts now, unless a successor has it.
        self.owner = None;
        self.guarding.end();
        self.ports.close();
        if let Some(cache) = &self.cache {
            cache.release().await;
        }
        let report = self.dataplane.drain(deadline, queued).await;
        self.control.lay_down(&self.shared).await;
        report
    }
}
