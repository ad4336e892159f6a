//! The Prometheus operator's kinds, as far as the manifests use them: names from its API reference, monitoring.coreos.com/v1.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PodMonitor {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "metadata")]
    _metadata: ObjectMeta,
    pub(crate) spec: PodMonitorSpec,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PodMonitorSpec {
    pub(crate) selector: LabelSelector,
    #[serde(rename = "podTargetLabels")]
    _pod_target_labels: Vec<String>,
    pub(crate) pod_metrics_endpoints: Vec<Endpoint>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ServiceMonitor {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "metadata")]
    _metadata: ObjectMeta,
    pub(crate) spec: ServiceMonitorSpec,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ServiceMonitorSpec {
    pub(crate) selector: LabelSelector,
    #[serde(rename = "targetLabels")]
    _target_labels: Vec<String>,
    pub(crate) endpoints: Vec<Endpoint>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Endpoint {
    pub(crate) port: Option<String>,
    pub(crate) path: String,
    #[serde(rename = "interval")]
    _interval: String,
    pub(crate) relabelings: Vec<Relabeling>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Relabeling {
    pub(crate) action: String,
    pub(crate) source_labels: Vec<String>,
    #[serde(rename = "regex")]
    _regex: Option<String>,
    #[serde(rename = "replacement")]
    _replacement: Option<String>,
    pub(crate) target_label: String,
}

/// Labels that a selector without expressions asks for.
pub(crate) fn labels(selector: &LabelSelector) -> BTreeMap<String, String> {
    assert_eq!(selector.match_expressions, None);
    selector.match_labels.clone().unwrap_or_default()
}
