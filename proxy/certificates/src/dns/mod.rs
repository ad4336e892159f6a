//! DNS-01 (RFC 8555 section 8.4): a TXT record is made, seen on every authoritative name server, and removed again.
//!
//! [`Dns01Solver`] does that for an issuer's settings. [`Lookup`] looks at names as a CA does, for dry runs.
//!
//! Recursive resolvers are asked only for what changes seldom: zones above a name, their name servers and addresses.
//! Whatever concerns the record itself is asked of the zone's own servers, so nothing that a resolver remembers, least of
//! all that a record was not there, delays an order.

mod authority;
mod caa;
mod error;
mod exchange;
mod lookup;
mod propagation;
pub mod provider;
mod resolvers;
mod solver;

pub use authority::{NameServer, Place};
pub use caa::{CaaSet, CaaVerdict, Names};
pub use error::{DnsError, Task};
pub use lookup::Lookup;
pub use solver::{Dns01Solver, Placed};
