//! What the pods are to be like, and why: `docs/kubernetes.md`.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    Container, HostPathVolumeSource, Namespace, Probe, SecurityContext,
};
use k8s_openapi::api::networking::v1::IngressClass;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;
use tidegate_controller::translate::{CONTROLLER, DEFAULT_CLASS};

use crate::rendering::{self, Rendering, named, text};
use crate::typed::parse;
use crate::workload::{self, Workload};

/// What a release needs when nothing says otherwise.
const DRAIN: u64 = 30;

fn every_workload(check: impl Fn(&Rendering, &Workload)) {
    for rendering in rendering::all() {
        for workload in workload::all(rendering) {
            check(rendering, &workload);
        }
    }
}

fn security(container: &Container) -> &SecurityContext {
    container.security_context.as_ref().unwrap()
}

fn capabilities(container: &Container) -> (Vec<String>, BTreeSet<String>) {
    let capabilities = security(container).capabilities.clone().unwrap();
    let added = capabilities.add.unwrap_or_default();
    (
        capabilities.drop.unwrap_or_default(),
        added.into_iter().collect(),
    )
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn host_paths(workload: &Workload) -> BTreeMap<String, HostPathVolumeSource> {
    let volumes = workload.pod().volumes.iter().flatten();
    let named = volumes.filter_map(|volume| Some((volume.name.clone(), volume.host_path.clone()?)));
    named.collect()
}

fn mounts(workload: &Workload) -> BTreeMap<String, String> {
    let mounts = workload.container().volume_mounts.iter().flatten();
    mounts
        .map(|mount| (mount.name.clone(), mount.mount_path.clone()))
        .collect()
}

#[test]
fn the_daemon_set_is_on_every_node_and_on_its_network() {
    for name in ["base", "chart"] {
        let workload = workload::only(named(name));
        let pod = workload.pod();
        assert_eq!(workload.kind, "DaemonSet");
        assert_eq!(pod.host_network, Some(true));
        assert_eq!(pod.dns_policy.as_deref(), Some("ClusterFirstWithHostNet"));
        assert_eq!(
            pod.priority_class_name.as_deref(),
            Some("system-node-critical")
        );
        let tolerations = pod.tolerations.as_ref().unwrap();
        for effect in ["NoSchedule", "NoExecute"] {
            let mut of_all = tolerations
                .iter()
                .filter(|it| it.operator.as_deref() == Some("Exists"));
            assert!(of_all.any(|it| it.key.is_none() && it.effect.as_deref() == Some(effect)));
        }
    }
}

#[test]
fn a_new_pod_starts_beside_the_old_one_where_no_port_is_in_its_way() {
    every_workload(|rendering, workload| {
        let of = &rendering.name;
        let ports = workload.container().ports.clone().unwrap_or_default();
        let has_host_ports = ports.iter().any(|port| port.host_port.is_some());
        let (surge, unavailable) = match has_host_ports {
            true => (0, 1),
            false => (1, 0),
        };
        assert_eq!(workload.max_surge, Some(IntOrString::Int(surge)), "{of}");
        assert_eq!(
            workload.max_unavailable,
            Some(IntOrString::Int(unavailable)),
            "{of}"
        );
        if workload.is_on_node_network() {
            assert!(
                ports.is_empty(),
                "{of}: on the node's network a declared port has one pod"
            );
        } else {
            let declared: BTreeSet<_> = ports.iter().map(|port| port.container_port).collect();
            let bound = workload.ports().map(i32::from);
            assert_eq!(declared, BTreeSet::from(bound), "{of}");
        }
    });
    let ports = workload::only(named("overlays/host-port"))
        .container()
        .ports
        .clone()
        .unwrap();
    let of_host: Vec<_> = ports.iter().filter_map(|port| port.host_port).collect();
    assert_eq!(of_host, [80, 443]);
}

#[test]
fn a_process_has_the_rights_that_it_needs_and_no_others() {
    every_workload(|rendering, workload| {
        let of = &rendering.name;
        let container = workload.container();
        let context = security(container);
        assert_eq!(context.read_only_root_filesystem, Some(true), "{of}");
        assert_eq!(context.allow_privilege_escalation, Some(false), "{of}");
        assert_eq!(context.privileged, Some(false), "{of}");
        let pod = workload.pod();
        let profile = context.seccomp_profile.clone();
        let of_pod = pod
            .security_context
            .clone()
            .and_then(|pod| pod.seccomp_profile);
        assert_eq!(profile.or(of_pod).unwrap().type_, "RuntimeDefault", "{of}");
        assert!(pod.host_pid.is_none() && pod.host_ipc.is_none(), "{of}");
        let (dropped, added) = capabilities(container);
        assert_eq!(dropped, ["ALL"], "{of}");
        let allowed = match workload.kind {
            "Deployment" => set(&[]),
            _ if workload.flag("steering") == Some("kernel") => set(&["NET_BIND_SERVICE"]),
            _ if of == "chart: many values" => {
                set(&["BPF", "NET_ADMIN", "NET_BIND_SERVICE", "PERFMON"])
            }
            _ => set(&["BPF", "NET_ADMIN", "NET_BIND_SERVICE"]),
        };
        assert_eq!(added, allowed, "{of}");
        let user = pod.security_context.clone().unwrap_or_default();
        match workload.kind {
            "Deployment" => assert_eq!(user.run_as_non_root, Some(true), "{of}"),
            _ => assert_eq!(context.run_as_user, Some(0), "{of}"),
        }
        assert_eq!(pod.automount_service_account_token, Some(true), "{of}");
        assert_eq!(
            pod.enable_service_links,
            Some(false),
            "{of}: variables of Services begin with TIDEGATE_"
        );
    });
}

#[test]
fn two_folders_of_the_node_are_used_and_no_other() {
    every_workload(|rendering, workload| {
        let of = &rendering.name;
        let paths = host_paths(workload);
        let expected: &[(&str, &str)] = match workload.kind {
            "Deployment" => &[],
            _ if workload.flag("steering") == Some("kernel") => &[("cache", "/var/lib/tidegate")],
            _ => &[
                ("bpf", "/sys/fs/bpf/tidegate"),
                ("cache", "/var/lib/tidegate"),
            ],
        };
        let found: Vec<_> = paths
            .iter()
            .map(|(name, it)| (&**name, &*it.path))
            .collect();
        assert_eq!(found, expected, "{of}");
        for path in paths.values() {
            assert_eq!(path.type_.as_deref(), Some("DirectoryOrCreate"), "{of}");
        }
        let mounts = mounts(workload);
        assert_eq!(mounts["cache"], "/var/lib/tidegate", "{of}");
        assert_eq!(mounts["run"], "/run/tidegate", "{of}");
        assert_eq!(mounts["settings"], "/etc/tidegate", "{of}");
        // Runtimes cannot make a mount point below /sys.
        assert!(
            mounts.values().all(|path| !path.starts_with("/sys")),
            "{of}"
        );
        assert_eq!(
            mounts.get("bpf").map(String::as_str),
            paths.get("bpf").map(|_| "/run/tidegate/bpf")
        );
        let volumes: BTreeSet<_> = workload
            .pod()
            .volumes
            .iter()
            .flatten()
            .map(|it| it.name.clone())
            .collect();
        assert_eq!(volumes, mounts.keys().cloned().collect(), "{of}");
    });
}

fn question(probe: Option<&Probe>, workload: &Workload) -> String {
    let command = probe
        .and_then(|probe| probe.exec.clone())
        .and_then(|exec| exec.command);
    let command = command.expect("a probe runs the program");
    let socket = format!("--socket={}", workload.flag("probe-socket").unwrap());
    match command.as_slice() {
        [program, probe, question, to]
            if program == "tidegate" && probe == "probe" && *to == socket =>
        {
            question.clone()
        }
        _ => panic!("{command:?}"),
    }
}

#[test]
fn probes_ask_the_process_itself() {
    every_workload(|_, workload| {
        let container = workload.container();
        assert_eq!(question(container.startup_probe.as_ref(), workload), "live");
        assert_eq!(
            question(container.liveness_probe.as_ref(), workload),
            "live"
        );
        assert_eq!(
            question(container.readiness_probe.as_ref(), workload),
            "ready"
        );
        let socket = workload.flag("probe-socket").unwrap();
        assert!(socket.starts_with(&mounts(workload)["run"]));
    });
}

/// The drain timeout of the settings beside a workload, in seconds.
fn drain_seconds(rendering: &Rendering, workload: &Workload) -> u64 {
    let settings = settings_of(rendering, workload);
    let Some(text) = settings.pointer("/timeouts/drain").and_then(Value::as_str) else {
        return DRAIN;
    };
    let seconds = text
        .strip_suffix('s')
        .and_then(|seconds| seconds.parse().ok());
    seconds.unwrap_or_else(|| panic!("{}: timeouts.drain: {text}", rendering.name))
}

/// The settings file that a workload mounts.
fn settings_of(rendering: &Rendering, workload: &Workload) -> Value {
    let mut volumes = workload.pod().volumes.iter().flatten();
    let settings = volumes.find(|volume| volume.name == "settings").unwrap();
    let name = &settings.config_map.as_ref().unwrap().name;
    let mut maps = rendering.of_kind("ConfigMap");
    let map = maps.find(|map| text(map, "/metadata/name") == name);
    let map = map.unwrap_or_else(|| panic!("{}: no ConfigMap {name}", rendering.name));
    serde_saphyr::from_str(text(map, "/data/settings.yaml")).unwrap()
}

#[test]
fn a_pod_has_the_time_that_it_needs_to_end() {
    every_workload(|rendering, workload| {
        let grace = workload.pod().termination_grace_period_seconds.unwrap();
        let pause = workload
            .container()
            .lifecycle
            .clone()
            .and_then(|it| it.pre_stop);
        let pause = pause
            .and_then(|stop| stop.sleep)
            .map_or(0, |sleep| sleep.seconds);
        let drain = drain_seconds(rendering, workload).cast_signed();
        assert!(grace > drain + pause, "{}: {grace} s", rendering.name);
    });
    let pause = |name| workload::only(named(name)).container().lifecycle.clone();
    assert!(pause("overlays/deployment").is_some());
    assert!(
        pause("chart: Deployment on Kubernetes 1.27").is_none(),
        "1.27 does not know `sleep`"
    );
}

#[test]
fn a_pod_knows_who_and_where_it_is() {
    every_workload(|rendering, workload| {
        let of = &rendering.name;
        let container = workload.container();
        let fields: BTreeMap<_, _> = container.env.iter().flatten().filter_map(field).collect();
        for (name, field) in [
            ("POD_NAME", "metadata.name"),
            ("POD_NAMESPACE", "metadata.namespace"),
            ("NODE_NAME", "spec.nodeName"),
        ] {
            assert_eq!(fields.get(name).map(String::as_str), Some(field), "{of}");
        }
        for argument in container.args.iter().flatten() {
            let named = argument
                .split("$(")
                .skip(1)
                .filter_map(|rest| rest.split(')').next());
            for variable in named {
                assert!(
                    fields.contains_key(variable),
                    "{of}: {argument} names no variable"
                );
            }
        }
        let labels = workload.labels();
        assert_eq!(labels["app.kubernetes.io/name"], "tidegate", "{of}");
        assert_eq!(
            labels["app.kubernetes.io/instance"],
            workload.instance(),
            "{of}"
        );
        assert_eq!(labels["app.kubernetes.io/part-of"], "tidegate", "{of}");
        assert!(labels.contains_key("app.kubernetes.io/component"), "{of}");
        assert!(
            container.resources.as_ref().unwrap().limits.is_none(),
            "{of}"
        );
        assert!(
            container.resources.as_ref().unwrap().requests.is_some(),
            "{of}"
        );
    });
}

fn field(variable: &k8s_openapi::api::core::v1::EnvVar) -> Option<(String, String)> {
    let field = variable.value_from.as_ref()?.field_ref.as_ref()?;
    Some((variable.name.clone(), field.field_path.clone()))
}

#[test]
fn metrics_are_where_the_annotations_say() {
    every_workload(|rendering, workload| {
        let annotations = workload.annotations();
        assert_eq!(annotations["prometheus.io/scrape"], "true");
        assert_eq!(annotations["prometheus.io/path"], "/metrics");
        let port = workload.ports()[2].to_string();
        assert_eq!(
            annotations["prometheus.io/port"], port,
            "{}",
            rendering.name
        );
        let admin = workload.flag("admin").unwrap();
        match workload.is_on_node_network() {
            true => assert!(
                admin.contains(':'),
                "{}: it is on every address of the node",
                rendering.name
            ),
            false => assert!(!admin.contains("$(NODE_IP)"), "{}", rendering.name),
        }
    });
}

#[test]
fn classes_are_ours_and_none_is_the_default_unasked() {
    for rendering in rendering::all() {
        for object in rendering.of_kind("IngressClass") {
            let class: IngressClass = parse(object).unwrap();
            assert_eq!(class.spec.unwrap().controller.as_deref(), Some(CONTROLLER));
            let is_default = class.metadata.annotations.is_some();
            assert_eq!(
                is_default,
                rendering.name == "chart: many values",
                "{}",
                rendering.name
            );
        }
        for workload in workload::all(rendering) {
            let class = workload.flag("ingress-class").unwrap_or(DEFAULT_CLASS);
            let mut classes = rendering.of_kind("IngressClass");
            assert!(
                classes.any(|it| text(it, "/metadata/name") == class),
                "{}",
                rendering.name
            );
        }
    }
}

#[test]
fn the_namespace_allows_what_its_pods_need() {
    for rendering in rendering::kustomized() {
        let namespaces: Vec<_> = rendering.of_kind("Namespace").collect();
        let [namespace] = namespaces.as_slice() else {
            panic!("{}: {} namespaces", rendering.name, namespaces.len());
        };
        let namespace: Namespace = parse(namespace).unwrap();
        let labels = namespace.metadata.labels.unwrap();
        let mut workloads = workload::all(rendering).into_iter();
        let level = match workloads.any(|workload| workload.kind == "DaemonSet") {
            true => "privileged",
            false => "restricted",
        };
        for mode in ["enforce", "audit", "warn"] {
            let label = format!("pod-security.kubernetes.io/{mode}");
            assert_eq!(labels[&label], level, "{}", rendering.name);
        }
    }
}

#[test]
fn instances_side_by_side_share_nothing() {
    let pair = workload::all(named("overlays/internal-external"));
    assert_eq!(pair.len(), 2);
    let distinct = |what: &dyn Fn(&Workload) -> String| {
        let values: BTreeSet<_> = pair.iter().map(what).collect();
        assert_eq!(values.len(), 2, "{values:?}");
    };
    distinct(&|workload| workload.instance().to_owned());
    distinct(&|workload| workload.name.clone());
    distinct(&|workload| workload.flag("config-map").unwrap().to_owned());
    distinct(&|workload| workload.flag("ingress-class").unwrap().to_owned());
    distinct(&|workload| workload.pod().service_account_name.clone().unwrap());
    distinct(&|workload| format!("{:?}", workload.selector));
    let ports: BTreeSet<_> = pair.iter().flat_map(Workload::ports).collect();
    assert_eq!(ports.len(), 6, "{ports:?}");
}
