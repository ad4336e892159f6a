//! Tidegate's control plane: Kubernetes objects in, a [`Translation`] (snapshot, statuses, problems) out.
//!
//! [`source`] reads objects and says what changed, [`translate`] turns all of them into what is served, [`reconcile`]
//! joins the two and publishes. [`resolve`] keeps the addresses of ExternalName services. What the [`leader`] of all nodes
//! writes it knows from the [`inventory`]; [`certificates`] keeps what orders of certificates need in Secrets; [`access`] lists what all of it asks of the API server.
#![forbid(unsafe_code)]

pub mod access;
pub mod certificates;
pub mod events;
#[cfg(test)]
mod fake_api;
pub mod inventory;
pub mod leader;
pub mod object;
pub mod reconcile;
pub mod resolve;
pub mod source;
pub mod status;
pub mod translate;
mod trouble;
pub mod write;

pub use object::{Change, Object, Resolution};
pub use translate::{Settings, Translation, Translator};
