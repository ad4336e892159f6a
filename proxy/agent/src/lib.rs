//! The agent: command line, settings, wiring of control plane and data plane, admin pages, demo.
//!
//! It is a library so that tests can start an instance within their own process; `main.rs` only calls [`run`].

pub mod admin;
pub mod app;
mod cache;
mod certificates;
mod certs;
mod check;
mod cli;
mod clock;
pub mod demo;
mod doctor;
mod ebpf;
mod hand_over;
mod import;
mod limits;
mod listening;
mod logging;
mod metrics;
mod output;
mod probe;
pub mod readiness;
mod serve;
pub mod settings;
mod verbose;

use std::fmt;
use std::process::ExitCode;

use cli::{Cli, Command};

pub use ebpf::{Guard, GuardError};

/// Exit code for a wrong command line or settings file, as clap uses it.
const EXIT_USAGE: u8 = 2;

/// Why a command ended early.
#[derive(Debug)]
enum Failure {
    /// The command line, the settings file or what they name is wrong: exit code 2.
    Usage(anyhow::Error),
    /// Everything else: exit code 1.
    Runtime(anyhow::Error),
}

impl Failure {
    fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::Usage(error.into())
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(EXIT_USAGE),
            Self::Runtime(_) => ExitCode::FAILURE,
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Runtime(error)
    }
}

impl fmt::Display for Failure {
    /// One line: the error and what caused it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Usage(error) | Self::Runtime(error)) = self;
        let text = format!("{error:#}");
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        f.write_str(lines.next().unwrap_or("unknown error"))?;
        lines.try_for_each(|line| write!(f, "\n  {line}"))
    }
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let cli = Cli::read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let outcome = match cli.command {
        Command::Serve(flags) => serve::run(&flags),
        Command::Check(flags) => check::run(flags),
        Command::Demo(flags) => demo::run(&flags),
        Command::Probe(flags) => probe::run(&flags),
        Command::Certs(flags) => certs::run(&flags),
        Command::Import(flags) => import::run(&flags),
        // Nothing is loaded yet.
        Command::Doctor(flags) => doctor::run(&flags),
        Command::Completions { shell } => output::completions(shell),
    };
    outcome.unwrap_or_else(|failure| {
        output::complain(&format!("tidegate: {failure}\n"));
        failure.exit_code()
    })
}
