//! What clients saw: how long requests took, and how they failed.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};

use super::Kind;

/// How a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nothing listened.
    Refused,
    /// The connection was reset.
    Reset,
    /// Anything else: no answer in time, the end of the connection before the answer's, another status than 200.
    Other(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::Refused,
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
                Self::Reset
            }
            _ => Self::Other(error.to_string()),
        }
    }
}

/// Requests of one kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::bench) struct Record {
    /// From the time that a request was due to the last byte of its answer, in microseconds. Requests without an answer
    /// are in it with the time after which they were given up.
    latencies: Vec<u32>,
    pub(in crate::bench) answered: usize,
    pub(in crate::bench) refused: usize,
    pub(in crate::bench) reset: usize,
    /// Failures of any other kind.
    pub(in crate::bench) failed: usize,
    /// Requests that met the end of a kept connection and were sent again on a new one, which HTTP allows.
    pub(in crate::bench) sent_again: usize,
    /// One of the failures.
    pub(in crate::bench) first_failure: Option<String>,
}

impl Record {
    pub(super) fn answer(&mut self, micros: u128) {
        self.answered += 1;
        self.latency(micros);
    }

    pub(super) fn give_up(&mut self, micros: u128) {
        self.latency(micros);
        self.fail(&Failure::Other("no answer".to_owned()));
    }

    pub(super) fn fail(&mut self, failure: &Failure) {
        match failure {
            Failure::Refused => self.refused += 1,
            Failure::Reset => self.reset += 1,
            Failure::Other(what) => {
                self.failed += 1;
                self.first_failure.get_or_insert_with(|| what.clone());
            }
        }
    }

    fn latency(&mut self, micros: u128) {
        self.latencies
            .push(u32::try_from(micros).unwrap_or(u32::MAX));
    }

    fn add(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.answered += other.answered;
        self.refused += other.refused;
        self.reset += other.reset;
        self.failed += other.failed;
        self.sent_again += other.sent_again;
        self.first_failure = self.first_failure.take().or(other.first_failure);
    }

    /// Failures of every kind.
    pub(in crate::bench) fn failures(&self) -> usize {
        self.refused + self.reset + self.failed
    }

    /// Percentiles in milliseconds.
    pub(in crate::bench) fn percentiles(&self) -> Percentiles {
        let mut latencies = self.latencies.clone();
        latencies.sort_unstable();
        // The nearest rank: the smallest latency that so many thousandths of all do not exceed.
        let at = |thousandths: usize| {
            let rank = (latencies.len() * thousandths).div_ceil(1000).max(1);
            latencies
                .get(rank - 1)
                .map_or(f64::NAN, |micros| f64::from(*micros) / 1e3)
        };
        Percentiles {
            p50: at(500),
            p99: at(990),
            p999: at(999),
            highest: at(1000),
        }
    }
}

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::bench) struct Percentiles {
    pub(in crate::bench) p50: f64,
    pub(in crate::bench) p99: f64,
    pub(in crate::bench) p999: f64,
    pub(in crate::bench) highest: f64,
}

/// Requests of every kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::bench) struct Seen(BTreeMap<Kind, Record>);

impl Seen {
    pub(super) fn of(&mut self, kind: Kind) -> &mut Record {
        self.0.entry(kind).or_default()
    }

    pub(in crate::bench) fn add(&mut self, other: Self) {
        for (kind, record) in other.0 {
            self.of(kind).add(record);
        }
    }

    pub(in crate::bench) fn kind(&self, kind: Kind) -> Record {
        self.0.get(&kind).cloned().unwrap_or_default()
    }

    pub(in crate::bench) fn kinds(&self) -> impl Iterator<Item = (Kind, &Record)> {
        self.0.iter().map(|(kind, record)| (*kind, record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let mut record = Record::default();
        (1..=1000)
            .rev()
            .for_each(|milli| record.answer(milli * 1000));
        let expected = Percentiles {
            p50: 500.0,
            p99: 990.0,
            p999: 999.0,
            highest: 1000.0,
        };
        assert_eq!(record.percentiles(), expected);
        assert!(Record::default().percentiles().p99.is_nan());
    }

    #[test]
    fn failures_are_told_apart_and_added_up() {
        let mut first = Seen::default();
        first.of(Kind::Tls).fail(&Failure::Refused);
        let mut second = Seen::default();
        let record = second.of(Kind::Tls);
        record.fail(&io::Error::from(ErrorKind::ConnectionReset).into());
        record.fail(&io::Error::from(ErrorKind::UnexpectedEof).into());
        record.give_up(5_000_000);
        record.answer(1_000);
        first.add(second);
        let sum = first.kind(Kind::Tls);
        assert_eq!((sum.refused, sum.reset, sum.failed), (1, 1, 2));
        assert_eq!((sum.failures(), sum.answered), (4, 1));
        // What was given up counts as slow, not as absent.
        assert!((sum.percentiles().p99 - 5000.0).abs() < f64::EPSILON);
        assert_eq!(first.kind(Kind::Plain), Record::default());
    }
}
