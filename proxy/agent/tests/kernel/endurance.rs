//! Many hand-overs in a row under load, and what dies on the way.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::client::{Failure, Kind};
use crate::support::load::{Life, Load, Report, Traffic};
use crate::support::process::Process;
use crate::support::room::{Sys, in_room};
use crate::support::site::{Site, assert_no_pins};

const HAND_OVERS: usize = 50;
const DEATHS: usize = 5;
const RESTARTS: usize = 10;
/// New connections a second, as many in plain text as by TLS. Two cores serve them beside the processes that start.
const RATE: u32 = 500;
const KEPT: usize = 16;
const WEBSOCKETS: usize = 8;
/// How long a process that was taken over from may take to end.
const DRAIN: Duration = Duration::from_secs(3);
const SETTINGS: [&str; 2] = ["--drain-timeout", "3"];
/// Between two hand-overs.
const PAUSE: Duration = Duration::from_millis(100);
/// WebSockets send something so often, and tests and processes notice things so late.
const NOTICED: Duration = Duration::from_millis(600);
/// After a process was killed, time until its connections are known to be dead.
const SETTLING: Duration = Duration::from_millis(50);

fn heavy(site: &Site) -> Traffic {
    let http = SocketAddr::from(([127, 0, 0, 1], 80));
    Traffic {
        new: vec![(Site::plain(80), RATE), (site.secure(443), RATE)],
        kept: vec![(Site::plain(80), KEPT)],
        websockets: Some((http, WEBSOCKETS)),
    }
}

/// The process in force, and those that it and its predecessors took over from.
struct Line {
    current: Process,
    retired: Vec<Process>,
    flips: Vec<Instant>,
    slowest: Duration,
}

impl Line {
    async fn start(site: &Site, settings: &[&str]) -> Self {
        Self {
            current: site.start(settings).await,
            retired: Vec::new(),
            flips: Vec::new(),
            slowest: Duration::ZERO,
        }
    }

    async fn hand_over(&mut self, site: &Site, settings: &[&str]) {
        let begun = Instant::now();
        let name = format!("process {}", self.flips.len() + 2);
        let next = site.take_over(&name, settings).await;
        self.flips.push(Instant::now());
        self.slowest = self.slowest.max(begun.elapsed());
        self.retired
            .push(std::mem::replace(&mut self.current, next));
        tokio::time::sleep(PAUSE).await;
    }

    /// Ends the last one, and waits for all.
    async fn end(mut self) {
        for process in &mut self.retired {
            process.ended_well().await;
        }
        self.current.terminate();
        self.current.ended_well().await;
        assert_no_pins();
    }
}

/// Fails when a WebSocket was cut before the deadline of the process that had it.
fn assert_lived_until_the_deadline(lives: &[Life], flips: &[Instant]) {
    let cut: Vec<_> = lives.iter().filter(|life| life.cut.is_some()).collect();
    for life in &cut {
        // The one after which its process drained, or an earlier one if that was noticed late.
        let flip = flips.iter().find(|flip| **flip > life.opened);
        let flip = *flip.unwrap_or_else(|| panic!("cut without a hand-over: {life:?}"));
        let lived = life.ended.saturating_duration_since(flip) + NOTICED;
        assert!(
            lived >= DRAIN,
            "lived for {lived:?} after the hand-over: {life:?}"
        );
    }
    println!(
        "figure: WebSockets cut at their process's deadline = {} WebSockets",
        cut.len()
    );
}

#[test]
fn fifty_hand_overs_under_load_lose_nothing() {
    in_room(Sys::WithBpfFs, || async {
        let site = Site::new().await;
        let mut line = Line::start(&site, &SETTINGS).await;
        let load = Load::start(heavy(&site));
        for _ in 0..HAND_OVERS {
            line.hand_over(&site, &SETTINGS).await;
        }
        let report = load.end().await;
        println!("figure: hand-overs under load = {HAND_OVERS} hand-overs");
        println!(
            "figure: hand-overs under load, slowest from start to flip = {:.0} ms",
            line.slowest.as_secs_f64() * 1e3
        );
        report.print("hand-overs under load");
        assert_lived_until_the_deadline(&report.websockets, &line.flips);
        report.assert_nothing_failed();
        line.end().await;
    });
}

