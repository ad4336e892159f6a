//! A worker: one thread with its own runtime, listening sockets, pools and figures. Nothing on its request path is
//! shared with another.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use tidegate_model::{RouteLabels, Timeouts};
use tokio::runtime::LocalOptions;
use tokio::sync::{oneshot, watch};

use crate::accept::Acceptor;
use crate::access_log::LogWriter;
use crate::clock::{Clock, TICK, ticks};
use crate::downstream::ListenerFacts;
use crate::listen::BoundAddress;
use crate::metrics::{RouteMetrics, WorkerMetrics};
use crate::publish::{Current, Published};
use crate::tls::Resolver;
use crate::transport::TlsAcceptor;
use crate::upstream::{UpstreamTable, UpstreamTls};

/// How often idle connections to endpoints are looked through, in ticks.
const SWEEP: u64 = 20;
/// Rounds of the runtime between the last accept and the drain of connections: one for a new connection to be known to
/// the kernel's poll, one for its first bytes to be told, one for them to be read.
const DRAIN_ROUNDS: usize = 3;

/// What a worker is made of; moved into its thread.
pub(crate) struct Setup {
    pub(crate) index: usize,
    pub(crate) listeners: Vec<(BoundAddress, TcpListener)>,
    pub(crate) published: watch::Receiver<Published>,
    pub(crate) orders: watch::Receiver<Order>,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) tls: Arc<rustls::ServerConfig>,
    pub(crate) upstream_tls: UpstreamTls,
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) access_log: Option<LogWriter>,
    /// Client connections that it holds at once; more wait in the listen queue.
    pub(crate) connections: usize,
}

/// What the data plane tells its workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Serve,
    /// Stop accepting and let connections end, until this much time has passed.
    Drain(Duration),
}

/// What a drain left of one worker's connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainReport {
    /// Connections that ended by themselves.
    pub finished: u64,
    /// Connections that were cut at the deadline.
    pub cut: u64,
}

/// The snapshot in force, to be cloned for each request: counting on this core alone, where clones of the `Arc` would
/// be counted on a cache line that all workers write.
pub(crate) type Held = Rc<Arc<Current>>;

/// The figures of a route, with the labels that they are found by.
type RouteFigures = (Arc<RouteLabels>, Arc<RouteMetrics>);

/// One worker, as its connections see it.
pub(crate) struct Worker {
    pub(crate) clock: Rc<Clock>,
    pub(crate) upstreams: UpstreamTable,
    pub(crate) upstream_tls: UpstreamTls,
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) access_log: Option<LogWriter>,
    pub(crate) tls: TlsAcceptor,
    current: RefCell<Held>,
    timeouts: Cell<Timeouts>,
    /// By address of the labels, which are kept alive here.
    routes: RefCell<HashMap<usize, RouteFigures>>,
    draining: Cell<bool>,
    open: Cell<usize>,
    connections: usize,
}

impl Worker {
    /// The snapshot in force. Cloned without touching anything that other threads touch.
    pub(crate) fn current(&self) -> Held {
        self.current.borrow().clone()
    }

    pub(crate) fn timeouts(&self) -> Timeouts {
        self.timeouts.get()
    }

    pub(crate) fn draining(&self) -> bool {
        self.draining.get()
    }

    /// The figures of a route.
    pub(crate) fn route_metrics(&self, labels: &Arc<RouteLabels>) -> Arc<RouteMetrics> {
        let key = Arc::as_ptr(labels).addr();
        if let Some((_, metrics)) = self.routes.borrow().get(&key) {
            return metrics.clone();
        }
        let metrics = self.metrics.route(labels);
        self.routes
            .borrow_mut()
            .insert(key, (labels.clone(), metrics.clone()));
        metrics
    }

    /// Takes a new snapshot in force.
    fn follow(&self, current: Arc<Current>, resolver: &Resolver) {
        resolver.set(current.certificates.clone());
        self.upstreams.follow(&current.snapshot);
        self.timeouts.set(current.snapshot.policy.timeouts);
        self.routes.borrow_mut().clear();
        self.metrics.trim_routes(&current.snapshot.routes);
        *self.current.borrow_mut() = Rc::new(current);
    }

    /// Whether it holds as many connections as it may.
    pub(crate) fn is_full(&self) -> bool {
        self.open.get() >= self.connections
    }

    pub(crate) fn opened(&self) {
        self.open.set(self.open.get() + 1);
        self.metrics.open.set(self.open.get() as u64);
    }

    pub(crate) fn closed(&self) {
        self.open.set(self.open.get().saturating_sub(1));
        self.metrics.open.set(self.open.get() as u64);
    }
}

/// Starts a worker's thread. The report comes when it has drained.
pub(crate) fn spawn(setup: Setup) -> io::Result<oneshot::Receiver<DrainReport>> {
    let (report, drained) = oneshot::channel();
    let (started, start) = std::sync::mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name(format!("worker-{}", setup.index))
        .spawn(move || {
            let built = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(LocalOptions::default());
            match built {
                Ok(runtime) => {
                    // Whoever started this thread, or waits for its report, may be gone; serving goes on.
                    let _ = started.send(Ok(()));
                    let _ = report.send(runtime.block_on(run(setup)));
                }
                Err(error) => _ = started.send(Err(error)),
            }
        })?;
    start.recv().map_err(io::Error::other)??;
    Ok(drained)
}

