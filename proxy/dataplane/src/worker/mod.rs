//! A worker: one thread with its own runtime, listening sockets, pools and figures. Nothing on its request path is
//! shared with another.

mod thread;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use tidegate_model::{RouteLabels, Timeouts};

pub use thread::{DrainReport, Queued};
pub(crate) use thread::{Order, Setup, Sockets, spawn};

use crate::access_log::LogWriter;
use crate::clock::Clock;
use crate::listen::ListenerProtocol;
use crate::load::WorkerLoad;
use crate::metrics::{RouteMetrics, WorkerMetrics};
use crate::publish::Current;
use crate::tls::Resolver;
use crate::transport::TlsAcceptor;
use crate::upstream::{UpstreamTable, UpstreamTls};

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
    last_request: Cell<Option<Duration>>,
    open: Cell<usize>,
    handshakes: Cell<usize>,
    load: Option<Box<dyn WorkerLoad>>,
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

    /// While connections are to end: how long an idle one is kept for a request that is on its way.
    pub(crate) fn last_request(&self) -> Option<Duration> {
        self.last_request.get()
    }

    /// Tells every connection to end, or with `None` that it may live on.
    fn end_connections(&self, last_request: Option<Duration>) {
        if self.last_request.replace(last_request) != last_request {
            self.clock.wake_all();
        }
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
    fn follow(&self, current: Arc<Current>, resolver: &Arc<Resolver>) {
        resolver.set(current.certificates.clone());
        self.tls.follow(&current, resolver);
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

    /// A connection was accepted. With TLS its handshake begins with that.
    pub(crate) fn opened(&self, protocol: ListenerProtocol) {
        self.open.set(self.open.get() + 1);
        if protocol == ListenerProtocol::Https {
            self.handshakes.set(self.handshakes.get() + 1);
        }
        self.count_connections();
    }

    pub(crate) fn handshake_ended(&self) {
        self.handshakes.set(self.handshakes.get().saturating_sub(1));
        self.count_connections();
    }

    pub(crate) fn closed(&self) {
        self.open.set(self.open.get().saturating_sub(1));
        self.count_connections();
    }

    fn count_connections(&self) {
        self.metrics.open.set(self.open.get() as u64);
        if let Some(load) = &self.load {
            load.set(self.open.get(), self.handshakes.get());
        }
    }

    /// A listen queue was found empty.
    pub(crate) fn caught_up(&self) {
        if let Some(load) = &self.load {
            load.caught_up();
        }
    }
}
