//! `cargo xtask bench steering`: how evenly connections are spread over the workers, and what new clients notice of a
//! worker that is busy, with each mode of steering.
//!
//! Every round starts Tidegate anew for each mode, so that a disturbance of the machine meets all of them.

mod burden;
mod imbalance;
mod plot;
mod report;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::open_loop::{Clients, Kind, Percentiles, Rate};
use super::running::Running;
use super::testbed::{Metrics, Steering, Testbed};
use super::{document, files, machine};
use crate::setup::{self, Need};
use crate::terminal::{say, warn};
use crate::{Verdict, build};
use burden::Burden;

/// Arguments of `cargo xtask bench steering`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Args {
    /// Length of one measurement
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,

    /// How often everything is measured; the median counts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// New connections of light clients in a second; a quarter of them use TLS
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    rate: u32,

    /// Long handshakes in a second
    #[arg(long, value_name = "N", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    handshakes: u32,

    /// Connections that are held at once for the imbalance
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(10..=8_000))]
    connections: u32,
}

/// As many workers as CPUs where this was first measured, and twice as many.
const WORKERS: [usize; 2] = [2, 4];
/// Of the clients or of Tidegate, with connections of heavy clients that are opened until enough are at one worker.
const FILES: u64 = 10_000;
/// For connections to go, and for memory and caches to settle, between two measurements.
const SETTLE: Duration = Duration::from_millis(300);

/// The share of requests at the worker that was kept busy, those of the clients that did so left out; or at the one that had
/// most.
fn share(busy: Option<usize>, before: &Metrics, after: &Metrics) -> Result<f64> {
    const REQUESTS: &str = "tidegate_worker_requests_total";
    let (before_of, after_of) = (before.by_worker(REQUESTS), after.by_worker(REQUESTS));
    let pairs = before_of.iter().zip(after_of);
    let mut more: Vec<_> = pairs
        .map(|(before, after)| after.saturating_sub(*before))
        .collect();
    let most = match busy {
        Some(worker) => {
            let heavy = burden::answered(after).saturating_sub(burden::answered(before));
            let at_worker = more.get_mut(worker).context("a worker has gone")?;
            *at_worker = at_worker.saturating_sub(heavy);
            *at_worker
        }
        None => more.iter().copied().max().unwrap_or_default(),
    };
    Ok(most as f64 / more.iter().sum::<u64>().max(1) as f64)
}

/// What the light clients have beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Workload {
    /// Kept connections of heavy clients, all at one worker.
    BusyWorker,
    /// Long handshakes, on connections that are steered like all others.
    LongHandshakes,
}

impl Workload {
    const ALL: [Self; 2] = [Self::BusyWorker, Self::LongHandshakes];

    fn name(self) -> &'static str {
        match self {
            Self::BusyWorker => "one busy worker",
            Self::LongHandshakes => "long handshakes",
        }
    }
}

/// Light clients of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Case {
    workload: Workload,
    workers: usize,
    kind: Kind,
    steering: Steering,
}

/// What they saw in one round.
#[derive(Clone, Copy, Debug)]
struct Sample {
    latency: Percentiles,
    requests: usize,
    failures: usize,
    /// Of all requests of light clients, those at the busiest worker, from 0 to 1.
    share: f64,
    /// CPUs that Tidegate used.
    cpus: f64,
}

/// All rounds.
#[derive(Debug, Default)]
struct Measured {
    cases: BTreeMap<Case, Vec<Sample>>,
    /// Held connections of each worker.
    held: BTreeMap<(usize, Steering), Vec<Vec<u64>>>,
}

pub(super) fn run(args: Args, page: &Path, tidegate: Option<&Path>) -> Result<Verdict> {
    setup::ensure(&[Need::Compiler])?;
    files::allow(FILES)?;
    let program = build::release_or(tidegate)?;
    let testbed = Testbed::new(&program, None)?;
    let mut measured = Measured::default();
    let modes = Steering::value_variants();
    for round in 0..args.rounds {
        for workers in WORKERS {
            // Another mode goes first each time.
            let first = round as usize % modes.len();
            for &steering in modes.iter().cycle().skip(first).take(modes.len()) {
                say(format_args!(
                    "round {} of {}: {workers} workers, {}",
                    round + 1,
                    args.rounds,
                    steering.name()
                ));
                measure(args, round, workers, steering, &testbed, &mut measured)
                    .with_context(|| format!("{} with {workers} workers", steering.name()))?;
            }
        }
    }
    let verdict = report(args, page, &measured)?;
    Ok(verdict)
}

