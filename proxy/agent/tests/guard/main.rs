//! The guard in the kernel: single frames, and network namespaces with veth pairs in which real connections are made.
//!
//! Needs root, BPF and iproute2; a test that lacks them fails and says what is missing. Every test has network namespaces of
//! its own, which are those of its threads and end with them.
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and prints what it measured"
)]

mod client;
mod flood;
mod frame;
mod frames;
mod hand_over;
mod namespace;
mod network;
mod settings;
