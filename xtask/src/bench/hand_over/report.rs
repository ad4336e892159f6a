//! What clients noticed, as tables.

use std::time::Duration;

use super::super::open_loop::Seen;
use super::super::report::median;
use super::super::testbed::Steering;
use super::{Args, DRAIN, KEPT_RATE, MODES, Outcome, Step, TUNNELS, WORKERS};
use crate::Verdict;
use crate::table::{Align, Table};

/// What the run was told.
pub(super) fn settings(args: Args) -> String {
    let Args {
        hand_overs,
        seconds,
        rounds,
        rate,
    } = args;
    format!(
        "{rounds} × {hand_overs} hand-overs in each mode, after {seconds} s without any. {rate} new connections a second, a \
         fifth of them with TLS, {KEPT_RATE} requests a second on kept ones, and {TUNNELS} WebSockets; {WORKERS} workers; \
         drain timeout {} s.\n",
        DRAIN.as_secs()
    )
}

/// Whether a hand-over with the program in the kernel cost nothing.
pub(super) fn verdict(outcomes: &[Outcome]) -> Verdict {
    let mut by_program = outcomes
        .iter()
        .filter(|outcome| outcome.steering == Steering::LeastLoaded);
    Verdict::of(by_program.all(|outcome| {
        let mut kinds = outcome.seen.kinds();
        let tunnels = outcome.tunnels;
        kinds.all(|(_, record)| record.failures() == 0) && tunnels.early + tunnels.refused == 0
    }))
}

pub(super) fn requests(outcomes: &[Outcome]) -> Table {
    let mut table = Table::new([
        ("steering", Align::Left),
        ("clients", Align::Left),
        ("requests", Align::Right),
        ("refused", Align::Right),
        ("reset", Align::Right),
        ("failed", Align::Right),
        ("sent again", Align::Right),
        ("p50 ms", Align::Right),
        ("p99 ms", Align::Right),
        ("p99.9 ms", Align::Right),
        ("longest ms", Align::Right),
        ("p99 without, ms", Align::Right),
    ]);
    for steering in MODES {
        let sum = |of: fn(&Outcome) -> &Seen| {
            let of_mode = outcomes
                .iter()
                .filter(|outcome| outcome.steering == steering);
            let mut sum = Seen::default();
            of_mode.for_each(|outcome| sum.add(of(outcome).clone()));
            sum
        };
        let (seen, quiet) = (sum(|outcome| &outcome.seen), sum(|outcome| &outcome.quiet));
        for (kind, record) in seen.kinds() {
            let latency = record.percentiles();
            table.push([
                steering.name().to_owned(),
                kind.name().to_owned(),
                (record.answered + record.failures()).to_string(),
                record.refused.to_string(),
                record.reset.to_string(),
                record.failed.to_string(),
                record.sent_again.to_string(),
                format!("{:.2}", latency.p50),
                format!("{:.2}", latency.p99),
                format!("{:.2}", latency.p999),
                format!("{:.0}", latency.highest),
                format!("{:.2}", quiet.kind(kind).percentiles().p99),
            ]);
        }
    }
    table
}

pub(super) fn processes(outcomes: &[Outcome]) -> Table {
    let mut table = Table::new([
        ("steering", Align::Left),
        ("times", Align::Right),
        ("start to in force, median ms", Align::Right),
        ("longest", Align::Right),
        ("in force to the old one's end, median ms", Align::Right),
        ("longest", Align::Right),
    ]);
    for steering in MODES {
        let of_mode = outcomes
            .iter()
            .filter(|outcome| outcome.steering == steering);
        let steps: Vec<_> = of_mode.flat_map(|outcome| &outcome.steps).collect();
        let of = |time: fn(&Step) -> Duration| {
            let times = steps.iter().map(|step| time(step).as_secs_f64() * 1e3);
            let times: Vec<_> = times.collect();
            let longest = times.iter().copied().fold(f64::NAN, f64::max);
            [median(times), longest].map(|time| format!("{time:.0}"))
        };
        let [prepare, longest_prepare] = of(|step| step.prepare);
        let [retire, longest_retire] = of(|step| step.retire);
        table.push([
            steering.name().to_owned(),
            steps.len().to_string(),
            prepare,
            longest_prepare,
            retire,
            longest_retire,
        ]);
    }
    table
}

pub(super) fn websockets(outcomes: &[Outcome]) -> Table {
    let mut table = Table::new([
        ("steering", Align::Left),
        ("WebSockets opened", Align::Right),
        ("not opened", Align::Right),
        ("cut at the drain timeout", Align::Right),
        ("cut before", Align::Right),
        ("echoes", Align::Right),
        ("late", Align::Right),
    ]);
    for steering in MODES {
        let of_mode = outcomes
            .iter()
            .filter(|outcome| outcome.steering == steering);
        let tunnels: Vec<_> = of_mode.map(|outcome| outcome.tunnels).collect();
        let sum = |of: fn(&super::tunnels::Outcome) -> usize| {
            tunnels.iter().map(of).sum::<usize>().to_string()
        };
        table.push([
            steering.name().to_owned(),
            sum(|tunnels| tunnels.opened),
            sum(|tunnels| tunnels.refused),
            sum(|tunnels| tunnels.in_time),
            sum(|tunnels| tunnels.early),
            sum(|tunnels| tunnels.echoes),
            sum(|tunnels| tunnels.late),
        ]);
    }
    table
}
