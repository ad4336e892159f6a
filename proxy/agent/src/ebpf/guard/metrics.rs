//! What the guard did, and where it is.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::interfaces::chosen;
use super::{Posts, Standing, maps};
use crate::settings::GuardSettings;

/// The metrics `tidegate_guard_packets_total` and `tidegate_guard_state`.
#[derive(Debug)]
pub(crate) struct GuardMetrics(Source);

#[derive(Debug)]
enum Source {
    Posts(Arc<Posts>),
    /// The guard did not start: interfaces that it was to be on.
    Nothing(Vec<String>),
}

impl GuardMetrics {
    pub(super) fn of(posts: Arc<Posts>) -> Self {
        Self(Source::Posts(posts))
    }

    /// Of a guard that did not start.
    pub(crate) fn off(settings: &GuardSettings) -> Self {
        // Those with a default route may be what could not be found.
        Self(Source::Nothing(
            chosen(&settings.interfaces).unwrap_or_default(),
        ))
    }

    /// Adds them.
    pub(crate) fn register(self, registry: &mut Registry) {
        registry.register_collector(Box::new(self));
    }
}

impl Collector for GuardMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        match &self.0 {
            Source::Posts(posts) => {
                packets(&mut encoder, posts)?;
                let state = posts.state();
                let modes = state.posts.iter().map(|post| match &post.standing {
                    Standing::Guarded(place) => (post.interface.name(), place.mode().as_str()),
                    Standing::Busy | Standing::Off => (post.interface.name(), OFF),
                });
                let missing = posts.missing.iter().map(|name| (name.as_str(), OFF));
                states(&mut encoder, modes.chain(missing))
            }
            Source::Nothing(names) => {
                states(&mut encoder, names.iter().map(|name| (name.as_str(), OFF)))
            }
        }
    }
}

const OFF: &str = "off";

fn packets(encoder: &mut DescriptorEncoder<'_>, posts: &Posts) -> fmt::Result {
    let sum = maps::sum(&posts.verdicts);
    let mut metric = encoder.encode_descriptor(
        "guard_packets",
        "Packets to guarded listeners by what became of them",
        None,
        MetricType::Counter,
    )?;
    let verdicts = [
        ("passed", sum.passed),
        ("limited", sum.limited),
        ("denied", sum.denied),
    ];
    for (verdict, packets) in verdicts {
        metric
            .encode_family(&[("verdict", verdict)])?
            .encode_counter::<NoLabelSet, _, u64>(&packets, None)?;
    }
    Ok(())
}

fn states<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    modes: impl Iterator<Item = (&'a str, &'a str)>,
) -> fmt::Result {
    let mut modes = modes.peekable();
    if modes.peek().is_none() {
        return Ok(());
    }
    let mut metric = encoder.encode_descriptor(
        "guard_state",
        "Where the guard stands on the interface; always 1",
        None,
        MetricType::Gauge,
    )?;
    for (interface, mode) in modes {
        metric
            .encode_family(&[("interface", interface), ("mode", mode)])?
            .encode_gauge(&1_i64)?;
    }
    Ok(())
}
