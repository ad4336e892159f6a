//! The composition root: the one place where control plane and data plane meet.
//!
//! [`start`] binds every listener before anything serves, starts the workers, the control plane and the admin pages, and
//! returns what was bound. Beside a process of the same instance it prepares only, and [`Running::enter`] takes the ports
//! over once everything is ready. Whatever starts an instance — `tidegate serve`, the demo, a test — starts it here.

mod control;
mod guarding;
mod ports;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use prometheus_client::registry::Registry;
use tidegate_controller::Translation;
use tidegate_dataplane::{BoundAddress, Dataplane, DrainReport, ListenerProtocol, Queued};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::admin::{self, Admin};
use crate::ebpf;
use crate::hand_over::{self, Found, Owner, Ownership, Predecessor, Standing};
use crate::listening;
use crate::metrics::{ControlMetrics, SteeringMetrics};
use crate::readiness::{Guard, Readiness};
use crate::settings::{Settings, SteeringMode};
use control::{ControlInputs, ControlPlane, Publication};
use guarding::Guarding;
pub(crate) use ports::SharedSteering;
use ports::{Plan, Ports};

/// What holds readiness back until the ports are this process's.
const HAND_OVER: &str = "hand-over";

/// How long a newcomer prepares before it says what it waits for, each time.
const PREPARING: Duration = Duration::from_secs(30);

/// A translation that the workers serve.
#[derive(Clone, Debug)]
pub struct InForce {
    /// Counts publications; 1 for the first.
    pub generation: u64,
    /// When it was published.
    pub since: Instant,
    /// The same by the system's clock, in seconds since 1970.
    pub published_at: tidegate_model::UnixTime,
    /// What it is.
    pub translation: Arc<Translation>,
}

/// What is served now; `None` before the first publication.
pub type Serving = watch::Receiver<Option<InForce>>;

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
    dataplane: Dataplane,
    control: ControlPlane,
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
/// When a listener cannot be bound or a thread cannot be started.
pub async fn start(settings: Settings) -> anyhow::Result<Running> {
    let readiness = Readiness::new();
    let first_snapshot = readiness.guard("first snapshot");
    let workers_started = readiness.guard("workers");
    let waiting = readiness.guard(HAND_OVER);

    let instance = settings.instance.to_string();
    let from = hand_over::find(&instance).await?.among(&settings.dataplane);
    let predecessor = predecessor_of(&from, &instance);
    if !matches!(from, Found::Silent) {
        refuse_taken(&settings, predecessor)?;
    }
    let mut dataplane_settings = settings.dataplane;
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

    let guarding = Guarding::new(settings.guard, settings.drain);
    let phase = watch::Sender::new(Phase::Preparing);
    let (in_force, serving) = watch::channel(None);
    let mut registry = Registry::with_prefix("tidegate");
    dataplane.register(&mut registry);
    registry.register_collector(Box::new(ControlMetrics::new(serving.clone())));
    let steering = SteeringMetrics::new(ports.steering(), phase.subscribe());
    registry.register_collector(Box::new(steering));
    registry.register_collector(Box::new(guarding.metrics()));
    let pages = admin::Pages::new(readiness.clone(), serving.clone(), registry);
    let control = ControlPlane::start(ControlInputs {
        manifests: settings.manifests,
        translation: settings.translation,
        resolver: settings.resolver,
        publication: Publication {
            publisher: dataplane.publisher(),
            in_force,
            first: Some(first_snapshot),
        },
    })?;
    let mut running = Running {
        addresses,
        admin: admin.map(|admin| admin.with(pages)),
        dataplane,
        control,
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

impl Found {
    /// The same, but for a process that has none of these addresses, from which there is nothing to take over.
    fn among(self, wanted: &tidegate_dataplane::Settings) -> Self {
        let Self::Someone(predecessor) = &self else {
            return self;
        };
        let theirs = &predecessor.ownership.listeners;
        let mut ours = wanted.http.iter().chain(&wanted.https);
        if ours.any(|address| listening::is_among(*address, theirs)) {
            return self;
        }
        let texts: Vec<_> = theirs.iter().map(SocketAddr::to_string).collect();
        Self::Apart(texts.join(", "))
    }
}

/// The process to take over from; what stands in the way of one is logged.
fn predecessor_of<'a>(from: &'a Found, instance: &str) -> Option<&'a Ownership> {
    match from {
        Found::Someone(predecessor) => return Some(&predecessor.ownership),
        Found::Nobody(_) => {}
        Found::Silent => warn!(
            "hand-over: a process of instance {instance} has its name and does not answer; the ports are taken from it \
             all the same"
        ),
        Found::Apart(theirs) => warn!(
            "hand-over: a process of instance {instance} runs on other ports ({theirs}): both go on, but this one has no \
             name and cannot hand over: give it one of its own with --instance"
        ),
        Found::Foreign(user) => warn!(
            "hand-over: instance {instance} is named by a process of user {user}, who cannot share ports with this one; \
             it starts without, and cannot hand over: give it another name with --instance"
        ),
    }
    None
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

/// Fails for an address that is in use by someone who will not hand it over.
fn refuse_taken(settings: &Settings, predecessor: Option<&Ownership>) -> anyhow::Result<()> {
    let theirs: Vec<SocketAddr> = predecessor
        .map(|before| {
            before
                .listeners
                .iter()
                .copied()
                .chain(before.admin)
                .collect()
        })
        .unwrap_or_default();
    let ours = [&settings.dataplane.http, &settings.dataplane.https];
    let ours = ours.into_iter().flatten().chain(&settings.admin);
    listening::refuse_taken(ours.filter(|address| !listening::is_among(**address, &theirs)))
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
        self.owner = name.map(|name| Owner::start(name, self.ownership()));
        self.phase.send_replace(Phase::Serving);
        if let Some(mut predecessor) = predecessor {
            predecessor.in_force(self.ports.is_steered()).await;
            info!(generation = self.ports.generation(), "hand-over: in force");
            self.predecessor = Some(predecessor);
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
    }

    /// Serves again, after the process that had taken the ports has died.
    pub(crate) fn take_back(&mut self) -> anyhow::Result<()> {
        self.ports.take_back();
        self.dataplane.resume();
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
        self.dataplane.drain(deadline, queued).await
    }
}
