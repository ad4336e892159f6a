//! `cargo xtask bench`: Tidegate and other proxies side by side, and parts of Tidegate by themselves.
//!
//! Each proxy runs alone on CPU 0; the load generator and a small backend share CPU 1. Rounds go through the proxies in
//! turn, so that a disturbance of the machine meets all of them, and the median of the rounds counts.

mod backend;
mod client;
mod cluster;
pub(crate) mod document;
mod files;
mod hand_over;
mod idle;
mod limit;
mod load;
pub(crate) mod machine;
mod objects;
mod open_loop;
mod parts;
mod peers;
mod report;
mod running;
mod scale;
mod scenario;
pub(crate) mod slow;
mod steering;
mod testbed;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::{Subcommand, ValueEnum};

use crate::Verdict;
use crate::setup::{self, Need};
use crate::terminal::{say, warn};
use backend::{Backend, Cpu};
use load::Load;
use parts::Part;
use peers::{Cache, Peer, Site};
use running::Running;
use scenario::Scenario;

/// Arguments of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    part: Option<Measure>,

    /// Length of one measurement
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,

    /// How often everything is measured; the median counts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// What to measure; everything when none is named
    #[arg(long = "scenario", value_name = "NAME", value_delimiter = ',')]
    scenarios: Vec<Scenario>,

    /// Which proxies to measure; all when none is named
    #[arg(long = "peer", value_name = "NAME", value_delimiter = ',')]
    peers: Vec<Peer>,

    /// The page that takes the tables [default: docs/benchmarks.md, of steering and hand-over docs/benchmarks-steering.md, of a cluster docs/benchmarks-cluster.md]
    #[arg(long, value_name = "FILE", global = true)]
    output: Option<PathBuf>,

    /// Measure this program instead of building Tidegate
    #[arg(long, value_name = "FILE", global = true)]
    tidegate: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Measure {
    /// Time of a route look-up at growing numbers of routes
    Lookup,
    /// CPU time of publishing one change among many objects
    Translate,
    /// Memory of 10,000 idle connections, plain and TLS, for Tidegate, HAProxy and nginx
    Idle,
    /// Look-up, translation, publishing, memory and start at growing numbers of routes, and with 10,000 certificates
    Scale,
    /// Slow and stalled peers beside good clients, whose requests must all succeed
    Slow,
    /// How evenly connections are spread over workers, and latency beside a busy worker, with each mode of steering
    Steering(steering::Args),
    /// Hand-overs in a row under load, beside plain restarts
    HandOver(hand_over::Args),
    /// A node of a cluster with many Ingresses: first view, memory, changes, rest, and starts without an API server
    Cluster(cluster::Args),
}

/// The figures of one proxy in one scenario and round.
#[derive(Clone, Copy, Debug)]
struct Sample {
    load: Load,
    /// User and system time of the proxy's processes for one request, in microseconds.
    cpu_per_request: f64,
    /// Resident memory after the load, in MiB.
    resident: f64,
}

/// Every sample, by what was measured.
type Samples = BTreeMap<(Scenario, Peer), Vec<Sample>>;

pub(crate) fn run(args: &Args) -> Result<Verdict> {
    let usual = match args.part {
        Some(Measure::Steering(_) | Measure::HandOver(_)) => "docs/benchmarks-steering.md",
        Some(Measure::Cluster(_)) => "docs/benchmarks-cluster.md",
        _ => "docs/benchmarks.md",
    };
    let page = crate::root().join(args.output.as_deref().unwrap_or(Path::new(usual)));
    let tidegate = args.tidegate.as_deref();
    match &args.part {
        Some(Measure::Lookup) => Part::LOOKUP.measure(&page),
        Some(Measure::Translate) => Part::TRANSLATE.measure(&page),
        Some(Measure::Idle) => idle::run(&page, tidegate),
        Some(Measure::Scale) => scale::run(&page, tidegate),
        Some(Measure::Slow) => slow::run(&page, tidegate),
        Some(Measure::Steering(args)) => steering::run(*args, &page, tidegate),
        Some(Measure::HandOver(args)) => hand_over::run(*args, &page, tidegate),
        Some(Measure::Cluster(args)) => cluster::run(args, &page, tidegate),
        None => compare(args, &page),
    }
}

