//! Who of all agents writes to the cluster: the holder of a Lease, one for each instance.
//!
//! A holder counts its time from the moment it began the last renewal that succeeded, and stops 5 s before another may
//! take over; that other counts from the moment at which it saw the last renewal. Neither looks at a time that the other
//! wrote down, so clocks may differ as they like.

pub(crate) mod clock;
mod elector;
mod holder;
mod lease;
mod record;
mod standing;
pub(crate) mod term;

use std::future::Future;
use std::time::Duration;

use tidegate_model::NamespacedName;
use tokio::sync::watch;

use self::elector::Elector;

pub use self::standing::{Facts, Standing};
#[cfg(test)]
pub(crate) use self::term::Holding;
pub use self::term::{Interrupted, Leadership, Lost};

/// What to stand for, and as whom.
#[derive(Clone, Debug)]
pub struct Election {
    /// The Lease (coordination.k8s.io/v1). It is made when it does not exist.
    pub lease: NamespacedName,
    /// `spec.holderIdentity`. Of one process alone: another that calls itself the same takes the Lease over at once.
    pub identity: String,
    /// How fast everything goes.
    pub timing: Timing,
    /// Where it is told how it goes.
    pub standing: Standing,
}

/// How fast the election goes. For safety, `deadline` is well below `duration`.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// `spec.leaseDurationSeconds`: how long the holder has to be silent before another takes over. Whole seconds.
    pub duration: Duration,
    /// From the start of one renewal to the start of the next.
    pub renew: Duration,
    /// From the start of the last renewal that succeeded to the end of leadership.
    pub deadline: Duration,
    /// Limit of one request.
    pub request: Duration,
    /// Before a request that failed is made again; a candidate that keeps failing waits up to four times as long.
    pub retry: Duration,
    /// Limit of the random time that keeps candidates from asking all at once.
    pub jitter: Duration,
    /// Limit of the release at the end.
    pub release: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew: Duration::from_secs(5),
            deadline: Duration::from_secs(10),
            request: Duration::from_secs(3),
            retry: Duration::from_secs(1),
            jitter: Duration::from_millis(300),
            release: Duration::from_secs(2),
        }
    }
}

/// Stands for election until `stop`, then releases the Lease if it is ours, and ends. `leadership` holds a value while
/// this process leads.
pub async fn run(
    client: kube::Client,
    election: Election,
    leadership: watch::Sender<Option<Leadership>>,
    stop: impl Future<Output = ()>,
) {
    Elector::new(client, election).run(leadership, stop).await;
}

#[cfg(test)]
mod tests;
