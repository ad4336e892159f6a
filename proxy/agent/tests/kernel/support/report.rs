//! What a load came to.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use super::client::{Failure, Kind};

/// After a process was killed, time until its connections are known to be dead.
const SETTLING: Duration = Duration::from_millis(50);
/// An answer that took longer has waited for something that was sent again.
const SENT_AGAIN: Duration = Duration::from_millis(900);

/// Requests of one kind and what became of them.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) answered: u64,
    pub(crate) failures: Vec<Failure>,
    /// Of the requests that were answered.
    pub(super) latencies: Vec<Duration>,
}

/// A WebSocket that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    /// When its connection was begun.
    pub(crate) begun: SystemTime,
    /// When its end was seen.
    pub(crate) ended: SystemTime,
    pub(crate) echoes: u64,
    /// Why it ended; `None` when the load did.
    pub(crate) cut: Option<String>,
}

/// What a load came to.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) new: Tally,
    pub(crate) kept: Tally,
    pub(crate) websockets: Vec<Life>,
    /// WebSockets that could not be opened.
    pub(crate) unopened: Vec<String>,
    pub(super) seconds: f64,
}

/// A process that was killed under load, and what it may have had.
#[derive(Debug)]
pub(crate) struct Death {
    pub(super) at: Instant,
    /// Requests in flight and connections that were kept, at most.
    pub(super) open: usize,
}

impl Death {
    /// Since when it was dead.
    pub(crate) fn at(&self) -> Instant {
        self.at
    }

    /// Whether a request may have died with the process. Connections that were opened a moment after are nobody's to lose.
    fn explains(&self, failure: &Failure) -> bool {
        failure.started <= self.at + SETTLING && failure.ended >= self.at
    }
}

impl Tally {
    /// How many failed so.
    pub(crate) fn failed(&self, kind: Kind) -> usize {
        let failures = self.failures.iter();
        failures.filter(|failure| failure.kind == kind).count()
    }

    /// A time that the fraction `part` of the answers came within.
    pub(crate) fn latency(&self, part: f64) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let index = (sorted.len() as f64 * part) as usize;
        let last = sorted.len().saturating_sub(1);
        sorted.get(index.min(last)).copied().unwrap_or_default()
    }

    /// How many answers took longer.
    fn slower_than(&self, limit: Duration) -> usize {
        self.latencies
            .iter()
            .filter(|latency| **latency > limit)
            .count()
    }

    /// How long the first failures took and when they came, to find them in logs.
    fn ages(&self) -> Vec<String> {
        let age = |failure: &Failure| {
            let after = failure.ended.saturating_duration_since(failure.started);
            let ended = SystemTime::now() - failure.ended.elapsed();
            let at = ended.duration_since(SystemTime::UNIX_EPOCH);
            let at = at.unwrap_or_default().as_secs_f64().rem_euclid(86_400.0);
            format!(
                "{:?} after {after:.1?} at {at:.3} s of the day",
                failure.kind
            )
        };
        self.failures.iter().take(20).map(age).collect()
    }

    /// Failures by what they were, for people.
    pub(crate) fn kinds(&self) -> String {
        let mut kinds = BTreeMap::<_, u64>::new();
        for failure in &self.failures {
            *kinds.entry((failure.kind, &failure.what)).or_default() += 1;
        }
        format!("{kinds:?}")
    }
}

impl Report {
    /// Requests of new and kept connections that failed so.
    pub(crate) fn failed(&self, kind: Kind) -> usize {
        self.new.failed(kind) + self.kept.failed(kind)
    }

    /// Prints what it came to as figures of `name`.
    pub(crate) fn print(&self, name: &str) {
        let rate = self.new.answered as f64 / self.seconds;
        println!(
            "figure: {name}, new connections = {} connections",
            self.new.answered
        );
        println!("figure: {name}, new connections a second = {rate:.0} connections/s");
        println!(
            "figure: {name}, p99 of new connections = {:.1} ms",
            milliseconds(self.new.latency(0.99))
        );
        println!(
            "figure: {name}, slower than {SENT_AGAIN:?} = {} connections",
            self.new.slower_than(SENT_AGAIN)
        );
        println!(
            "figure: {name}, requests on kept connections = {} requests",
            self.kept.answered
        );
        for (kind, word) in [
            (Kind::Refused, "refused"),
            (Kind::Reset, "reset"),
            (Kind::Other, "failed otherwise"),
        ] {
            println!("figure: {name}, {word} = {} requests", self.failed(kind));
        }
        let echoes: u64 = self.websockets.iter().map(|life| life.echoes).sum();
        println!("figure: {name}, WebSocket echoes = {echoes} messages");
    }

    /// Fails unless all that failed is what killed processes had, and none of it was refused.
    pub(crate) fn assert_only_theirs_failed(&self, deaths: &[Death]) {
        let failures: Vec<_> = self
            .new
            .failures
            .iter()
            .chain(&self.kept.failures)
            .collect();
        let is_theirs = |failure: &Failure| deaths.iter().any(|death| death.explains(failure));
        let others: Vec<_> = failures
            .iter()
            .filter(|failure| !is_theirs(failure))
            .collect();
        assert!(
            others.is_empty(),
            "of no killed process: {others:?}\n{deaths:?}"
        );
        for death in deaths {
            let theirs = failures
                .iter()
                .filter(|failure| death.explains(failure))
                .count();
            assert!(theirs <= death.open, "{theirs} failed of {death:?}");
        }
        let open: usize = deaths.iter().map(|death| death.open).sum();
        println!(
            "figure: killed after the flip, open at the killed processes, at most = {open} requests"
        );
        println!(
            "figure: killed after the flip, died with them = {} requests",
            failures.len()
        );
        assert_eq!(self.failed(Kind::Refused), 0);
    }

    /// Fails unless every request was answered.
    pub(crate) fn assert_nothing_failed(&self) {
        assert!(
            self.new.failures.is_empty() && self.kept.failures.is_empty(),
            "new connections: {}\nkept connections: {}\n{:?}",
            self.new.kinds(),
            self.kept.kinds(),
            self.new.ages()
        );
        assert!(self.unopened.is_empty(), "WebSockets: {:?}", self.unopened);
    }
}

/// For figures.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
