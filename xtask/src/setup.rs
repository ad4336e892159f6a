//! What the tests and benchmarks need on the machine, installed where it is missing.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use tidegate_testbed::{moto, programs};

use crate::ebpf::linker;
use crate::process::{self, exists};
use crate::terminal::say;

/// The release that `deny.toml` is written for. Another one that is there already is left in place.
const CARGO_DENY: &str = "0.20.2";

/// Something that a step needs and the machine may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// A C compiler, for the crates that build C.
    Compiler,
    /// A C++ compiler, for libFuzzer.
    CxxCompiler,
    /// The TLS library's build needs it on some machines.
    Cmake,
    /// curl with HTTP/2, a client of the socket tests.
    Curl,
    /// openssl, which makes the benchmark's certificate.
    Openssl,
    /// ip, which makes network namespaces for tests.
    Ip,
    /// Go, which builds h2spec.
    Go,
    /// Load over HTTP/1.1.
    Wrk,
    /// Load over HTTP/2.
    H2load,
    /// pip, which fetches the benchmark's peers.
    Pip,
    /// rustfmt.
    Rustfmt,
    /// clippy.
    Clippy,
    /// cargo-deny.
    CargoDeny,
    /// The source of the library of [`Need::DebianRustc`].
    RustWebSrc,
    /// LLVM's libraries and tools, of the release that [`Need::DebianRustc`] has.
    Llvm22,
    /// The linker of programs for the kernel.
    BpfLinker,
    /// A C compiler for arm64.
    CrossCompiler,
    /// The C library for arm64, static.
    CrossLibc,
    /// A Rust compiler whose standard libraries for other architectures are packages.
    DebianRustc,
    /// An emulator of amd64 machines.
    QemuX86,
    /// An emulator of arm64 machines.
    QemuArm,
    /// etcd, the API server, its controllers, kubectl, helm and Pebble, which Go builds once.
    Testbed,
    /// cpio, which packs a kernel's initial file system.
    Cpio,
    /// Knot DNS, the name servers of certificate tests.
    Knot,
    /// Python's virtual environments, which moto is installed into.
    Venv,
    /// moto, which answers as Route 53 does.
    Moto,
}

impl Need {
    fn is_met(self) -> bool {
        match self {
            Self::Compiler => exists("cc"),
            Self::CxxCompiler => exists("c++"),
            Self::Cmake => exists("cmake"),
            Self::Curl => process::output(Command::new("curl").arg("--version"))
                .is_ok_and(|text| text.contains("HTTP2")),
            Self::Openssl => exists("openssl"),
            Self::Ip => exists("ip"),
            Self::Go => exists("go"),
            Self::Wrk => exists("wrk"),
            Self::H2load => exists("h2load"),
            Self::Pip => {
                process::output(Command::new("python3").args(["-m", "pip", "--version"])).is_ok()
            }
            Self::Rustfmt => process::output(process::cargo().args(["fmt", "--version"])).is_ok(),
            Self::Clippy => process::output(process::cargo().args(["clippy", "--version"])).is_ok(),
            Self::CargoDeny => {
                process::output(process::cargo().args(["deny", "--version"])).is_ok()
            }
            Self::RustWebSrc => debian_version("rust-web-src").is_some(),
            Self::Llvm22 => debian_version("llvm-22-dev").is_some(),
            Self::BpfLinker => linker::is_there(),
            Self::CrossCompiler => exists("aarch64-linux-gnu-gcc"),
            Self::CrossLibc => Path::new("/usr/aarch64-linux-gnu/lib/libc.a").is_file(),
            Self::DebianRustc => debian_version("rustc-web").is_some(),
            Self::QemuX86 => exists("qemu-system-x86_64"),
            Self::QemuArm => exists("qemu-system-aarch64"),
            Self::Testbed => programs::are_built(),
            Self::Cpio => exists("cpio"),
            Self::Knot => Path::new("/usr/sbin/knotd").is_file() || exists("knotd"),
            Self::Venv => {
                let mut python = Command::new("python3");
                process::output(python.args(["-c", "import venv, ensurepip"])).is_ok()
            }
            Self::Moto => moto::is_there(),
        }
    }

