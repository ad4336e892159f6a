//! Open files: a connection each.

use anyhow::{Result, ensure};
use rustix::process::{Resource, getrlimit, setrlimit};

/// Lets this process, and those that it starts, open as many files as the system allows.
///
/// # Errors
/// When these are fewer than `least`.
pub(super) fn allow(least: u64) -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    let most = limit.maximum.unwrap_or(u64::MAX);
    ensure!(
        most >= least,
        "this needs {least} open files, and the system allows {most}; raise it with `ulimit -n` as root"
    );
    Ok(())
}
