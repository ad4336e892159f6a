//! The programs that render: those of the testbed, built by Go on first use.

use std::path::{Path, PathBuf};
use std::process::Command;

use tidegate_testbed::programs;

/// kubectl, whose kustomize renders.
pub(crate) fn kubectl() -> Command {
    Command::new(there(programs::kubectl()))
}

/// helm, with every folder that it writes to in `home`.
pub(crate) fn helm(home: &Path) -> Command {
    let mut command = Command::new(there(programs::helm()));
    for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(variable, home.join(variable));
    }
    // No cluster is asked, even where one is set.
    command.env("KUBECONFIG", home.join("none"));
    command
}

fn there(program: anyhow::Result<PathBuf>) -> PathBuf {
    program.unwrap_or_else(|error| panic!("no manifest can be tested: {error:#}"))
}
