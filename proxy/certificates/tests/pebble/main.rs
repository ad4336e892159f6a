//! Certificates from a real ACME server: Pebble, which refuses some nonces, waits before it validates, and forgets
//! everything when it is started again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends at the first surprise"
)]
#![allow(
    clippy::print_stdout,
    reason = "figures are read off the tests' output"
)]

mod accounts;
mod crashes;
mod issue;
mod records;
mod renew;
mod support;
mod trouble;
