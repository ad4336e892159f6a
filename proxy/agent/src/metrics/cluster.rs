//! How the watches do, who leads, and what is written.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use tidegate_controller::source::cluster::{HealthSnapshot, WatchHealth, WatchName};

use super::{count, counter, counters, gauge, gauges};
use crate::app::Shared;

/// Metrics of an agent of a cluster.
#[derive(Debug)]
pub(crate) struct ClusterMetrics {
    shared: Shared,
}

impl ClusterMetrics {
    pub(crate) fn new(shared: Shared) -> Self {
        Self { shared }
    }
}

/// A watch; the namespace is empty for all of them.
#[derive(Debug, EncodeLabelSet)]
struct Watch {
    kind: &'static str,
    namespace: String,
}

#[derive(Debug, EncodeLabelSet)]
struct WatchFailure {
    kind: &'static str,
    namespace: String,
    sort: &'static str,
}

#[derive(Debug, EncodeLabelSet)]
struct Write {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Debug, EncodeLabelSet)]
struct Request {
    verb: &'static str,
}

impl Watch {
    fn of(name: &WatchName) -> Self {
        Self {
            kind: name.kind.name(),
            namespace: name.namespace.clone().unwrap_or_default(),
        }
    }
}

impl Collector for ClusterMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let health = self.shared.health.snapshot();
        encode_watches(encoder, &health)?;
        encode_requests(encoder, &health)?;
        self.encode_election(encoder)?;
        self.encode_writes(encoder)
    }
}

fn encode_watches(encoder: &mut DescriptorEncoder<'_>, health: &HealthSnapshot) -> fmt::Result {
    let labels: Vec<_> = health.watches.keys().map(Watch::of).collect();
    let mut each = |name, help, value: fn(&WatchHealth) -> i64| {
        let values = labels.iter().zip(health.watches.values().map(value));
        gauges(encoder, name, help, values)
    };
    each(
        "watch_synced",
        "1 when everything of the kind has been seen since the start",
        |watch| i64::from(watch.is_synced),
    )?;
    each("watch_failing", "1 while the watch fails", |watch| {
        i64::from(watch.failing.is_some())
    })?;
    each(
        "watch_objects",
        "Objects of the kind that are held",
        |watch| count(watch.held),
    )?;
    let mut each = |name, help, value: fn(&WatchHealth) -> u64| {
        let values = labels.iter().zip(health.watches.values().map(value));
        counters(encoder, name, help, values)
    };
    each(
        "watch_events",
        "Objects that the API server sent",
        |watch| watch.events,
    )?;
    each(
        "watch_restarts",
        "How often the watch was begun again, for whatever reason",
        |watch| watch.restarts,
    )?;
    each(
        "watch_relists",
        "How often everything had to be listed again",
        |watch| watch.relists,
    )?;
    let failures: Vec<_> = health
        .watches
        .iter()
        .flat_map(|(name, watch)| watch.failures.iter().map(move |failure| (name, failure)))
        .map(|(name, (sort, number))| {
            let Watch { kind, namespace } = Watch::of(name);
            let sort = sort.name();
            let labels = WatchFailure {
                kind,
                namespace,
                sort,
            };
            (labels, *number)
        })
        .collect();
    counters(
        encoder,
        "watch_failures",
        "Failures of watches, by what went wrong",
        failures.iter().map(|(labels, number)| (labels, *number)),
    )
}

fn encode_requests(encoder: &mut DescriptorEncoder<'_>, health: &HealthSnapshot) -> fmt::Result {
    let requests = health.requests;
    let verbs = [
        ("list", requests.list),
        ("watch", requests.watch),
        ("get", requests.get),
    ];
    let verbs = verbs.map(|(verb, number)| (Request { verb }, number));
    counters(
        encoder,
        "api_requests",
        "Requests to the API server that read; a watch counts when it begins",
        verbs.iter().map(|(verb, number)| (verb, *number)),
    )?;
    gauge(
        encoder,
        "secrets_unreadable",
        "Secrets that are referred to and cannot be fetched",
        &count(health.secrets.len()),
    )
}

impl ClusterMetrics {
    fn encode_election(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let facts = self.shared.election.facts();
        gauge(
            encoder,
            "leader",
            "1 while this process leads its instance",
            &i64::from(facts.is_leader),
        )?;
        counter(
            encoder,
            "leader_terms",
            "Terms of leadership that this process has begun",
            facts.terms,
        )?;
        counter(
            encoder,
            "leader_terms_lost",
            "Terms that ended because the Lease could not be renewed",
            facts.lost,
        )?;
        counter(
            encoder,
            "leader_failures",
            "Requests about the Lease that failed",
            facts.failures,
        )
    }

    fn encode_writes(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let writes = self.shared.writes.all().into_iter();
        let writes = writes.map(|((kind, outcome), number)| {
            let labels = Write {
                kind: kind.name(),
                outcome: outcome.name(),
            };
            (labels, number)
        });
        let writes: Vec<_> = writes.collect();
        counters(
            encoder,
            "api_writes",
            "Writes to the API server by the leader, but for the Lease, by how they ended",
            writes.iter().map(|(labels, number)| (labels, *number)),
        )
    }
}
