//! The command line: help, refusals, `check`, `completions`, `demo --once`.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Manifests, ingress, run, service, text, tidegate};

#[test]
fn help_names_commands_and_examples() {
    let help = run(&["--help"]);
    assert!(help.status.success());
    let help = text(&help.stdout);
    for part in [
        "serve",
        "check",
        "demo",
        "doctor",
        "probe",
        "completions",
        "Examples:",
        "Exit codes:",
    ] {
        assert!(help.contains(part), "{part} is not in\n{help}");
    }
    let serve = text(&run(&["serve", "--help"]).stdout);
    for part in [
        "--manifests",
        "[default: 80]",
        "TIDEGATE_HTTP",
        "SIGTERM",
        "sslRedirect",
        "[default: least-loaded]",
        "TIDEGATE_INSTANCE",
        "TIDEGATE_AFTER_HAND_OVER",
        "TIDEGATE_KUBECONFIG",
        "TIDEGATE_PUBLISH_SERVICE",
        "--print-config",
        "synRate",
    ] {
        assert!(serve.contains(part), "{part} is not in\n{serve}");
    }
}

#[test]
fn what_cannot_be_used_is_refused_with_a_remedy() {
    let manifests = Manifests::new();
    let folder = manifests.path().to_str().unwrap();
    let unknown = manifests.hidden("unknown.yaml", "timeouts:\n  idel: 10s\n");
    let wrong = manifests.hidden("wrong.yaml", "timeouts:\n  idle: 10 parsecs\n");
    let guard = "guard: {listeners: [{port: 80, deny: [192.0.2.7/24]}]}\n";
    let guard = manifests.hidden("guard.yaml", guard);
    let tries: [(&[&str], &[&str]); 13] = [
        (&["probe", "asleep"], &["asleep", "live", "ready"]),
        (
            &["serve", "--publish-node-addresses", "both"],
            &["both", "internal or external"],
        ),
        (
            &["serve", "--publish-address", "a_b"],
            &["a_b", "edge.example.com"],
        ),
        (
            &["serve", "--bind-address", "eth0"],
            &["eth0", "invalid IP"],
        ),
        (
            &["serve", "--manifests", folder, "--instance", "Edge"],
            &["Edge", "--instance", "a-z"],
        ),
        (
            &["serve", "--manifests", folder, "--steering", "fair"],
            &["fair", "--steering", "least-loaded"],
        ),
        (
            &[
                "serve",
                "--manifests",
                folder,
                "--config",
                guard.to_str().unwrap(),
            ],
            &["guard.listeners[0].deny", "192.0.2.7/24", "192.0.2.0/24"],
        ),
        (
            &["serve", "--manifests", "/nowhere"],
            &["/nowhere", "exists"],
        ),
        (
            &["serve", "--manifests", folder, "--http", "eighty"],
            &["eighty", "PORT"],
        ),
        (
            &[
                "serve",
                "--manifests",
                folder,
                "--http",
                "80",
                "--https",
                "80",
            ],
            &["http and https", "another port"],
        ),
        (
            &[
                "serve",
                "--manifests",
                folder,
                "--config",
                unknown.to_str().unwrap(),
            ],
            &["idel", "idle", "line 2"],
        ),
        (
            &[
                "serve",
                "--manifests",
                folder,
                "--config",
                wrong.to_str().unwrap(),
            ],
            &["timeouts.idle", "10 parsecs", "500ms"],
        ),
        (&["check", "/nowhere"], &["/nowhere"]),
    ];
    for (arguments, parts) in tries {
        let output = run(arguments);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
        for part in parts {
            assert!(
                message.contains(part),
                "{arguments:?}: {part} is not in {message}"
            );
        }
    }
}

#[test]
fn the_environment_sets_what_flags_do_not() {
    let output = tidegate()
        .arg("serve")
        .env("TIDEGATE_HTTP", "eighty")
        .output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("eighty"));
}

#[test]
fn check_shows_routes_and_succeeds_when_all_is_served() {
    let manifests = Manifests::new();
    manifests.put("a.yaml", &ingress("web", "web.example.com", "web"));
    manifests.put("b.yaml", &service("web", ([127, 0, 0, 1], 9001).into()));
    let output = run(&["check", manifests.path().to_str().unwrap()]);
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{shown}");
    let row = shown
        .lines()
        .find(|line| line.starts_with("web.example.com"));
    let cells: Vec<_> = row.unwrap_or(&shown).split_whitespace().collect();
    let expected = [
        "web.example.com",
        "/",
        "Prefix",
        "default/web",
        "default/web:80",
        "127.0.0.1:9001",
        "-",
    ];
    assert_eq!(cells, expected);
    assert!(shown.contains("1 route, 0 errors"), "{shown}");
}

