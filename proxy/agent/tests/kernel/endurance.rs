//! Many hand-overs in a row under load, and what dies on the way.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use crate::support::load::{Load, Traffic, capacity};
use crate::support::process::{Process, eventually};
use crate::support::report::Life;
use crate::support::room::{Sys, in_room};
use crate::support::site::{Site, assert_no_pins};

const HAND_OVERS: usize = 50;
const DEATHS: usize = 5;
const RESTARTS: usize = 10;
/// New connections a second, at most, as many in plain text as by TLS; and how many of a hundred that the machine bears.
/// The rest is for the processes that start.
const MOST: u32 = 1_000;
const PERCENT: u32 = 30;
/// Between a client and a server that are some hundred kilometres apart. For so long a connection is half open.
const ROUND_TRIP: Duration = Duration::from_millis(20);
const KEPT: usize = 16;
const WEBSOCKETS: usize = 8;
/// How long a process that was taken over from may take to end.
const DRAIN: Duration = Duration::from_secs(4);
const SETTINGS: [&str; 2] = ["--drain-timeout", "4"];
/// Between two hand-overs.
const PAUSE: Duration = Duration::from_millis(100);

/// As much as the machine bears; something must be serving.
async fn heavy(site: &Site) -> Traffic {
    let http = SocketAddr::from(([127, 0, 0, 1], 80));
    let targets = [Site::plain(80), site.secure(443)];
    let rate = (capacity(&targets).await * PERCENT / 100).min(MOST);
    Traffic {
        new: targets
            .map(|target| (target.over(ROUND_TRIP), rate / 2))
            .into(),
        kept: vec![(Site::plain(80), KEPT)],
        websockets: Some((http, WEBSOCKETS)),
    }
}

/// The process in force, and those that it and its predecessors took over from.
struct Line {
    current: Process,
    retired: Vec<Process>,
    slowest: Duration,
}

impl Line {
    async fn start(site: &Site, settings: &[&str]) -> Self {
        Self {
            current: site.start(settings).await,
            retired: Vec::new(),
            slowest: Duration::ZERO,
        }
    }

    async fn hand_over(&mut self, site: &Site, settings: &[&str]) {
        let begun = Instant::now();
        let name = format!("process {}", self.retired.len() + 2);
        let next = site.take_over(&name, settings).await;
        self.slowest = self.slowest.max(begun.elapsed());
        let mut retired = std::mem::replace(&mut self.current, next);
        retired.logs("hand-over: retired").await;
        self.retired.push(retired);
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
fn assert_lived_until_the_deadline(lives: &[Life], retired: &[Process]) {
    let retirements: Vec<f64> = retired
        .iter()
        .map(|process| process.logged_at("hand-over: retired"))
        .collect();
    let cut: Vec<_> = lives.iter().filter(|life| life.cut.is_some()).collect();
    for life in &cut {
        let (begun, ended) = (second_of_day(life.begun), second_of_day(life.ended));
        // The first process to retire since had it, or a later one.
        let drained = retirements
            .iter()
            .map(|at| (at - begun).rem_euclid(DAY))
            .filter(|after| *after < DAY / 2.0)
            .fold(f64::INFINITY, f64::min);
        let lived = (ended - begun).rem_euclid(DAY) - drained;
        assert!(
            lived >= DRAIN.as_secs_f64() - 0.1,
            "cut {lived:.3} s after a process retired: {life:?}, which was begun at {begun:.3}; retired: {retirements:?}"
        );
    }
    println!(
        "figure: WebSockets cut at their process's deadline = {} WebSockets",
        cut.len()
    );
}

const DAY: f64 = 86_400.0;

fn second_of_day(time: SystemTime) -> f64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    since.as_secs_f64().rem_euclid(DAY)
}

#[test]
fn fifty_hand_overs_under_load_lose_nothing() {
    in_room(Sys::WithBpfFs, || async {
        let site = Site::new().await;
        let mut line = Line::start(&site, &SETTINGS).await;
        let load = Load::start(heavy(&site).await);
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
        for (counter, what) in [
            (
                "TCPMigrateReqSuccess",
                "half-open or queued connections moved",
            ),
            (
                "TCPMigrateReqFailure",
                "half-open or queued connections not moved",
            ),
            ("ListenOverflows", "full listen queues"),
            ("TCPAbortOnData", "closed with data unread"),
        ] {
            println!(
                "figure: hand-overs under load, {what} = {} connections",
                kernel_count(counter)
            );
        }
        assert_lived_until_the_deadline(&report.websockets, &line.retired);
        report.assert_nothing_failed();
        line.end().await;
    });
}

/// A count of the kernel's about TCP in this room; 0 where it does not count that.
fn kernel_count(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut pairs = names.split(' ').zip(values.split(' '));
    let found = pairs.find(|(found, _)| *found == name);
    found.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
}

#[test]
fn newcomers_killed_before_the_flip_change_nothing() {
    in_room(Sys::WithBpfFs, || async {
        let site = Site::new().await;
        let slow = site.slow_manifests();
        let mut line = Line::start(&site, &SETTINGS).await;
        let load = Load::start(heavy(&site).await);
        for _ in 0..DEATHS {
            let mut newcomer = site.prepare(&slow, &SETTINGS).await;
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
        assert_lived_until_the_deadline(&report.websockets, &line.retired);
        report.assert_nothing_failed();
        line.end().await;
    });
}

#[test]
fn newcomers_killed_after_the_flip_take_only_their_own() {
    in_room(Sys::WithBpfFs, || async {
        let site = Site::new().await;
        let mut line = Line::start(&site, &SETTINGS).await;
        let load = Load::start(heavy(&site).await);
        let mut deaths = Vec::new();
        for number in 1..=DEATHS {
            tokio::time::sleep(PAUSE).await;
            let mut newcomer = site.take_over("the newcomer", &SETTINGS).await;
            tokio::time::sleep(PAUSE).await;
            deaths.push(load.kill(&mut newcomer));
            let back = |process: &Process| process.log().matches("hand-over: takes back").count();
            let again = async || back(&line.current) == number;
            eventually("it takes back", again, || line.current.log()).await;
        }
        line.hand_over(&site, &SETTINGS).await;
        let report = load.end().await;
        report.print("killed after the flip");
        report.assert_only_theirs_failed(&deaths);
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
            // The drain, and with it the test, ends when the last connection does.
            let load = Load::start(Traffic {
                websockets: None,
                ..heavy(&site).await
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
        println!(
            "figure: lost by {RESTARTS} hand-overs without the program and not with it = {} requests",
            lost[0]
        );
    });
}
