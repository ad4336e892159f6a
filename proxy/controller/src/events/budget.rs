//! How many Events may be created.

use std::time::Duration;

use tokio::time::Instant;

/// So many at once.
const BURST: u32 = 50;
/// And one in this time.
const REFILL: Duration = Duration::from_millis(100);

/// What is left to spend.
#[derive(Debug)]
pub(super) struct Budget {
    /// When it will be full, if nothing is spent until then.
    full_at: Instant,
}

impl Budget {
    pub(super) fn full() -> Self {
        Self {
            full_at: Instant::now(),
        }
    }

    /// Spends one, even if there is none.
    pub(super) fn spend(&mut self) {
        self.full_at = self.full_at.max(Instant::now()) + REFILL;
    }

    /// When there is one to spend; `None` for now.
    pub(super) fn next(&self) -> Option<Instant> {
        let at = self.full_at.checked_sub(REFILL * (BURST - 1))?;
        (at > Instant::now()).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_and_then_ten_in_a_second() {
        let mut budget = Budget::full();
        for _ in 0..BURST {
            assert_eq!(budget.next(), None);
            budget.spend();
        }
        assert_eq!(budget.next(), Some(Instant::now() + REFILL));
        tokio::time::advance(REFILL).await;
        assert_eq!(budget.next(), None);
        budget.spend();
        tokio::time::advance(REFILL * 1000).await;
        for _ in 0..BURST {
            assert_eq!(budget.next(), None);
            budget.spend();
        }
        assert!(budget.next().is_some(), "it never holds more than a burst");
    }
}
