//! bpf-linker, which makes one object of what rustc compiles for the kernel.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use super::toolchain::LLVM;
use crate::process;
use crate::terminal::say;

/// Exactly this release: another one may write other bytes.
pub(crate) const VERSION: &str = "0.13.0";

/// Where it is kept.
pub(super) fn program() -> Result<PathBuf> {
    Ok(super::cache()?.join("bin/bpf-linker"))
}

/// Whether the release is there and runs.
pub(crate) fn is_there() -> bool {
    let version =
        program().and_then(|program| process::output(Command::new(program).arg("--version")));
    version.is_ok_and(|text| text.split_whitespace().any(|word| word == VERSION))
}

/// Builds it. LLVM's libraries must be there.
pub(crate) fn install() -> Result<()> {
    say(format_args!(
        "building bpf-linker {VERSION}, which takes some minutes"
    ));
    let mut command = process::cargo();
    command
        .current_dir(env::temp_dir())
        .env("LLVM_PREFIX", LLVM)
        .args(["install", "bpf-linker", "--locked", "--force"])
        .arg(format!("--version={VERSION}"))
        .args(["--no-default-features", "--features=llvm-22", "--root"])
        .arg(super::cache()?);
    if !process::show(&mut command)?.success {
        bail!(
            "bpf-linker {VERSION} could not be built; see the output above. It needs Debian's llvm-22-dev and a C compiler"
        );
    }
    Ok(())
}
