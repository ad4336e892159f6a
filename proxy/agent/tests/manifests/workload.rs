//! DaemonSets and Deployments of a rendering, as their types.

use std::collections::BTreeMap;
use std::str::FromStr;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use crate::rendering::Rendering;
use crate::typed::parse;

pub(crate) type Labels = BTreeMap<String, String>;

/// What runs pods.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) selector: LabelSelector,
    pub(crate) template: PodTemplateSpec,
    /// Of the rolling update.
    pub(crate) max_surge: Option<IntOrString>,
    pub(crate) max_unavailable: Option<IntOrString>,
}

impl Workload {
    pub(crate) fn labels(&self) -> Labels {
        let metadata = self.template.metadata.clone().unwrap_or_default();
        metadata.labels.unwrap_or_default()
    }

    pub(crate) fn annotations(&self) -> Labels {
        let metadata = self.template.metadata.clone().unwrap_or_default();
        metadata.annotations.unwrap_or_default()
    }

    pub(crate) fn pod(&self) -> &PodSpec {
        self.template.spec.as_ref().expect("a pod has a spec")
    }

    pub(crate) fn container(&self) -> &Container {
        match self.pod().containers.as_slice() {
            [container] => container,
            more => panic!("{} has {} containers", self.name, more.len()),
        }
    }

    pub(crate) fn is_on_node_network(&self) -> bool {
        self.pod().host_network == Some(true)
    }

    /// What follows `--flag=` in the arguments.
    pub(crate) fn flag(&self, flag: &str) -> Option<&str> {
        let prefix = format!("--{flag}=");
        let arguments = self.container().args.iter().flatten();
        arguments
            .filter_map(|argument| argument.strip_prefix(&*prefix))
            .next()
    }

    /// The port of a flag that has a port alone, or an address.
    pub(crate) fn port(&self, flag: &str, default: u16) -> u16 {
        let Some(text) = self.flag(flag) else {
            return default;
        };
        let port = text.rsplit(':').next().unwrap_or(text);
        u16::from_str(port).unwrap_or_else(|_| panic!("--{flag}={text} has no port"))
    }

    pub(crate) fn ports(&self) -> [u16; 3] {
        [
            self.port("http", 80),
            self.port("https", 443),
            self.port("admin", 9090),
        ]
    }

    pub(crate) fn instance(&self) -> &str {
        self.flag("instance").expect("every instance is named")
    }
}

/// Those of a rendering.
pub(crate) fn all(rendering: &Rendering) -> Vec<Workload> {
    let sets = rendering.of_kind("DaemonSet").map(daemon_set);
    let deployments = rendering.of_kind("Deployment").map(deployment);
    let all: Vec<_> = sets.chain(deployments).collect();
    assert!(!all.is_empty(), "{} runs no pods", rendering.name);
    all
}

/// The only one of a rendering.
pub(crate) fn only(rendering: &Rendering) -> Workload {
    let mut all = all(rendering);
    assert_eq!(all.len(), 1, "{}", rendering.name);
    all.remove(0)
}

fn daemon_set(object: &Value) -> Workload {
    let set: DaemonSet = parse(object).unwrap();
    let spec = set.spec;
    let strategy = spec.update_strategy.unwrap();
    assert_eq!(strategy.type_.as_deref(), Some("RollingUpdate"));
    let rolling = strategy.rolling_update.unwrap();
    Workload {
        kind: "DaemonSet",
        name: set.metadata.name.unwrap(),
        selector: spec.selector,
        template: spec.template,
        max_surge: rolling.max_surge,
        max_unavailable: rolling.max_unavailable,
    }
}

fn deployment(object: &Value) -> Workload {
    let deployment: Deployment = parse(object).unwrap();
    let spec = deployment.spec;
    let rolling = spec.strategy.unwrap().rolling_update.unwrap();
    Workload {
        kind: "Deployment",
        name: deployment.metadata.name.unwrap(),
        selector: spec.selector,
        template: spec.template,
        max_surge: rolling.max_surge,
        max_unavailable: rolling.max_unavailable,
    }
}
