//! What is in force.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, LabelValueEncoder,
};
use tidegate_model::{Level, Reason};

use super::{count, gauge, gauges};
use crate::app::{InForce, Serving};

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
struct From {
    origin: &'static str,
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
    let made_before = in_force.published_at.0.saturating_sub(in_force.made_at.0);
    let age = in_force.since.elapsed().as_secs_f64() + made_before.max(0) as f64;
    gauge(
        encoder,
        "snapshot_age_seconds",
        "Time since the configuration in force was made of its objects, in this process or an earlier one",
        &age,
    )?;
    gauges(
        encoder,
        "snapshot_origin",
        "Where the configuration in force comes from, always 1",
        [(
            &From {
                origin: in_force.origin.as_str(),
            },
            1,
        )],
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