#[test]
fn newcomers_killed_before_the_flip_change_nothing() {
    in_room(Sys::WithBpfFs, || async {
        let site = Site::new().await;
        let mut line = Line::start(&site, &SETTINGS).await;
        let load = Load::start(heavy(&site));
        for _ in 0..DEATHS {
            let mut newcomer = site.prepare_slowly(&SETTINGS).await;
            tokio::time::sleep(PAUSE).await;
            newcomer.kill();
            assert!(
                !newcomer.has_logged("hand-over: in force"),
                "{}",
                newcomer.log()
            );
        }
        line.hand_over(&site, &SETTINGS).await;
        let report = load.end().await;
        report.print("killed before the flip");
        assert_lived_until_the_deadline(&report.websockets, &line.flips);
        report.assert_nothing_failed();
        line.end().await;
    });
}

/// When a process was killed, and how many requests and idle connections it may have had.
struct Death {
    at: Instant,
    open: usize,
}

impl Death {
    /// Whether a request may have been the killed process's.
    fn explains(&self, failure: &Failure) -> bool {
        failure.started <= self.at + SETTLING && failure.ended >= self.at
    }
}

/// Kills the process and takes down what was in flight.
fn kill(process: &mut Process, load: &Load) -> Death {
    let before = load.in_flight();
    let at = Instant::now();
    process.kill();
    // Those that began while it was being killed count as well.
    let begun = (2 * RATE as usize * at.elapsed().as_millis() as usize) / 1_000;
    Death {
        at,
        open: before + begun + KEPT,
    }
}

fn assert_only_theirs_failed(report: &Report, deaths: &[Death]) {
    let failures: Vec<_> = report
        .new
        .failures
        .iter()
        .chain(&report.kept.failures)
        .collect();
    let is_theirs = |failure: &Failure| deaths.iter().any(|death| death.explains(failure));
    let others: Vec<_> = failures
        .iter()
        .filter(|failure| !is_theirs(failure))
        .collect();
    assert!(others.is_empty(), "of no killed process: {others:?}");
    for death in deaths {
        let theirs = failures
            .iter()
            .filter(|failure| death.explains(failure))
            .count();
        assert!(
            theirs <= death.open,
            "{theirs} failed, {} were open",
            death.open
        );
    }
    let open: usize = deaths.iter().map(|death| death.open).sum();
    println!(
        "figure: killed after the flip, open at the killed processes, at most = {open} requests"
    );
    println!(
        "figure: killed after the flip, requests that died with them = {} requests",
        failures.len()
    );
    assert_eq!(report.failed(Kind::Refused), 0);
}

#[test]
fn newcomers_killed_after_the_flip_take_only_their_own() {
    in_room(Sys::WithBpfFs, || async {
        let site = Site::new().await;
        let mut line = Line::start(&site, &SETTINGS).await;
        let load = Load::start(heavy(&site));
        let mut deaths = Vec::new();
        for number in 1..=DEATHS {
            tokio::time::sleep(PAUSE).await;
            let mut newcomer = site.take_over("the newcomer", &SETTINGS).await;
            tokio::time::sleep(PAUSE).await;
            deaths.push(kill(&mut newcomer, &load));
            let back = |process: &Process| process.log().matches("hand-over: takes back").count();
            let again = async || back(&line.current) == number;
            crate::support::process::eventually("it takes back", again, || line.current.log())
                .await;
        }
        line.hand_over(&site, &SETTINGS).await;
        let report = load.end().await;
        report.print("killed after the flip");
        assert_only_theirs_failed(&report, &deaths);
        line.end().await;
    });
}

/// The same without the program: the kernel's hash spreads connections over the sockets of both processes.
#[test]
fn restarts_without_the_program_for_comparison() {
    in_room(Sys::WithBpfFs, || async {
        let mut lost = Vec::new();
        for steering in ["kernel", "least-loaded"] {
            let site = Site::new().await;
            let settings = [&SETTINGS[..], &["--steering", steering]].concat();
            let mut line = Line::start(&site, &settings).await;
            let load = Load::start(Traffic {
                websockets: None,
                ..heavy(&site)
            });
            for _ in 0..RESTARTS {
                line.hand_over(&site, &settings).await;
            }
            let report = load.end().await;
            report.print(&format!("{RESTARTS} hand-overs, steering {steering}"));
            println!(
                "{steering}: new {}, kept {}",
                report.new.kinds(),
                report.kept.kinds()
            );
            lost.push(report.new.failures.len() + report.kept.failures.len());
            line.end().await;
        }
        assert_eq!(lost[1], 0, "lost with the program");
        assert!(lost[0] >= lost[1]);
    });
}
