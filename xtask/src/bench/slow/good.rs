//! Clients that ask one thing after the other, and count what they get.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::super::client::{self, Client};
use super::place;

/// What goes on besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Slow peers are there.
    During = 1,
    /// They are gone.
    After = 2,
}

/// Between an answer and the next request: the clients are not there to use up the CPUs.
const PAUSE: Duration = Duration::from_millis(5);

const PHASES: usize = 3;

/// Requests of one phase.
#[derive(Clone, Debug, Default)]
struct Record {
    /// Latencies in microseconds.
    latencies: Vec<u32>,
    errors: usize,
    first_error: Option<String>,
}

/// What all clients saw in one phase.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Summary {
    /// Requests in a second.
    pub(super) rate: f64,
    /// Median latency in milliseconds.
    pub(super) median: f64,
    /// The 99th percentile in milliseconds.
    pub(super) high: f64,
    /// The highest in milliseconds.
    pub(super) highest: f64,
    pub(super) errors: usize,
    /// One of them.
    pub(super) first_error: Option<String>,
}

/// The clients at work.
#[derive(Debug)]
pub(super) struct Good {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<[Record; PHASES]>>,
    /// When each phase began; the first one with the clients.
    began: std::cell::RefCell<Vec<Instant>>,
}

#[derive(Debug, Default)]
struct Shared {
    phase: AtomicUsize,
    over: AtomicBool,
}

impl Good {
    pub(super) fn start(server: SocketAddr, count: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let threads = (0..count).map(|_| {
            let shared = shared.clone();
            thread::spawn(move || ask_on(server, &shared))
        });
        Self {
            threads: threads.collect(),
            shared,
            began: vec![Instant::now()].into(),
        }
    }

    /// From now on requests count for this phase.
    pub(super) fn enter(&self, phase: Phase) {
        self.shared.phase.store(phase as usize, Ordering::Relaxed);
        self.began.borrow_mut().push(Instant::now());
    }

    /// Ends them and sums up.
    pub(super) fn stop(self) -> [Summary; PHASES] {
        self.shared.over.store(true, Ordering::Relaxed);
        let mut bounds = self.began.into_inner();
        bounds.push(Instant::now());
        let mut sums: [Record; PHASES] = Default::default();
        for thread in self.threads {
            // A client that ended by a panic has failed as much as one with an error.
            let records = thread.join().unwrap_or_else(|_| {
                let mut records: [Record; PHASES] = Default::default();
                records[0].fail("panicked".to_owned());
                records
            });
            for (sum, record) in sums.iter_mut().zip(records) {
                sum.latencies.extend(record.latencies);
                sum.errors += record.errors;
                sum.first_error = sum.first_error.take().or(record.first_error);
            }
        }
        let mut spans = bounds.windows(2).map(|pair| match pair {
            [from, to] => to.duration_since(*from),
            _ => Duration::ZERO,
        });
        sums.map(|sum| summarise(sum, spans.next().unwrap_or_default()))
    }
}

impl Record {
    fn fail(&mut self, error: String) {
        self.errors += 1;
        self.first_error.get_or_insert(error);
    }
}

fn ask_on(server: SocketAddr, shared: &Shared) -> [Record; PHASES] {
    let mut records: [Record; PHASES] = Default::default();
    let mut connection = None;
    while !shared.over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let answered = ask(server, &mut connection);
        let phase = shared.phase.load(Ordering::Relaxed);
        let Some(record) = records.get_mut(phase) else {
            continue;
        };
        let took = begun.elapsed();
        if let Err(error) = answered {
            record.fail(format!("{error:#} after {took:.1?}"));
            connection = None;
        } else {
            let micros = u32::try_from(took.as_micros());
            record.latencies.push(micros.unwrap_or(u32::MAX));
        }
        thread::sleep(PAUSE);
    }
    records
}

fn ask(
    server: SocketAddr,
    connection: &mut Option<Client<TcpStream>>,
) -> Result<(), anyhow::Error> {
    let client = match connection {
        Some(client) => client,
        None => connection.insert(client::plain(client::connect(server, Ipv4Addr::LOCALHOST)?)),
    };
    let answer = client.get(place::GOOD_HOST, "/")?;
    anyhow::ensure!(answer.status == 200, "status {}", answer.status);
    Ok(())
}

fn summarise(record: Record, span: Duration) -> Summary {
    let mut latencies = record.latencies;
    latencies.sort_unstable();
    let at = |percent: usize| {
        let index = (latencies.len() * percent / 100).min(latencies.len().saturating_sub(1));
        latencies
            .get(index)
            .map_or(f64::NAN, |micros| f64::from(*micros) / 1e3)
    };
    Summary {
        rate: latencies.len() as f64 / span.as_secs_f64(),
        median: at(50),
        high: at(99),
        highest: at(100),
        errors: record.errors,
        first_error: record.first_error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_all_requests() {
        let record = Record {
            latencies: (1..=1000).rev().map(|milli| milli * 1000).collect(),
            errors: 2,
            first_error: Some("reset".to_owned()),
        };
        let expected = Summary {
            rate: 500.0,
            median: 501.0,
            high: 991.0,
            highest: 1000.0,
            errors: 2,
            first_error: Some("reset".to_owned()),
        };
        assert_eq!(summarise(record, Duration::from_secs(2)), expected);
    }
}
