//! What a developer runs: `cargo xtask test`, `fuzz`, `conformance`, `kernels`, `bench`, `testbed`, `ebpf`, `tidy`.
#![forbid(unsafe_code)]

mod bench;
mod build;
mod conformance;
mod ebpf;
mod fuzz;
mod kernels;
mod metadata;
mod process;
mod setup;
mod table;
mod terminal;
mod test;
mod testbed;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tidegate's developer tasks.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, about)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Set up what the tests need, then run all of them, or only the named groups
    Test(test::Args),
    /// Check what no compiler checks: crate boundaries, file heads and sizes, links in the docs, commands in the README
    Tidy,
    /// Run the parsers and the data plane on random inputs that learn from coverage
    Fuzz(fuzz::Args),
    /// Check HTTP/2 with h2spec, against the list of explained misses in docs/conformance.md
    Conformance,
    /// Run the program on other kernels and on ARM, in software emulation
    Kernels(kernels::Args),
    /// Compare Tidegate with other proxies, or measure one part of it
    Bench(bench::Args),
    /// Start, show or remove a real Kubernetes cluster of namespaces and processes on this machine
    Testbed(testbed::Args),
    /// Build the object with the programs that run in the kernel, or check the committed one
    Ebpf(ebpf::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Test(args) => test::run(&args),
        Task::Tidy => tidy::run(),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Conformance => conformance::run(),
        Task::Kernels(args) => kernels::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Testbed(args) => testbed::run(&args),
        Task::Ebpf(args) => ebpf::run(&args),
    };
    match outcome {
        Ok(Verdict::Pass) => ExitCode::SUCCESS,
        Ok(Verdict::Fail) => ExitCode::FAILURE,
        Err(error) => {
            terminal::warn(format_args!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}

/// How a task that ran to its end ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Pass,
    Fail,
}

impl Verdict {
    fn of(success: bool) -> Self {
        if success { Self::Pass } else { Self::Fail }
    }
}

/// The folder of the workspace.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
