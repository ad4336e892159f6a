//! How connections come to workers, and to this process.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use tidegate_ebpf::steering::Counters;
use tokio::sync::watch;

use super::gauges;
use crate::app::{Phase, SharedSteering};

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
