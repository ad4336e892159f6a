//! The time, as the system has it or as a test drives it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidegate_model::UnixTime;
use tokio::sync::watch;

/// Longest sleep without a look at the system's clock, which may have been set.
const LOOK: Duration = Duration::from_secs(30);

/// Tells the time and waits for it. Clones tell the same.
#[derive(Clone, Debug)]
pub struct Clock(Kind);

#[derive(Clone, Debug)]
enum Kind {
    System,
    Driven(watch::Receiver<UnixTime>),
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self(Kind::System)
    }

    /// A clock that shows what it is told.
    pub fn driven(time: watch::Receiver<UnixTime>) -> Self {
        Self(Kind::Driven(time))
    }

    /// The time now.
    pub fn now(&self) -> UnixTime {
        match &self.0 {
            Kind::System => system(),
            Kind::Driven(time) => *time.borrow(),
        }
    }

    /// Waits until it is so late. A driven clock that nobody drives any more stands still.
    pub async fn sleep_until(&self, time: UnixTime) {
        match &self.0 {
            Kind::System => loop {
                let left = time.0.saturating_sub(system().0);
                let Some(left) = u64::try_from(left).ok().filter(|left| *left > 0) else {
                    return;
                };
                tokio::time::sleep(LOOK.min(Duration::from_secs(left))).await;
            },
            Kind::Driven(now) => {
                let mut now = now.clone();
                if now.wait_for(|now| *now >= time).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}

fn system() -> UnixTime {
    let seconds = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
    };
    UnixTime(seconds)
}
