//! When the status of one Ingress may be written again.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_model::NamespacedName;
use tokio::time::Instant;

use crate::inventory::PublishedAddress;
use crate::trouble::wait;

/// Longest wait between two writes of the same to one Ingress.
const LIMIT: Duration = Duration::from_secs(300);
/// When it is forgotten that something was written.
const MEMORY: Duration = Duration::from_secs(900);

/// What was last written to each Ingress.
///
/// The watch needs a moment to show what was written, and another program may write over it. In both cases the same is
/// not written again at once, but after a wait that doubles.
#[derive(Debug, Default)]
pub(super) struct Pace(BTreeMap<NamespacedName, Last>);

#[derive(Debug)]
struct Last {
    addresses: Vec<PublishedAddress>,
    times: u32,
    next: Instant,
}

impl Pace {
    /// From when on these addresses may be written; `None` for now.
    pub(super) fn not_before(
        &self,
        name: &NamespacedName,
        addresses: &[PublishedAddress],
    ) -> Option<Instant> {
        let last = self
            .0
            .get(name)
            .filter(|last| last.addresses == addresses)?;
        (last.next > Instant::now()).then_some(last.next)
    }

    /// Takes in a write, and says how often the same was written in a row.
    pub(super) fn wrote(&mut self, name: &NamespacedName, addresses: Vec<PublishedAddress>) -> u32 {
        let before = self.0.get(name).filter(|last| last.addresses == addresses);
        let times = before.map_or(0, |last| last.times).saturating_add(1);
        let next = Instant::now() + wait(times, LIMIT);
        self.0.insert(
            name.clone(),
            Last {
                addresses,
                times,
                next,
            },
        );
        times
    }

    /// Forgets what is long past.
    pub(super) fn forget(&mut self) {
        let now = Instant::now();
        self.0.retain(|_, last| now < last.next + MEMORY);
    }
}
