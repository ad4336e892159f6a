//! `cargo xtask testbed`: a real Kubernetes cluster of namespaces and processes on this machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::Subcommand;

use crate::setup::{self, Need};
use crate::{Verdict, build, process};

/// What it needs on the machine.
pub(crate) const NEEDS: &[Need] = &[Need::Compiler, Need::Cmake, Need::Ip, Need::Go];
/// The crate, and its program.
const TESTBED: &str = "tidegate-testbed";
/// What `--deploy` applies when no other manifests are named.
const BASE: &str = "manifests/base";

/// Arguments of `cargo xtask testbed`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where everything of the testbed is kept; a folder of the system's temporary one when none is named
    #[arg(long, global = true)]
    folder: Option<PathBuf>,

    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Start a control plane and nodes, in the background; the programs are built on the first run, some minutes
    Up {
        /// How many nodes it has
        #[arg(long, default_value_t = 3)]
        nodes: usize,

        /// Build Tidegate and apply its manifests
        #[arg(long)]
        deploy: bool,

        /// The kustomization to apply instead of the base
        #[arg(long, value_name = "FOLDER", requires = "deploy")]
        manifests: Option<PathBuf>,
    },
    /// Remove it, and what is left of others whose owners are gone
    Down,
    /// Show its parts, nodes and pods
    Status,
}

/// Does it.
pub(crate) fn run(args: &Args) -> Result<Verdict> {
    setup::ensure(NEEDS)?;
    let mut testbed = Command::new(program()?);
    if let Some(folder) = &args.folder {
        testbed.arg("--folder").arg(std::path::absolute(folder)?);
    }
    match &args.task {
        Task::Up {
            nodes,
            deploy,
            manifests,
        } => {
            testbed.args(["up", "--nodes", &nodes.to_string()]);
            if *deploy {
                let base = || crate::root().join(BASE);
                let manifests = manifests.clone().unwrap_or_else(base);
                testbed.arg("--tidegate").arg(build::as_tested()?);
                testbed.arg("--manifests").arg(existing(&manifests)?);
            }
        }
        Task::Down => _ = testbed.arg("down"),
        Task::Status => _ = testbed.arg("status"),
    }
    let status = testbed.status().context("cannot run the testbed")?;
    Ok(Verdict::of(status.success()))
}

fn existing(manifests: &Path) -> Result<PathBuf> {
    manifests
        .canonicalize()
        .with_context(|| format!("cannot use the manifests in {}", manifests.display()))
}

/// The testbed's program, built when it is not.
fn program() -> Result<PathBuf> {
    let mut cargo = process::cargo();
    cargo.args(["build", "--package", TESTBED, "--bin", TESTBED]);
    let built = build::executables(&mut cargo)?;
    let program = built.into_iter().find(|built| built.name == TESTBED);
    Ok(program.context("cargo built no testbed")?.path)
}
