//! Objects that name others name such as exist.

use std::collections::BTreeMap;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::monitors::{PodMonitor, ServiceMonitor, labels};
use crate::rendering::{self, Rendering, named, text};
use crate::typed::parse;
use crate::workload::{self, Labels, Workload};

fn selects(wanted: &Labels, found: &Labels) -> bool {
    !wanted.is_empty()
        && wanted
            .iter()
            .all(|(name, value)| found.get(name) == Some(value))
}

/// The workload whose pods have these labels.
fn selected(rendering: &Rendering, wanted: &Labels) -> Workload {
    let all = workload::all(rendering).into_iter();
    let mut found: Vec<_> = all
        .filter(|workload| selects(wanted, &workload.labels()))
        .collect();
    assert_eq!(found.len(), 1, "{}: {wanted:?}", rendering.name);
    found.remove(0)
}

#[test]
fn every_workload_has_its_own_pods_account_and_settings() {
    for rendering in rendering::all() {
        for workload in workload::all(rendering) {
            let found = selected(rendering, &labels(&workload.selector));
            assert_eq!(found.name, workload.name);
            let account = workload.pod().service_account_name.clone().unwrap();
            let mut accounts = rendering.of_kind("ServiceAccount");
            let account = accounts.find(|it| text(it, "/metadata/name") == account);
            let account = account.unwrap_or_else(|| panic!("{}", rendering.name));
            assert_eq!(account["automountServiceAccountToken"], false);
            let map = workload
                .flag("config-map")
                .unwrap()
                .rsplit('/')
                .next()
                .unwrap();
            let mut maps = rendering.of_kind("ConfigMap");
            assert!(
                maps.any(|it| text(it, "/metadata/name") == map),
                "{}: {map}",
                rendering.name
            );
        }
    }
}

#[test]
fn services_lead_to_ports_that_are_listened_on() {
    let mut count = 0;
    for rendering in rendering::all() {
        for object in rendering.of_kind("Service") {
            let service: Service = parse(object).unwrap();
            let spec = service.spec.unwrap();
            let workload = selected(rendering, &spec.selector.unwrap_or_default());
            let listened = ["http", "https", "metrics"]
                .into_iter()
                .zip(workload.ports());
            let listened: BTreeMap<_, _> = listened.collect();
            for port in spec.ports.unwrap() {
                let name = port.name.unwrap();
                let expected = listened[&*name];
                match port.target_port.unwrap() {
                    IntOrString::Int(number) => assert_eq!(number, i32::from(expected)),
                    IntOrString::String(name) => {
                        let mut ports = workload.container().ports.iter().flatten();
                        let port = ports.find(|port| port.name.as_ref() == Some(&name));
                        assert_eq!(port.unwrap().container_port, i32::from(expected));
                    }
                }
                count += 1;
            }
            if name_of_published(&workload) == service.metadata.name.as_deref() {
                assert_eq!(
                    spec.type_.as_deref(),
                    Some("LoadBalancer"),
                    "{}",
                    rendering.name
                );
                assert_eq!(spec.external_traffic_policy.as_deref(), Some("Local"));
            }
        }
        for workload in workload::all(rendering) {
            if let Some(name) = name_of_published(&workload) {
                let mut services = rendering.of_kind("Service");
                assert!(
                    services.any(|it| text(it, "/metadata/name") == name),
                    "{}",
                    rendering.name
                );
            }
        }
    }
    assert!(count > 8, "hardly any Service: {count} ports");
    for name in [
        "overlays/metallb",
        "overlays/deployment",
        "chart: metallb",
        "chart: deployment",
    ] {
        let workload = workload::only(named(name));
        assert_eq!(name_of_published(&workload), Some("tidegate"), "{name}");
    }
}

fn name_of_published(workload: &Workload) -> Option<&str> {
    workload
        .flag("publish-service")?
        .strip_prefix("$(POD_NAMESPACE)/")
}

