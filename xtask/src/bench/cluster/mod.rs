//! `cargo xtask bench cluster`: one node of a cluster with many Ingresses, against a real API server.
//!
//! Every Ingress has a host, a Service, an EndpointSlice and a TLS Secret of its own. Measured is what a node costs and how
//! quickly it follows; and how soon it serves again after `kill -9` when etcd and the API server are gone.

mod backend;
mod fill;
mod node;

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use tidegate_testbed::{Options, Part, Testbed};

use super::report::median;
use super::{document, machine};
use crate::setup::{self, Need};
use crate::table::{Align, Table};
use crate::terminal::say;
use crate::{Verdict, build};
use fill::Authority;
use node::Node;

/// Arguments of `cargo xtask bench cluster`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// How many Ingresses; several sizes are measured one after the other
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [200, 10_000])]
    ingresses: Vec<usize>,

    /// How long requests to the API server are counted while nothing happens
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    rest: u64,
}

/// Changes of one EndpointSlice, of which the median counts.
const CHANGES: usize = 11;
/// Starts from the cache, of which the median counts.
const STARTS: usize = 5;
/// After everything is served, until the node is at rest.
const SETTLE: Duration = Duration::from_secs(15);

/// What was measured with one number of Ingresses.
#[derive(Debug)]
struct Outcome {
    ingresses: usize,
    /// From exec to the first answer to a request for the last host that was made.
    first_view: Duration,
    /// Resident memory, in MiB, at rest.
    resident: f64,
    /// From the API server's answer to a change to the first request at the new endpoint.
    change: Duration,
    /// A minute, while nothing happens.
    requests: f64,
    /// From exec to the first good answer, without an API server.
    restart: Duration,
    /// Hosts that were then tried, all of them with TLS and good.
    tried: usize,
}

pub(super) fn run(args: &Args, page: &Path, program: Option<&Path>) -> Result<Verdict> {
    setup::ensure(&[Need::Compiler, Need::Ip, Need::Go])?;
    let program = build::release_or(program)?;
    let outcomes = args.ingresses.iter().map(|ingresses| {
        say(format_args!("{ingresses} Ingresses"));
        measure(&program, *ingresses, Duration::from_secs(args.rest))
    });
    let outcomes = outcomes.collect::<Result<Vec<_>>>()?;
    let table = table(&outcomes);
    say(table.text());
    let machine = machine::markdown(&machine::describe());
    let body = format!("{machine}\n{}", table.markdown());
    document::replace(page, "One node", &body)?;
    Ok(Verdict::Pass)
}

fn measure(program: &Path, ingresses: usize, rest: Duration) -> Result<Outcome> {
    let testbed = Testbed::up(Options::default())?;
    let address: IpAddr = testbed.control_plane().endpoint().ip();
    let first = backend::start(address, "first")?;
    let second = backend::start(address, "second")?;
    let client = testbed.client()?;
    let filling = client.clone();
    let authority = Authority::new()?;
    let certificate = authority.certificate.clone();
    testbed.block_on(async move { fill::fill(&filling, ingresses, first, &authority).await })??;
    say("filled");

    let node = Node::new(program, &testbed, certificate.as_bytes())?;
    let begun = Instant::now();
    let running = node.start()?;
    let last = fill::host(ingresses - 1);
    node.until(&last, "first")?;
    let first_view = begun.elapsed();
    std::thread::sleep(SETTLE);
    let resident = running.resident_mib()?;

    let mut changes = Vec::new();
    for number in 0..CHANGES {
        let (to, body) = match number % 2 {
            0 => (second, "second"),
            _ => (first, "first"),
        };
        let changing = client.clone();
        let at = ingresses / 2;
        testbed.block_on(async move { fill::redirect(&changing, at, to).await })??;
        let changed = Instant::now();
        node.until(&fill::host(at), body)?;
        changes.push(changed.elapsed().as_secs_f64());
        std::thread::sleep(Duration::from_millis(300));
    }

    std::thread::sleep(SETTLE);
    let before = node.requests(&testbed)?;
    std::thread::sleep(rest);
    let requests = (node.requests(&testbed)? - before) as f64 * 60.0 / rest.as_secs_f64();

    testbed.control_plane().kill(Part::ApiServer)?;
    testbed.control_plane().kill(Part::Etcd)?;
    // Without a word of warning: that is what the cache is for.
    drop(running);
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let begun = Instant::now();
        let again = node.start()?;
        node.until(&last, "first")?;
        starts.push(begun.elapsed().as_secs_f64());
        drop(again);
    }
    let again = node.start()?;
    let tried = node.try_all(ingresses)?;
    drop(again);
    Ok(Outcome {
        ingresses,
        first_view,
        resident,
        change: Duration::from_secs_f64(median(changes)),
        requests,
        restart: Duration::from_secs_f64(median(starts)),
        tried,
    })
}

fn table(outcomes: &[Outcome]) -> Table {
    let mut table = Table::new([
        (
            "Ingresses, each with Service, EndpointSlice and TLS Secret",
            Align::Right,
        ),
        ("first view served after, ms", Align::Right),
        ("resident, MiB", Align::Right),
        ("EndpointSlice to traffic, ms", Align::Right),
        ("API requests a minute at rest", Align::Right),
        ("served from the cache after, ms", Align::Right),
        ("hosts then tried, all good", Align::Right),
    ]);
    for outcome in outcomes {
        let ms = |time: Duration| format!("{:.0}", time.as_secs_f64() * 1e3);
        table.push([
            outcome.ingresses.to_string(),
            ms(outcome.first_view),
            format!("{:.0}", outcome.resident),
            ms(outcome.change),
            format!("{:.1}", outcome.requests),
            ms(outcome.restart),
            outcome.tried.to_string(),
        ]);
    }
    table
}
