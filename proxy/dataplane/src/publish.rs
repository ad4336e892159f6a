//! From the control plane to the workers: one channel, one immutable value.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_model::Snapshot;
use tokio::sync::watch;

use crate::tls::ServerCertificates;

/// A snapshot in the form that workers need.
pub(crate) struct Current {
    pub(crate) snapshot: Snapshot,
    pub(crate) certificates: Arc<ServerCertificates>,
}

/// What workers follow; `None` before the first snapshot.
pub(crate) type Published = Option<Arc<Current>>;

/// Publishes snapshots to every worker. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
}

struct Shared {
    latest: Mutex<Latest>,
    channel: watch::Sender<Published>,
}

struct Latest {
    generation: u64,
    certificates: Arc<ServerCertificates>,
}

impl Publisher {
    pub(crate) fn new(certificates: ServerCertificates) -> Self {
        let latest = Mutex::new(Latest {
            generation: 0,
            certificates: Arc::new(certificates),
        });
        Self {
            shared: Arc::new(Shared {
                latest,
                channel: watch::Sender::new(None),
            }),
        }
    }

    /// Puts a snapshot in force and returns its generation, 1 for the first. No connection is disturbed: requests that
    /// have begun finish by the snapshot that they began with.
    pub fn publish(&self, snapshot: Snapshot) -> u64 {
        let mut latest = self
            .shared
            .latest
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        latest.generation += 1;
        if !Arc::ptr_eq(latest.certificates.index(), &snapshot.certificates) {
            let (followed, unparsed) = latest.certificates.follow(&snapshot.certificates);
            unparsed.parse();
            latest.certificates = Arc::new(followed);
        }
        let current = Current {
            snapshot,
            certificates: latest.certificates.clone(),
        };
        self.shared.channel.send_replace(Some(Arc::new(current)));
        latest.generation
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Published> {
        self.shared.channel.subscribe()
    }

    pub(crate) fn certificates(&self) -> Arc<ServerCertificates> {
        self.shared
            .latest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .certificates
            .clone()
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Publisher")
    }
}
