//! `cargo xtask bench hand-over`: many hand-overs in a row under load, and what clients notice of them; beside restarts on
//! shared ports without a program in the kernel.

mod report;
mod tunnels;

use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::open_loop::{Clients, Kind, Rate, Seen};
use super::running::Running;
use super::testbed::{Steering, Testbed};
use super::{document, files, machine};
use crate::setup::{self, Need};
use crate::terminal::{say, warn};
use crate::{Verdict, build};
use tunnels::{Echo, Tunnels};

/// Arguments of `cargo xtask bench hand-over`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Args {
    /// Hand-overs in a row
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    hand_overs: u32,

    /// How long the same load runs without any, for comparison
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,

    /// How often everything is done
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// New connections in a second; a fifth of them use TLS
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    rate: u32,
}

const WORKERS: usize = 2;
/// Requests in a second on connections that are kept.
const KEPT_RATE: f64 = 200.0;
/// WebSockets that are open all the time.
const TUNNELS: usize = 20;
/// What an old process may take to end what it has.
const DRAIN: Duration = Duration::from_secs(1);
/// How much longer than that it may take to end.
const SLACK: Duration = Duration::from_secs(10);
/// Between the end of the old process and the next newcomer. WebSockets that were cut are opened again in that time.
const PAUSE: Duration = Duration::from_millis(200);
/// Of the clients or of Tidegate.
const FILES: u64 = 8_000;

/// With the program in the kernel, and a plain restart on shared ports (SO_REUSEPORT) without it.
const MODES: [Steering; 2] = [Steering::LeastLoaded, Steering::Kernel];

/// One hand-over.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// When the new process said that the ports are its own.
    flip: Instant,
    /// From the start of the new process to that.
    prepare: Duration,
    /// From there to the end of the old process.
    retire: Duration,
}

/// What was seen in one round of one mode.
#[derive(Debug)]
struct Outcome {
    steering: Steering,
    /// Without hand-overs, and with them.
    quiet: Seen,
    seen: Seen,
    steps: Vec<Step>,
    tunnels: tunnels::Outcome,
}

pub(super) fn run(args: Args, page: &Path, tidegate: Option<&Path>) -> Result<Verdict> {
    setup::ensure(&[Need::Compiler])?;
    files::allow(FILES)?;
    let program = build::release_or(tidegate)?;
    let echo = Echo::start()?;
    let testbed = Testbed::new(&program, Some(echo.address()))?;
    let mut outcomes = Vec::new();
    for round in 1..=args.rounds {
        for steering in MODES {
            say(format_args!(
                "round {round} of {}: {}",
                args.rounds,
                steering.name()
            ));
            let outcome = measure(args, steering, &testbed).context(steering.name())?;
            for (kind, record) in outcome.seen.kinds() {
                if let Some(failure) = &record.first_failure {
                    warn(format_args!("  {}: {failure}", kind.name()));
                }
            }
            outcomes.push(outcome);
        }
    }
    let tables = [
        report::requests(&outcomes),
        report::processes(&outcomes),
        report::websockets(&outcomes),
    ];
    for table in &tables {
        say(format_args!("\n{}", table.text()));
    }
    let mut body = format!(
        "{}\n{}",
        report::settings(args),
        machine::markdown(&machine::describe())
    );
    for table in &tables {
        body += &format!("\n{}", table.markdown());
    }
    document::replace(page, "hand-over", &body)?;
    say(format_args!("written to {}", page.display()));
    Ok(report::verdict(&outcomes))
}

fn measure(args: Args, steering: Steering, testbed: &Testbed) -> Result<Outcome> {
    let with_drain = || {
        let mut command = testbed.command(steering, WORKERS);
        command.arg(format!("--drain-timeout={}", DRAIN.as_secs()));
        command
    };
    let mut current = testbed.start_with(&mut with_drain(), steering)?;
    let target = testbed.target()?;
    let clients = Clients::start(&target, &rates(args), 1)?;
    sleep(Duration::from_secs(args.seconds.into()));
    let quiet = clients.stop()?;

    let tunnels = Tunnels::open(testbed.http(), TUNNELS)?;
    let clients = Clients::start(&target, &rates(args), 2)?;
    sleep(PAUSE);
    let mut steps = Vec::new();
    for number in 1..=args.hand_overs {
        let step = succeed(testbed, &mut with_drain(), number, &mut current)
            .with_context(|| format!("hand-over {number}"))?;
        say(format_args!(
            "  {number}: in force after {:.0} ms, old process ended {:.0} ms later",
            step.prepare.as_secs_f64() * 1e3,
            step.retire.as_secs_f64() * 1e3
        ));
        steps.push(step);
        sleep(PAUSE);
    }
    let seen = clients.stop()?;
    let flips: Vec<_> = steps.iter().map(|step| step.flip).collect();
    Ok(Outcome {
        steering,
        quiet,
        seen,
        steps,
        tunnels: tunnels.stop(&flips, DRAIN)?,
    })
}

fn rates(args: Args) -> [Rate; 3] {
    let rate = f64::from(args.rate);
    [
        (Kind::Plain, 0.8 * rate),
        (Kind::Tls, 0.2 * rate),
        (Kind::Kept, KEPT_RATE),
    ]
    .map(|(kind, per_second)| Rate { kind, per_second })
}

/// Starts the next process and waits for the end of the one before.
fn succeed(
    testbed: &Testbed,
    command: &mut Command,
    number: u32,
    current: &mut Running,
) -> Result<Step> {
    let begun = Instant::now();
    let newcomer = testbed.take_over(command, &format!("tidegate-{number}"))?;
    let flip = Instant::now();
    let old = std::mem::replace(current, newcomer);
    let status = old.wait_for_end(DRAIN + SLACK);
    let status = status.context("the old process")?;
    ensure!(status.success(), "the old process ended ({status})");
    Ok(Step {
        flip,
        prepare: flip.duration_since(begun),
        retire: flip.elapsed(),
    })
}
