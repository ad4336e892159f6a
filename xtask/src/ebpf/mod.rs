//! `cargo xtask ebpf`: the object with the programs that run in the kernel, built anew or compared with the source.

mod compare;
pub(crate) mod linker;
mod toolchain;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::Verdict;
use crate::metadata::Metadata;
use crate::setup;
use crate::terminal::say;
use toolchain::Toolchain;

pub(crate) use toolchain::NEEDS;

/// The object, which the agent contains; from the workspace's folder.
const OBJECT: &str = "ebpf/tidegate.bpf.o";
/// Its checksum, as `sha256sum` writes it.
const CHECKSUM: &str = "ebpf/tidegate.bpf.o.sha256";

/// Arguments of `cargo xtask ebpf`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Change nothing: prove that the committed object is byte for byte what the source builds
    #[arg(long)]
    check: bool,
}

/// Installs what is missing, then builds or checks the object.
pub(crate) fn run(args: &Args) -> Result<Verdict> {
    setup::ensure(NEEDS).context(toolchain::WANTED)?;
    if args.check { check() } else { renew() }
}

/// Builds the object in the place of the committed one.
fn renew() -> Result<Verdict> {
    let folder = Metadata::load()?.target_directory.join("ebpf");
    let built = Toolchain::find()?.build(&folder)?;
    let bytes = read(&built)?;
    let root = crate::root();
    fs::write(root.join(OBJECT), &bytes).with_context(|| format!("cannot write {OBJECT}"))?;
    fs::write(root.join(CHECKSUM), checksum_file(&bytes))
        .with_context(|| format!("cannot write {CHECKSUM}"))?;
    say(format_args!(
        "{OBJECT} is built: {} bytes, sha256 {}; commit it with {CHECKSUM}",
        bytes.len(),
        sha256(&bytes)
    ));
    Ok(Verdict::Pass)
}

/// Builds the object from nothing, in a folder of its own, and compares.
pub(crate) fn check() -> Result<Verdict> {
    let folder = TempDir::with_prefix("tidegate-ebpf-")?;
    let toolchain = Toolchain::find()?;
    let built = toolchain.build(folder.path())?;
    let committed = crate::root().join(OBJECT);
    let (of_source, in_place) = (read(&built)?, read(&committed)?);
    if let Some(wrong) = wrong_checksum() {
        say(format_args!("{CHECKSUM}: {wrong}"));
        return Ok(Verdict::Fail);
    }
    if of_source == in_place {
        say(format_args!(
            "{OBJECT} is what the source builds: {} bytes, sha256 {}",
            in_place.len(),
            sha256(&in_place)
        ));
        return Ok(Verdict::Pass);
    }
    let kept = Metadata::load()?.target_directory.join("differs.bpf.o");
    fs::write(&kept, &of_source).with_context(|| format!("cannot write {}", kept.display()))?;
    say(format_args!(
        "{OBJECT} is not what the source builds: {} bytes, sha256 {}; the source builds {} bytes, sha256 {}.",
        in_place.len(),
        sha256(&in_place),
        of_source.len(),
        sha256(&of_source)
    ));
    say(compare::sections(&toolchain, &committed, &built)?);
    say(format_args!(
        "Run `cargo xtask ebpf` and commit {OBJECT} and {CHECKSUM}. What was built is kept in {}.",
        kept.display()
    ));
    Ok(Verdict::Fail)
}

/// What is wrong with the committed checksum, if anything. Needs no toolchain.
pub(crate) fn wrong_checksum() -> Option<String> {
    let root = crate::root();
    let object = match read(&root.join(OBJECT)) {
        Ok(object) => object,
        Err(error) => return Some(format!("{error:#}")),
    };
    let stated = fs::read_to_string(root.join(CHECKSUM)).unwrap_or_default();
    (stated != checksum_file(&object)).then(|| {
        format!(
            "does not hold the checksum of {OBJECT}, {}; build both with `cargo xtask ebpf`",
            sha256(&object)
        )
    })
}

/// The file that is checked, for whoever says what is wrong with it.
pub(crate) const fn checksum_path() -> &'static str {
    CHECKSUM
}

fn checksum_file(object: &[u8]) -> String {
    let name = Path::new(OBJECT).file_name().and_then(OsStr::to_str);
    format!("{}  {}\n", sha256(object), name.unwrap_or(OBJECT))
}

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Folder for what is built once and kept.
fn cache() -> Result<PathBuf> {
    use std::env::var_os;
    let caches = var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    match caches.or_else(home) {
        Some(caches) => Ok(caches.join("tidegate-ebpf")),
        None => bail!("set HOME, so that bpf-linker can be kept in its .cache"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_checksum_is_the_objects() {
        assert_eq!(wrong_checksum(), None);
    }

    #[test]
    fn a_checksum_reads_as_sha256sum_writes_it() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(checksum_file(b""), format!("{empty}  tidegate.bpf.o\n"));
    }
}
