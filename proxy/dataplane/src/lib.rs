//! Tidegate's data plane: bytes in, bytes out. It knows the model and nothing of Kubernetes.
//!
//! [`bind`] takes the addresses, [`Bound::start`] starts the workers, [`Listeners::listen`] lets connections queue and
//! [`Dataplane::accept`] has the workers take them, a [`Publisher`] puts a [`Snapshot`](tidegate_model::Snapshot) in
//! force, [`Dataplane::drain`] ends it all without cutting a request short.
#![deny(unsafe_code)]

mod accept;
mod access_log;
mod buffer;
mod clock;
mod downstream;
mod exchange;
mod fault;
mod filter;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod http1;
mod http2;
mod listen;
mod load;
mod message;
mod metrics;
mod publish;
mod tls;
mod transport;
mod tunnel;
mod upstream;
mod worker;

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use thiserror::Error;
use tidegate_model::Hostname;
use tokio::sync::{mpsc, oneshot, watch};

pub use access_log::AccessLog;
pub use listen::{
    AcceptMode, BindError, BoundAddress, ListenAddress, ListenAddressError, ListenerProtocol,
    Listeners,
};
pub use load::WorkerLoad;
pub use publish::Publisher;
pub use tls::TlsError;
pub use worker::{DrainReport, Queued};

use access_log::LogWriter;
use listen::Listener;
use metrics::{Collected, WorkerMetrics};
use tls::{Resolver, ServerCertificates, Sessions};
use worker::{Order, Setup, Sockets};

/// How the data plane is set up; fixed for its life.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Plain-text listeners.
    pub http: Vec<ListenAddress>,
    /// TLS listeners.
    pub https: Vec<ListenAddress>,
    /// When a new connection is taken from the kernel.
    pub accept: AcceptMode,
    /// Worker threads. One for each core serves best.
    pub workers: NonZeroUsize,
    /// Access log.
    pub access_log: AccessLog,
    /// Client connections held at once, over all workers; more wait in the listen queue.
    pub max_connections: NonZeroUsize,
    /// The number of the CPU that each worker is bound to, by the worker's index. Workers beyond its end run on any CPU,
    /// as all do without it.
    pub pin: Option<Vec<usize>>,
    /// Where names go that a client has asked for, that have no certificate, and that the policy
    /// [allows](tidegate_model::OnDemand) one for. What does not fit in is not sent; without a taker no handshake waits.
    pub on_demand: Option<mpsc::Sender<Hostname>>,
}

/// Why the data plane did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Binds every listener. Nothing listens yet: connections are refused, or go to the process that listens there already.
///
/// # Errors
/// The first address that cannot be bound; those bound before it are let go.
pub fn bind(settings: Settings) -> Result<Bound, BindError> {
    let http = settings
        .http
        .iter()
        .map(|address| (ListenerProtocol::Http, *address));
    let https = settings
        .https
        .iter()
        .map(|address| (ListenerProtocol::Https, *address));
    let mut listeners = Vec::new();
    for (protocol, address) in http.chain(https) {
        listeners.extend(listen::bind(protocol, address, settings.workers)?);
    }
    Ok(Bound {
        settings,
        addresses: listeners.iter().map(|listener| listener.bound).collect(),
        listeners,
    })
}

/// Bound; neither listening nor served.
#[derive(Debug)]
pub struct Bound {
    settings: Settings,
    addresses: Vec<BoundAddress>,
    listeners: Vec<Listener>,
}

impl Bound {
    /// What was bound, in the order of the settings.
    pub fn addresses(&self) -> &[BoundAddress] {
        &self.addresses
    }