#[test]
fn a_deployment_is_scaled_and_protected() {
    for name in ["overlays/deployment", "chart: deployment"] {
        let rendering = named(name);
        let workload = workload::only(rendering);
        let scaler = rendering.of_kind("HorizontalPodAutoscaler").next().unwrap();
        let scaler: HorizontalPodAutoscaler = parse(scaler).unwrap();
        let target = scaler.spec.scale_target_ref;
        assert_eq!(
            (&*target.kind, target.name),
            (workload.kind, workload.name.clone())
        );
        let requests = workload
            .container()
            .resources
            .clone()
            .unwrap()
            .requests
            .unwrap();
        assert!(
            requests.contains_key("cpu"),
            "{name}: the scaler measures against requests"
        );
        let budget = rendering.of_kind("PodDisruptionBudget").next().unwrap();
        let budget: PodDisruptionBudget = parse(budget).unwrap();
        let selector = budget.spec.unwrap().selector.unwrap();
        assert_eq!(selected(rendering, &labels(&selector)).name, workload.name);
        // The scaler sets them; a number here would undo that with every `apply`.
        let deployment = rendering.of_kind("Deployment").next().unwrap();
        assert!(deployment["spec"].get("replicas").is_none(), "{name}");
    }
}

#[test]
fn network_policies_let_clients_and_prometheus_in() {
    let mut count = 0;
    for rendering in rendering::all() {
        for object in rendering.of_kind("NetworkPolicy") {
            let policy: NetworkPolicy = parse(object).unwrap();
            let spec = policy.spec.unwrap();
            let workload = selected(rendering, &labels(&spec.pod_selector.unwrap()));
            assert_eq!(
                spec.policy_types.unwrap(),
                ["Ingress"],
                "endpoints are anywhere"
            );
            let rules = spec.ingress.unwrap();
            let [http, https, admin] = workload.ports().map(|port| IntOrString::Int(port.into()));
            let ports_of = |open: bool| {
                let rules = rules.iter().filter(move |rule| rule.from.is_none() == open);
                let ports = rules.flat_map(|rule| rule.ports.iter().flatten());
                ports
                    .filter_map(|port| port.port.clone())
                    .collect::<Vec<_>>()
            };
            let (open, limited) = (ports_of(true), ports_of(false));
            assert!(
                open.contains(&http) && open.contains(&https),
                "{}",
                rendering.name
            );
            assert!(!open.contains(&admin), "{}", rendering.name);
            assert_eq!(limited, [admin], "{}", rendering.name);
            count += 1;
        }
    }
    assert!(count >= 4, "hardly any NetworkPolicy: {count}");
}

#[test]
fn monitors_find_the_pods() {
    let mut count = 0;
    for rendering in rendering::all() {
        for object in rendering.of_kind("PodMonitor") {
            let monitor: PodMonitor = parse(object).unwrap();
            selected(rendering, &labels(&monitor.spec.selector));
            let [endpoint] = monitor.spec.pod_metrics_endpoints.as_slice() else {
                panic!("{}: one endpoint is enough", rendering.name);
            };
            assert_eq!((&*endpoint.path, &endpoint.port), ("/metrics", &None));
            let mut rules = endpoint.relabelings.iter();
            let address = rules
                .find(|rule| rule.target_label == "__address__")
                .unwrap();
            assert_eq!(address.action, "replace");
            assert_eq!(address.source_labels[0], "__meta_kubernetes_pod_ip");
            count += 1;
        }
        for object in rendering.of_kind("ServiceMonitor") {
            let monitor: ServiceMonitor = parse(object).unwrap();
            let wanted = labels(&monitor.spec.selector);
            let services = rendering
                .of_kind("Service")
                .map(|it| parse::<Service>(it).unwrap());
            let mut found: Vec<_> = services
                .filter(|it| selects(&wanted, &it.metadata.labels.clone().unwrap_or_default()))
                .collect();
            assert_eq!(found.len(), 1, "{}: {wanted:?}", rendering.name);
            let spec = found.remove(0).spec.unwrap();
            assert_eq!(spec.cluster_ip.as_deref(), Some("None"));
            let [endpoint] = monitor.spec.endpoints.as_slice() else {
                panic!("{}: one endpoint is enough", rendering.name);
            };
            let mut ports = spec.ports.iter().flatten();
            assert!(
                ports.any(|port| port.name == endpoint.port),
                "{}",
                rendering.name
            );
            count += 1;
        }
    }
    assert!(count >= 8, "hardly any monitor: {count}");
}
