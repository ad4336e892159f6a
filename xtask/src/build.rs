//! Building a program of the workspace and finding it.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::process;

/// One message of `cargo build --message-format=json`, as far as it is used here.
#[derive(Debug, Deserialize)]
struct Artifact {
    executable: Option<PathBuf>,
}

/// Builds with these arguments and says where the program is; the last one when there are several.
pub(crate) fn executable(arguments: &[&str]) -> Result<PathBuf> {
    let mut command = process::cargo();
    command
        .stderr(Stdio::inherit())
        .arg("build")
        .args(arguments)
        .args(["--locked", "--message-format=json-render-diagnostics"]);
    let messages = process::output(&mut command)?;
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Artifact>(line).ok())
        .filter_map(|artifact| artifact.executable)
        .next_back()
        .with_context(|| format!("cargo build {} built no program", arguments.join(" ")))
}
