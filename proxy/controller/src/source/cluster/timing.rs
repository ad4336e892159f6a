//! How long the source waits, and for what.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// The times that the source goes by.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Longest wait after the first failure; it doubles with each further one.
    pub first_delay: Duration,
    /// Limit of that wait.
    pub longest_delay: Duration,
    /// A watch that lasted this long was healthy: the next failure counts as the first.
    pub healthy: Duration,
    /// A watch that says nothing for this long hangs: servers send a bookmark about every minute.
    pub silence: Duration,
    /// A streaming list that says nothing for this long, nor that it is whole, never will.
    pub initial_end: Duration,
    /// Limit for any other answer.
    pub answer: Duration,
    /// How long a watch is asked to last, at least; the server ends it then. At most it is twice that.
    pub watch: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            first_delay: Duration::from_millis(500),
            longest_delay: Duration::from_secs(30),
            healthy: Duration::from_secs(10),
            silence: Duration::from_secs(90),
            initial_end: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            watch: Duration::from_secs(300),
        }
    }
}

impl Timing {
    /// How long the next watch is asked to last. Spread, so that the watches of many nodes do not end together.
    pub(super) fn next_watch(&self) -> Duration {
        self.watch.mul_f64(1.0 + fraction())
    }
}

/// Waits that grow with every failure in a row.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(timing: &Timing) -> Self {
        Self {
            first: timing.first_delay,
            longest: timing.longest_delay,
            failures: 0,
        }
    }

    /// The wait after one more failure: spread over the upper half of what its number allows.
    pub(super) fn next_delay(&mut self) -> Duration {
        let factor = 2_u32.saturating_pow(self.failures);
        self.failures = self.failures.saturating_add(1);
        let whole = self.first.saturating_mul(factor).min(self.longest);
        whole.mul_f64(0.5 + fraction() / 2.0)
    }

    /// Failures since the last reset.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A random number of at least 0 and below 1.
fn fraction() -> f64 {
    // Each RandomState has keys of its own.
    let random = RandomState::new().build_hasher().finish() >> 32;
    random as f64 / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_are_spread() {
        let timing = Timing::default();
        let mut backoff = Backoff::new(&timing);
        for whole in [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            let delay = backoff.next_delay().as_secs_f64();
            assert!((whole / 2.0..=whole).contains(&delay), "{delay} of {whole}");
        }
        (0..100).for_each(|_| _ = backoff.next_delay());
        assert!(backoff.next_delay() <= timing.longest_delay);
        backoff.reset();
        assert!(backoff.next_delay() <= timing.first_delay);
        let delays: std::collections::BTreeSet<_> = (0..20).map(|_| timing.next_watch()).collect();
        assert!(delays.len() > 10, "{delays:?}");
        assert!(
            delays
                .iter()
                .all(|d| (timing.watch..timing.watch * 2).contains(d))
        );
    }
}
