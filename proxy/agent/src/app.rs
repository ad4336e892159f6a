//! The composition root: the one place where control plane and data plane meet.
//!
//! [`start`] binds every listener before anything serves, starts the workers, the control plane (on a thread and a
//! runtime of its own) and the admin pages, and returns what was bound. Whatever starts an instance — `tidegate serve`,
//! the demo, a test — starts it here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use prometheus_client::registry::Registry;
use tidegate_controller::reconcile::{self, Channels, Coalesce};
use tidegate_controller::resolve::{self, ResolverSettings};
use tidegate_controller::source::directory::Directory;
use tidegate_controller::{Translation, Translator, translate};
use tidegate_dataplane::{BoundAddress, Dataplane, DrainReport, ListenerProtocol, Publisher};
use tidegate_model::{Level, Problem};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, info, warn};

use crate::admin;
use crate::clock;
use crate::listening;
use crate::metrics::ControlMetrics;
use crate::readiness::{Guard, Readiness};
use crate::settings::Settings;

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

/// A running instance.
#[derive(Debug)]
pub struct Running {
    addresses: Vec<BoundAddress>,
    admin: Option<SocketAddr>,
    dataplane: Dataplane,
    control: ControlPlane,
    readiness: Readiness,
    serving: Serving,
}

/// The control plane's thread. Dropping this ends it.
#[derive(Debug)]
struct ControlPlane {
    _stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

/// Starts an instance. Call it within a tokio runtime, which serves the admin pages.
///
/// # Errors
/// When a listener cannot be bound or a thread cannot be started.
pub fn start(settings: Settings) -> anyhow::Result<Running> {
    let readiness = Readiness::new();
    let first_snapshot = readiness.guard("first snapshot");
    let workers_started = readiness.guard("workers");

    let listeners = [&settings.dataplane.http, &settings.dataplane.https];
    listening::refuse_taken(listeners.into_iter().flatten())?;
    let bound = tidegate_dataplane::bind(settings.dataplane)
        .map_err(|error| listening::failed(error.address, &error.source))?;
    let addresses = bound.addresses().to_vec();
    let admin = settings.admin.map(listening::bind).transpose()?;

    let dataplane = bound.start().context("cannot start the worker threads")?;
    drop(workers_started);

    let (in_force, serving) = watch::channel(None);
    let mut registry = Registry::with_prefix("tidegate");
    dataplane.register(&mut registry);
    registry.register_collector(Box::new(ControlMetrics::new(serving.clone())));
    let admin = match admin {
        None => None,
        Some(listener) => {
            let pages = admin::Pages::new(readiness.clone(), serving.clone(), registry);
            let address = listener.local_addr().context("admin address")?;
            tokio::spawn(admin::run(listener, pages));
            Some(address)
        }
    };
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
    Ok(Running {
        addresses,
        admin,
        dataplane,
        control,
        readiness,
        serving,
    })
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
        self.admin
    }

    /// Whether the instance is ready.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// What is served.
    pub fn serving(&self) -> Serving {
        self.serving.clone()
    }

    /// Waits for the end of the control plane, which is not expected before [`drain`](Self::drain).
    pub async fn control_ended(&mut self) {
        _ = (&mut self.control.ended).await;
    }

    /// Ends the instance: not ready at once, no new connections, then up to the deadline for those that are open. The
    /// admin pages answer to the end, and manifests are followed to the end.
    pub async fn drain(self, deadline: Duration) -> DrainReport {
        let _draining = self.readiness.guard("draining");
        self.dataplane.drain(deadline).await
    }
}

/// What the control plane works with.
struct ControlInputs {
    manifests: Vec<PathBuf>,
    translation: translate::Settings,
    resolver: ResolverSettings,
    publication: Publication,
}

impl ControlPlane {
    fn start(inputs: ControlInputs) -> anyhow::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (running, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the control plane's runtime")?;
        std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || {
                // Dropped with the thread, whether it ends or panics.
                let _running: oneshot::Sender<()> = running;
                runtime.block_on(inputs.run(stopped));
                runtime.shutdown_background();
            })
            .context("cannot start the control plane's thread")?;
        Ok(Self { _stop: stop, ended })
    }
}

impl ControlInputs {
    async fn run(self, stopped: oneshot::Receiver<()>) {
        let (updates_to, updates) = mpsc::channel(16);
        let (resolutions_to, resolutions) = mpsc::channel(16);
        let (names, wanted) = watch::channel(Default::default());
        let (published, translations) = watch::channel(None);
        let translator = Translator::new(self.translation);
        let channels = Channels {
            updates,
            resolutions,
            names,
            published,
        };
        tokio::spawn(Directory::new(self.manifests).run(updates_to));
        tokio::spawn(resolve::run(self.resolver, wanted, resolutions_to));
        let publishing = self.publication.run(translations);
        tokio::select! {
            () = reconcile::run(translator, Coalesce::default(), channels) => {
                warn!("the source of manifests ended; the last configuration stays in force");
            }
            () = publishing => {}
            // An error says that the instance was dropped, which is the same wish.
            _ = stopped => debug!("control plane ends"),
        }
    }
}

/// Hands translations to the workers.
struct Publication {
    publisher: Publisher,
    in_force: watch::Sender<Option<InForce>>,
    first: Option<Guard>,
}

impl Publication {
    async fn run(mut self, mut translations: watch::Receiver<Option<Arc<Translation>>>) {
        loop {
            let translation = translations.borrow_and_update().clone();
            if let Some(translation) = translation {
                self.publish(translation);
            }
            if translations.changed().await.is_err() {
                return;
            }
        }
    }

    fn publish(&mut self, translation: Arc<Translation>) {
        let generation = self.publisher.publish(translation.snapshot.clone());
        log_problems(&self.in_force.borrow(), &translation);
        let routes: usize = translation
            .statuses
            .values()
            .map(|status| status.routes)
            .sum();
        info!(
            generation,
            ingresses = translation.statuses.len(),
            routes,
            upstreams = translation.snapshot.upstreams.len(),
            problems = translation.problems.len(),
            "configuration in force"
        );
        self.in_force.send_replace(Some(InForce {
            generation,
            since: Instant::now(),
            published_at: clock::now(),
            translation,
        }));
        self.first = None;
    }
}

/// Logs problems that were not there before; both lists are sorted.
fn log_problems(before: &Option<InForce>, now: &Translation) {
    let known = before
        .as_ref()
        .map(|before| before.translation.problems.as_slice())
        .unwrap_or_default();
    for problem in &now.problems {
        if known.binary_search(problem).is_err() {
            log_problem(problem);
        }
    }
}

fn log_problem(problem: &Problem) {
    let Problem {
        object,
        field,
        reason,
        message,
        ..
    } = problem;
    match problem.level {
        Level::Info => info!(%object, field, %reason, "{message}"),
        Level::Error | Level::Warning => warn!(%object, field, %reason, "{message}"),
    }
}
