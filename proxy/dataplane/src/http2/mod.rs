//! HTTP/2 (RFC 9113) on the `h2` crate: the engine towards clients and the one towards endpoints.
//!
//! `h2` reads and writes frames and keeps the state of streams and windows. What stands here maps a stream to an
//! exchange, ties its flow control to the other side of the exchange, and bounds what a peer can make us do.

mod client;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod guard;
mod server;
mod stream;

pub(crate) use client::{ClientStream, Connection};
pub(crate) use server::serve;

/// Window of a stream, in bytes: what a peer may send before it is passed on.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Window of a connection, in bytes.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What is taken of one stream before its peer has read what was taken, in bytes.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams that a client may have open at once (RFC 9113 section 6.5.2 advises no fewer than 100).
const STREAMS: u32 = 256;
/// Limit of a head, in bytes, as RFC 9113 section 6.5.2 counts it.
const HEAD: u32 = crate::message::MAX_HEAD as u32;
