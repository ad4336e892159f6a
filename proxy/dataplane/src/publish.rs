//! From the control plane to the workers: one channel, one immutable value.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_model::Snapshot;
use tokio::sync::watch;

use crate::tls::{ChallengeHandshakes, Offer, ServerCertificates, Sessions, TlsError};

/// A snapshot in the form that workers need.
pub(crate) struct Current {
    pub(crate) snapshot: Snapshot,
    pub(crate) certificates: Arc<ServerCertificates>,
    /// What clients are offered in handshakes; the same allocation until it changes.
    pub(crate) offer: Arc<Offer>,
    /// `None` while no ACME server is answered in handshakes.
    pub(crate) challenges: Option<Arc<ChallengeHandshakes>>,
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
    sessions: Sessions,
    certificates: Arc<ServerCertificates>,
    offer: Arc<Offer>,
    challenges: Option<Arc<ChallengeHandshakes>>,
}

impl Latest {
    /// Takes over what a snapshot changes, and keeps the rest as it is.
    fn follow(&mut self, snapshot: Snapshot) -> Current {
        self.generation += 1;
        if !Arc::ptr_eq(self.certificates.index(), &snapshot.certificates) {
            let (followed, unparsed) = self.certificates.follow(&snapshot.certificates);
            unparsed.parse();
            self.certificates = Arc::new(followed);
        }
        let (policy, tickets) = (&snapshot.policy.tls, &snapshot.tickets);
        self.offer = self.sessions.follow(&self.offer, policy, tickets);
        self.challenges = ChallengeHandshakes::follow(
            self.challenges.as_ref(),
            &snapshot.challenges,
            self.sessions.provider(),
        );
        Current {
            snapshot,
            certificates: self.certificates.clone(),
            offer: self.offer.clone(),
            challenges: self.challenges.clone(),
        }
    }
}

impl Publisher {
    pub(crate) fn new(
        certificates: ServerCertificates,
        sessions: Sessions,
    ) -> Result<Self, TlsError> {
        let nothing = Snapshot::default();
        let latest = Mutex::new(Latest {
            generation: 0,
            certificates: Arc::new(certificates),
            offer: Arc::new(sessions.offer(&nothing.policy.tls, &nothing.tickets)?),
            challenges: None,
            sessions,
        });
        Ok(Self {
            shared: Arc::new(Shared {
                latest,
                channel: watch::Sender::new(None),
            }),
        })
    }

    /// Puts a snapshot in force and returns its generation, 1 for the first. No connection is disturbed: requests that
    /// have begun finish by the snapshot that they began with.
    pub fn publish(&self, snapshot: Snapshot) -> u64 {
        let mut latest = self
            .shared
            .latest
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let current = latest.follow(snapshot);
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
