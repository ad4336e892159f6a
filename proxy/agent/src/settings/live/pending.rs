//! What is written in the settings and not in force, for metrics and `/readyz?verbose`.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

/// What is written and not in force. Clones share one state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pending(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    restart: BTreeSet<&'static str>,
    rejected: Option<String>,
}

impl Pending {
    /// The keys whose values need a restart.
    pub(crate) fn restart(&self) -> BTreeSet<&'static str> {
        self.with(|state| state.restart.clone())
    }

    /// What is wrong with the text that is there now.
    pub(crate) fn rejected(&self) -> Option<String> {
        self.with(|state| state.rejected.clone())
    }

    /// A line for each thing that somebody should know.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        let restart = Vec::from_iter(self.restart());
        if !restart.is_empty() {
            remarks.push(format!(
                "settings: a restart is needed for {}",
                restart.join(", ")
            ));
        }
        if let Some(problem) = self.rejected() {
            remarks.push(format!("settings: the new ones cannot be used: {problem}"));
        }
        remarks
    }

    pub(super) fn set_restart(&self, keys: BTreeSet<&'static str>) {
        self.with(|state| state.restart = keys);
    }

    pub(super) fn set_rejected(&self, problem: Option<String>) {
        self.with(|state| state.rejected = problem);
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Collector for Pending {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let restart = i64::try_from(self.restart().len()).unwrap_or(i64::MAX);
        encoder
            .encode_descriptor(
                "settings_restart_required",
                "Settings that are written and need a restart, as /readyz?verbose names them",
                None,
                MetricType::Gauge,
            )?
            .encode_gauge(&restart)?;
        encoder
            .encode_descriptor(
                "settings_rejected",
                "Whether the settings file or ConfigMap cannot be used, so that earlier settings stay in force",
                None,
                MetricType::Gauge,
            )?
            .encode_gauge(&i64::from(self.rejected().is_some()))
    }
}
