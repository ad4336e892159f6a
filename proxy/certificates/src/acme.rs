//! ACME servers (RFC 8555): accounts that are never made twice, requests, and what refusals mean.
//!
//! Orders go through `instant-acme`. What it does not offer is done here by signed requests of our own: accounts whose
//! key is kept before the CA hears of it, also bound to external ones; the change of an RSA key to one that `instant-acme`
//! takes; and the choice among several chains.

pub(crate) mod account;
pub(crate) mod chain;
pub(crate) mod failure;
mod jws;
pub(crate) mod renewal;
mod server;
pub(crate) mod transport;

pub use account::record_name;
pub(crate) use account::{Accounts, Session};
pub(crate) use failure::{AcmeError, Refusal};
pub(crate) use jws::pem;
