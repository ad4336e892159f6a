//! The examples that can be applied to a cluster: every object of `docs/examples/*/manifests` is valid, and Ingresses lead to
//! pods. What they do is tested elsewhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use crate::rendering::text;
use crate::typed::parse;

/// Those that are written for a cluster.
pub(crate) const FOR_CLUSTERS: [&str; 5] = [
    "class-annotation",
    "external-name",
    "internal-external",
    "named-ports",
    "several-hosts",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples")
}

pub(crate) fn objects(example: &str) -> Vec<Value> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(root().join(example).join("manifests")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        all.extend(serde_saphyr::from_multiple::<Value>(&text).unwrap());
    }
    all
}

fn check(object: &Value) -> Result<(), String> {
    match text(object, "/kind") {
        "Ingress" => parse::<Ingress>(object).map(drop),
        "IngressClass" => parse::<IngressClass>(object).map(drop),
        "Service" => parse::<Service>(object).map(drop),
        "EndpointSlice" => parse::<EndpointSlice>(object).map(drop),
        "Secret" => parse::<Secret>(object).map(drop),
        "Deployment" => parse::<Deployment>(object).map(drop),
        kind => Err(format!("unexpected kind {kind}")),
    }
}

#[test]
fn every_object_of_the_examples_is_valid() {
    for entry in std::fs::read_dir(root()).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            continue;
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let objects = objects(&name);
        assert!(!objects.is_empty(), "{name}");
        for object in &objects {
            if let Err(problem) = check(object) {
                panic!(
                    "{name}: {} {}: {problem}",
                    object["kind"], object["metadata"]["name"]
                );
            }
        }
    }
}

#[test]
fn examples_for_clusters_bring_their_pods() {
    for name in FOR_CLUSTERS {
        let objects = objects(name);
        let of_kind = |kind: &'static str| objects.iter().filter(move |it| it["kind"] == kind);
        // The cluster has the class and finds endpoints itself; it takes none on loopback.
        assert_eq!(
            of_kind("EndpointSlice").count() + of_kind("IngressClass").count(),
            0,
            "{name}"
        );
        let deployments: Vec<Deployment> =
            of_kind("Deployment").map(|it| parse(it).unwrap()).collect();
        let services: Vec<Service> = of_kind("Service").map(|it| parse(it).unwrap()).collect();
        for service in &services {
            lead_to_pods(name, service, &deployments);
        }
        let known: BTreeSet<_> = services
            .iter()
            .filter_map(|it| it.metadata.name.clone())
            .collect();
        for ingress in of_kind("Ingress") {
            let ingress: Ingress = parse(ingress).unwrap();
            let rules = ingress.spec.unwrap().rules.unwrap();
            let paths = rules.into_iter().flat_map(|rule| rule.http.unwrap().paths);
            let wanted: BTreeSet<_> = paths
                .map(|path| path.backend.service.unwrap().name)
                .collect();
            assert!(
                !wanted.is_empty() && wanted.is_subset(&known),
                "{name}: {wanted:?}"
            );
        }
    }
}

/// Fails when no pod has what a Service selects, or none of its ports a name that the Service asks for.
fn lead_to_pods(example: &str, service: &Service, deployments: &[Deployment]) {
    let spec = service.spec.as_ref().unwrap();
    if spec.type_.as_deref() == Some("ExternalName") {
        return;
    }
    let selector = spec.selector.clone().unwrap();
    let template = deployments
        .iter()
        .map(|deployment| &deployment.spec.template)
        .find(|template| template.metadata.as_ref().unwrap().labels.as_ref() == Some(&selector));
    let template = template.unwrap_or_else(|| panic!("{example}: no pod for {selector:?}"));
    let containers = &template.spec.as_ref().unwrap().containers;
    let ports = containers
        .iter()
        .flat_map(|container| container.ports.iter().flatten());
    let names: BTreeSet<_> = ports.filter_map(|port| port.name.clone()).collect();
    for port in spec.ports.iter().flatten() {
        match port.target_port.as_ref().unwrap() {
            IntOrString::String(name) => assert!(names.contains(name), "{example}: {name}"),
            IntOrString::Int(number) => {
                panic!("{example}: the examples name their ports, not {number}")
            }
        }
    }
}
