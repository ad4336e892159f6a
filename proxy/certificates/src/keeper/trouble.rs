//! Trouble with the store.

use std::time::Duration;

use crate::store::StoreError;

/// Trouble with the store, which is told when it begins and when it ends.
#[derive(Default)]
pub(super) struct Trouble {
    last: Option<StoreError>,
    rounds: u32,
}

impl Trouble {
    /// Longest pause.
    const LONGEST: Duration = Duration::from_secs(30);

    /// How long to wait before everything is read again.
    pub(super) fn after(&mut self, error: &StoreError, first: Duration) -> Duration {
        let is_news = self.last.as_ref() != Some(error);
        if is_news && *error != StoreError::Conflict {
            tracing::warn!(%error, "what certificates need cannot be read or written; it is tried again");
        }
        self.last = Some(error.clone());
        let pause = first.saturating_mul(2_u32.pow(self.rounds.min(8)));
        self.rounds = self.rounds.saturating_add(1);
        pause.min(Self::LONGEST)
    }

    pub(super) fn is_over(&mut self) {
        if self
            .last
            .take()
            .is_some_and(|last| last != StoreError::Conflict)
        {
            tracing::info!("what certificates need can be read and written again");
        }
        self.rounds = 0;
    }
}
