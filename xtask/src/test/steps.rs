//! The steps of `cargo xtask test` in the order in which they run: quick verdicts first.

use anyhow::{Result, bail};

use super::Group;
use crate::bench::slow;
use crate::metadata::{Metadata, Target};
use crate::process::{self, Shown};
use crate::terminal::say;
use crate::{Verdict, build, conformance, ebpf, fuzz, kernels, tidy};

/// One check.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) group: Group,
    pub(super) run: fn() -> Result<Outcome>,
}

/// How it ended and what it printed.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) success: bool,
    pub(super) output: String,
}

impl Outcome {
    pub(super) fn of(success: bool) -> Self {
        Self {
            success,
            output: String::new(),
        }
    }
}

impl From<Shown> for Outcome {
    fn from(Shown { success, output }: Shown) -> Self {
        Self { success, output }
    }
}

impl Step {
    pub(super) const ALL: &[Self] = &[
        Self {
            name: "fmt",
            group: Group::Lint,
            run: fmt,
        },
        Self {
            name: "tidy",
            group: Group::Lint,
            run: tidy,
        },
        Self {
            name: "deny",
            group: Group::Lint,
            run: deny,
        },
        Self {
            name: "clippy",
            group: Group::Lint,
            run: clippy,
        },
        Self {
            name: "docs",
            group: Group::Lint,
            run: docs,
        },
        Self {
            name: "ebpf",
            group: Group::Ebpf,
            run: ebpf,
        },
        Self {
            name: "units",
            group: Group::Rust,
            run: units,
        },
        Self {
            name: "doc tests",
            group: Group::Rust,
            run: doc_tests,
        },
        Self {
            name: "golden",
            group: Group::Golden,
            run: golden,
        },
        Self {
            name: "sockets",
            group: Group::Sockets,
            run: sockets,
        },
        Self {
            name: "kernel",
            group: Group::Sockets,
            run: kernel,
        },
        Self {
            name: "cluster",
            group: Group::Cluster,
            run: cluster,
        },
        Self {
            name: "slow peers",
            group: Group::Sockets,
            run: slow_peers,
        },
        Self {
            name: "fuzz clippy",
            group: Group::Fuzz,
            run: fuzz_clippy,
        },
        Self {
            name: "fuzz",
            group: Group::Fuzz,
            run: fuzz,
        },
        Self {
            name: "h2spec",
            group: Group::Conformance,
            run: h2spec,
        },
        Self {
            name: "kernels",
            group: Group::Kernels,
            run: other_kernels,
        },
        Self {
            name: "commands",
            group: Group::Lint,
            run: commands,
        },
    ];
}

fn cargo(arguments: &[&str]) -> Result<Outcome> {
    Ok(process::show(process::cargo().args(arguments))?.into())
}

fn fmt() -> Result<Outcome> {
    cargo(&["fmt", "--all", "--check"])
}

fn tidy() -> Result<Outcome> {
    Ok(Outcome::of(tidy::report(tidy::sources()?)))
}

fn deny() -> Result<Outcome> {
    cargo(&[
        "deny",
        "--workspace",
        "check",
        "--hide-inclusion-graph",
        "licenses",
        "bans",
        "sources",
    ])
}

fn clippy() -> Result<Outcome> {
    cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ])
}

fn docs() -> Result<Outcome> {
    let mut command = process::cargo();
    command.env("RUSTDOCFLAGS", "-D warnings").args([
        "doc",
        "--workspace",
        "--no-deps",
        "--locked",
    ]);
    Ok(process::show(&mut command)?.into())
}

fn ebpf() -> Result<Outcome> {
    Ok(Outcome::of(ebpf::check()? == Verdict::Pass))
}

fn units() -> Result<Outcome> {
    let others = integration_tests(Group::Rust)?;
    test(
        ["--lib", "--bins"]
            .into_iter()
            .map(str::to_owned)
            .chain(named(others)),
    )
}

