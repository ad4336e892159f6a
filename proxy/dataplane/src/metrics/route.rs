//! Requests to one backend of one Ingress: how many, with which status, how fast.

use std::sync::OnceLock;
use std::time::Duration;

use super::Count;

/// Upper bounds of the latency histogram, in seconds.
pub(super) const BOUNDS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

const BOUNDS_MICROS: [u64; 14] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000,
];

/// Counters for the hundred codes of one class.
type Codes = Box<[Count; 100]>;

/// Figures of one route on one worker.
#[derive(Debug, Default)]
pub(crate) struct RouteMetrics {
    /// By class, 1xx to 5xx; a class is made when it first occurs.
    classes: [OnceLock<Codes>; 5],
    /// By bound, the last for what is above them all.
    buckets: [Count; BOUNDS.len() + 1],
    micros: Count,
}

impl RouteMetrics {
    /// Records one exchange. A status outside of 100 to 599 counts as 599.
    pub(crate) fn observe(&self, status: u16, elapsed: Duration) {
        let status = if (100..600).contains(&status) {
            status
        } else {
            599
        };
        let class = &self.classes[usize::from(status / 100 - 1)];
        let codes = class.get_or_init(|| Box::new(std::array::from_fn(|_| Count::default())));
        codes[usize::from(status % 100)].add(1);
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MICROS
            .iter()
            .position(|bound| micros <= *bound)
            .unwrap_or(BOUNDS.len());
        self.buckets[bucket].add(1);
        self.micros.add(micros);
    }

    /// Every status that occurred, with its count.
    pub(super) fn statuses(&self) -> impl Iterator<Item = (u16, u64)> {
        let classes = (1u16..)
            .zip(&self.classes)
            .filter_map(|(class, codes)| Some((class, codes.get()?)));
        classes.flat_map(|(class, codes)| {
            let counted = (0u16..)
                .zip(codes.iter())
                .map(move |(rest, count)| (class * 100 + rest, count.read()));
            counted.filter(|(_, count)| *count > 0)
        })
    }

    /// Counts by bucket, not accumulated, and the sum in seconds.
    pub(super) fn latency(&self) -> ([u64; BOUNDS.len() + 1], f64) {
        #[allow(
            clippy::cast_precision_loss,
            reason = "a sum in microseconds is exact up to 285 years"
        )]
        let sum = self.micros.read() as f64 / 1e6;
        (std::array::from_fn(|index| self.buckets[index].read()), sum)
    }
}
