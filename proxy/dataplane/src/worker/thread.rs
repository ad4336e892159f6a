//! A worker's thread: it waits for its first snapshot, serves the sockets that it is given, follows orders, and drains.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_setaffinity};
use tidegate_model::Hostname;
use tokio::runtime::LocalOptions;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::Worker;
use crate::accept::Acceptor;
use crate::access_log::LogWriter;
use crate::clock::{Clock, TICK, ticks};
use crate::downstream::ListenerFacts;
use crate::listen::BoundAddress;
use crate::load::WorkerLoad;
use crate::metrics::WorkerMetrics;
use crate::publish::{Current, Published};
use crate::tls::Resolver;
use crate::transport::{Demand, TlsAcceptor};
use crate::upstream::{UpstreamTable, UpstreamTls};

/// How often idle connections to endpoints are looked through, in ticks.
const SWEEP: u64 = 20;
/// How long an idle connection that is to end is kept for a request that its client has sent, or is about to send, not
/// knowing of the end: a client cannot tell whether a request on a connection that was closed meanwhile was served. Much
/// longer than the way of a request, short beside a drain. A drain gives half of its time at most, so that the answer has
/// the other half.
const LAST_REQUEST: Duration = Duration::from_secs(5);

/// What a worker is made of; moved into its thread.
pub(crate) struct Setup {
    pub(crate) index: usize,
    /// The CPU that it is bound to.
    pub(crate) cpu: Option<usize>,
    pub(crate) sockets: mpsc::UnboundedReceiver<Sockets>,
    pub(crate) published: watch::Receiver<Published>,
    pub(crate) orders: watch::Receiver<Order>,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) on_demand: Option<mpsc::Sender<Hostname>>,
    pub(crate) upstream_tls: UpstreamTls,
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) load: Option<Box<dyn WorkerLoad>>,
    pub(crate) access_log: Option<LogWriter>,
    /// Client connections that it holds at once; more wait in the listen queue.
    pub(crate) connections: usize,
}

/// A worker's listening sockets.
pub(crate) type Sockets = Vec<(BoundAddress, TcpListener)>;

/// What the data plane tells its workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Serve,
    /// Let connections end, new ones with their first answer, and go on accepting.
    Retire,
    /// Stop accepting and let connections end, until this much time has passed.
    Drain(Duration, Queued),
}

/// What becomes of connections in the listen queues when the listening sockets are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queued {
    /// They are accepted and served first.
    Served,
    /// They are left to the kernel, which moves them to another socket that listens on the address. Only right where it
    /// does so.
    Left,
}

/// What a drain left of one worker's connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainReport {
    /// Connections that ended by themselves.
    pub finished: u64,
    /// Connections that were cut at the deadline.
    pub cut: u64,
}

