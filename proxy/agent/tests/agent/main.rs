//! The agent from outside: its command line, its life, its pages, its examples, and changes under load.
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and prints what it measured"
)]

mod admin;
mod cli;
mod examples;
mod life;
mod reload;
mod settings;
mod support;
