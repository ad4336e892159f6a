//! The guard in the life of an instance: it comes with the ports and goes with them.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use tracing::error;

use crate::ebpf::{Guard, GuardMetrics, remove_guards};
use crate::settings::GuardSettings;

/// The guard that the settings ask for, if they do.
#[derive(Debug)]
pub(super) struct Guarding {
    settings: Option<GuardSettings>,
    /// How long another process may take to leave an interface.
    patience: Duration,
    guard: Option<Guard>,
    metrics: Shown,
}

/// The metrics of whatever guard there is at the time.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown(Arc<Mutex<Option<GuardMetrics>>>);

impl Guarding {
    pub(super) fn new(settings: Option<GuardSettings>, patience: Duration) -> Self {
        Self {
            settings,
            patience,
            guard: None,
            metrics: Shown::default(),
        }
    }

    pub(super) fn metrics(&self) -> Shown {
        self.metrics.clone()
    }

    /// Guards the listeners, in the place of a process that did so before. Where that cannot be done, they are served all the
    /// same.
    pub(super) fn begin(&mut self, pins: Option<&Path>) {
        let Some(settings) = &self.settings else {
            if let Some(pins) = pins {
                remove_guards(pins);
            }
            return;
        };
        self.guard = None;
        match Guard::start(settings, pins, self.patience) {
            Ok(guard) => {
                self.metrics.set(guard.metrics());
                self.guard = Some(guard);
            }
            Err(error) => {
                error!("guard: off: {error}");
                self.metrics.set(GuardMetrics::off(settings));
            }
        }
    }

    /// Leaves guarding to the process that took over.
    pub(super) fn leave(&mut self) {
        self.guard = None;
    }

    /// Takes the guard away: nobody serves any more.
    pub(super) fn end(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard.remove();
        }
    }
}

impl Shown {
    fn set(&self, metrics: GuardMetrics) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(metrics);
    }
}

impl Collector for Shown {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let metrics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        metrics
            .as_ref()
            .map_or(Ok(()), |metrics| metrics.encode(encoder))
    }
}
