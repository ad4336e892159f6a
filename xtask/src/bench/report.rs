//! Medians and ratios as tables.

use std::collections::BTreeSet;

use super::peers::Peer;
use super::scenario::Scenario;
use super::{Sample, Samples, limit, machine};
use crate::table::{Align, Table};

/// How long and how often was measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) seconds: u32,
    pub(super) rounds: u32,
}

/// The middle of the rounds, figure by figure.
#[derive(Clone, Copy, Debug)]
struct Medians {
    rate: f64,
    cpu: f64,
    middle: f64,
    high: f64,
    resident: f64,
    errors: u64,
}

impl Medians {
    fn of(samples: &[Sample]) -> Self {
        let of = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure).collect());
        Self {
            rate: of(|sample| sample.load.rate),
            cpu: of(|sample| sample.cpu_per_request),
            middle: of(|sample| sample.load.middle),
            high: of(|sample| sample.load.high),
            resident: of(|sample| sample.resident),
            // Errors are never averaged away.
            errors: samples.iter().map(|sample| sample.load.errors).sum(),
        }
    }
}

/// For the terminal.
pub(super) fn text(samples: &Samples) -> String {
    let tables = [figures(samples), limits(samples), access_log(samples)];
    let tables = tables.iter().filter(|table| !table.is_empty());
    tables.map(|table| format!("\n{}", table.text())).collect()
}

