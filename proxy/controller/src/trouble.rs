//! A state that lasts: told once when it begins and once when it ends, and waited out in growing steps.

use std::time::Duration;

use tokio::time::Instant;

/// First wait after a failure.
const FIRST: Duration = Duration::from_secs(1);

/// Requests that fail, whichever they are.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    failures: u32,
    until: Option<Instant>,
}

impl Trouble {
    /// Takes in a failure and waits longer than after the one before. True when it is the first.
    pub(crate) fn begins(&mut self) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.until = Some(Instant::now() + wait(self.failures, Duration::from_secs(60)));
        self.failures == 1
    }

    /// Takes in a success. True when it ends a trouble.
    pub(crate) fn ends(&mut self) -> bool {
        self.until = None;
        std::mem::take(&mut self.failures) > 0
    }

    /// Until when nothing is to be tried; `None` when that is past.
    pub(crate) fn pause(&self) -> Option<Instant> {
        self.until.filter(|until| *until > Instant::now())
    }
}

/// The wait after so many tries: doubled with each, up to a limit.
pub(crate) fn wait(tries: u32, limit: Duration) -> Duration {
    (FIRST * 2_u32.pow(tries.saturating_sub(1).min(16))).min(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_grow_until_it_ends() {
        let mut trouble = Trouble::default();
        assert_eq!(trouble.pause(), None);
        assert!(trouble.begins());
        assert!(!trouble.begins());
        assert_eq!(
            trouble.pause(),
            Some(Instant::now() + Duration::from_secs(2))
        );
        assert!(trouble.ends());
        assert!(!trouble.ends());
        assert_eq!(trouble.pause(), None);
        assert_eq!(wait(40, Duration::from_secs(60)), Duration::from_secs(60));
    }
}
