//! The clock that leadership is measured by: nobody sets it, and it goes on while the machine sleeps.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};
use tokio::time::{Instant, sleep};

/// Looking at the clocks takes no longer unless the process is held up meanwhile; then it looks again, for moments that
/// are told apart by such pauses would move the ends of terms about.
const GLANCE: Duration = Duration::from_micros(500);
/// It looks so often at most.
const MOST_LOOKS: u32 = 8;

/// A moment by that clock. Moments of one process can be compared, those of two processes cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(Instant);

impl Moment {
    /// Now, or a little before if the process is stopped while it looks; never later than it is.
    pub(crate) fn now() -> Self {
        let mut looks = 0;
        loop {
            let instant = Instant::now();
            // The order counts. Both clocks run alike but for the time asleep, so a pause between these two lines is
            // taken for sleep, and that is the pause that `instant` does not hold.
            let awake = duration(clock_gettime(ClockId::Monotonic));
            let all = duration(clock_gettime(ClockId::Boottime));
            let pause = duration(clock_gettime(ClockId::Monotonic)).saturating_sub(awake);
            looks += 1;
            if pause < GLANCE || looks == MOST_LOOKS {
                return Self(instant + all.saturating_sub(awake));
            }
        }
    }

    pub(crate) fn after(self, duration: Duration) -> Self {
        Self(self.0 + duration)
    }

    /// Time from `earlier` to this moment; zero when that is later.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }

    /// Time from now to this moment; zero when it is past.
    pub(crate) fn remaining(self) -> Duration {
        self.since(Self::now())
    }
}

fn duration(time: Timespec) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanoseconds)
}

/// Sleeps until a moment; for ever without one.
pub(super) async fn sleep_until(moment: Option<Moment>) {
    match moment {
        Some(moment) => sleep(moment.remaining()).await,
        None => std::future::pending().await,
    }
}

/// Drives a future as long as `may_go_on`, which is asked each time before the future can do anything: a process that
/// was stopped does not go on with what it was about when it continues too late. `None` when it was given up.
pub(super) async fn while_allowed<T>(
    limit: Duration,
    may_go_on: impl Fn() -> bool,
    future: impl Future<Output = T>,
) -> Option<T> {
    let mut future = pin!(future);
    let mut timer = pin!(sleep(limit));
    std::future::poll_fn(|context| {
        if !may_go_on() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        timer.as_mut().poll(context).map(|()| None)
    })
    .await
}

/// Drives a future until a moment.
pub(super) async fn before<T>(until: Moment, future: impl Future<Output = T>) -> Option<T> {
    while_allowed(until.remaining(), || Moment::now() < until, future).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn moments_follow_the_runtime_s_clock() {
        let start = Moment::now();
        tokio::time::advance(Duration::from_secs(5)).await;
        let passed = Moment::now().since(start);
        let error = passed.abs_diff(Duration::from_secs(5));
        assert!(error < Duration::from_millis(100), "{passed:?}");
        assert_eq!(start.since(Moment::now()), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_future_is_not_driven_after_its_time() {
        let until = Moment::now().after(Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(2)).await;
        let outcome = before(until, async { panic!("it was driven") }).await;
        assert_eq!(outcome, None::<()>);
    }

    #[tokio::test(start_paused = true)]
    async fn a_future_that_hangs_is_given_up() {
        let until = Moment::now().after(Duration::from_secs(1));
        assert_eq!(before(until, std::future::pending::<()>()).await, None);
        assert!(Moment::now() >= until);
    }
}
