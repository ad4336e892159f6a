//! A process that does nothing but keep the namespaces of a node or a pod.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, mount};
use tidegate_testbed_inside::READY;

/// How to set the namespaces up.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The name of the host in its UTS namespace
    #[arg(long)]
    hostname: String,

    /// A folder to mount a BPF file system on, in its mount namespace
    #[arg(long)]
    bpf: Option<PathBuf>,
}

/// Sets up, says so, and stays until the testbed is gone.
pub(crate) fn hold(args: &Args) -> Result<()> {
    rustix::system::sethostname(args.hostname.as_bytes()).context("cannot set the host's name")?;
    if let Some(folder) = &args.bpf {
        mount_bpf(folder)?;
    }
    let mut out = io::stdout();
    writeln!(out, "{READY}").and_then(|()| out.flush())?;
    super::wait_for_end()
}

fn mount_bpf(folder: &PathBuf) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    mount("bpf", folder, "bpf", MountFlags::empty(), None)
        .with_context(|| format!("cannot mount a BPF file system on {}", folder.display()))
}