fn measure(
    args: Args,
    round: u32,
    workers: usize,
    steering: Steering,
    testbed: &Testbed,
    measured: &mut Measured,
) -> Result<()> {
    let tidegate = testbed.start(steering, workers)?;
    let held = imbalance::hold(testbed, args.connections as usize)?;
    say(format_args!("  held by each worker: {held:?}"));
    measured
        .held
        .entry((workers, steering))
        .or_default()
        .push(held);
    for workload in Workload::ALL {
        sleep(SETTLE);
        for (kind, sample) in beside(workload, args, round, testbed, &tidegate)? {
            say(format_args!(
                "  {}, {}: p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, {} of {} failed, {:.0} % at the busiest worker, {:.2} CPUs",
                workload.name(),
                kind.name(),
                sample.latency.p50,
                sample.latency.p99,
                sample.latency.p999,
                sample.failures,
                sample.requests,
                100.0 * sample.share,
                sample.cpus,
            ));
            let case = Case {
                workload,
                workers,
                kind,
                steering,
            };
            measured.cases.entry(case).or_default().push(sample);
        }
    }
    Ok(())
}

/// Runs light clients beside a workload. The same round has the same schedule in every mode.
fn beside(
    workload: Workload,
    args: Args,
    round: u32,
    testbed: &Testbed,
    tidegate: &Running,
) -> Result<Vec<(Kind, Sample)>> {
    let rate = f64::from(args.rate);
    let mut rates = vec![
        Rate {
            kind: Kind::Plain,
            per_second: 0.75 * rate,
        },
        Rate {
            kind: Kind::Tls,
            per_second: 0.25 * rate,
        },
    ];
    let burden = match workload {
        Workload::BusyWorker => Some(Burden::at_one_worker(testbed)?),
        Workload::LongHandshakes => {
            rates.push(Rate {
                kind: Kind::LongHandshake,
                per_second: f64::from(args.handshakes),
            });
            None
        }
    };
    sleep(SETTLE);
    let before = match &burden {
        Some(burden) => burden.before.clone(),
        None => testbed.metrics()?,
    };
    let (spent, begun) = (tidegate.cpu_seconds(), Instant::now());
    let clients = Clients::start(&testbed.target()?, &rates, u64::from(round))?;
    sleep(Duration::from_secs(args.seconds.into()));
    let cpus = (tidegate.cpu_seconds() - spent) / begun.elapsed().as_secs_f64();
    let seen = clients.stop()?;
    let busy = burden.map(Burden::stop).transpose()?;
    sleep(SETTLE);
    let share = share(busy, &before, &testbed.metrics()?)?;
    let samples = seen.kinds().map(|(kind, record)| {
        if let Some(failure) = &record.first_failure {
            warn(format_args!("  {}: {failure}", kind.name()));
        }
        let sample = Sample {
            latency: record.percentiles(),
            requests: record.answered + record.failures(),
            failures: record.failures(),
            share,
            cpus,
        };
        (kind, sample)
    });
    Ok(samples
        .filter(|(kind, _)| *kind != Kind::LongHandshake)
        .collect())
}

fn report(args: Args, page: &Path, measured: &Measured) -> Result<Verdict> {
    let (imbalance, latency) = (report::imbalance(measured), report::latency(measured));
    say(format_args!("\n{}\n{}", imbalance.text(), latency.text()));
    let plot = page.with_file_name("steering.svg");
    fs::write(&plot, plot::svg(measured))
        .with_context(|| format!("cannot write {}", plot.display()))?;
    let body = format!(
        "{}\n{}\n![{}](steering.svg)\n\n{}\n{}",
        report::settings(args),
        machine::markdown(&machine::describe()),
        plot::DESCRIPTION,
        imbalance.markdown(),
        latency.markdown()
    );
    document::replace(page, "steering", &body)?;
    say(format_args!(
        "written to {} and {}",
        page.display(),
        plot.display()
    ));
    let failures: usize = measured.cases.values().flatten().map(|s| s.failures).sum();
    Ok(Verdict::of(failures == 0))
}
