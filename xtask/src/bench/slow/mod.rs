//! `cargo xtask bench slow`: peers that are slow or stand still, and what good clients notice of them.
//!
//! Good clients go on asking all the time. After a while the others come for some seconds, and go. Not one request of a
//! good client may fail, memory stays within a bound, and whoever is too slow is cut.

mod backends;
mod good;
mod hostile;
mod place;

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{document, files, machine};
use crate::setup::{self, Need};
use crate::table::{Align, Table};
use crate::terminal::say;
use crate::{Verdict, build};
use good::{Good, Phase};
use hostile::{Hostile, Outcome};
use place::Place;

/// Clients whose requests must succeed.
const GOOD: usize = 32;
/// Clients that send a byte of a head every second.
const SLOW_HEADS: usize = 2_000;
/// Clients that ask for much and read nothing.
const STALLED_READERS: usize = 500;
/// Clients that send bodies to the backend that never reads.
const UNREAD_BODIES: usize = 64;
/// Clients that send bodies to the backend that answers before it reads.
const EARLY_ANSWERS: usize = 16;
/// Of the clients, or of Tidegate.
const FILES: u64 = 8_000;

/// How long good clients are alone before the others come, the others stay, and good clients are alone again.
const ALONE: Duration = Duration::from_secs(3);
const ATTACK: Duration = Duration::from_secs(12);
const RECOVERY: Duration = Duration::from_secs(4);

/// Tidegate's timeouts: what a client may take for a request's head, how long an exchange may stand still, and what a
/// backend may take for the head of its answer. The last one is long enough for good clients on a busy machine, and short
/// enough that whoever waits for the backend that never reads is cut before the end.
const HEAD_DEADLINE: Duration = Duration::from_secs(4);
const IDLE_DEADLINE: Duration = Duration::from_secs(5);
const ANSWER_DEADLINE: Duration = Duration::from_secs(6);
/// How much later than its deadline a client may see itself cut on a busy machine. It looks once in [`hostile::BYTE_EVERY`].
const SLACK: Duration = Duration::from_secs(3);
/// How long connections may take to go at most, where an answer was sent and the client has not read it.
const LINGER: Duration = Duration::from_secs(10);

/// The most by which resident memory may grow while the others are there, in MiB: 16 KiB for each slow head, and 64 KiB
/// for each exchange that stands still.
const GROWTH: f64 = 64.0;

/// What was seen.
#[derive(Debug)]
struct Seen {
    good: [good::Summary; 3],
    hostile: Outcome,
    /// Resident memory in MiB: before the others came, the most while they were there, and after.
    resident: [f64; 3],
    /// Connections of clients that were open when only those that stand still were left, and after them.
    open: [u64; 2],
}

/// Measures a release build for the page.
pub(super) fn run(page: &Path, tidegate: Option<&Path>) -> Result<Verdict> {
    setup::ensure(&[Need::Compiler])?;
    let program = build::release_or(tidegate)?;
    let seen = watch(&program)?;
    let mut verdict = Verdict::Pass;
    let body = format!(
        "{}\n{}\n{}",
        machine::markdown(&machine::describe()),
        phases(&seen).markdown(),
        bounds(&seen, &mut verdict).markdown()
    );
    print(&seen);
    document::replace(page, "slow", &body)?;
    say(format_args!("written to {}", page.display()));
    Ok(verdict)
}

/// Checks the bounds with any build, as a test; with figures in the form of [`crate::test`].
pub(crate) fn check(program: &Path) -> Result<(Verdict, String)> {
    let seen = watch(program)?;
    let verdict = print(&seen);
    let [before, during, _] = &seen.good;
    let [alone, beset, after] = seen.resident;
    let figures = format!(
        "figure: p99 of good clients alone = {:.2} ms\nfigure: p99 of good clients among slow peers = {:.2} ms\n\
         figure: RSS alone = {alone:.1} MiB\nfigure: most RSS among slow peers = {beset:.1} MiB\n\
         figure: RSS afterwards = {after:.1} MiB\n",
        before.high, during.high
    );
    Ok((verdict, figures))
}

