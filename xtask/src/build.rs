//! Building the proxy and finding the program.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::metadata::Metadata;
use crate::process;
use crate::terminal::say;

/// The crate, and the program that it makes.
const PROXY: &str = "tidegate";

/// One message of cargo with `--message-format=json`, as far as it is used here.
#[derive(Debug, Deserialize)]
struct Artifact {
    target: Target,
    profile: Profile,
    executable: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Profile {
    /// Whether it is the tests of the target, and not the target itself.
    test: bool,
}

/// Builds the proxy as users do.
fn release() -> Result<PathBuf> {
    program(&["build", "--release", "--package", PROXY])
}

/// The program that is named, or the one that is built now.
pub(crate) fn release_or(program: Option<&Path>) -> Result<PathBuf> {
    match program {
        Some(program) => program
            .canonicalize()
            .with_context(|| format!("cannot use {}", program.display())),
        None => {
            say("building tidegate");
            release()
        }
    }
}

/// Builds the proxy as its integration tests have it, so that nothing is compiled only for this;
/// without any, by itself.
pub(crate) fn as_tested() -> Result<PathBuf> {
    let metadata = Metadata::load()?;
    let targets = metadata
        .members()
        .filter(|package| package.name == PROXY)
        .flat_map(|package| &package.targets);
    match targets.into_iter().find(|target| target.is_test()) {
        Some(test) => program(&["test", "--workspace", "--no-run", "--test", &test.name]),
        None => program(&["build", "--workspace", "--bin", PROXY]),
    }
}

fn program(arguments: &[&str]) -> Result<PathBuf> {
    let mut command = process::cargo();
    command
        .stderr(Stdio::inherit())
        .args(arguments)
        .args(["--locked", "--message-format=json-render-diagnostics"]);
    let messages = process::output(&mut command)?;
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Artifact>(line).ok())
        .filter(|artifact| artifact.target.name == PROXY && !artifact.profile.test)
        .find_map(|artifact| artifact.executable)
        .with_context(|| format!("cargo {} built no {PROXY}", arguments.join(" ")))
}
