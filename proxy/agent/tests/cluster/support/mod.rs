//! A testbed with the shipped manifests applied, and what tests do with it.

pub(crate) mod bed;
pub(crate) mod load;
pub(crate) mod make;
pub(crate) mod web;

use std::time::{Duration, Instant};

/// Longest wait for anything that is expected to happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until something is so, and returns how long that took.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !is_so().await {
        assert!(
            start.elapsed() < DEADLINE,
            "not within {DEADLINE:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    start.elapsed()
}

/// Prints what a test measured, for the table at the end of all tests.
pub(crate) fn figure(name: &str, value: Duration) {
    println!("figure: {name} = {:.0} ms", value.as_secs_f64() * 1e3);
}
