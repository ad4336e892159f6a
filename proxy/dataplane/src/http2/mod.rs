//! HTTP/2, on hyper: the engine towards clients and the one towards endpoints.

mod client;
mod server;

use std::future::Future;

pub(crate) use client::Connection;
pub(crate) use server::serve;

/// Window of a stream, in bytes: what a peer may send before it is read.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Window of a connection, in bytes.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Streams that a client may have open at once (RFC 9113 section 6.5.2 advises no fewer than 100).
const STREAMS: u32 = 256;
/// Limit of a head, in bytes, as RFC 9113 section 6.5.2 counts it.
const HEAD: u32 = 64 * 1024;

/// Runs tasks of the engine on the worker's own thread.
#[derive(Clone, Copy)]
struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
