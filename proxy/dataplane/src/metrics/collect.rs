//! The scrape: every worker's figures, added up and encoded.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use tidegate_model::RouteLabels;

use super::route::BOUNDS;
use super::{Count, RouteMetrics, WorkerMetrics};

/// All workers' figures.
#[derive(Debug)]
pub(crate) struct Collected(pub(crate) Vec<Arc<WorkerMetrics>>);

/// Adds one number of every worker.
type Sum = fn(&WorkerMetrics) -> &Count;

const COUNTERS: [(&str, &str, Sum); 8] = [
    (
        "accept_failures",
        "Connections that could not be accepted",
        |worker| &worker.accept_failures,
    ),
    (
        "connections_timed_out",
        "Client connections cut by a deadline",
        |worker| &worker.timed_out,
    ),
    (
        "tls_on_demand_names",
        "Server names without a certificate that the control plane was asked to order one for",
        |worker| &worker.demand_names,
    ),
    (
        "upstream_connections",
        "Connections opened to endpoints",
        |worker| &worker.upstream_connections,
    ),
    (
        "upstream_connect_failures",
        "Connections that endpoints refused or did not answer",
        |worker| &worker.connect_failures,
    ),
    (
        "upstream_retries",
        "Requests sent again because a kept connection was stale",
        |worker| &worker.retries,
    ),
    (
        "access_log_dropped_lines",
        "Lines of the access log that could not be written",
        |worker| &worker.log_lines_dropped,
    ),
    (
        "requests_finished",
        "Exchanges that are over, with or without a route",
        |worker| &worker.requests,
    ),
];

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.connections(&mut encoder)?;
        self.handshakes(&mut encoder)?;
        for (name, help, sum) in COUNTERS {
            let total = self.sum(sum);
            encoder
                .encode_descriptor(name, help, None, MetricType::Counter)?
                .encode_counter::<NoLabelSet, _, u64>(&total, None)?;
        }
        let idle = self.sum(|worker| &worker.upstream_idle);
        let mut gauge = encoder.encode_descriptor(
            "upstream_idle_connections",
            "Connections to endpoints kept for the next request",
            None,
            MetricType::Gauge,
        )?;
        gauge.encode_gauge(&signed(idle))?;
        self.workers(&mut encoder)?;
        self.faults(&mut encoder)?;
        self.routes(&mut encoder)
    }
}

impl Collected {
    fn sum(&self, of: Sum) -> u64 {
        self.0.iter().map(|worker| of(worker).read()).sum()
    }

    fn connections(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut accepted = encoder.encode_descriptor(
            "connections",
            "Client connections accepted",
            None,
            MetricType::Counter,
        )?;
        let sums: [(&str, Sum); 2] = [
            ("http", |worker| &worker.accepted_http),
            ("https", |worker| &worker.accepted_https),
        ];
        for (protocol, sum) in sums {
            let total = self.sum(sum);
            count(&mut accepted, &[("protocol", protocol)], total)?;
        }
        let open = self.sum(|worker| &worker.open);
        encoder
            .encode_descriptor(
                "connections_open",
                "Client connections open now",
                None,
                MetricType::Gauge,
            )?
            .encode_gauge(&signed(open))
    }

    fn handshakes(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut handshakes = encoder.encode_descriptor(
            "tls_handshakes",
            "TLS handshakes by outcome",
            None,
            MetricType::Counter,
        )?;
        let sums: [(&str, Sum); 4] = [
            ("full", |worker| &worker.handshakes_full),
            ("resumed", |worker| &worker.handshakes_resumed),
            ("challenge", |worker| &worker.handshakes_challenge),
            ("failed", |worker| &worker.handshakes_failed),
        ];
        self.outcomes(&mut handshakes, &sums)?;
        let mut waited = encoder.encode_descriptor(
            "tls_on_demand_handshakes",
            "TLS handshakes that had no certificate and were to wait for one, by outcome",
            None,
            MetricType::Counter,
        )?;
        let sums: [(&str, Sum); 4] = [
            ("served", |worker| &worker.demand_served),
            ("timed_out", |worker| &worker.demand_timed_out),
            ("left", |worker| &worker.demand_left),
            ("crowded", |worker| &worker.demand_crowded),
        ];
        self.outcomes(&mut waited, &sums)
    }

    fn outcomes(&self, encoder: &mut MetricEncoder<'_>, sums: &[(&str, Sum)]) -> fmt::Result {
        for (outcome, sum) in sums {
            count(encoder, &[("outcome", outcome)], self.sum(*sum))?;
        }
        Ok(())
    }

