//! How the election goes, for metrics and status pages.

use std::sync::{Arc, Mutex, PoisonError};

/// Shared by all its clones; the election keeps it.
#[derive(Clone, Debug, Default)]
pub struct Standing(Arc<Mutex<Facts>>);

/// The election at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Whether this process leads.
    pub is_leader: bool,
    /// Who holds the Lease as far as is known, at most 128 bytes of it; empty for nobody.
    pub holder: String,
    /// Terms that this process has begun.
    pub terms: u64,
    /// Those of them that ended without being released.
    pub lost: u64,
    /// Requests about the Lease that failed, conflicts not counted.
    pub failures: u64,
    /// What is wrong now.
    pub trouble: Option<String>,
}

impl Standing {
    /// How it is now.
    pub fn facts(&self) -> Facts {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