async fn run(mut setup: Setup) -> DrainReport {
    let Some(first) = first_snapshot(&mut setup.published, &mut setup.orders).await else {
        return DrainReport::default();
    };
    let clock = Clock::new();
    let worker = Rc::new(Worker {
        upstreams: UpstreamTable::new(clock.clone(), seed(setup.index)),
        clock: clock.clone(),
        upstream_tls: setup.upstream_tls,
        metrics: setup.metrics,
        access_log: setup.access_log,
        tls: TlsAcceptor::new(setup.tls, clock.clone()),
        timeouts: Cell::new(first.snapshot.policy.timeouts),
        current: RefCell::new(Rc::new(first.clone())),
        routes: RefCell::default(),
        draining: Cell::new(false),
        open: Cell::new(0),
        connections: setup.connections,
    });
    setup.resolver.set(first.certificates.clone());
    let acceptors: Vec<Rc<Acceptor>> = acceptors(&worker, setup.listeners).collect();
    let accepting: Vec<_> = acceptors
        .iter()
        .cloned()
        .map(|acceptor| tokio::task::spawn_local(async move { acceptor.run().await }))
        .collect();
    tokio::task::spawn_local(keep_time(worker.clone()));
    let deadline = follow(&worker, setup.published, setup.orders, &setup.resolver).await;
    for task in accepting {
        task.abort();
        let _ = task.await;
    }
    for acceptor in acceptors {
        acceptor.finish();
    }
    drain(&worker, deadline).await
}

fn acceptors(
    worker: &Rc<Worker>,
    listeners: Vec<(BoundAddress, TcpListener)>,
) -> impl Iterator<Item = Rc<Acceptor>> {
    listeners.into_iter().filter_map(|(bound, socket)| {
        let port = bound.address.port().to_string().into();
        let facts = ListenerFacts {
            protocol: bound.protocol,
            port,
        };
        match Acceptor::new(worker.clone(), facts, socket) {
            Ok(acceptor) => Some(Rc::new(acceptor)),
            Err(error) => {
                tracing::error!(address = %bound.address, %error, "cannot accept connections");
                None
            }
        }
    })
}

async fn first_snapshot(
    published: &mut watch::Receiver<Published>,
    orders: &mut watch::Receiver<Order>,
) -> Option<Arc<Current>> {
    tokio::select! {
        first = published.wait_for(Option::is_some) => first.ok().and_then(|first| (*first).clone()),
        _ = orders.wait_for(|order| *order != Order::Serve) => None,
    }
}

/// Follows snapshots until the order to drain, and returns its deadline.
async fn follow(
    worker: &Rc<Worker>,
    mut published: watch::Receiver<Published>,
    mut orders: watch::Receiver<Order>,
    resolver: &Resolver,
) -> Duration {
    // A snapshot may have come between the first and here.
    published.mark_changed();
    loop {
        tokio::select! {
            changed = published.changed() => {
                if changed.is_err() {
                    return Duration::ZERO;
                }
                let latest = published.borrow_and_update().clone();
                if let Some(latest) = latest {
                    worker.follow(latest, resolver);
                }
            }
            order = orders.wait_for(|order| *order != Order::Serve) => {
                return match order.as_deref() {
                    Ok(Order::Drain(deadline)) => *deadline,
                    _ => Duration::ZERO,
                };
            }
        }
    }
}

async fn drain(worker: &Rc<Worker>, deadline: Duration) -> DrainReport {
    let before = worker.open.get();
    // Requests that have arrived begin before the connections learn of the drain: each round asks the kernel once.
    for _ in 0..DRAIN_ROUNDS {
        tokio::task::yield_now().await;
    }
    worker.draining.set(true);
    worker.clock.wake_all();
    let finished = async {
        while worker.open.get() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let _ = tokio::time::timeout(deadline, finished).await;
    let left = worker.open.get();
    if let Some(log) = &worker.access_log {
        log.flush();
    }
    DrainReport {
        finished: before.saturating_sub(left) as u64,
        cut: left as u64,
    }
}

/// Deadlines, idle connections and the access log, ten times a second.
async fn keep_time(worker: Rc<Worker>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut until_sweep = SWEEP;
    loop {
        interval.tick().await;
        worker.clock.tick();
        if let Some(log) = &worker.access_log {
            log.flush();
        }
        until_sweep -= 1;
        if until_sweep == 0 {
            until_sweep = SWEEP;
            worker
                .upstreams
                .sweep(ticks(worker.timeouts().upstream_idle));
            worker
                .metrics
                .upstream_idle
                .set(worker.upstreams.idle_connections() as u64);
        }
    }
}

/// A course of its own for each worker's random choices.
fn seed(index: usize) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(index)
}
