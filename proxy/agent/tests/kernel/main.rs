//! The program and the kernel: steering, hand-over, guard and capabilities, with the real object in the real kernel.
//!
//! Needs root and BPF; a test that lacks them fails and says what is missing. Every test has a network and a mount namespace
//! of its own, which end with it, so nothing remains. Tests whose names start with `vm_` need no program besides tidegate's,
//! so that they also run on other kernels in a bare virtual machine; `TIDEGATE_PROGRAM` names the program there.
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and prints what it measured"
)]

mod capabilities;
mod doctor;
mod endurance;
mod guard;
mod hand_over;
mod listeners;
mod steering;
mod support;
