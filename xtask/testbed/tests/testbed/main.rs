//! A testbed from its start to the last trace of it.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use support::{Get, eventually, mounts};
use tidegate_testbed::{Options, Part, Testbed};
use tidegate_testbed_inside::sweep::{interfaces, processes};

const ECHO: &str = include_str!("echo.yaml");
const AGENT: &str = include_str!("agent.yaml");

/// One testbed for all of it, because starting it is what takes the time.
#[test]
fn a_cluster_runs_pods_and_leaves_nothing() {
    let mounts_before = mounts();
    let testbed = Testbed::up(Options {
        nodes: 2,
        ..Options::default()
    })
    .unwrap();
    let (name, folder) = (testbed.name().to_owned(), testbed.folder().to_owned());
    assert_eq!(testbed.nodes().len(), 2);

    testbed.apply(ECHO).unwrap();
    testbed.apply(AGENT).unwrap();
    services_lead_to_pods(&testbed);
    a_daemon_set_has_a_pod_on_every_node(&testbed);
    config_maps_reach_volumes(&testbed);
    unready_pods_get_no_traffic(&testbed);
    pods_survive_the_control_plane(&testbed);
    tokens_may_do_what_rbac_says(&testbed);
    pods_end_in_their_grace_period(&testbed);

    drop(testbed);
    assert_eq!(processes(&name), Vec::<u32>::new());
    assert_eq!(interfaces(&name), Vec::<String>::new());
    assert!(!folder.exists(), "{}", folder.display());
    assert_eq!(mounts(), mounts_before);
}

fn services_lead_to_pods(testbed: &Testbed) {
    let addresses = eventually("two endpoints", || {
        let found = support::endpoints(testbed, "echo");
        (found.len() == 2).then_some(found)
    });
    let mut pods: Vec<String> = addresses
        .iter()
        .map(|address| {
            let answer = Get::from(address, 8080, "/some/path?q=1").expect("the pod answers");
            assert_eq!(answer.json["uri"], "/some/path?q=1");
            assert_eq!(answer.json["method"], "GET");
            assert_eq!(answer.json["address"], format!("{address}:8080"));
            answer.json["pod"].as_str().unwrap_or_default().to_owned()
        })
        .collect();
    pods.dedup();
    assert_eq!(pods.len(), 2, "each answers for itself: {pods:?}");
    let refused = Get::from(&addresses[0], 8080, "/?status=503").expect("the pod answers");
    assert_eq!(refused.status, 503);

    support::kubectl(testbed, &["scale", "deployment/echo", "--replicas=1"]);
    eventually("one endpoint", || {
        (support::endpoints(testbed, "echo").len() == 1).then_some(())
    });
}

fn a_daemon_set_has_a_pod_on_every_node(testbed: &Testbed) {
    let rollout = ["rollout", "status", "daemonset/agent", "--timeout=60s"];
    support::kubectl(testbed, &rollout);
    for node in testbed.nodes() {
        let wrote = fs::read_to_string(node.disk("/var/lib/agent/who")).unwrap();
        let address = node.address;
        assert_eq!(
            wrote.trim(),
            format!("{} {address} default from-map", node.name)
        );
    }
    let pod = support::first_pod(testbed, "app=agent");
    let said = testbed.logs("default", &pod);
    // NET_ADMIN and nothing else; nothing can be gained; the root is read-only; the node's interface and address.
    assert!(said.contains("CapBnd:\t0000000000001000"), "{said}");
    assert!(said.contains("NoNewPrivs:\t1"), "{said}");
    assert!(said.contains("root is read-only"), "{said}");
    assert!(said.contains("bpf filesystem"), "{said}");
    assert_eq!(testbed.processes("default", &pod).len(), 1);
    let mut ip = testbed.nodes()[0].command("ip");
    let shown = ip
        .args(["-brief", "-4", "address", "show", "eth0"])
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains(&testbed.nodes()[0].address.to_string()),
        "{shown}"
    );
}

fn config_maps_reach_volumes(testbed: &Testbed) {
    let patch = r#"{"data": {"key": "changed"}}"#;
    support::kubectl(testbed, &["patch", "configmap/agent", "--patch", patch]);
    for node in testbed.nodes() {
        eventually("the new text in the volume", || {
            let text = fs::read_to_string(node.disk("/var/lib/agent/key")).ok()?;
            (text.trim() == "changed").then_some(())
        });
    }
}