/// For the page.
pub(super) fn markdown(
    samples: &Samples,
    settings: Settings,
    machine: &[(&'static str, String)],
) -> String {
    let Settings { seconds, rounds } = settings;
    let mut text =
        format!("Median of {rounds} rounds of {seconds} s each, after 1 s of the same load.\n\n");
    text.push_str(&machine::markdown(machine));
    text.push_str(&format!("\n{}", figures(samples).markdown()));
    let limits = limits(samples);
    if !limits.is_empty() {
        text.push_str(&format!(
            "\nTidegate as a ratio to HAProxy in the same run, and what its CPU per request may be. The aim for p99 is \
             that it is not above HAProxy's.\n\n{}",
            limits.markdown()
        ));
    }
    let access_log = access_log(samples);
    if !access_log.is_empty() {
        text.push_str(&format!(
            "\nCPU per request of Tidegate with its JSON access log on, written to a file, as a ratio to Tidegate \
             without.\n\n{}",
            access_log.markdown()
        ));
    }
    text
}

fn figures(samples: &Samples) -> Table {
    let mut table = Table::new([
        ("scenario", Align::Left),
        ("proxy", Align::Left),
        ("requests/s", Align::Right),
        ("CPU µs/request", Align::Right),
        ("p50 ms", Align::Right),
        ("p99 ms", Align::Right),
        ("RSS MiB", Align::Right),
        ("errors", Align::Right),
        ("requests/s to HAProxy", Align::Right),
        ("CPU to HAProxy", Align::Right),
        ("p99 to HAProxy", Align::Right),
    ]);
    for &(scenario, peer) in samples.keys() {
        let Some(own) = medians(samples, scenario, peer) else {
            continue;
        };
        let yardstick = medians(samples, scenario, Peer::Haproxy);
        let ratio = |figure: fn(&Medians) -> f64| {
            yardstick.as_ref().map_or(String::new(), |other| {
                format!("{:.2}", figure(&own) / figure(other))
            })
        };
        table.push([
            scenario.name().to_owned(),
            peer.name().to_owned(),
            format!("{:.0}", own.rate),
            format!("{:.1}", own.cpu),
            format!("{:.2}", own.middle),
            format!("{:.2}", own.high),
            format!("{:.1}", own.resident),
            own.errors.to_string(),
            ratio(|medians| medians.rate),
            ratio(|medians| medians.cpu),
            ratio(|medians| medians.high),
        ]);
    }
    table
}

/// Where Tidegate stands against what is asked of it.
fn limits(samples: &Samples) -> Table {
    let mut table = Table::new([
        ("scenario", Align::Left),
        ("CPU to HAProxy", Align::Right),
        ("at most", Align::Right),
        ("result", Align::Left),
        ("p99 to HAProxy", Align::Right),
        ("aim", Align::Left),
    ]);
    for scenario in scenarios(samples) {
        let of = |peer| medians(samples, scenario, peer);
        let (Some(own), Some(other)) = (of(Peer::Tidegate), of(Peer::Haproxy)) else {
            continue;
        };
        let (ratio, limit) = (own.cpu / other.cpu, scenario.limit());
        let high = own.high / other.high;
        table.push([
            scenario.name().to_owned(),
            format!("{ratio:.2}"),
            format!("{limit:.2}"),
            limit::result(ratio, limit),
            format!("{high:.2}"),
            limit::result(high, 1.0),
        ]);
    }
    table
}

/// What the access log costs.
fn access_log(samples: &Samples) -> Table {
    let mut table = Table::new([
        ("scenario", Align::Left),
        ("CPU with log to without", Align::Right),
        ("at most", Align::Right),
        ("result", Align::Left),
    ]);
    for scenario in scenarios(samples) {
        let of = |peer| medians(samples, scenario, peer);
        let (Some(with), Some(without)) = (of(Peer::TidegateLog), of(Peer::Tidegate)) else {
            continue;
        };
        let ratio = with.cpu / without.cpu;
        table.push([
            scenario.name().to_owned(),
            format!("{ratio:.2}"),
            format!("{:.2}", limit::ACCESS_LOG),
            limit::result(ratio, limit::ACCESS_LOG),
        ]);
    }
    table
}

fn scenarios(samples: &Samples) -> BTreeSet<Scenario> {
    samples.keys().map(|(scenario, _)| *scenario).collect()
}

fn medians(samples: &Samples, scenario: Scenario, peer: Peer) -> Option<Medians> {
    let list = samples.get(&(scenario, peer))?;
    Some(Medians::of(list))
}

pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.as_slice() {
        [] => f64::NAN,
        values if values.len() % 2 == 1 => values[middle],
        values => (values[middle - 1] + values[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::Load;
    use super::*;

    fn sample(cpu: f64, errors: u64) -> Sample {
        let load = Load {
            requests: 1,
            rate: 100.0 * cpu,
            middle: 1.0,
            high: 2.0,
            errors,
        };
        Sample {
            load,
            cpu_per_request: cpu,
            resident: 8.0,
        }
    }

    #[test]
    fn a_median_is_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 1.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn ratios_are_to_haproxy_and_errors_add_up() {
        let samples = Samples::from([
            (
                (Scenario::H1, Peer::Tidegate),
                vec![sample(12.0, 1), sample(13.0, 2), sample(90.0, 0)],
            ),
            ((Scenario::H1, Peer::Haproxy), vec![sample(10.0, 0)]),
        ]);
        let lines = text(&samples);
        let line = lines
            .lines()
            .find(|line| line.contains("tidegate"))
            .unwrap();
        let cells: Vec<_> = line.split_whitespace().collect();
        assert_eq!(
            cells,
            [
                "h1", "tidegate", "1300", "13.0", "1.00", "2.00", "8.0", "3", "1.30", "1.30",
                "1.00"
            ]
        );
        assert!(lines.contains("missed by 53 %"), "{lines}");
    }

    #[test]
    fn the_access_log_is_compared_with_its_absence() {
        let samples = Samples::from([
            ((Scenario::H1, Peer::Tidegate), vec![sample(10.0, 0)]),
            ((Scenario::H1, Peer::TidegateLog), vec![sample(11.0, 0)]),
        ]);
        let lines = text(&samples);
        let line = lines.lines().last().unwrap();
        let cells: Vec<_> = line.split_whitespace().collect();
        assert_eq!(cells, ["h1", "1.10", "1.15", "met"]);
    }
}
