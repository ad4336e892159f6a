//! What a worker tells of how busy it is.

use std::fmt;

/// Where a worker tells how busy it is, for whoever steers connections to workers.
///
/// It is called within the worker's thread, between two steps of its work: it must neither block nor panic.
pub trait WorkerLoad: Send + fmt::Debug {
    /// The worker's open connections, or how many of them have not finished their TLS handshake, have changed.
    fn set(&self, open: usize, handshakes: usize);

    /// The worker has found one of its listen queues empty: it has taken every connection that was steered there.
    fn caught_up(&self);
}
