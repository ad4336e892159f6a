//! What is served, since when, and where it comes from.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use tidegate_controller::Translation;
use tidegate_model::UnixTime;
use tokio::sync::watch;

/// A translation that the workers serve.
#[derive(Clone, Debug)]
pub struct InForce {
    /// Counts publications; 1 for the first.
    pub generation: u64,
    /// When it was published.
    pub since: Instant,
    /// The same by the system's clock, in seconds since 1970.
    pub published_at: UnixTime,
    /// When it was made of its objects, which may have been in an earlier process.
    pub made_at: UnixTime,
    /// Where it comes from.
    pub origin: Origin,
    /// What it is.
    pub translation: Arc<Translation>,
}

/// Where what is served comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Manifests in folders and files.
    Manifests,
    /// The API server.
    Cluster,
    /// The cache on this node, as long as the API server has not been in view.
    Cache,
    /// The process that had the ports before, as long as the API server has not been in view.
    Predecessor,
}

impl Origin {
    /// The word for it in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Manifests => "manifests",
            Self::Cluster => "cluster",
            Self::Cache => "cache",
            Self::Predecessor => "predecessor",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Predecessor => "running process",
            other => other.as_str(),
        })
    }
}

/// What is served now; `None` before the first publication.
pub type Serving = watch::Receiver<Option<InForce>>;
