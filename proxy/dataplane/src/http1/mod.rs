//! HTTP/1.0 and 1.1, on hyper: the engine towards clients and the one towards endpoints.

mod client;
mod server;

pub(crate) use client::{Connection, Lease, nobody};
pub(crate) use server::serve;

/// Limit of a head and of what is buffered of a body, in bytes.
pub(crate) const BUFFER: usize = 64 * 1024;
/// Limit of fields in a head.
pub(crate) const FIELDS: usize = 128;