    fn workers(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut open = encoder.encode_descriptor(
            "worker_connections_open",
            "Client connections open now, by worker",
            None,
            MetricType::Gauge,
        )?;
        for (index, worker) in self.0.iter().enumerate() {
            open.encode_family(&[("worker", index.to_string())])?
                .encode_gauge(&signed(worker.open.read()))?;
        }
        let mut requests = encoder.encode_descriptor(
            "worker_requests",
            "Exchanges that are over, by worker",
            None,
            MetricType::Counter,
        )?;
        for (index, worker) in self.0.iter().enumerate() {
            count(
                &mut requests,
                &[("worker", &index.to_string())],
                worker.requests.read(),
            )?;
        }
        Ok(())
    }

    fn faults(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut sums: BTreeMap<(&'static str, &'static str), u64> = BTreeMap::new();
        for worker in &self.0 {
            for (key, value) in worker
                .faults
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .iter()
            {
                *sums.entry(*key).or_default() += value;
            }
        }
        let mut faults = encoder.encode_descriptor(
            "faults",
            "Requests that Tidegate answered itself, by reason and by whose fault it was",
            None,
            MetricType::Counter,
        )?;
        for ((reason, source), total) in sums {
            count(
                &mut faults,
                &[("reason", reason), ("source", source)],
                total,
            )?;
        }
        Ok(())
    }

    fn routes(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut routes: BTreeMap<RouteLabels, Vec<Arc<RouteMetrics>>> = BTreeMap::new();
        for worker in &self.0 {
            for (labels, metrics) in worker
                .routes
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .iter()
            {
                routes
                    .entry((**labels).clone())
                    .or_default()
                    .push(metrics.clone());
            }
        }
        let routes: Vec<(Labels, Totals)> = routes
            .iter()
            .map(|(labels, shards)| {
                (
                    Labels::of(labels),
                    Totals::add(shards.iter().map(|shard| &**shard)),
                )
            })
            .chain([(
                Labels::default(),
                Totals::add(self.0.iter().map(|worker| &worker.unrouted)),
            )])
            .collect();
        let mut requests = encoder.encode_descriptor(
            "requests",
            "Requests by Ingress, service and status; 499 is a client that left before the answer",
            None,
            MetricType::Counter,
        )?;
        for (labels, totals) in &routes {
            for (code, total) in &totals.codes {
                let [namespace, ingress, service] = labels.pairs();
                count(
                    &mut requests,
                    &[namespace, ingress, service, ("code", &code.to_string())],
                    *total,
                )?;
            }
        }
        let mut latency = encoder.encode_descriptor(
            "request_duration_seconds",
            "Time from the head of a request to the last byte of its response",
            None,
            MetricType::Histogram,
        )?;
        for (labels, totals) in &routes {
            let buckets: Vec<(f64, u64)> = BOUNDS
                .iter()
                .copied()
                .chain([f64::INFINITY])
                .zip(totals.buckets.iter().copied())
                .collect();
            let total = totals.buckets.iter().sum();
            latency
                .encode_family(&labels.pairs())?
                .encode_histogram::<NoLabelSet>(totals.seconds, total, &buckets, None)?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Labels {
    namespace: String,
    ingress: String,
    service: String,
}

impl Labels {
    fn of(labels: &RouteLabels) -> Self {
        let ingress = labels.ingress.clone().unwrap_or_default();
        Self {
            namespace: ingress.namespace,
            ingress: ingress.name,
            service: labels.service.clone(),
        }
    }

    fn pairs(&self) -> [(&'static str, &str); 3] {
        [
            ("namespace", &self.namespace),
            ("ingress", &self.ingress),
            ("service", &self.service),
        ]
    }
}

#[derive(Default)]
struct Totals {
    codes: BTreeMap<u16, u64>,
    buckets: [u64; BOUNDS.len() + 1],
    seconds: f64,
}

impl Totals {
    fn add<'a>(shards: impl Iterator<Item = &'a RouteMetrics>) -> Self {
        let mut totals = Self::default();
        for shard in shards {
            for (code, count) in shard.statuses() {
                *totals.codes.entry(code).or_default() += count;
            }
            let (buckets, seconds) = shard.latency();
            totals
                .buckets
                .iter_mut()
                .zip(buckets)
                .for_each(|(total, more)| *total += more);
            totals.seconds += seconds;
        }
        totals
    }
}

fn count<const N: usize>(
    encoder: &mut MetricEncoder<'_>,
    labels: &[(&str, &str); N],
    total: u64,
) -> fmt::Result {
    let counter = prometheus_client::metrics::counter::ConstCounter::new(total);
    counter.encode(encoder.encode_family(labels)?)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
