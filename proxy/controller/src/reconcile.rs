//! The loop that coalesces changes, translates them and publishes the outcome.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tidegate_model::Hostname;
use tokio::sync::{mpsc, watch};

use crate::source::Update;
use crate::{Change, Translation, Translator};

/// How long changes are gathered before they are translated together.
#[derive(Clone, Copy, Debug)]
pub struct Coalesce {
    /// Quiet time that ends the gathering.
    pub quiet: Duration,
    /// Limit of the gathering, however busy it is.
    pub limit: Duration,
}

impl Default for Coalesce {
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(100),
            limit: Duration::from_secs(1),
        }
    }
}

/// The ends of the channels that the loop works on.
#[derive(Debug)]
pub struct Channels {
    /// From the source. Nothing is published before its first update, which is translated at once.
    pub updates: mpsc::Receiver<Update>,
    /// From the resolver.
    pub resolutions: mpsc::Receiver<Vec<Change>>,
    /// To the resolver: the names to resolve.
    pub names: watch::Sender<BTreeSet<Hostname>>,
    /// What is in force; `None` before the first complete view.
    pub published: watch::Sender<Option<Arc<Translation>>>,
}

/// Runs until the source ends.
pub async fn run(_translator: Translator, _coalesce: Coalesce, _channels: Channels) {}
