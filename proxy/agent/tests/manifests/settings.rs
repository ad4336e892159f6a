//! The program takes every flag, variable and settings key that the manifests have.

use std::process::{Command, Output};

use crate::rendering::{self, Rendering, text};
use crate::workload::{self, Workload};

/// The program in a pod: with the variables that are there, and with what is mounted in `folder`.
fn tidegate(arguments: &[String]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEGATE_") {
            command.env_remove(name);
        }
    }
    command
        .env("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        .env("KUBERNETES_SERVICE_PORT", "1")
        .envs([
            ("POD_NAME", "tidegate-x"),
            ("POD_NAMESPACE", "tidegate"),
            ("NODE_NAME", "node-1"),
        ])
        .args(arguments)
        .output()
        .unwrap()
}

/// The arguments as the kubelet would pass them, with mounted files in a folder.
fn arguments(workload: &Workload, folder: &str) -> Vec<String> {
    let expand = |argument: &String| {
        argument
            .replace("$(POD_NAMESPACE)", "tidegate")
            .replace("$(NODE_IP)", "192.0.2.1")
            .replace("/etc/tidegate/", folder)
            .replace("/etc/tidegate-key/", folder)
    };
    workload
        .container()
        .args
        .iter()
        .flatten()
        .map(expand)
        .collect()
}

fn effective(rendering: &Rendering, workload: &Workload) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let map = workload
        .flag("config-map")
        .unwrap()
        .rsplit('/')
        .next()
        .unwrap();
    let mut maps = rendering.of_kind("ConfigMap");
    let map = maps.find(|it| text(it, "/metadata/name") == map).unwrap();
    std::fs::write(
        folder.path().join("settings.yaml"),
        text(map, "/data/settings.yaml"),
    )
    .unwrap();
    std::fs::write(folder.path().join("key"), [7; 32]).unwrap();
    let mut arguments = arguments(workload, &format!("{}/", folder.path().display()));
    arguments.push("--print-config".to_owned());
    tidegate(&arguments)
}

#[test]
fn every_flag_and_setting_exists() {
    for rendering in rendering::all() {
        for workload in workload::all(rendering) {
            let output = effective(rendering, &workload);
            let (said, error) = (
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr),
            );
            assert!(output.status.success(), "{}: {error}", rendering.name);
            let instance = format!("instance: {}", workload.instance());
            assert!(said.contains(&instance), "{}: {said}", rendering.name);
        }
    }
}

#[test]
fn probes_are_commands_that_exist() {
    let workload = workload::only(rendering::named("base"));
    let container = workload.container();
    for probe in [
        &container.liveness_probe,
        &container.readiness_probe,
        &container.startup_probe,
    ] {
        let command = probe.clone().unwrap().exec.unwrap().command.unwrap();
        let output = tidegate(&command[1..]);
        // Nobody answers here; a wrong command line would be 2.
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {error}");
    }
}
