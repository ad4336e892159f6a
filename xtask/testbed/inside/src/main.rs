//! The program that the testbed runs inside its namespaces, and beside itself to clean up after it.
#![forbid(unsafe_code)]

mod echo;
mod forward;
mod hold;
mod run;

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use tidegate_testbed_inside::sweep::{Folder, sweep};

/// Parts of the testbed that it starts by itself.
#[derive(Debug, Parser)]
#[command(name = "tidegate-testbed-inside", version, about)]
enum Task {
    /// Keep the namespaces that this process is in until standard input ends
    Hold(hold::Args),
    /// Become the container that a file describes
    Run {
        /// The description, as JSON
        container: PathBuf,
    },
    /// Become another process of a running container
    Exec {
        /// Its description, as JSON
        process: String,
    },
    /// Look at a server once, as a probe does
    Look {
        /// What to look at, as JSON
        look: String,
    },
    /// Pass connections on to another address
    Forward {
        /// Where to listen
        from: SocketAddr,
        /// Where to connect to
        to: SocketAddr,
    },
    /// Answer every HTTP request with a description of it
    Echo(echo::Args),
    /// Remove a testbed once standard input ends
    Guard {
        /// The testbed
        name: String,
        /// Its folder
        folder: PathBuf,
        /// Leave the folder, to be looked at
        #[arg(long)]
        keep: bool,
    },
}

fn main() -> ExitCode {
    let outcome = match Task::parse() {
        Task::Hold(args) => hold::hold(&args),
        Task::Run { container } => run::container(&container),
        Task::Exec { process } => run::process(&process),
        Task::Look { look } => look_once(&look),
        Task::Forward { from, to } => forward::forward(from, to),
        Task::Echo(args) => echo::serve(args),
        Task::Guard { name, folder, keep } => {
            let fate = if keep { Folder::Keep } else { Folder::Remove };
            wait_for_end()
                .and_then(|()| sweep(&name, &folder, fate).map_err(|error| anyhow!(error)))
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            _ = writeln!(io::stderr(), "testbed: {error:#}");
            ExitCode::from(125)
        }
    }
}

fn look_once(look: &str) -> Result<()> {
    let look: tidegate_testbed_inside::look::Look =
        serde_json::from_str(look).context("cannot read what to look at")?;
    look.once()
}

/// Waits until whoever holds the other end of standard input is gone.
fn wait_for_end() -> Result<()> {
    let mut piece = [0; 64];
    while io::stdin().read(&mut piece)? > 0 {}
    Ok(())
}