    /// Starts the workers, without sockets: those are the other half of what it returns. A worker accepts once it has
    /// both its sockets and a snapshot, in whichever order they come.
    ///
    /// `loads` are where the workers tell how busy they are, by the worker's index; workers beyond its end tell nobody.
    ///
    /// # Errors
    /// No thread, or no TLS.
    pub fn start(
        self,
        loads: Vec<Box<dyn WorkerLoad>>,
    ) -> Result<(Dataplane, Listeners), StartError> {
        let provider = tls::provider();
        let sessions = Sessions::new(provider.clone())?;
        let publisher = Publisher::new(ServerCertificates::self_signed(&provider)?, sessions)?;
        let upstream_tls = upstream::connector(provider).map_err(TlsError::from)?;
        let (log, log_written) = match self.settings.access_log {
            AccessLog::Off => (None, None),
            AccessLog::Json => {
                let (log, written) = access_log::start(io::stdout())?;
                (Some(log), Some(written))
            }
        };
        let orders = watch::Sender::new(Order::Serve);
        let workers = self.settings.workers.get();
        let mut metrics = Vec::with_capacity(workers);
        let mut drained = Vec::with_capacity(workers);
        let mut sockets = Vec::with_capacity(workers);
        let mut loads = loads.into_iter();
        let mut cpus = self.settings.pin.unwrap_or_default().into_iter();
        for index in 0..workers {
            let figures = Arc::new(WorkerMetrics::default());
            let resolver = Resolver::new(publisher.certificates());
            let (give, take) = mpsc::unbounded_channel();
            drained.push(worker::spawn(Setup {
                index,
                cpu: cpus.next(),
                sockets: take,
                published: publisher.subscribe(),
                orders: orders.subscribe(),
                resolver,
                on_demand: self.settings.on_demand.clone(),
                upstream_tls: upstream_tls.clone(),
                access_log: log.clone().map(|log| LogWriter::new(log, figures.clone())),
                metrics: figures.clone(),
                load: loads.next(),
                connections: self.settings.max_connections.get().div_ceil(workers),
            })?);
            metrics.push(figures);
            sockets.push(give);
        }
        let dataplane = Dataplane {
            publisher,
            sockets,
            orders,
            metrics,
            drained,
            log_written,
        };
        let listeners = Listeners::new(self.listeners, self.settings.accept);
        Ok((dataplane, listeners))
    }
}

/// How long a drain waits for the last lines of the access log.
const LOG_PATIENCE: Duration = Duration::from_secs(1);

/// A running data plane. Dropping it lets the workers end at once.
#[derive(Debug)]
pub struct Dataplane {
    publisher: Publisher,
    /// The way to each worker for its sockets.
    sockets: Vec<mpsc::UnboundedSender<Sockets>>,
    orders: watch::Sender<Order>,
    metrics: Vec<Arc<WorkerMetrics>>,
    drained: Vec<oneshot::Receiver<DrainReport>>,
    /// Closed when the access log is written to its end.
    log_written: Option<oneshot::Receiver<()>>,
}

impl Dataplane {
    /// The way to publish.
    pub fn publisher(&self) -> Publisher {
        self.publisher.clone()
    }

    /// Adds the data plane's metrics to a registry, which is to have the prefix `tidegate`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(Collected(self.metrics.clone())));
    }

    /// Gives the workers their sockets, which are to [listen](Listeners::listen) by now: accepting from one that does not
    /// fails again and again.
    pub fn accept(&self, listeners: Listeners) {
        let shares = listeners.into_workers(self.sockets.len());
        for (worker, share) in self.sockets.iter().zip(shares) {
            // A worker whose thread has ended serves nobody: its sockets are closed.
            let _ = worker.send(share);
        }
    }

    /// Client connections that the workers hold now. Those in listen queues are not among them.
    pub fn open_connections(&self) -> usize {
        let open = self.metrics.iter().map(|worker| worker.open.read());
        usize::try_from(open.sum::<u64>()).unwrap_or(usize::MAX)
    }

    /// Lets connections end as in a drain (`Connection: close`, GOAWAY), and goes on accepting: new connections are
    /// served, and end with their first response. Without a deadline: tunnels live on.
    pub fn retire(&self) {
        self.orders.send_replace(Order::Retire);
    }

    /// Takes [`retire`](Self::retire) back. HTTP/2 connections that were told of their end do end; all others live on.
    pub fn resume(&self) {
        self.orders.send_replace(Order::Serve);
    }

    /// Closes the listening sockets, with what is in their queues accepted first or left, finishes requests in flight (`Connection: close`,
    /// GOAWAY), and cuts what is left at the deadline. An idle connection is kept for a request that is on its way: for
    /// five seconds, or half of the time until the deadline if that is shorter.
    pub async fn drain(self, deadline: Duration, queued: Queued) -> DrainReport {
        self.orders.send_replace(Order::Drain(deadline, queued));
        let mut total = DrainReport::default();
        for report in self.drained {
            let report = report.await.unwrap_or_default();
            total.finished += report.finished;
            total.cut += report.cut;
        }
        if let Some(written) = self.log_written {
            // Who reads the log may have stopped: the process does not wait for that.
            let _ = tokio::time::timeout(LOG_PATIENCE, written).await;
        }
        total
    }
}
