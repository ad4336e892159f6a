//! Files out of Debian's packages, kept in a folder of our own: nothing is installed, and no architecture is added.

use std::cell::OnceCell;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::guest::{Architecture, Guest};
use crate::process::{self, exists};
use crate::terminal::say;

/// What apt is told, so that it keeps its state here and knows both architectures. `{folder}` is ours.
const APT: &str = r#"Dir::State "{folder}";
Dir::State::status "{folder}/status";
Dir::State::lists "{folder}/lists";
Dir::Cache "{folder}";
APT::Architectures { "amd64"; "arm64"; };
APT::Sandbox::User "root";
"#;

/// Packages that were fetched: a folder for each, with the one file or folder that is of use.
#[derive(Debug)]
pub(super) struct Packages {
    folder: PathBuf,
    /// Set when the package lists were read.
    updated: OnceCell<()>,
}

impl Packages {
    /// Opens the folder that keeps them.
    pub(super) fn open() -> Result<Self> {
        let caches = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let caches = caches
            .or_else(home)
            .context("set HOME, so that kernels can be kept in its .cache")?;
        let folder = caches.join("tidegate-kernels");
        let apt = folder.join("apt");
        for part in ["lists/partial", "archives/partial"] {
            let part = apt.join(part);
            fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
        }
        fs::write(apt.join("status"), "")?;
        let settings = APT.replace("{folder}", &apt.to_string_lossy());
        fs::write(apt.join("apt.conf"), settings)?;
        Ok(Self {
            folder,
            updated: OnceCell::new(),
        })
    }

    /// The kernel of a guest: the one that is kept, else the newest that there is.
    pub(super) fn kernel(&self, guest: Guest) -> Result<PathBuf> {
        let kept = names_in(&self.folder)?;
        let package = match newest(guest, &kept) {
            Some(package) => package.to_owned(),
            None => self.newest_kernel(guest)?,
        };
        let architecture = guest.architecture.debian();
        let image = format!(
            "boot/vmlinuz-{}",
            package.trim_start_matches("linux-image-")
        );
        self.keep(&package, &format!("{package}:{architecture}"), &image)
    }

    /// Forgets every kernel, so that the newest ones are fetched.
    pub(super) fn forget_kernels(&self) -> Result<()> {
        let kept = names_in(&self.folder)?;
        for name in kept.iter().filter(|name| name.starts_with("linux-image-")) {
            fs::remove_dir_all(self.folder.join(name))?;
        }
        Ok(())
    }

    /// The small tools of a guest's file system, in one static program.
    pub(super) fn busybox(&self, architecture: Architecture) -> Result<PathBuf> {
        let architecture = architecture.debian();
        let package = format!("busybox-static:{architecture}");
        self.keep(&format!("busybox-{architecture}"), &package, "bin/busybox")
    }

    /// The standard library of this version of Debian's rustc for an architecture: a folder for `--sysroot`.
    pub(super) fn standard_library(
        &self,
        architecture: Architecture,
        version: &str,
    ) -> Result<PathBuf> {
        let architecture = architecture.debian();
        let package = format!("libstd-rust-web-dev:{architecture}={version}");
        self.keep(&format!("libstd-{version}-{architecture}"), &package, "usr")
    }

    /// The newest kernel in the package lists.
    fn newest_kernel(&self, guest: Guest) -> Result<String> {
        self.update()?;
        let prefix = format!("linux-image-{}", guest.series);
        let names = process::output(self.apt("apt-cache").args(["pkgnames", &prefix]))?;
        let names: Vec<String> = names.lines().map(str::to_owned).collect();
        let architecture = guest.architecture.debian();
        newest(guest, &names)
            .map(str::to_owned)
            .with_context(|| {
                format!(
                    "there is no package {prefix}.*-cloud-{architecture}: add the sources of Debian bookworm and of its \
                     security updates to /etc/apt"
                )
            })
    }

