//! The programs of a control plane, built by the Go toolchain from modules with pinned versions and kept from then on.
//!
//! They are kept under `$XDG_CACHE_HOME`, else `~/.cache`, in `tidegate-testbed/MODULE-VERSION-CHECKSUM/`; the checksum
//! is that of go.mod and go.sum, so a pin that changes builds anew. The first build of all takes some minutes.

use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::run;

/// A Go module of this crate.
#[derive(Debug)]
struct Module {
    /// Names the folder that its programs are kept in.
    name: &'static str,
    /// Below this crate's folder; empty for the folder itself.
    folder: &'static str,
    /// The module that holds the programs, and whose version is theirs.
    requires: &'static str,
    go_mod: &'static str,
    go_sum: &'static str,
    /// The package of each program, and what the program is called.
    programs: &'static [(&'static str, &'static str)],
}

const KUBERNETES: Module = Module {
    name: "kubernetes",
    folder: "",
    requires: "k8s.io/kubernetes",
    go_mod: include_str!("../go.mod"),
    go_sum: include_str!("../go.sum"),
    programs: &[
        ("k8s.io/kubernetes/cmd/kube-apiserver", "kube-apiserver"),
        (
            "k8s.io/kubernetes/cmd/kube-controller-manager",
            "kube-controller-manager",
        ),
        ("k8s.io/kubernetes/cmd/kubectl", "kubectl"),
    ],
};

const ETCD: Module = Module {
    name: "etcd",
    folder: "etcd",
    requires: "go.etcd.io/etcd/server/v3",
    go_mod: include_str!("../etcd/go.mod"),
    go_sum: include_str!("../etcd/go.sum"),
    programs: &[("go.etcd.io/etcd/server/v3", "etcd")],
};

const HELM: Module = Module {
    name: "helm",
    folder: "helm",
    requires: "helm.sh/helm/v4",
    go_mod: include_str!("../helm/go.mod"),
    go_sum: include_str!("../helm/go.sum"),
    programs: &[("helm.sh/helm/v4/cmd/helm", "helm")],
};

const PEBBLE: Module = Module {
    name: "pebble",
    folder: "pebble",
    requires: "github.com/letsencrypt/pebble/v2",
    go_mod: include_str!("../pebble/go.mod"),
    go_sum: include_str!("../pebble/go.sum"),
    programs: &[
        ("github.com/letsencrypt/pebble/v2/cmd/pebble", "pebble"),
        (
            "github.com/letsencrypt/pebble/v2/cmd/pebble-challtestsrv",
            "pebble-challtestsrv",
        ),
    ],
};

/// Where the programs of a testbed are.
#[derive(Clone, Debug)]
pub struct Programs {
    /// etcd.
    pub etcd: PathBuf,
    /// kube-apiserver.
    pub apiserver: PathBuf,
    /// kube-controller-manager.
    pub controller_manager: PathBuf,
    /// kubectl, which renders kustomizations too.
    pub kubectl: PathBuf,
}

/// Builds whatever of etcd, kube-apiserver, kube-controller-manager and kubectl is not there yet. Several processes may
/// do so at once: one builds, the others wait.
///
/// # Errors
/// When Go is missing or a build fails; the message says what to install.
pub fn ensure() -> Result<Programs> {
    let etcd = ETCD.ensure()?;
    let kubernetes = KUBERNETES.ensure()?;
    Ok(Programs {
        etcd: etcd.join("etcd"),
        apiserver: kubernetes.join("kube-apiserver"),
        controller_manager: kubernetes.join("kube-controller-manager"),
        kubectl: kubernetes.join("kubectl"),
    })
}

/// Whether everything is there that tests use, so that nothing has to be built for them.
pub fn are_built() -> bool {
    [ETCD, KUBERNETES, HELM, PEBBLE].iter().all(|module| {
        let folder = module.folder();
        folder.is_ok_and(|folder| module.is_built(&folder))
    })
}

/// Builds kubectl, and with it the control plane, when it is not there yet.
///
/// # Errors
/// As [`ensure`].
pub fn kubectl() -> Result<PathBuf> {
    Ok(KUBERNETES.ensure()?.join("kubectl"))
}

/// Builds helm, which renders charts, when it is not there yet.
///
/// # Errors
/// As [`ensure`].
pub fn helm() -> Result<PathBuf> {
    Ok(HELM.ensure()?.join("helm"))
}

/// Builds Pebble, an ACME server, and its name server, when they are not there yet; the folder that they are in.
///
/// # Errors
/// As [`ensure`].
pub fn pebble() -> Result<PathBuf> {
    PEBBLE.ensure()
}

