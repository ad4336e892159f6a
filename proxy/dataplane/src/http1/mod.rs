//! HTTP/1.0 and 1.1: the engine towards clients and the one towards endpoints (RFC 9112).

mod client;
mod link;
mod search;
mod server;

pub(crate) use client::Connection as ClientConnection;
pub(crate) use link::Link;
pub(crate) use server::serve;
