//! Tidegate's control plane: Kubernetes objects in, a [`Translation`] (snapshot, statuses, problems) out.
//!
//! [`source`] reads objects and says what changed, [`translate`] turns all of them into what is served, [`reconcile`]
//! joins the two and publishes. [`resolve`] keeps the addresses of ExternalName services.
#![forbid(unsafe_code)]

pub mod inventory;
pub mod object;
pub mod reconcile;
pub mod resolve;
pub mod source;
pub mod translate;

pub use object::{Change, Object, Resolution};
pub use translate::{Settings, Translation, Translator};