    /// Reads the package lists, once.
    fn update(&self) -> Result<()> {
        if self.updated.get().is_some() {
            return Ok(());
        }
        ensure!(
            exists("apt-get") && exists("dpkg-deb"),
            "kernels come out of Debian's packages, which needs apt-get and dpkg-deb: run this on Debian bookworm"
        );
        // A source that cannot be read may be one that is not needed.
        process::show(self.apt("apt-get").args(["update", "-q"]))?;
        _ = self.updated.set(());
        Ok(())
    }

    /// One file or folder out of a package, kept under a name. It is there whole or not at all.
    fn keep(&self, name: &str, package: &str, path: &str) -> Result<PathBuf> {
        let kept = self.folder.join(name);
        let wanted = kept.join(Path::new(path).file_name().unwrap_or_default());
        if wanted.exists() {
            return Ok(wanted);
        }
        self.update()?;
        say(format_args!("fetching {package}"));
        let work = TempDir::new_in(&self.folder)?;
        let unpacked = self.unpack(package, work.path())?;
        fs::create_dir_all(&kept)?;
        fs::rename(unpacked.join(path), &wanted)
            .with_context(|| format!("package {package} holds no {path}"))?;
        Ok(wanted)
    }

    /// Everything in a package, in a folder within `work`.
    fn unpack(&self, package: &str, work: &Path) -> Result<PathBuf> {
        let mut download = self.apt("apt-get");
        process::output(download.current_dir(work).args(["download", "-q", package]))?;
        let files = names_in(work)?;
        let archive = files
            .iter()
            .find(|name| name.ends_with(".deb"))
            .with_context(|| format!("`apt-get download {package}` left no archive"))?;
        let unpacked = work.join("unpacked");
        let mut unpack = Command::new("dpkg-deb");
        process::output(unpack.arg("-x").arg(work.join(archive)).arg(&unpacked))?;
        Ok(unpacked)
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.folder.join("apt/apt.conf"));
        command
    }
}

fn names_in(folder: &Path) -> Result<Vec<String>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect()
}

/// The newest cloud kernel of the guest's series and architecture among the packages.
fn newest(guest: Guest, packages: &[String]) -> Option<&str> {
    let versions = packages.iter().filter_map(|package| {
        let version = version(guest, package)?;
        Some((version, package.as_str()))
    });
    versions.max().map(|(_, package)| package)
}

/// The numbers in a package's name, if it is one of the guest's kernels: `6.1.0-50` is 6, 1, 0, 50.
fn version(guest: Guest, package: &str) -> Option<Vec<u32>> {
    let suffix = format!("-cloud-{}", guest.architecture.debian());
    let version = package
        .strip_prefix("linux-image-")?
        .strip_suffix(&suffix)?;
    let patch = version.strip_prefix(guest.series)?;
    if !patch.starts_with('.') {
        return None;
    }
    let numbers = version.split(|letter: char| !letter.is_ascii_digit());
    Some(numbers.filter_map(|number| number.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_found_by_its_numbers() {
        let packages = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-50-cloud-amd64",
            "linux-image-6.1.0-51-cloud-amd64-dbg",
            "linux-image-6.1.0-51-cloud-amd64-unsigned",
            "linux-image-6.1.0-52-cloud-arm64",
            "linux-image-6.1.0-53-amd64",
            "linux-image-6.12-cloud-amd64",
            "linux-image-6.12.9+deb12-cloud-amd64",
            "linux-image-6.12.107+deb12-cloud-amd64",
        ]
        .map(str::to_owned);
        let found = |series, architecture| {
            let guest = Guest {
                series,
                architecture,
            };
            newest(guest, &packages)
        };
        assert_eq!(
            found("6.1", Architecture::Amd64),
            Some("linux-image-6.1.0-50-cloud-amd64")
        );
        assert_eq!(
            found("6.12", Architecture::Amd64),
            Some("linux-image-6.12.107+deb12-cloud-amd64")
        );
        assert_eq!(
            found("6.1", Architecture::Arm64),
            Some("linux-image-6.1.0-52-cloud-arm64")
        );
        assert_eq!(found("6.12", Architecture::Arm64), None);
    }
}
