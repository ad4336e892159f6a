//! `cargo xtask test`: every check there is, in groups, with one table at the end.

pub(crate) mod figures;
mod steps;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueEnum;

use crate::setup::{self, Need};
use crate::table::{Align, Table};
use crate::terminal::say;
use crate::{Verdict, ebpf, kernels};
use figures::{Figure, Tally};
use steps::Step;

/// Arguments of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Groups to run; when none is named, all but ebpf and kernels
    #[arg(value_name = "GROUP")]
    groups: Vec<Group>,

    /// Every group, which is what CI runs
    #[arg(long, conflicts_with = "groups")]
    all: bool,
}

/// What tests have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Group {
    /// Format, clippy, documentation, licences and sources of dependencies, tidy, commands in the README
    Lint,
    /// Unit and documentation tests of every crate, and what no other group has
    Rust,
    /// Translation, compared with committed files
    Golden,
    /// Data plane and agent over real sockets with real clients
    Sockets,
    /// On a cluster: a real etcd and API server, nodes as network namespaces, and the shipped manifests
    Cluster,
    /// Clippy of the fuzz targets, then each of them for some seconds, from the committed corpora
    Fuzz,
    /// HTTP/2 as h2spec has it
    Conformance,
    /// The committed object with the programs that run in the kernel, compared with what the source builds
    Ebpf,
    /// The program on other kernels and on ARM, in software emulation: some minutes more, so only when it is asked for
    Kernels,
}

impl Group {
    /// Whether a plain run leaves it out, because it needs another toolchain or other machines.
    fn is_left_out(self) -> bool {
        matches!(self, Self::Ebpf | Self::Kernels)
    }

    fn needs(self) -> &'static [Need] {
        match self {
            Self::Lint => &[
                Need::Compiler,
                Need::Cmake,
                Need::Rustfmt,
                Need::Clippy,
                Need::CargoDeny,
            ],
            Self::Rust => &[
                Need::Compiler,
                Need::Cmake,
                Need::Knot,
                Need::Venv,
                Need::Moto,
            ],
            Self::Golden => &[Need::Compiler, Need::Cmake],
            Self::Sockets => &[
                Need::Compiler,
                Need::Cmake,
                Need::Curl,
                Need::Openssl,
                Need::Ip,
            ],
            Self::Cluster => &[
                Need::Compiler,
                Need::Cmake,
                Need::Ip,
                Need::Go,
                Need::Testbed,
            ],
            Self::Fuzz => &[Need::Compiler, Need::CxxCompiler, Need::Cmake, Need::Clippy],
            Self::Conformance => &[Need::Compiler, Need::Cmake, Need::Go],
            Self::Ebpf => ebpf::NEEDS,
            Self::Kernels => kernels::NEEDS,
        }
    }
}

/// What one step left.
#[derive(Debug)]
struct Done {
    step: &'static str,
    success: bool,
    tally: Tally,
    figures: Vec<Figure>,
    took: Duration,
}

/// Runs every step of the groups, whatever fails on the way.
pub(crate) fn run(args: &Args) -> Result<Verdict> {
    let all = Group::value_variants().iter().copied();
    let groups: BTreeSet<Group> = match args.groups.as_slice() {
        [] if args.all => all.collect(),
        [] => all.filter(|group| !group.is_left_out()).collect(),
        named => named.iter().copied().collect(),
    };
    let started = Instant::now();
    let mut done = vec![perform("setup", started, || set_up(&groups))];
    for step in Step::ALL.iter().filter(|step| groups.contains(&step.group)) {
        done.push(perform(step.name, started, step.run));
    }
    report(&done, started.elapsed());
    Ok(Verdict::of(done.iter().all(|step| step.success)))
}

fn set_up(groups: &BTreeSet<Group>) -> Result<steps::Outcome> {
    let needs: BTreeSet<Need> = groups
        .iter()
        .flat_map(|group| group.needs())
        .copied()
        .collect();
    setup::ensure(&needs.into_iter().collect::<Vec<_>>())?;
    Ok(steps::Outcome::of(true))
}

fn perform(
    name: &'static str,
    started: Instant,
    step: impl FnOnce() -> Result<steps::Outcome>,
) -> Done {
    say(format_args!(
        "\n== {name} (at {})",
        clock(started.elapsed())
    ));
    let begun = Instant::now();
    let outcome = step().unwrap_or_else(|error| {
        say(format_args!("error: {error:#}"));
        steps::Outcome::of(false)
    });
    let took = begun.elapsed();
    let verdict = if outcome.success { "passed" } else { "FAILED" };
    say(format_args!("== {name} {verdict} after {}", clock(took)));
    Done {
        step: name,
        success: outcome.success,
        tally: figures::tally(&outcome.output),
        figures: figures::figures(&outcome.output),
        took,
    }
}

/// The tables, and as the last line the sum of all tests.
fn report(done: &[Done], took: Duration) {
    let mut figures = Table::new([
        ("step", Align::Left),
        ("figure", Align::Left),
        ("value", Align::Right),
        ("unit", Align::Left),
    ]);
    let mut steps = Table::new([
        ("step", Align::Left),
        ("result", Align::Left),
        ("passed", Align::Right),
        ("failed", Align::Right),
        ("ignored", Align::Right),
        ("took", Align::Right),
    ]);
    let mut sum = Tally::default();
    for Done {
        step,
        success,
        tally,
        figures: measured,
        took,
    } in done
    {
        sum += *tally;
        let result = if *success { "passed" } else { "FAILED" };
        let [passed, failed, ignored] = tally.cells();
        steps.push([
            (*step).to_owned(),
            result.to_owned(),
            passed,
            failed,
            ignored,
            clock(*took),
        ]);
        for figure in measured {
            figures.push([
                (*step).to_owned(),
                figure.name.clone(),
                figure.value.clone(),
                figure.unit.clone(),
            ]);
        }
    }
    if !figures.is_empty() {
        say(format_args!("\nMeasured\n\n{}", figures.text()));
    }
    say(format_args!(
        "\nSteps ({} in all)\n\n{}",
        clock(took),
        steps.text()
    ));
    if done.iter().any(|step| step.step == "deny") {
        say(
            "Security advisories are not part of this: they need the network. `cargo deny check advisories` asks.",
        );
    }
    let failed: Vec<_> = done
        .iter()
        .filter(|step| !step.success)
        .map(|step| step.step)
        .collect();
    if !failed.is_empty() {
        say(format_args!("steps that failed: {}", failed.join(", ")));
    }
    say(format_args!("{} passed, {} failed", sum.passed, sum.failed));
}

/// Minutes and seconds.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}