fn watch(program: &Path) -> Result<Seen> {
    files::allow(FILES)?;
    let place = Place::start(program)?;
    let good = Good::start(place.http, GOOD);
    sleep(ALONE);
    let before = place.resident_mib();

    good.enter(Phase::During);
    let hostile = Hostile::start(place.http);
    let mut during = before;
    let end = Instant::now() + ATTACK;
    while Instant::now() < end {
        sleep(Duration::from_millis(100));
        during = during.max(place.resident_mib());
    }
    let (hostile, still) = hostile.stop();
    let open_during = place.wait_for_connections(GOOD)?;
    still.stop();

    good.enter(Phase::After);
    sleep(RECOVERY);
    let open_after = place.wait_for_connections(GOOD)?;
    let after = place.resident_mib();
    Ok(Seen {
        good: good.stop(),
        hostile,
        resident: [before, during, after],
        open: [open_during, open_after],
    })
}

fn print(seen: &Seen) -> Verdict {
    let mut verdict = Verdict::Pass;
    let bounds = bounds(seen, &mut verdict);
    say(format_args!("\n{}\n{}", phases(seen).text(), bounds.text()));
    for error in seen
        .good
        .iter()
        .filter_map(|phase| phase.first_error.as_ref())
    {
        say(format_args!("a good client: {error}"));
    }
    verdict
}

fn phases(seen: &Seen) -> Table {
    let mut table = Table::new([
        ("slow and stalled peers", Align::Left),
        ("requests/s", Align::Right),
        ("p50 ms", Align::Right),
        ("p99 ms", Align::Right),
        ("worst ms", Align::Right),
        ("errors", Align::Right),
        ("RSS MiB", Align::Right),
    ]);
    let names = ["not yet", "there", "gone"];
    for ((name, good), resident) in names.iter().zip(&seen.good).zip(&seen.resident) {
        table.push([
            (*name).to_owned(),
            format!("{:.0}", good.rate),
            format!("{:.2}", good.median),
            format!("{:.2}", good.high),
            format!("{:.0}", good.highest),
            good.errors.to_string(),
            format!("{resident:.1}"),
        ]);
    }
    table
}

/// Every bound, and whether it was kept.
fn bounds(seen: &Seen, verdict: &mut Verdict) -> Table {
    let mut table = Table::new([
        ("what", Align::Left),
        ("measured", Align::Right),
        ("bound", Align::Left),
        ("result", Align::Left),
    ]);
    let mut row = |what: &str, measured: String, bound: String, kept: bool| {
        if !kept {
            *verdict = Verdict::Fail;
        }
        let result = if kept { "kept" } else { "BROKEN" };
        table.push([what.to_owned(), measured, bound, result.to_owned()]);
    };
    let Seen {
        good,
        hostile,
        resident: [before, during, _],
        open: [open_during, open_after],
    } = seen;
    let errors: usize = good.iter().map(|phase| phase.errors).sum();
    row(
        "errors of good clients",
        errors.to_string(),
        "0".to_owned(),
        errors == 0,
    );
    let answered = good.iter().all(|phase| phase.rate > 0.0);
    let least = good.iter().map(|phase| phase.rate).fold(f64::MAX, f64::min);
    row(
        "least requests/s of good clients",
        format!("{least:.0}"),
        "above 0".to_owned(),
        answered,
    );
    let growth = during - before;
    row(
        "growth of RSS, MiB",
        format!("{growth:.1}"),
        format!("at most {GROWTH:.0}"),
        growth <= GROWTH,
    );
    let longest = HEAD_DEADLINE + SLACK;
    row(
        "longest life of a slow head, s",
        format!("{:.1}", hostile.longest_head.as_secs_f64()),
        format!("at most {}", longest.as_secs()),
        hostile.longest_head <= longest,
    );
    row(
        "slow heads that were cut",
        hostile.heads_cut.to_string(),
        format!("at least {SLOW_HEADS}"),
        hostile.heads_cut >= SLOW_HEADS,
    );
    let stalled = open_during.saturating_sub(GOOD as u64);
    row(
        "stalled clients that are left",
        stalled.to_string(),
        "0".to_owned(),
        stalled == 0,
    );
    row(
        "early answers passed on",
        format!("{} of {}", hostile.early_passed, hostile.early_asked),
        "all".to_owned(),
        hostile.early_passed == hostile.early_asked && hostile.early_asked > 0,
    );
    row(
        "connections open afterwards",
        open_after.to_string(),
        format!("{GOOD}"),
        *open_after <= GOOD as u64,
    );
    table
}
