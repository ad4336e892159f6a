//! Static builds of the proxy and of its kernel tests, for several architectures at once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::guest::Architecture;
use super::packages::Packages;
use crate::build::{self, Executable};
use crate::process;
use crate::setup::{self, Need};

const PROXY: &str = "tidegate";
/// The integration test of the proxy's crate that runs on other kernels.
pub(super) const TESTS: &str = "kernel";

/// What a guest runs.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) tidegate: PathBuf,
    pub(super) tests: PathBuf,
}

impl Programs {
    /// Of one architecture, among everything that was built.
    pub(super) fn of(architecture: Architecture, built: &[Executable]) -> Result<Self> {
        let find = |name: &str, is_test: bool| {
            let found = built.iter().find(|built| {
                let mut folders = built.path.iter();
                built.name == name
                    && built.is_test == is_test
                    && folders.any(|folder| folder == architecture.target())
            });
            found
                .map(|built| built.path.clone())
                .with_context(|| format!("cargo built no {name} for {}", architecture.target()))
        };
        Ok(Self {
            tidegate: find(PROXY, false)?,
            tests: find(TESTS, true)?,
        })
    }
}

/// Builds for these architectures.
pub(super) fn build(
    architectures: &BTreeSet<Architecture>,
    packages: &Packages,
) -> Result<Vec<Executable>> {
    let mut cargo = process::cargo();
    cargo.args(["test", "--no-run", "--profile=kernels", "--package", PROXY]);
    cargo.args(["--test", TESTS]);
    for architecture in architectures {
        cargo.args(["--target", architecture.target()]);
    }
    // These would replace the flags of each target.
    cargo
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    Toolchain::find()?.prepare(&mut cargo, architectures, packages)?;
    build::executables(&mut cargo)
}

/// Which compiler knows every architecture.
#[derive(Debug)]
enum Toolchain {
    /// The one that builds everything else.
    Rustup,
    /// Debian's `rustc-web` of this version, whose libraries are packages.
    Debian { version: String },
}

impl Toolchain {
    fn find() -> Result<Self> {
        let installed = Command::new("rustup")
            .args(["target", "list", "--installed"])
            .output();
        let installed = installed.map_or(String::new(), |output| {
            String::from_utf8_lossy(&output.stdout).into_owned()
        });
        let knows = |architecture: Architecture| {
            installed.lines().any(|line| line == architecture.target())
        };
        if Architecture::ALL.into_iter().all(knows) {
            return Ok(Self::Rustup);
        }
        setup::ensure(&[Need::DebianRustc]).with_context(|| {
            let targets = Architecture::ALL.map(Architecture::target).join(" ");
            format!(
                "either `rustup target add {targets}` or install Debian's own compiler, rustc-web"
            )
        })?;
        let version = setup::debian_version("rustc-web")
            .context("dpkg does not know the version of rustc-web; install it with apt-get")?;
        Ok(Self::Debian { version })
    }

    fn prepare(
        &self,
        cargo: &mut Command,
        architectures: &BTreeSet<Architecture>,
        packages: &Packages,
    ) -> Result<()> {
        for &architecture in architectures {
            let library = match self {
                Self::Debian { version } if architecture.cross_compiler().is_some() => {
                    Some(packages.standard_library(architecture, version)?)
                }
                Self::Debian { .. } | Self::Rustup => None,
            };
            target(cargo, architecture, library.as_deref());
        }
        if matches!(self, Self::Debian { .. }) {
            cargo.env("RUSTC", "/usr/bin/rustc");
        }
        Ok(())
    }
}

/// Tells cargo, and the builds of C that it starts, how to compile and link for an architecture.
fn target(cargo: &mut Command, architecture: Architecture, library: Option<&Path>) {
    let name = architecture.target().replace('-', "_");
    let cargos = format!("CARGO_TARGET_{}", name.to_uppercase());
    let mut flags = "-Ctarget-feature=+crt-static".to_owned();
    if let Some(library) = library {
        flags.push_str(&format!(" --sysroot={}", library.display()));
    }
    cargo.env(format!("{cargos}_RUSTFLAGS"), flags);
    if let Some(compiler) = architecture.cross_compiler() {
        cargo
            .env(format!("{cargos}_LINKER"), format!("{compiler}-gcc"))
            .env(format!("CC_{name}"), format!("{compiler}-gcc"))
            .env(format!("AR_{name}"), format!("{compiler}-ar"));
    }
}