fn unready_pods_get_no_traffic(testbed: &Testbed) {
    let address = support::endpoints(testbed, "echo").remove(0);
    Get::from(&address, 8080, "/-/fail").expect("the pod answers");
    eventually("no endpoint", || {
        support::endpoints(testbed, "echo").is_empty().then_some(())
    });
    Get::from(&address, 8080, "/-/recover").expect("the pod answers");
    eventually("the endpoint again", || {
        (support::endpoints(testbed, "echo") == [address.clone()]).then_some(())
    });
}

fn pods_survive_the_control_plane(testbed: &Testbed) {
    let address = support::endpoints(testbed, "echo").remove(0);
    let plane = testbed.control_plane();
    plane.kill(Part::Etcd).unwrap();
    plane.kill(Part::ApiServer).unwrap();
    assert_eq!(plane.process(Part::Etcd), None);
    assert!(plane.kill(Part::Etcd).is_err(), "it does not run");
    assert!(Get::from(&address, 8080, "/").is_some(), "pods go on");
    plane.start(Part::Etcd).unwrap();
    plane.start(Part::ApiServer).unwrap();
    plane.pause(Part::ControllerManager).unwrap();
    plane.resume(Part::ControllerManager).unwrap();
    support::kubectl(testbed, &["scale", "deployment/echo", "--replicas=2"]);
    eventually("two endpoints again", || {
        (support::endpoints(testbed, "echo").len() == 2).then_some(())
    });
}

fn tokens_may_do_what_rbac_says(testbed: &Testbed) {
    let kubeconfig = testbed
        .token_kubeconfig("default", "reader", Duration::from_secs(60))
        .unwrap();
    let with_token = |arguments: &[&str]| {
        let mut kubectl = testbed.kubectl();
        kubectl.arg("--kubeconfig").arg(&kubeconfig).args(arguments);
        let output = kubectl.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), said)
    };
    assert_eq!(with_token(&["get", "services"]), (true, String::new()));
    let (may, said) = with_token(&["get", "secrets"]);
    assert!(!may && said.contains("Forbidden"), "{said}");
    let user = "system:serviceaccount:default:reader";
    let events = testbed.audit().unwrap();
    let codes = |resource: &str| {
        let mut own = events
            .iter()
            .filter(|event| event.user == user && event.verb == "list");
        own.find(|event| event.resource == resource)
            .map(|event| event.code)
    };
    assert_eq!(
        (codes("services"), codes("secrets")),
        (Some(200), Some(403))
    );
    let bound = |event: &&tidegate_testbed::AuditEvent| event.subresource == "binding";
    assert!(
        events.iter().any(|event| bound(&event)),
        "writes of others are there too"
    );

    let expired = testbed
        .token_kubeconfig("default", "reader", Duration::ZERO)
        .unwrap();
    let mut kubectl = testbed.kubectl();
    let output = kubectl
        .arg("--kubeconfig")
        .arg(expired)
        .args(["get", "services"])
        .output();
    let said = String::from_utf8_lossy(&output.unwrap().stderr).into_owned();
    assert!(
        said.contains("must be logged in") || said.contains("Unauthorized"),
        "{said}"
    );
}

fn pods_end_in_their_grace_period(testbed: &Testbed) {
    let pod = support::first_pod(testbed, "app=stubborn");
    let [process] = testbed.processes("default", &pod)[..] else {
        panic!("one container");
    };
    support::kubectl(testbed, &["delete", "pod/stubborn", "--timeout=20s"]);
    assert!(!fs::exists(format!("/proc/{process}")).unwrap());
    let said = testbed.logs("default", &pod);
    assert!(
        said.contains("prepared\nasked to go"),
        "init container, then SIGTERM: {said}"
    );
}

/// Whoever kills the process that made it still finds a clean machine.
#[test]
fn the_guard_cleans_up_after_a_killed_owner() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("testbed");
    let mut owner = Command::new(env!("CARGO_BIN_EXE_tidegate-testbed"))
        .args(["serve", "--nodes=1", "--folder"])
        .arg(&inner)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let record = eventually("the testbed", || {
        fs::read_to_string(inner.join("testbed.json")).ok()
    });
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let name = record["name"].as_str().unwrap().to_owned();
    assert!(!processes(&name).is_empty() && !interfaces(&name).is_empty());
    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually("nothing", || {
        let gone = processes(&name).is_empty() && interfaces(&name).is_empty();
        (gone && !inner.exists()).then_some(())
    });
}
