//! What orders of certificates need, kept in Secrets of the cluster.
//!
//! The leader reads and writes it by a [`ClusterStore`], everyone else reads it by a [`ReadOnly`]. The one thing that any
//! process may write is a [request](request()); a person may [import](Importer) what was ordered elsewhere.

mod import;
mod object;
mod read_only;
mod request;
mod shelf;
mod store;

pub use self::import::{Imported, Importer};
pub use self::object::Owner;
pub use self::read_only::{ReadOnly, read_only};
pub use self::request::request;
pub use self::store::ClusterStore;

#[cfg(test)]
mod tests;
