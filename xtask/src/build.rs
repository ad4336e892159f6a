//! Building the proxy and finding the program.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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
    let built = executables(process::cargo().args(arguments))?;
    built
        .into_iter()
        .find(|built| built.name == PROXY && !built.is_test)
        .map(|built| built.path)
        .with_context(|| format!("cargo {} built no {PROXY}", arguments.join(" ")))
}

/// Something that cargo built and that can be run.
#[derive(Debug)]
pub(crate) struct Executable {
    /// Of the target that it was built from.
    pub(crate) name: String,
    /// Whether it is the tests of the target, and not the target itself.
    pub(crate) is_test: bool,
    pub(crate) path: PathBuf,
}

/// Runs cargo and finds what it built.
pub(crate) fn executables(cargo: &mut Command) -> Result<Vec<Executable>> {
    cargo
        .stderr(Stdio::inherit())
        .args(["--locked", "--message-format=json-render-diagnostics"]);
    let messages = process::output(cargo)?;
    let artifacts = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Artifact>(line).ok());
    let executables = artifacts.filter_map(|artifact| {
        Some(Executable {
            name: artifact.target.name,
            is_test: artifact.profile.test,
            path: artifact.executable?,
        })
    });
    Ok(executables.collect())
}
