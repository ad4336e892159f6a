//! Tidegate's data plane: bytes in, bytes out. It knows the model and nothing of Kubernetes.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use thiserror::Error;
use tidegate_model::Snapshot;

/// Where to listen. Parsed from `PORT` (every address, IPv4 and IPv6) or `HOST:PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// Every address of the machine.
    Port(u16),
    /// One address.
    Socket(SocketAddr),
}

impl std::str::FromStr for ListenAddress {
    type Err = String;
    fn from_str(_text: &str) -> Result<Self, Self::Err> {
        Err(String::new())
    }
}

/// What to log of each request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLog {
    /// Nothing.
    #[default]
    Off,
    /// A line of JSON on standard output.
    Json,
}

/// How the data plane is set up; fixed for its life.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Plain-text listeners.
    pub http: Vec<ListenAddress>,
    /// TLS listeners.
    pub https: Vec<ListenAddress>,
    /// Worker threads.
    pub workers: NonZeroUsize,
    /// Access log.
    pub access_log: AccessLog,
}

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerProtocol {
    /// Plain text.
    Http,
    /// TLS.
    Https,
}

/// A bound listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoundAddress {
    /// What is spoken.
    pub protocol: ListenerProtocol,
    /// With the port that the system chose when port 0 was asked for.
    pub address: SocketAddr,
}

/// Why listening failed.
#[derive(Debug, Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// Binds every listener; nothing is accepted yet.
pub fn bind(_settings: Settings) -> Result<Bound, BindError> {
    Ok(Bound {})
}

/// Bound, not yet serving.
#[derive(Debug)]
pub struct Bound {}

impl Bound {
    /// What was bound.
    pub fn addresses(&self) -> &[BoundAddress] {
        &[]
    }

    /// Starts the workers. Until the first snapshot is published connections wait in the listen queue.
    pub fn start(self) -> io::Result<Dataplane> {
        Ok(Dataplane {})
    }
}

/// A running data plane.
#[derive(Debug)]
pub struct Dataplane {}

/// Publishes snapshots to every worker.
#[derive(Clone, Debug)]
pub struct Publisher {}

impl Publisher {
    /// Puts a snapshot in force and returns its generation, 1 for the first. No connection is disturbed.
    pub fn publish(&self, _snapshot: Snapshot) -> u64 {
        0
    }
}

/// What a drain left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainReport {
    /// Connections that ended by themselves.
    pub finished: u64,
    /// Connections that were cut at the deadline.
    pub cut: u64,
}

impl Dataplane {
    /// The way to publish.
    pub fn publisher(&self) -> Publisher {
        Publisher {}
    }

    /// Adds the data plane's metrics to a registry (their names start with `tidegate_`, which the registry's prefix adds).
    pub fn register(&self, _registry: &mut prometheus_client::registry::Registry) {}

    /// Stops accepting, finishes requests in flight, and cuts what is left at the deadline.
    pub async fn drain(self, _deadline: Duration) -> DrainReport {
        DrainReport::default()
    }
}
