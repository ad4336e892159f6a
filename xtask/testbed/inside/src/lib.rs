//! What the testbed and the small program that it runs inside its namespaces agree on.
//!
//! The program is a crate of its own because it is started once for every container and every probe, and because a test
//! builds it by itself: it is small in both respects.
#![forbid(unsafe_code)]

pub mod container;
pub mod look;
pub mod sweep;

/// The environment variable that every process of a testbed has, its own children included; its value is the name of
/// the testbed. What is left of a testbed is found by it.
pub const MARK: &str = "TIDEGATE_TESTBED";

/// Where a container finds the program of its image, in a folder of the testbed's own.
pub const PROGRAMS: &str = "/.testbed";

/// What a holder of namespaces says once they are set up.
pub const READY: &str = "ready";
