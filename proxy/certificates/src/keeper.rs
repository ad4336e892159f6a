//! Keeps the certificates of an instance for as long as this process leads: plans, carries out, remembers, reports.
//!
//! All of it is one future without tasks of its own: when the term ends, or the process does, everything stops where it is,
//! and the next leader goes on from what is kept.

pub(crate) mod book;
mod requests;
mod round;
mod running;
mod trouble;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tidegate_model::Issuance;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::proof::{Node, Ports};
use crate::report::Report;
use crate::settings::CertificateSettings;
use crate::store::Store;

pub use round::run;

/// What a keeper goes by.
#[derive(Clone)]
pub struct Inputs {
    /// What is asked for and held.
    pub issuance: watch::Receiver<Arc<Issuance>>,
    /// What settings say.
    pub settings: watch::Receiver<Arc<CertificateSettings>>,
    /// The nodes that take requests now.
    pub nodes: Arc<dyn Fn() -> Vec<Node> + Send + Sync>,
    /// The ports that nodes take requests at.
    pub ports: Ports,
    /// Name of the instance's Lease, which names of Secrets begin with.
    pub instance: String,
    /// Where Secrets are put that nobody names.
    pub own_namespace: String,
    /// The time.
    pub clock: Clock,
    /// Is told how everything stands after each round.
    pub report: watch::Sender<Arc<Report>>,
    /// How long to wait for what.
    pub timing: Timing,
}

impl fmt::Debug for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inputs")
            .field("ports", &self.ports)
            .field("instance", &self.instance)
            .field("own_namespace", &self.own_namespace)
            .field("clock", &self.clock)
            .field("timing", &self.timing)
            .finish_non_exhaustive()
    }
}

/// How long a keeper waits for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Until a node that does not give an answer counts as silent.
    pub proof: Duration,
    /// From one look at a node to the next.
    pub look: Duration,
    /// For looks at answers by public names, of which only the outcome is told; zero for none.
    pub public_look: Duration,
    /// Until a CA that has not decided or not issued is left alone for a while.
    pub ca: Duration,
    /// Before the first look at what a CA has come to; later ones wait longer.
    pub poll: Duration,
    /// After a write that failed, until everything is read again; longer after each further one.
    pub store: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            proof: Duration::from_secs(30),
            look: Duration::from_millis(200),
            public_look: Duration::from_secs(1),
            ca: Duration::from_secs(90),
            poll: Duration::from_millis(300),
            store: Duration::from_secs(2),
        }
    }
}

/// Whether a process leads still.
fn is_over(store: &impl Store) -> bool {
    store.check().is_err()
}
