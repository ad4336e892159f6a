//! What `manifests/` renders to, by the real kubectl and helm: that every object is valid, that the permissions are those
//! that the code uses, that the chart says the same as kustomize, and that the program takes every flag and setting.
//!
//! Needs kubectl and helm, which Go builds on first use, and for the last test a testbed, which needs root; where something is
//! missing the test fails and says so.
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and prints what it looked at"
)]

mod api;
mod chart;
mod examples;
mod monitors;
mod permissions;
mod programs;
mod properties;
mod references;
mod rendering;
mod settings;
mod typed;
mod workload;
