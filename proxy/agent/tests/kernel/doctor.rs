//! What `tidegate doctor` says where everything works, and where something is missing.

use std::process::Output;

use crate::support::process::{command, program};
use crate::support::room::{Sys, in_room};

/// Programs in the object.
const PROGRAMS: [&str; 3] = ["steer", "steer_select", "guard"];

fn doctor(arguments: &[&str]) -> Output {
    let mut doctor = command(program());
    doctor.arg("doctor").args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn vm_doctor_finds_nothing_missing() {
    in_room(Sys::WithBpfFs, || async {
        let output = doctor(&[]);
        let text = text(&output);
        println!("{text}");
        assert_eq!(output.status.code(), Some(0), "{text}");
        for program in PROGRAMS {
            assert!(text.contains(program), "{program} is not in\n{text}");
        }
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert!(text.contains(release.trim()), "{release} is not in\n{text}");
    });
}

#[test]
fn vm_doctor_loads_every_program() {
    in_room(Sys::WithBpfFs, || async {
        let output = doctor(&["--output", "json"]);
        let json: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}\n{}", text(&output)));
        for program in PROGRAMS {
            let name = format!("program {program}");
            let checks = json["checks"].as_array().unwrap();
            let check = checks.iter().find(|check| check["what"] == name.as_str());
            let check = check.unwrap_or_else(|| panic!("{name} is not in\n{json}"));
            assert_eq!(check["state"], "works", "{check}");
        }
    });
}

#[test]
fn vm_doctor_says_what_a_missing_bpffs_costs() {
    in_room(Sys::WithoutBpfFs, || async {
        let output = doctor(&[]);
        let text = text(&output);
        assert!(text.contains("/sys/fs/bpf"), "{text}");
        assert_eq!(output.status.code(), Some(1), "{text}");
    });
}