/// Starts a worker's thread. The report comes when it has drained.
pub(crate) fn spawn(setup: Setup) -> io::Result<oneshot::Receiver<DrainReport>> {
    let (report, drained) = oneshot::channel();
    let (started, start) = std::sync::mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name(format!("worker-{}", setup.index))
        .spawn(move || {
            if let Some(cpu) = setup.cpu {
                pin(setup.index, cpu);
            }
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

/// Binds this thread to a CPU. Without it the worker serves all the same.
fn pin(worker: usize, cpu: usize) {
    let outcome = if cpu < CpuSet::MAX_CPU {
        let mut only = CpuSet::new();
        only.set(cpu);
        sched_setaffinity(None, &only).map_err(io::Error::from)
    } else {
        Err(io::ErrorKind::InvalidInput.into())
    };
    if let Err(error) = outcome {
        tracing::warn!(worker, cpu, %error, "cannot bind a worker to its CPU; it runs on any");
    }
}

async fn run(mut setup: Setup) -> DrainReport {
    let Some(first) = first_snapshot(&mut setup.published, &mut setup.orders).await else {
        return DrainReport::default();
    };
    let clock = Clock::new();
    let demand = setup
        .on_demand
        .map(|asking| Demand::new(asking, clock.clone(), setup.metrics.clone()));
    let worker = Rc::new(Worker {
        upstreams: UpstreamTable::new(clock.clone(), seed(setup.index)),
        clock: clock.clone(),
        upstream_tls: setup.upstream_tls,
        tls: tls_acceptor(&first, &setup.resolver, &clock, demand),
        metrics: setup.metrics,
        access_log: setup.access_log,
        timeouts: Cell::new(first.snapshot.policy.timeouts),
        current: RefCell::new(Rc::new(first.clone())),
        routes: RefCell::default(),
        last_request: Cell::new(None),
        open: Cell::new(0),
        handshakes: Cell::new(0),
        load: setup.load,
        connections: setup.connections,
    });
    tokio::task::spawn_local(keep_time(worker.clone()));
    let mut acceptors = Acceptors::default();
    let inputs = Inputs {
        sockets: setup.sockets,
        published: setup.published,
        orders: setup.orders,
    };
    let (deadline, queued) = inputs
        .follow(&worker, &setup.resolver, &mut acceptors)
        .await;
    acceptors.finish(queued).await;
    drain(&worker, deadline).await
}

/// Handshakes that go by the first snapshot.
fn tls_acceptor(
    first: &Arc<Current>,
    resolver: &Arc<Resolver>,
    clock: &Rc<Clock>,
    demand: Option<Demand>,
) -> TlsAcceptor {
    resolver.set(first.certificates.clone());
    let config = first.offer.server(resolver.clone());
    let acceptor = TlsAcceptor::new(config, clock.clone(), demand);
    acceptor.follow(first, resolver);
    acceptor
}

/// Waits for something to serve. `None` when there will be none before the end.
async fn first_snapshot(
    published: &mut watch::Receiver<Published>,
    orders: &mut watch::Receiver<Order>,
) -> Option<Arc<Current>> {
    tokio::select! {
        first = published.wait_for(Option::is_some) => first.ok().and_then(|first| (*first).clone()),
        _ = orders.wait_for(|order| matches!(order, Order::Drain(..))) => None,
    }
}

/// A worker's listening sockets, each with the task that accepts from it.
#[derive(Default)]
struct Acceptors(Vec<(Rc<Acceptor>, JoinHandle<()>)>);

impl Acceptors {
    fn begin(&mut self, worker: &Rc<Worker>, sockets: Sockets) {
        for (bound, socket) in sockets {
            let facts = ListenerFacts {
                protocol: bound.protocol,
                port: bound.address.port().to_string().into(),
            };
            let acceptor = match Acceptor::new(worker.clone(), facts, socket) {
                Ok(acceptor) => Rc::new(acceptor),
                Err(error) => {
                    tracing::error!(address = %bound.address, %error, "cannot accept connections");
                    continue;
                }
            };
            let accepting = acceptor.clone();
            let task = tokio::task::spawn_local(async move { accepting.run().await });
            self.0.push((acceptor, task));
        }
    }

    /// Closes the sockets.
    async fn finish(self, queued: Queued) {
        for (_, task) in &self.0 {
            task.abort();
        }
        for (acceptor, task) in self.0 {
            let _ = task.await;
            if queued == Queued::Served {
                acceptor.finish();
            }
        }
    }
}

/// The drain of a worker whose data plane was dropped.
const AT_ONCE: (Duration, Queued) = (Duration::ZERO, Queued::Served);

/// What a worker follows.
struct Inputs {
    sockets: mpsc::UnboundedReceiver<Sockets>,
    published: watch::Receiver<Published>,
    orders: watch::Receiver<Order>,
}

impl Inputs {
    /// Takes sockets and snapshots as they come, and follows orders up to the one to drain. Returns what that says.
    async fn follow(
        mut self,
        worker: &Rc<Worker>,
        resolver: &Arc<Resolver>,
        acceptors: &mut Acceptors,
    ) -> (Duration, Queued) {
        // Either may have changed while the first snapshot was waited for.
        self.published.mark_changed();
        self.orders.mark_changed();
        let drain = loop {
            tokio::select! {
                Some(sockets) = self.sockets.recv() => acceptors.begin(worker, sockets),
                changed = self.published.changed() => {
                    if changed.is_err() {
                        break AT_ONCE;
                    }
                    let latest = self.published.borrow_and_update().clone();
                    if let Some(latest) = latest {
                        worker.follow(latest, resolver);
                    }
                }
                changed = self.orders.changed() => {
                    if changed.is_err() {
                        break AT_ONCE;
                    }
                    match *self.orders.borrow_and_update() {
                        Order::Serve => worker.end_connections(None),
                        Order::Retire => worker.end_connections(Some(LAST_REQUEST)),
                        Order::Drain(deadline, queued) => break (deadline, queued),
                    }
                }
            }
        };
        // The order may have been faster than sockets that were sent before it.
        while let Ok(sockets) = self.sockets.try_recv() {
            acceptors.begin(worker, sockets);
        }
        drain
    }
}

/// Lets connections end until the deadline, after which those that are left are cut.
async fn drain(worker: &Rc<Worker>, deadline: Duration) -> DrainReport {
    let before = worker.open.get();
    worker.end_connections(Some(LAST_REQUEST.min(deadline / 2)));
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
