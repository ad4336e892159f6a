//! The compilers that build the object, and how they are called so that its bytes depend on the source alone.

use std::collections::BTreeSet;
use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::linker;
use crate::metadata::Metadata;
use crate::process;
use crate::setup::Need;

/// What must be on the machine.
pub(crate) const NEEDS: &[Need] = &[
    Need::Compiler,
    Need::DebianRustc,
    Need::RustWebSrc,
    Need::Llvm22,
    Need::BpfLinker,
];

/// Why a machine may not do.
pub(super) const WANTED: &str = "the eBPF object is built with Debian's rustc-web, rust-web-src and llvm-22-dev \
     (Debian 12 with its security updates) and bpf-linker, and not all of them can be had here";

/// The release of Debian's Rust that the committed object is built with. Compiler and source of the library must be of
/// one release, and its LLVM that of [`LLVM`].
const RELEASE: &str = "1.96.0";
const RUSTC: &str = "/usr/bin/rustc";
/// Where Debian has LLVM 22.
pub(super) const LLVM: &str = "/usr/lib/llvm-22";

const TARGET: &str = "bpfel-unknown-none";
const PACKAGE: &str = "tidegate-ebpf";
const PROGRAM: &str = "tidegate-bpf";
/// Its table in the workspace's manifest.
const PROFILE: &str = "ebpf";

/// Instructions of kernel 5.1 and newer, type information for the kernel. aya-ebpf wants to know an architecture, for
/// types that no program of ours uses: it is the same one everywhere.
const FLAGS: [&str; 3] = [
    "-Ctarget-cpu=v3",
    "-Clink-arg=--btf",
    "--cfg=bpf_target_arch=\"x86_64\"",
];

/// Compiler, library and linker of the right releases.
#[derive(Debug)]
pub(super) struct Toolchain {
    linker: PathBuf,
}

impl Toolchain {
    /// Makes sure of the releases.
    pub(super) fn find() -> Result<Self> {
        let said = process::output(Command::new(RUSTC).arg("--version")).context(WANTED)?;
        let release = said.split_whitespace().nth(1).unwrap_or_default();
        ensure!(
            release == RELEASE,
            "{RUSTC} is Rust {release}, and the committed object is built with {RELEASE}, so its bytes cannot be \
             compared here. Install Debian's rustc-web and rust-web-src {RELEASE}; if Debian has moved on, change \
             RELEASE in xtask/src/ebpf/toolchain.rs (and LLVM, if `{RUSTC} -vV` names another one) and run `cargo \
             xtask ebpf`"
        );
        Ok(Self {
            linker: linker::program()?,
        })
    }

    /// Builds the object in this target folder: without debugging information, with type information.
    pub(super) fn build(&self, target: &Path) -> Result<PathBuf> {
        let linked = target.join(TARGET).join(PROFILE).join(PROGRAM);
        if !process::show(&mut self.cargo(target)?)?.success {
            bail!("the programs for the kernel do not build; see the output above");
        }
        let object = target.join("tidegate.bpf.o");
        let mut strip = self.llvm("llvm-strip");
        strip.arg("-g").arg("-o").arg(&object).arg(&linked);
        process::output(&mut strip)?;
        self.refuse_panics(&object)?;
        Ok(object)
    }

    /// A program of LLVM.
    pub(super) fn llvm(&self, name: &str) -> Command {
        Command::new(Path::new(LLVM).join("bin").join(name))
    }

    fn cargo(&self, target: &Path) -> Result<Command> {
        let mut command = process::cargo();
        for name in env::vars_os().map(|(name, _)| name).filter(changes_builds) {
            command.env_remove(name);
        }
        // Unstable options, as this needs them, are not for stable releases otherwise.
        command
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTC", RUSTC)
            .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &self.linker)
            .env("CARGO_ENCODED_RUSTFLAGS", flags()?)
            .args(["build", "--locked", "-Zbuild-std=core"])
            .args(["--package", PACKAGE, "--bin", PROGRAM])
            .args(["--profile", PROFILE, "--target", TARGET, "--target-dir"])
            .arg(target);
        Ok(command)
    }

    /// The kernel takes no program that can panic: it says so only when the program is loaded, and not clearly.
    fn refuse_panics(&self, object: &Path) -> Result<()> {
        let mut readelf = self.llvm("llvm-readelf");
        readelf.args(["--sections", "--symbols", "--wide"]);
        let table = process::output(readelf.arg(object))?;
        if let Some(line) = table.lines().find(|line| comes_from_a_panic(line)) {
            bail!(
                "the programs can panic, which the kernel refuses: the object has `{}`. Look for indexing, division \
                 and arithmetic with checks in ebpf/src",
                line.trim()
            );
        }
        Ok(())
    }
}

/// A line of the object's tables that is there only when something can panic.
fn comes_from_a_panic(line: &str) -> bool {
    ["panic", "unwind", ".text.unlikely"]
        .iter()
        .any(|word| line.contains(word))
}

/// Whether a variable of the environment makes cargo build in another way than the workspace says. The search path for
/// libraries is that of the Rust that runs us.
fn changes_builds(name: &OsString) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    let prefixes = [
        "CARGO_BUILD_",
        "CARGO_PROFILE_",
        "CARGO_TARGET_",
        "CARGO_UNSTABLE_",
    ];
    let names = [
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_INCREMENTAL",
        "LD_LIBRARY_PATH",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
    ];
    names.contains(&name) || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// The compiler's flags, with names in the place of this machine's folders: type information holds paths.
fn flags() -> Result<OsString> {
    let mut flags: Vec<OsString> = FLAGS.iter().map(OsString::from).collect();
    flags.push(remap(&crate::root(), "/tidegate"));
    // The name of a registry's folder is derived from its address, which may be a mirror's.
    flags.extend(
        registries()?
            .iter()
            .map(|folder| remap(folder, "/registry")),
    );
    Ok(flags.join(OsStr::new("\x1f")))
}

fn remap(folder: &Path, name: &str) -> OsString {
    let mut flag = OsString::from("--remap-path-prefix=");
    flag.push(folder);
    flag.push("=");
    flag.push(name);
    flag
}

/// Folders that hold the sources of crates from registries.
fn registries() -> Result<BTreeSet<PathBuf>> {
    let metadata = Metadata::load()?;
    let foreign = metadata
        .packages
        .iter()
        .filter(|package| !package.is_ours());
    let folders = foreign.filter_map(|package| package.manifest_path.parent()?.parent());
    Ok(folders.map(Path::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_seen() {
        assert!(comes_from_a_panic(
            "    20: 0000000000000000    16 FUNC    LOCAL  DEFAULT    4 _RNvNtCs_4core9panicking18panic_bounds_check"
        ));
        assert!(comes_from_a_panic(
            "  [ 4] .text.unlikely.  PROGBITS 0000000000000000 000a40 000010 00  AX  0   0  8"
        ));
        assert!(!comes_from_a_panic(
            "     4: 0000000000000000  2888 FUNC    GLOBAL DEFAULT     3 steer"
        ));
    }

    #[test]
    fn the_environment_keeps_what_finds_crates() {
        let changing = |name: &str| changes_builds(&OsString::from(name));
        assert!(changing("RUSTFLAGS") && changing("CARGO_PROFILE_EBPF_OPT_LEVEL"));
        assert!(
            !changing("CARGO_HOME") && !changing("CARGO_REGISTRIES_X_INDEX") && !changing("PATH")
        );
    }
}
