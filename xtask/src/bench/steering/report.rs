//! Medians and ratios to the kernel's hash as tables.

use super::super::report::median;
use super::super::testbed::Steering;
use super::burden::HEAVY;
use super::{Args, Case, Measured, Sample};
use crate::table::{Align, Table};

/// The middle of the rounds, figure by figure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Medians {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    share: f64,
    cpus: f64,
    requests: usize,
    failures: usize,
}

impl Medians {
    pub(super) fn of(samples: &[Sample]) -> Self {
        let of = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure).collect());
        Self {
            p50: of(|sample| sample.latency.p50),
            p99: of(|sample| sample.latency.p99),
            p999: of(|sample| sample.latency.p999),
            share: of(|sample| sample.share),
            cpus: of(|sample| sample.cpus),
            // Failures are never averaged away.
            requests: samples.iter().map(|sample| sample.requests).sum(),
            failures: samples.iter().map(|sample| sample.failures).sum(),
        }
    }
}

/// How unevenly connections are spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    /// Connections of the worker with the most, as a multiple of the mean.
    pub(super) highest: f64,
    /// Standard deviation over the workers.
    deviation: f64,
}

impl Spread {
    pub(super) fn of(rounds: &[Vec<u64>]) -> Self {
        let of = |figure: fn(&[u64]) -> f64| {
            median(rounds.iter().map(|workers| figure(workers)).collect())
        };
        Self {
            highest: of(|workers| {
                workers.iter().copied().max().unwrap_or_default() as f64 / mean(workers)
            }),
            deviation: of(|workers| {
                let mean = mean(workers);
                let squares = workers.iter().map(|count| (*count as f64 - mean).powi(2));
                (squares.sum::<f64>() / workers.len() as f64).sqrt()
            }),
        }
    }
}

fn mean(workers: &[u64]) -> f64 {
    workers.iter().sum::<u64>() as f64 / workers.len() as f64
}

/// What the run was told.
pub(super) fn settings(args: Args) -> String {
    let Args {
        seconds,
        rounds,
        rate,
        handshakes,
        connections,
    } = args;
    format!(
        "Median of {rounds} rounds of {seconds} s. Light clients: {rate} new connections a second. One busy worker: \
         {HEAVY} connections keep it so. Long handshakes: {handshakes} a second. Held connections: {connections}.\n"
    )
}

pub(super) fn imbalance(measured: &Measured) -> Table {
    let mut table = Table::new([
        ("workers", Align::Right),
        ("steering", Align::Left),
        ("connections of each worker, last round", Align::Left),
        ("most to mean", Align::Right),
        ("standard deviation", Align::Right),
    ]);
    for ((workers, steering), rounds) in &measured.held {
        let Spread { highest, deviation } = Spread::of(rounds);
        let last = rounds.last().map(Vec::as_slice).unwrap_or_default();
        let last: Vec<_> = last.iter().map(u64::to_string).collect();
        table.push([
            workers.to_string(),
            steering.name().to_owned(),
            last.join(", "),
            format!("{highest:.3}"),
            format!("{deviation:.1}"),
        ]);
    }
    table
}

pub(super) fn latency(measured: &Measured) -> Table {
    let mut table = Table::new([
        ("beside", Align::Left),
        ("workers", Align::Right),
        ("light clients", Align::Left),
        ("steering", Align::Left),
        ("p50 ms", Align::Right),
        ("p99 ms", Align::Right),
        ("p99.9 ms", Align::Right),
        ("p50 to kernel", Align::Right),
        ("p99 to kernel", Align::Right),
        ("p99.9 to kernel", Align::Right),
        ("at the busiest worker", Align::Right),
        ("CPUs", Align::Right),
        ("requests", Align::Right),
        ("failed", Align::Right),
    ]);
    for (case, samples) in &measured.cases {
        let own = Medians::of(samples);
        let yardstick = measured.cases.get(&Case {
            steering: Steering::Kernel,
            ..*case
        });
        let yardstick = yardstick.map(|samples| Medians::of(samples));
        let ratio = |figure: fn(&Medians) -> f64| {
            yardstick.as_ref().map_or(String::new(), |other| {
                format!("{:.2}", figure(&own) / figure(other))
            })
        };
        table.push([
            case.workload.name().to_owned(),
            case.workers.to_string(),
            case.kind.name().to_owned(),
            case.steering.name().to_owned(),
            format!("{:.2}", own.p50),
            format!("{:.2}", own.p99),
            format!("{:.2}", own.p999),
            ratio(|medians| medians.p50),
            ratio(|medians| medians.p99),
            ratio(|medians| medians.p999),
            format!("{:.0} %", 100.0 * own.share),
            format!("{:.2}", own.cpus),
            own.requests.to_string(),
            own.failures.to_string(),
        ]);
    }
    table
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::super::open_loop::{Kind, Percentiles};
    use super::super::Workload;
    use super::*;

    /// One round with the kernel's hash and one by load.
    pub(in super::super) fn measured() -> Measured {
        let mut measured = Measured::default();
        for (steering, p99, held) in [
            (Steering::Kernel, 20.0, [30, 10]),
            (Steering::LeastLoaded, 5.0, [20, 20]),
        ] {
            let case = Case {
                workload: Workload::BusyWorker,
                workers: 2,
                kind: Kind::Tls,
                steering,
            };
            let sample = Sample {
                latency: Percentiles {
                    p50: p99 / 10.0,
                    p99,
                    p999: 2.0 * p99,
                    highest: 3.0 * p99,
                },
                requests: 100,
                failures: 1,
                share: 0.5,
                cpus: 1.5,
            };
            measured.cases.insert(case, vec![sample]);
            measured.held.insert((2, steering), vec![held.to_vec()]);
        }
        measured
    }

    #[test]
    fn spread_is_to_the_mean() {
        let expected = Spread {
            highest: 1.5,
            deviation: 10.0,
        };
        assert_eq!(Spread::of(&[vec![30, 10]]), expected);
        let text = imbalance(&measured()).text();
        assert!(text.contains("30, 10") && text.contains("1.500"), "{text}");
    }

    #[test]
    fn ratios_are_to_the_kernel() {
        let text = latency(&measured()).text();
        let line = text.lines().find(|line| line.contains("least-loaded"));
        let cells: Vec<_> = line.unwrap().split_whitespace().collect();
        assert_eq!(
            cells[7..],
            [
                "0.50", "5.00", "10.00", "0.25", "0.25", "0.25", "50", "%", "1.50", "100", "1"
            ]
        );
    }
}
