//! Waits between looks at an order.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::acme::AcmeError;

/// Waits ever longer, until it has been long enough.
pub(super) struct Wait {
    limit: Duration,
    deadline: Instant,
    pause: Duration,
}

impl Wait {
    /// Longest pause.
    const LONGEST: Duration = Duration::from_secs(5);

    pub(super) fn new(limit: Duration, pause: Duration) -> Self {
        Self {
            limit,
            deadline: Instant::now() + limit,
            pause,
        }
    }

    pub(super) async fn next(&mut self) -> Result<(), AcmeError> {
        if Instant::now() >= self.deadline {
            return Err(AcmeError::Slow(self.limit));
        }
        sleep(self.pause).await;
        self.pause = self.pause.mul_f32(1.5).min(Self::LONGEST);
        Ok(())
    }
}
