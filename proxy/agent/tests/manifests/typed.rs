//! Every object is one of its kind, with no field that the kind does not have.

use k8s_openapi::api::{
    apps::v1 as apps, autoscaling::v2 as autoscaling, core::v1 as core,
    networking::v1 as networking, policy::v1 as policy, rbac::v1 as rbac,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::monitors::{PodMonitor, ServiceMonitor};
use crate::rendering::{self, text};

/// An object as its type, or what is wrong with it.
pub(crate) fn parse<T: DeserializeOwned>(object: &Value) -> Result<T, String> {
    let mut unknown = Vec::new();
    let mut note = |path: serde_ignored::Path<'_>| unknown.push(path.to_string());
    let deserializer = serde_ignored::Deserializer::new(object, &mut note);
    let parsed = T::deserialize(deserializer).map_err(|error| error.to_string())?;
    match unknown.is_empty() {
        true => Ok(parsed),
        false => Err(format!("unknown fields: {unknown:?}")),
    }
}

fn check<T: DeserializeOwned>(object: &Value) -> Result<(), String> {
    parse::<T>(object).map(drop)
}

fn check_by_kind(object: &Value) -> Result<(), String> {
    match (text(object, "/apiVersion"), text(object, "/kind")) {
        ("v1", "Namespace") => check::<core::Namespace>(object),
        ("v1", "ServiceAccount") => check::<core::ServiceAccount>(object),
        ("v1", "ConfigMap") => check::<core::ConfigMap>(object),
        ("v1", "Service") => check::<core::Service>(object),
        ("apps/v1", "DaemonSet") => check::<apps::DaemonSet>(object),
        ("apps/v1", "Deployment") => check::<apps::Deployment>(object),
        ("autoscaling/v2", "HorizontalPodAutoscaler") => {
            check::<autoscaling::HorizontalPodAutoscaler>(object)
        }
        ("policy/v1", "PodDisruptionBudget") => check::<policy::PodDisruptionBudget>(object),
        ("networking.k8s.io/v1", "IngressClass") => check::<networking::IngressClass>(object),
        ("networking.k8s.io/v1", "NetworkPolicy") => check::<networking::NetworkPolicy>(object),
        ("rbac.authorization.k8s.io/v1", "ClusterRole") => check::<rbac::ClusterRole>(object),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding") => {
            check::<rbac::ClusterRoleBinding>(object)
        }
        ("rbac.authorization.k8s.io/v1", "Role") => check::<rbac::Role>(object),
        ("rbac.authorization.k8s.io/v1", "RoleBinding") => check::<rbac::RoleBinding>(object),
        ("monitoring.coreos.com/v1", "PodMonitor") => check::<PodMonitor>(object),
        ("monitoring.coreos.com/v1", "ServiceMonitor") => check::<ServiceMonitor>(object),
        (version, kind) => Err(format!(
            "the manifests are not to have a {kind} of {version}"
        )),
    }
}

#[test]
fn every_object_is_valid() {
    let mut count = 0;
    for rendering in rendering::all() {
        for object in &rendering.objects {
            let name = text(object, "/metadata/name");
            let kind = text(object, "/kind");
            if let Err(problem) = check_by_kind(object) {
                panic!("{}: {kind} {name}: {problem}", rendering.name);
            }
            count += 1;
        }
    }
    println!("{count} rendered objects are valid");
}

#[test]
fn an_unknown_field_is_found() {
    let object = serde_json::json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": "x", "lables": {} }
    });
    let problem = check_by_kind(&object).unwrap_err();
    assert!(problem.contains("lables"), "{problem}");
}

#[test]
fn no_object_stands_twice() {
    for rendering in rendering::all() {
        let mut seen = std::collections::BTreeSet::new();
        for object in &rendering.objects {
            let fields = [
                "/apiVersion",
                "/kind",
                "/metadata/namespace",
                "/metadata/name",
            ];
            let identity = fields.map(|field| text(object, field));
            assert!(seen.insert(identity), "{}: {identity:?}", rendering.name);
        }
    }
}
