//! Readiness: an instance is ready when nothing holds it back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often somebody who waits for readiness looks.
const LOOK: Duration = Duration::from_millis(10);

/// Whether the instance is ready. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    held: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

/// Holds readiness back until it is dropped.
#[derive(Debug)]
#[must_use = "readiness is held back only while the guard lives"]
pub struct Guard {
    readiness: Readiness,
    reason: &'static str,
}

impl Readiness {
    /// Ready from the start; take guards before anybody looks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Holds readiness back for a reason, which `/readyz?verbose` shows.
    pub fn guard(&self, reason: &'static str) -> Guard {
        self.with(|held| *held.entry(reason).or_default() += 1);
        Guard {
            readiness: self.clone(),
            reason,
        }
    }

    /// Whatever still holds readiness back, sorted; empty when ready.
    pub fn waiting_for(&self) -> Vec<&'static str> {
        self.with(|held| held.keys().copied().collect())
    }

    /// Waits until nothing but this holds readiness back.
    pub(crate) async fn ready_but_for(&self, reason: &'static str) {
        while self.waiting_for().iter().any(|other| *other != reason) {
            tokio::time::sleep(LOOK).await;
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<&'static str, usize>) -> T) -> T {
        act(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.readiness.with(|held| {
            if let Some(count) = held.get_mut(self.reason) {
                *count -= 1;
                if *count == 0 {
                    held.remove(self.reason);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_the_last_guard_is_gone() {
        let readiness = Readiness::new();
        let first = readiness.guard("snapshot");
        let second = readiness.guard("snapshot");
        let other = readiness.guard("listeners");
        assert_eq!(readiness.waiting_for(), ["listeners", "snapshot"]);
        drop(first);
        drop(other);
        assert_eq!(readiness.waiting_for(), ["snapshot"]);
        drop(second);
        assert!(readiness.waiting_for().is_empty());
    }
}
