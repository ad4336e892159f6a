//! The initial file system of a guest, which is all that it has.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::programs::Programs;

const INIT: &str = include_str!("init.sh");
const FOLDERS: [&str; 7] = ["bin", "dev", "etc", "proc", "root", "sys", "tmp"];

/// Writes the archive `NAME.cpio` into a folder.
pub(super) fn write(
    folder: &Path,
    name: &str,
    busybox: &Path,
    programs: &Programs,
) -> Result<PathBuf> {
    let root = folder.join(name);
    let mut names = vec![".".to_owned()];
    for inner in FOLDERS {
        fs::create_dir_all(root.join(inner))?;
        names.push(inner.to_owned());
    }
    let files = [
        (busybox, "bin/busybox"),
        (&programs.tidegate, "bin/tidegate"),
        (&programs.tests, "bin/kernel-tests"),
    ];
    for (from, to) in files {
        fs::copy(from, root.join(to)).with_context(|| format!("cannot copy {}", from.display()))?;
        names.push(to.to_owned());
    }
    fs::write(root.join("init"), INIT)?;
    fs::set_permissions(root.join("init"), Permissions::from_mode(0o755))?;
    names.push("init".to_owned());
    let image = folder.join(format!("{name}.cpio"));
    archive(&root, &names, &image)?;
    fs::remove_dir_all(&root)?;
    Ok(image)
}

/// Packs files, owned by root, in the form that kernels read.
fn archive(root: &Path, names: &[String], image: &Path) -> Result<()> {
    let mut cpio = Command::new("cpio")
        .args(["--create", "--format=newc", "--quiet", "--owner=+0:+0"])
        .arg("--file")
        .arg(image)
        .current_dir(root)
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot run cpio")?;
    if let Some(mut input) = cpio.stdin.take() {
        input.write_all(names.join("\n").as_bytes())?;
    }
    let status = cpio.wait()?;
    ensure!(status.success(), "cpio failed: {status}");
    Ok(())
}
