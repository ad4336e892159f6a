//! Tidegate's certificates: what is wanted and held becomes orders at ACME servers, and nothing that fails stays failed.
//!
//! One process of an instance keeps its certificates. It [plans](mod@plan) from what is wished for, what is held and what the
//! [ledger] remembers; it orders, publishes answers to challenges, proves that every node gives them, and puts the outcome
//! where every node finds it. What has to survive goes through a [`Store`], which writes only for as long as this process
//! leads.
#![forbid(unsafe_code)]

pub mod acme;
pub mod clock;
pub mod demand;
pub mod dns;
pub mod domain;
pub mod http;
pub mod import;
pub mod issuer;
pub mod keeper;
pub mod ledger;
pub mod names;
mod order;
pub mod plan;
pub mod proof;
pub mod report;
pub mod secret;
pub mod settings;
pub mod store;
pub mod tickets;

pub use clock::Clock;
pub use issuer::{Issuer, Issuers};
pub use ledger::Ledger;
pub use names::{NameSet, SetId};
pub use order::rehearse;
pub use plan::{Plan, plan};
pub use report::Report;
pub use settings::CertificateSettings;
pub use store::{MemoryStore, Record, RecordKind, Store, StoreError};