#[test]
fn check_fails_for_an_error_and_says_so_in_json() {
    let manifests = Manifests::new();
    manifests.put("a.yaml", &ingress("web", "web.example.com", "missing"));
    let folder = manifests.path().to_str().unwrap();
    let output = run(&["check", "--output", "json", folder]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let keys: Vec<_> = report.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["certificates", "problems", "routes", "upstreams"]);
    assert_eq!(report["routes"][0]["host"], "web.example.com");
    assert_eq!(report["problems"][0]["reason"], "ServiceNotFound");
    assert_eq!(report["problems"][0]["level"], "error");
    assert_eq!(report["problems"][0]["object"], "Ingress default/web");

    let output = run(&["check", folder]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("ServiceNotFound"));
}

#[test]
fn check_serves_the_classes_that_it_is_told() {
    let manifests = Manifests::new();
    manifests.put("a.yaml", &ingress("web", "web.example.com", "web"));
    manifests.put("b.yaml", &service("web", ([127, 0, 0, 1], 9001).into()));
    let output = run(&[
        "check",
        "--ingress-class",
        "other",
        manifests.path().to_str().unwrap(),
    ]);
    assert!(
        text(&output.stdout).contains("0 routes"),
        "{}",
        text(&output.stdout)
    );
}

#[test]
fn check_knows_that_names_are_resolved_while_serving() {
    let manifests = Manifests::new();
    manifests.put("a.yaml", &ingress("web", "web.example.com", "web"));
    manifests.put(
        "b.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {type: ExternalName, externalName: web.example.net, ports: [{port: 80}]}\n",
    );
    let output = run(&["check", manifests.path().to_str().unwrap()]);
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{shown}");
    assert!(
        shown.contains("web.example.net, resolved while serving"),
        "{shown}"
    );
}

#[test]
fn a_reader_that_went_away_is_no_crash() {
    let manifests = Manifests::new();
    let hosts = (0..5_000).map(|n| ingress(&format!("i{n}"), &format!("h{n}.example.com"), "web"));
    manifests.put("many.yaml", &hosts.collect::<Vec<_>>().join("---\n"));
    let line = format!(
        "{} check {} | head -n 1; exit ${{PIPESTATUS[0]}}",
        env!("CARGO_BIN_EXE_tidegate"),
        manifests.path().display()
    );
    let output = std::process::Command::new("bash")
        .args(["-c", &line])
        .output()
        .unwrap();
    let message = text(&output.stderr);
    assert!(message.is_empty(), "{message}");
    assert_eq!(output.status.code(), Some(1), "the Service is missing");
}

#[test]
fn doctor_tells_what_is_missing_and_leaves_nothing() {
    let doctor = tidegate()
        .args(["doctor", "--output", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let probe = format!("doctor-{}", doctor.id());
    let output = doctor.wait_with_output().unwrap();
    for folder in ["/sys/fs/bpf", "/sys/fs/bpf/tidegate"] {
        let probe = Path::new(folder).join(&probe);
        assert!(!probe.exists(), "{} is left", probe.display());
    }
    let message = text(&output.stderr);
    assert!(message.is_empty(), "{message}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let works = report["works"].as_bool().unwrap();
    assert_eq!(output.status.code(), Some(if works { 0 } else { 1 }));
    let checks = report["checks"].as_array().unwrap();
    for what in [
        "kernel",
        "CAP_BPF",
        "CAP_NET_ADMIN",
        "CAP_NET_BIND_SERVICE",
        "CAP_PERFMON",
        "bpffs",
        "kernel.unprivileged_bpf_disabled",
        "program steer",
        "program steer_select",
        "program guard",
    ] {
        let found = checks.iter().find(|check| check["what"] == what);
        let found = found.unwrap_or_else(|| panic!("{what} is not in {report:#}"));
        let fine = found["state"] == "works";
        assert_eq!(found["cost"].is_null(), fine, "{found}");
        assert_eq!(found["remedy"].is_null(), fine, "{found}");
    }
    let table = text(&run(&["doctor"]).stdout);
    assert_eq!(
        table.contains("  costs: "),
        checks.iter().any(|check| !check["cost"].is_null())
    );
}

#[test]
fn completions_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = run(&["completions", shell]);
        assert!(output.status.success(), "{shell}");
        assert!(text(&output.stdout).contains("manifests"), "{shell}");
    }
}

#[test]
fn the_demo_tries_everything_itself() {
    let output = run(&["demo", "--once"]);
    let table = text(&output.stdout);
    assert!(output.status.success(), "{table}{}", text(&output.stderr));
    assert!(!table.contains("FAILED"), "{table}");
    assert!(table.lines().count() > 15, "{table}");
}
