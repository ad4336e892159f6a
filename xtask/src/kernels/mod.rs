//! `cargo xtask kernels`: the program on other kernels and on ARM, in QEMU's software emulation.
//!
//! A guest is a kernel out of Debian's packages and a file system in memory: busybox, the static program, and the crate's
//! integration test `kernel`, which is run with the filter `vm_`. No module is loaded, so there is what is built into a
//! kernel: loopback, Unix sockets, BPF, generic XDP.

mod console;
mod guest;
mod image;
mod outcome;
mod packages;
mod programs;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::Verdict;
use crate::bench::document;
use crate::bench::machine;
use crate::metadata::Metadata;
use crate::setup::{self, Need};
use crate::terminal::say;
use guest::{Architecture, Guest};
use outcome::Outcome;
use packages::Packages;
use programs::Programs;
use report::Row;

/// The page with the table.
const PAGE: &str = "docs/kernels.md";
/// What the machine needs beside a Rust toolchain for every architecture.
pub(crate) const NEEDS: &[Need] = &[
    Need::Compiler,
    Need::Cmake,
    Need::CrossCompiler,
    Need::CrossLibc,
    Need::QemuX86,
    Need::QemuArm,
    Need::Cpio,
];

/// Arguments of `cargo xtask kernels`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Kernels to boot, like 6.12-arm64; all when none is named
    #[arg(value_name = "KERNEL", value_parser = Guest::parse)]
    guests: Vec<Guest>,

    /// Write the table to docs/kernels.md
    #[arg(long, conflicts_with = "guests")]
    write: bool,

    /// Fetch the newest kernels instead of those that an earlier run kept
    #[arg(long)]
    newest: bool,
}

pub(crate) fn run(args: &Args) -> Result<Verdict> {
    setup::ensure(NEEDS)?;
    let packages = Packages::open()?;
    if args.newest {
        packages.forget_kernels()?;
    }
    let guests = match args.guests.as_slice() {
        [] => &Guest::ALL,
        named => named,
    };
    let report = check_on(guests, &packages)?;
    say(report.text());
    if args.write {
        report.write(&crate::root().join(PAGE))?;
    }
    Ok(Verdict::of(report.passed()))
}

/// Runs everything on the guests that `cargo xtask test` boots.
pub(crate) fn check() -> Result<Report> {
    check_on(&Guest::OF_EVERY_TEST, &Packages::open()?)
}

/// What became of every guest.
#[derive(Debug)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn passed(&self) -> bool {
        self.rows.iter().all(Row::passed)
    }

    /// Consoles of failures, the table, and a last line as cargo's tests have it.
    pub(crate) fn text(&self) -> String {
        let failures: Vec<_> = self.rows.iter().filter_map(Row::failure).collect();
        format!(
            "{}\n{}\n{}",
            failures.join("\n"),
            report::table(&self.rows).text(),
            report::result_line(&self.rows)
        )
    }

    fn write(&self, page: &Path) -> Result<()> {
        let machine = machine::describe();
        let body = format!(
            "{}\n{}",
            machine::markdown(&machine),
            report::table(&self.rows).markdown()
        );
        document::replace(page, "kernels", &body)?;
        say(format_args!("written to {}", page.display()));
        Ok(())
    }
}

fn check_on(guests: &[Guest], packages: &Packages) -> Result<Report> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "the programs of the guests are built on x86-64 only; run this on such a machine"
    );
    let kernels: Vec<(Guest, PathBuf)> = guests
        .iter()
        .map(|guest| Ok((*guest, packages.kernel(*guest)?)))
        .collect::<Result<_>>()?;
    let architectures = guests.iter().map(|guest| guest.architecture).collect();
    let folder = TempDir::with_prefix("tidegate-kernels-")?;
    let images = images(&architectures, packages, folder.path())?;
    let consoles = Metadata::load()?.target_directory.join("kernels-consoles");
    fs::create_dir_all(&consoles)?;
    say(format_args!(
        "booting {} guests; what they say is kept in {}",
        kernels.len(),
        consoles.display()
    ));
    // One after another, as each has as many CPUs as it can use, and its tests are about load.
    let rows = kernels.iter().map(|(guest, kernel)| {
        let image = images.get(&guest.architecture);
        let image = image.context("the guest's architecture has no file system")?;
        boot(*guest, kernel, image, &consoles)
    });
    let rows = rows.collect::<Result<_>>()?;
    Ok(Report { rows })
}

/// Builds the programs and puts them into a file system for each architecture.
fn images(
    architectures: &BTreeSet<Architecture>,
    packages: &Packages,
    folder: &Path,
) -> Result<BTreeMap<Architecture, PathBuf>> {
    say("building tidegate and its kernel tests, static, with the profile kernels");
    let built = programs::build(architectures, packages)?;
    let images = architectures.iter().map(|&architecture| {
        let programs = Programs::of(architecture, &built)?;
        let busybox = packages.busybox(architecture)?;
        let image = image::write(folder, architecture.debian(), &busybox, &programs)?;
        Ok((architecture, image))
    });
    images.collect()
}

fn boot(guest: Guest, kernel: &Path, image: &Path, consoles: &Path) -> Result<Row> {
    let console = console::run(guest, kernel, image)?;
    fs::write(
        consoles.join(format!("{}.log", guest.name())),
        &console.text,
    )?;
    let outcome = Outcome::read(&console);
    let row = Row {
        guest,
        console,
        outcome,
    };
    say(row.line());
    Ok(row)
}