impl Module {
    /// Where its programs are or will be.
    fn folder(&self) -> Result<PathBuf> {
        let name = format!("{}-{}-{}", self.name, self.version()?, self.checksum());
        Ok(caches()?.join(name))
    }

    /// The folder with its programs.
    fn ensure(&self) -> Result<PathBuf> {
        let caches = caches()?;
        let folder = self.folder()?;
        if self.is_built(&folder) {
            return Ok(folder);
        }
        fs::create_dir_all(&caches).with_context(|| format!("cannot make {}", caches.display()))?;
        let lock = File::create(caches.join(format!("{}.lock", self.name)))?;
        lock.lock()
            .context("cannot lock the folder of built programs")?;
        if !self.is_built(&folder) {
            self.build(&folder, &caches)?;
        }
        Ok(folder)
    }

    fn is_built(&self, folder: &Path) -> bool {
        let mut programs = self.programs.iter();
        programs.all(|(_, name)| folder.join(name).is_file())
    }

    /// Builds beside the place where the programs come to stay, so that what is there is whole.
    fn build(&self, folder: &Path, caches: &Path) -> Result<()> {
        if !run::exists("go") {
            bail!(
                "Go is missing, and {} is built with it: install the package `golang-go`, or Go 1.26 or newer from https://go.dev/dl/, and put `go` on PATH",
                self.name
            );
        }
        let version = self.version()?;
        announce(&format!(
            "testbed: building {} {version}, once; this takes some minutes",
            self.name
        ));
        let unfinished = tempfile::TempDir::with_prefix_in("building-", caches)?;
        for (package, program) in self.programs {
            let mut go = Command::new("go");
            go.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(self.folder));
            go.args(["build", "-trimpath", "-ldflags"])
                .arg(self.link_flags(version))
                .arg("-o")
                .arg(unfinished.path().join(program));
            run::output(go.arg(package))?;
        }
        let unfinished = unfinished.keep();
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::rename(&unfinished, folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(())
    }

    /// Kubernetes does not know its own version unless it is told: some clients refuse such a server.
    fn link_flags(&self, version: &str) -> String {
        let mut flags = "-s -w".to_owned();
        let mut parts = version.trim_start_matches('v').split('.');
        if self.name == KUBERNETES.name
            && let (Some(major), Some(minor)) = (parts.next(), parts.next())
        {
            for (variable, value) in [
                ("gitVersion", version),
                ("gitMajor", major),
                ("gitMinor", minor),
            ] {
                flags.push_str(&format!(
                    " -X k8s.io/component-base/version.{variable}={value}"
                ));
            }
        }
        flags
    }

    /// As go.mod pins it.
    fn version(&self) -> Result<&'static str> {
        let mut words = self.go_mod.split_whitespace();
        words
            .find(|word| *word == self.requires)
            .and_then(|_| words.next())
            .with_context(|| {
                format!(
                    "the go.mod of {} does not require {}",
                    self.name, self.requires
                )
            })
    }

    fn checksum(&self) -> String {
        checksum(&[self.go_mod, self.go_sum])
    }
}

/// Tells pins apart, in 8 hex digits.
pub(crate) fn checksum(pins: &[&str]) -> String {
    let mut hash = Sha256::new();
    pins.iter().for_each(|text| hash.update(text));
    let hash = hash.finalize();
    hash.iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Where everything is kept that is made once.
pub(crate) fn caches() -> Result<PathBuf> {
    let caches = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let caches = caches
        .or_else(home)
        .context("set HOME, so that the programs of the testbed can be kept in its .cache")?;
    Ok(caches.join("tidegate-testbed"))
}

/// To whoever waits at the terminal, also when tests keep their output to themselves.
pub(crate) fn announce(line: &str) {
    _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_pins_its_version() {
        for module in [&KUBERNETES, &ETCD, &HELM, &PEBBLE] {
            let version = module.version().unwrap_or_else(|error| panic!("{error}"));
            assert!(version.starts_with('v'), "{}: {version}", module.name);
            assert_eq!(module.checksum().len(), 8);
        }
    }

    #[test]
    fn kubernetes_learns_its_version() {
        let flags = KUBERNETES.link_flags("v1.36.3");
        assert!(flags.contains("version.gitMajor=1 "), "{flags}");
        assert!(flags.ends_with("version.gitMinor=36"), "{flags}");
        assert_eq!(ETCD.link_flags("v3.7.3"), "-s -w");
    }
}
