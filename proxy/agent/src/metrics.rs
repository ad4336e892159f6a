//! Metrics about configuration, read off what is in force when they are asked for.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, EncodeLabelValue, LabelValueEncoder,
    NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use tidegate_ebpf::steering::Counters;
use tidegate_model::{Level, Reason};
use tokio::sync::watch;

use crate::app::{InForce, Phase, Serving, SharedSteering};

const GENERATION: &str = "Configurations put in force since the start";

/// Metrics about what is in force.
#[derive(Debug)]
pub(crate) struct ControlMetrics {
    serving: Serving,
}

impl ControlMetrics {
    pub(crate) fn new(serving: Serving) -> Self {
        Self { serving }
    }
}

#[derive(Debug, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct ProblemKind {
    level: Label<Level>,
    reason: Label<Reason>,
}

#[derive(Debug, EncodeLabelSet)]
struct CertificateUse {
    secret: String,
    host: String,
}

/// A word of ours as a label's value.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Label<T>(T);

impl EncodeLabelValue for Label<Level> {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let level = match self.0 {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Info => "info",
        };
        EncodeLabelValue::encode(&level, encoder)
    }
}

impl EncodeLabelValue for Label<Reason> {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        EncodeLabelValue::encode(&self.0.to_string(), encoder)
    }
}

impl Collector for ControlMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let build = Build {
            version: env!("CARGO_PKG_VERSION"),
        };
        gauges(
            &mut encoder,
            "build_info",
            "The version that runs, always 1",
            [(&build, 1)],
        )?;
        let in_force = self.serving.borrow().clone();
        match in_force {
            Some(in_force) => encode_in_force(&mut encoder, &in_force),
            None => gauge(&mut encoder, "snapshot_generation", GENERATION, &0_i64),
        }
    }
}

fn encode_in_force(encoder: &mut DescriptorEncoder<'_>, in_force: &InForce) -> fmt::Result {
    let translation = &in_force.translation;
    let routes: usize = translation
        .statuses
        .values()
        .map(|status| status.routes)
        .sum();
    gauge(
        encoder,
        "snapshot_generation",
        GENERATION,
        &count(in_force.generation),
    )?;
    let age = in_force.since.elapsed().as_secs_f64();
    gauge(
        encoder,
        "snapshot_age_seconds",
        "Time since the configuration was put in force",
        &age,
    )?;
    let ingresses = count(translation.statuses.len());
    gauge(
        encoder,
        "ingresses",
        "Ingresses that are served",
        &ingresses,
    )?;
    gauge(
        encoder,
        "routes",
        "Routes in force that come from Ingresses",
        &count(routes),
    )?;
    let upstreams = count(translation.snapshot.upstreams.len());
    gauge(encoder, "upstreams", "Upstreams in force", &upstreams)?;
    encode_problems(encoder, in_force)?;
    encode_certificates(encoder, in_force)
}

fn encode_problems(encoder: &mut DescriptorEncoder<'_>, in_force: &InForce) -> fmt::Result {
    let mut problems = BTreeMap::<ProblemKind, i64>::new();
    for problem in &in_force.translation.problems {
        let kind = ProblemKind {
            level: Label(problem.level),
            reason: Label(problem.reason),
        };
        *problems.entry(kind).or_default() += 1;
    }
    gauges(
        encoder,
        "problems",
        "Problems with objects, as /problems lists them",
        problems.iter().map(|(kind, number)| (kind, *number)),
    )
}

fn encode_certificates(encoder: &mut DescriptorEncoder<'_>, in_force: &InForce) -> fmt::Result {
    let entries = in_force.translation.snapshot.certificates.entries();
    let mut uses = Vec::new();
    for (host, certificates) in entries {
        // Of several with one Secret's name (a chain for each kind of key) the first that ends counts.
        let mut ends = BTreeMap::<String, i64>::new();
        for certificate in certificates {
            let end = ends
                .entry(certificate.secret.to_string())
                .or_insert(certificate.not_after.0);
            *end = certificate.not_after.0.min(*end);
        }
        uses.extend(ends.into_iter().map(|(secret, end)| {
            let host = host.to_string();
            (CertificateUse { secret, host }, end)
        }));
    }
    gauges(
        encoder,
        "certificate_expiry_timestamp_seconds",
        "Last second of the certificate's life, since 1970; host * is the default",
        uses.iter().map(|(labels, end)| (labels, *end)),
    )
}

/// Metrics about how connections come to workers, and to this process.
#[derive(Debug)]
pub(crate) struct SteeringMetrics {
    steering: SharedSteering,
    phase: watch::Receiver<Phase>,
}

impl SteeringMetrics {
    pub(crate) fn new(steering: SharedSteering, phase: watch::Receiver<Phase>) -> Self {
        Self { steering, phase }
    }
}

#[derive(Debug, EncodeLabelSet)]
struct ModeInForce {
    mode: &'static str,
    reason: &'static str,
}

#[derive(Debug, EncodeLabelSet)]
struct Steered {
    worker: usize,
    outcome: &'static str,
}

#[derive(Debug, EncodeLabelSet)]
struct InPhase {
    state: &'static str,
}

impl Collector for SteeringMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (mode, reason) = self.steering.mode();
        let mode = mode.as_str();
        gauges(
            &mut encoder,
            "steering_mode",
            "How connections are given to workers, and why so, always 1; reason asked: by the settings",
            [(&ModeInForce { mode, reason }, 1)],
        )?;
        let state = self.phase.borrow().as_str();
        gauges(
            &mut encoder,
            "hand_over_state",
            "What this process is to its instance, always 1",
            [(&InPhase { state }, 1)],
        )?;
        encode_steered(&mut encoder, &self.steering.counters())
    }
}

fn encode_steered(encoder: &mut DescriptorEncoder<'_>, counters: &[Counters]) -> fmt::Result {
    if counters.is_empty() {
        return Ok(());
    }
    let mut metric = encoder.encode_descriptor(
        "steering_connections",
        "Connections that the program in the kernel steered to a worker, meant for it and could not, or moved to it",
        None,
        MetricType::Counter,
    )?;
    for (worker, counters) in counters.iter().enumerate() {
        let outcomes = [
            ("steered", counters.steered),
            ("fell_back", counters.fell_back),
            ("migrated", counters.migrated),
        ];
        for (outcome, count) in outcomes {
            metric
                .encode_family(&Steered { worker, outcome })?
                .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
    }
    Ok(())
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: &impl EncodeGaugeValue,
) -> fmt::Result {
    encoder
        .encode_descriptor(name, help, None, MetricType::Gauge)?
        .encode_gauge(value)
}

fn gauges<'a, L: EncodeLabelSet + 'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (&'a L, i64)>,
) -> fmt::Result {
    let mut values = values.into_iter().peekable();
    if values.peek().is_none() {
        return Ok(());
    }
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        metric.encode_family(labels)?.encode_gauge(&value)?;
    }
    Ok(())
}

/// A count as metrics want it.
fn count(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
