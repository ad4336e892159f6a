//! When requests are due, laid down before the first one is sent: what a server does has no influence on it.

use std::time::Duration;

use super::Kind;

/// How many requests of a kind are due in a second, on the mean.
#[derive(Clone, Copy, Debug)]
pub(in crate::bench) struct Rate {
    pub(in crate::bench) kind: Kind,
    pub(in crate::bench) per_second: f64,
}

/// A request that is due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Arrival {
    /// From the beginning of the schedule.
    pub(super) at: Duration,
    pub(super) kind: Kind,
}

/// Arrivals without end, each kind by itself a Poisson process. The same seed gives the same arrivals.
#[derive(Debug)]
pub(super) struct Schedule {
    random: Random,
    streams: Vec<(Rate, Duration)>,
}

impl Schedule {
    pub(super) fn new(rates: &[Rate], seed: u64) -> Self {
        let mut random = Random::new(seed);
        let rates = rates.iter().filter(|rate| rate.per_second > 0.0);
        let streams = rates.map(|&rate| (rate, random.gap(rate.per_second)));
        Self {
            streams: streams.collect(),
            random,
        }
    }
}

impl Iterator for Schedule {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        let (rate, due) = self.streams.iter_mut().min_by_key(|(_, due)| *due)?;
        let at = *due;
        *due += self.random.gap(rate.per_second);
        Some(Arrival {
            at,
            kind: rate.kind,
        })
    }
}

/// Numbers that only need to look random (xorshift64*, Vigna 2016).
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        // Zero is the one state that it does not leave; neighbouring seeds are set apart.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// From 0 to below 1.
    fn fraction(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        bits as f64 / (1_u64 << 53) as f64
    }

    /// Time between two arrivals of a Poisson process.
    fn gap(&mut self, per_second: f64) -> Duration {
        Duration::from_secs_f64(-(1.0 - self.fraction()).ln() / per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: [Rate; 2] = [
        Rate {
            kind: Kind::Plain,
            per_second: 1000.0,
        },
        Rate {
            kind: Kind::Tls,
            per_second: 250.0,
        },
    ];

    #[test]
    fn arrivals_are_in_order_and_as_many_as_asked_for() {
        let ten_seconds = Schedule::new(&RATES, 1);
        let arrivals: Vec<_> = ten_seconds
            .take_while(|arrival| arrival.at < Duration::from_secs(10))
            .collect();
        assert!(arrivals.is_sorted_by_key(|arrival| arrival.at));
        let count = |kind| {
            let of_kind = arrivals.iter().filter(|arrival| arrival.kind == kind);
            of_kind.count()
        };
        assert!(count(Kind::Plain).abs_diff(10_000) < 400);
        assert!(count(Kind::Tls).abs_diff(2_500) < 200);
    }

    #[test]
    fn a_seed_is_a_schedule() {
        let first = |seed| Schedule::new(&RATES, seed).take(9).collect::<Vec<_>>();
        assert_eq!(first(7), first(7));
        assert_ne!(first(7), first(8));
    }

    #[test]
    fn what_has_no_rate_never_comes() {
        let rate = Rate {
            kind: Kind::Kept,
            per_second: 0.0,
        };
        assert_eq!(Schedule::new(&[rate], 1).next(), None);
    }
}
