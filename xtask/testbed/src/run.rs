//! Running other programs to their end.

use std::env;
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// Names the program of [`inside`] for those who have built it already.
const INSIDE: &str = "TIDEGATE_TESTBED_INSIDE";

/// What a testbed needs on the machine, and the Debian package that brings it.
const TOOLS: [(&str, &str); 3] = [
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
];

/// Holds the machine against what a testbed needs.
pub(crate) fn ensure_tools() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("a testbed needs root, for network namespaces and mounts: run this as root");
    }
    match TOOLS.iter().find(|(tool, _)| !exists(tool)) {
        Some((tool, package)) => {
            bail!("a testbed needs `{tool}`: install the package `{package}`")
        }
        None => Ok(()),
    }
}

/// Whether a program of this name is on the search path.
pub fn exists(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Runs a program and takes its standard output; any other end than status 0 is an error that shows what it said.
///
/// # Errors
/// It cannot be run, or fails.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {}", line(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{} failed ({}): {}",
            line(command),
            output.status,
            said.trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program that reads standard input.
pub(crate) fn feed(command: &mut Command, input: &str) -> Result<String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", line(command)))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends early says why.
        _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{} failed: {}; it was given: {input}",
            line(command),
            said.trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as one would type it, the program without its folder.
pub fn line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    let words: Vec<_> = [name]
        .into_iter()
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect();
    words.join(" ")
}

/// One message of cargo with `--message-format=json`, as far as it is used here.
#[derive(Debug, Deserialize)]
struct Artifact {
    executable: Option<PathBuf>,
}

/// The program that runs inside the namespaces: the one that `$TIDEGATE_TESTBED_INSIDE` names, else cargo builds it
/// from the crate `tidegate-testbed-inside`, which takes a moment when it is built already. So it is there and fits this
/// library in every test of the workspace, whatever built that test.
pub(crate) fn inside() -> Result<&'static Path> {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    if let Some(program) = PROGRAM.get() {
        return Ok(program);
    }
    let program = match env::var_os(INSIDE) {
        Some(program) => PathBuf::from(program),
        None => build_inside()?,
    };
    Ok(PROGRAM.get_or_init(|| program))
}

fn build_inside() -> Result<PathBuf> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args([
        "build",
        "--package=tidegate-testbed-inside",
        "--message-format=json",
        "--locked",
    ]);
    let messages = output(&mut cargo).with_context(|| {
        format!("cannot build the testbed's inner program; build it and name it in {INSIDE}")
    })?;
    let artifacts = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Artifact>(line).ok());
    artifacts
        .filter_map(|artifact| artifact.executable)
        .next_back()
        .context("cargo built no program from the crate tidegate-testbed-inside")
}
