//! Samples of the admin page `/metrics`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tidegate::demo::client;

/// Where the admin pages are.
pub(crate) const ADMIN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9090);

/// All samples of one reading.
#[derive(Debug)]
pub(crate) struct Metrics {
    samples: Vec<Sample>,
    text: String,
}

/// One line.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// Reads the page of whoever has the admin port.
    pub(crate) async fn read() -> Self {
        Self::try_read().await.unwrap()
    }

    /// As [`read`](Self::read), for while nobody may have the port.
    pub(crate) async fn try_read() -> anyhow::Result<Self> {
        let text = client::get(ADMIN, "localhost", "/metrics").await?.text();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Ok(Self {
            samples: lines.filter_map(sample).collect(),
            text,
        })
    }

    /// The sum of the samples of a name that have these labels among theirs; `None` when there is none.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |sample: &&Sample| {
            let matches = |(label, value): &(&str, &str)| {
                sample.labels.get(*label).map(String::as_str) == Some(*value)
            };
            sample.name == name && labels.iter().all(matches)
        };
        let found: Vec<f64> = self
            .samples
            .iter()
            .filter(has)
            .map(|sample| sample.value)
            .collect();
        (!found.is_empty()).then(|| found.iter().sum())
    }

    /// As [`sum`](Self::sum), as a count; 0 when there is no sample.
    pub(crate) fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.sum(name, labels).unwrap_or_default() as u64
    }

    /// A count for each worker.
    pub(crate) fn by_worker(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        workers: usize,
    ) -> Vec<u64> {
        let of = |worker: usize| {
            let worker = worker.to_string();
            let labels: Vec<_> = labels
                .iter()
                .copied()
                .chain([("worker", &*worker)])
                .collect();
            self.count(name, &labels)
        };
        (0..workers).map(of).collect()
    }

    /// Mode and reason of the steering that is in force.
    pub(crate) fn steering(&self) -> (String, String) {
        let in_force =
            |sample: &&Sample| sample.name == "tidegate_steering_mode" && sample.value == 1.0;
        let sample = self.samples.iter().find(in_force);
        let sample =
            sample.unwrap_or_else(|| panic!("no steering mode is in force in\n{}", self.text));
        let label = |name| sample.labels.get(name).cloned().unwrap_or_default();
        (label("mode"), label("reason"))
    }
}

/// `name{label="value",…} value`; values here have neither commas nor quotes.
fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        None => (series, ""),
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
    };
    let label = |text: &str| {
        let (name, value) = text.split_once('=')?;
        Some((name.to_owned(), value.trim_matches('"').to_owned()))
    };
    Some(Sample {
        name: name.to_owned(),
        labels: labels.split(',').filter_map(label).collect(),
        value: value.parse().ok()?,
    })
}
