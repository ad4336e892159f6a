//! A testbed with the shipped manifests applied, and what tests do with it.

pub(crate) mod bed;
pub(crate) mod ca;
pub(crate) mod load;
pub(crate) mod make;
pub(crate) mod web;

use std::time::{Duration, Instant};

/// Longest wait for anything that is expected to happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Longest wait for what is tried again a minute after a failure, and may fail for a while.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// Waits until something is so, and returns how long that took.
pub(crate) async fn eventually(what: &str, is_so: impl AsyncFnMut() -> bool) -> Duration {
    within(DEADLINE, what, is_so).await
}

/// Waits so long at most.
pub(crate) async fn within(
    limit: Duration,
    what: &str,
    mut is_so: impl AsyncFnMut() -> bool,
) -> Duration {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    start.elapsed()
}

/// Prints what a test measured, for the table at the end of all tests.
pub(crate) fn figure(name: &str, value: Duration) {
    println!("figure: {name} = {:.0} ms", value.as_secs_f64() * 1e3);
}