fn compare(args: &Args, page: &Path) -> Result<Verdict> {
    setup::ensure(&[
        Need::Compiler,
        Need::Curl,
        Need::Wrk,
        Need::H2load,
        Need::Pip,
    ])?;
    let cores = std::thread::available_parallelism()?;
    ensure!(
        cores.get() >= 2,
        "the benchmark needs two CPUs, one for the proxy and one for its load; here is {cores}"
    );
    let scenarios = all_or(&args.scenarios);
    let peers = all_or(&args.peers);
    let cache = Cache::open()?;
    for peer in &peers {
        cache.install(*peer)?;
    }
    let site = Site::prepare(&cache, &peers, args.tidegate.as_deref())?;
    let _backend = Backend::start(site.folder(), backend::PORT, Cpu::Second)?;
    let mut samples = Samples::new();
    let mut verdict = Verdict::Pass;
    for round in 1..=args.rounds {
        for &peer in &peers {
            say(format_args!(
                "round {round} of {}: {}",
                args.rounds,
                peer.name()
            ));
            if let Err(error) = measure(peer, &site, &scenarios, args.seconds, &mut samples) {
                warn(format_args!("{}: {error:#}", peer.name()));
                verdict = Verdict::Fail;
            }
        }
    }
    let settings = report::Settings {
        seconds: args.seconds,
        rounds: args.rounds,
    };
    let mut machine = machine::describe();
    machine.push(machine::proxies(&peers));
    machine.push(("Load", "wrk (HTTP/1.1), h2load (HTTP/2)".to_owned()));
    if peers.contains(&Peer::Tidegate) {
        machine.push(("Command", machine::command_line(&site)));
    }
    say(report::text(&samples));
    document::replace(
        page,
        "proxies",
        &report::markdown(&samples, settings, &machine),
    )?;
    say(format_args!("written to {}", page.display()));
    Ok(verdict)
}

/// Runs one proxy through the scenarios, once.
fn measure(
    peer: Peer,
    site: &Site,
    scenarios: &[Scenario],
    seconds: u32,
    samples: &mut Samples,
) -> Result<()> {
    let proxy = Running::start(peer, site)?;
    let scenarios = scenarios.iter().copied();
    for scenario in scenarios.filter(|scenario| peer.takes_part(*scenario)) {
        // What is measured is the steady state: connections to the backend are there, caches are warm.
        scenario.load(1)?;
        let before = proxy.cpu_seconds();
        let load = scenario.load(seconds)?;
        let spent = proxy.cpu_seconds() - before;
        ensure!(
            load.requests > 0,
            "not one request of {} succeeded",
            scenario.name()
        );
        let sample = Sample {
            load,
            cpu_per_request: 1e6 * spent / load.requests as f64,
            resident: proxy.resident_mib(),
        };
        say(format_args!(
            "  {:10} {:9.0} requests/s {:8.1} us CPU each, {} errors",
            scenario.name(),
            load.rate,
            sample.cpu_per_request,
            load.errors
        ));
        samples.entry((scenario, peer)).or_default().push(sample);
    }
    if peer == Peer::TidegateLog {
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, peers::ADMIN));
        let dropped = client::metric(admin, "tidegate_access_log_dropped_lines_total")?;
        ensure!(
            dropped == 0,
            "{dropped} lines of the log were dropped, so its cost is not known"
        );
    }
    Ok(())
}

fn all_or<T: ValueEnum + Clone>(named: &[T]) -> Vec<T> {
    if named.is_empty() {
        T::value_variants().to_vec()
    } else {
        named.to_vec()
    }
}