fn doc_tests() -> Result<Outcome> {
    test(["--doc".to_owned()])
}

fn golden() -> Result<Outcome> {
    group_of_integration_tests(Group::Golden)
}

fn sockets() -> Result<Outcome> {
    let mut names = integration_tests(Group::Sockets)?;
    names.retain(|name| name != KERNEL);
    test(named(names))
}

/// The integration test that needs root and BPF; its tests measure, so nothing runs beside them.
const KERNEL: &str = "kernel";

fn kernel() -> Result<Outcome> {
    test(named(vec![KERNEL.to_owned()]))
}

/// Tests there take turns by themselves, but two programs of them would not.
fn cluster() -> Result<Outcome> {
    let mut sum = Outcome::of(true);
    for name in integration_tests(Group::Cluster)? {
        let outcome = test(named(vec![name]))?;
        sum.success &= outcome.success;
        sum.output.push_str(&outcome.output);
    }
    Ok(sum)
}

fn slow_peers() -> Result<Outcome> {
    let (verdict, output) = slow::check(&build::as_tested()?)?;
    Ok(Outcome {
        success: verdict == Verdict::Pass,
        output,
    })
}

/// Seconds for each target: enough to run through its corpus and a little more.
const FUZZ_SECONDS: u32 = 5;

fn fuzz_clippy() -> Result<Outcome> {
    Ok(Outcome::of(fuzz::clippy()? == Verdict::Pass))
}

fn fuzz() -> Result<Outcome> {
    Ok(Outcome::of(fuzz::briefly(FUZZ_SECONDS)? == Verdict::Pass))
}

fn h2spec() -> Result<Outcome> {
    let report = conformance::check(&build::as_tested()?)?;
    let output = report.text();
    say(&output);
    Ok(Outcome {
        success: report.agrees(),
        output,
    })
}

fn other_kernels() -> Result<Outcome> {
    let report = kernels::check()?;
    let output = report.text();
    say(&output);
    Ok(Outcome {
        success: report.passed(),
        output,
    })
}

fn commands() -> Result<Outcome> {
    Ok(Outcome::of(tidy::report(tidy::commands()?)))
}

fn group_of_integration_tests(group: Group) -> Result<Outcome> {
    let names = integration_tests(group)?;
    if names.is_empty() {
        bail!("no crate has an integration test for the group {group:?}, so nothing was tested");
    }
    test(named(names))
}

/// Runs tests with the features that the whole workspace asks for, so that one build serves every step.
fn test(what: impl IntoIterator<Item = String>) -> Result<Outcome> {
    let mut command = process::cargo();
    command
        .env("RUST_BACKTRACE", "1")
        .args(["test", "--workspace", "--locked", "--no-fail-fast"])
        .args(what)
        .args(["--", "--show-output"]);
    Ok(process::show(&mut command)?.into())
}

fn named(names: Vec<String>) -> impl Iterator<Item = String> {
    names
        .into_iter()
        .flat_map(|name| ["--test".to_owned(), name])
}

fn integration_tests(group: Group) -> Result<Vec<String>> {
    let metadata = Metadata::load()?;
    let mut names: Vec<String> = metadata
        .members()
        .flat_map(|package| package.targets.iter().map(move |target| (package, target)))
        .filter(|(package, target)| target.is_test() && group_of(&package.name, target) == group)
        .map(|(_, target)| target.name.clone())
        .collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// Every integration test belongs to a group, so none is forgotten.
fn group_of(package: &str, target: &Target) -> Group {
    match package {
        _ if target.name == "golden" => Group::Golden,
        _ if matches!(
            &*target.name,
            "cluster" | "manifests" | "pebble" | "testbed"
        ) =>
        {
            Group::Cluster
        }
        "tidegate" | "tidegate-dataplane" => Group::Sockets,
        _ => Group::Rust,
    }
}