    fn source(self) -> Source {
        match self {
            Self::Compiler | Self::CxxCompiler => Source::Apt("build-essential"),
            Self::Cmake => Source::Apt("cmake"),
            Self::Curl => Source::Apt("curl"),
            Self::Openssl => Source::Apt("openssl"),
            Self::Ip => Source::Apt("iproute2"),
            Self::Go => Source::Apt("golang-go"),
            Self::Wrk => Source::Apt("wrk"),
            Self::H2load => Source::Apt("nghttp2-client"),
            Self::Pip => Source::Apt("python3-pip"),
            Self::Rustfmt => Source::Component("rustfmt"),
            Self::Clippy => Source::Component("clippy"),
            Self::CargoDeny => Source::Crate("cargo-deny", CARGO_DENY),
            Self::RustWebSrc => Source::Apt("rust-web-src"),
            Self::Llvm22 => Source::Apt("llvm-22-dev"),
            Self::BpfLinker => Source::Own(linker::install),
            Self::CrossCompiler => Source::Apt("gcc-aarch64-linux-gnu"),
            Self::CrossLibc => Source::Apt("libc6-dev-arm64-cross"),
            Self::DebianRustc => Source::Apt("rustc-web"),
            Self::QemuX86 => Source::Apt("qemu-system-x86"),
            Self::QemuArm => Source::Apt("qemu-system-arm"),
            Self::Testbed => Source::Own(|| {
                programs::ensure()?;
                programs::pebble()?;
                programs::helm().map(drop)
            }),
            Self::Cpio => Source::Apt("cpio"),
            Self::Knot => Source::Apt("knot"),
            Self::Venv => Source::Apt("python3-venv"),
            Self::Moto => Source::Own(|| moto::ensure().map(drop)),
        }
    }
}

/// Where it comes from.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// A Debian package.
    Apt(&'static str),
    /// A component of the Rust toolchain.
    Component(&'static str),
    /// A crate and its version, built here.
    Crate(&'static str, &'static str),
    /// Something that its own module installs.
    Own(fn() -> Result<()>),
}

/// Installs whatever of the needs is missing.
///
/// # Errors
/// When something stays missing; the message says how to install it by hand.
pub(crate) fn ensure(needs: &[Need]) -> Result<()> {
    let missing: Vec<Need> = needs
        .iter()
        .copied()
        .filter(|need| !need.is_met())
        .collect();
    if missing.is_empty() {
        say("everything that is needed is there");
        return Ok(());
    }
    let sources: Vec<Source> = missing.iter().map(|need| need.source()).collect();
    let packages = sources.iter().filter_map(|source| match source {
        Source::Apt(package) => Some(*package),
        _ => None,
    });
    // Packages first: what is built here needs some of them.
    apt(&packages.collect::<Vec<_>>())?;
    for source in sources {
        match source {
            Source::Apt(_) => {}
            Source::Component(name) => component(name)?,
            Source::Crate(name, version) => krate(name, version)?,
            Source::Own(install) => install()?,
        }
    }
    match missing.into_iter().find(|need| !need.is_met()) {
        Some(need) => bail!("{need:?} is still missing after its installation; install it by hand"),
        None => Ok(()),
    }
}

/// The version of a Debian package that is installed here.
pub(crate) fn debian_version(package: &str) -> Option<String> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status} ${Version}"]);
    let answer = process::output(query.arg(package)).ok()?;
    answer.strip_prefix("installed ").map(str::to_owned)
}

fn apt(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let names = packages.join(" ");
    if !exists("apt-get") {
        bail!(
            "missing: {names} (names of Debian packages). Install them with this system's package manager and run again"
        );
    }
    if !is_root()? {
        bail!("missing: {names}. Run `sudo apt-get install {names}` and then this command again");
    }
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    // The package lists may be old and still good enough, so a failed update is not yet an error.
    process::show(apt().args(["update", "-q"]))?;
    let install = process::show(
        apt()
            .args(["install", "-y", "-q", "--no-install-recommends"])
            .args(packages),
    )?;
    if !install.success {
        bail!("apt-get could not install {names}; see its output above");
    }
    Ok(())
}

fn component(name: &str) -> Result<()> {
    if !exists("rustup") {
        bail!(
            "cargo {name} is missing and there is no rustup to add it: install it with the package of your Rust toolchain"
        );
    }
    if !process::show(Command::new("rustup").args(["component", "add", name]))?.success {
        bail!("`rustup component add {name}` failed; see its output above");
    }
    Ok(())
}

fn krate(name: &str, version: &str) -> Result<()> {
    say(format_args!(
        "building {name} {version}, which takes some minutes"
    ));
    let mut command = process::cargo();
    command.current_dir(env::temp_dir());
    command.args(["install", name, "--version", version, "--locked", "--force"]);
    if !process::show(&mut command)?.success {
        bail!("`cargo install {name} --version {version} --locked` failed; see its output above");
    }
    Ok(())
}

fn is_root() -> Result<bool> {
    Ok(process::output(Command::new("id").arg("-u"))?.trim() == "0")
}
