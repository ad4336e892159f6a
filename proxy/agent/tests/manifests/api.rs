//! A real API server takes every object, and has no word of warning: unknown fields, Pod Security, deprecated versions.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};
use tidegate_testbed::{Options, Testbed};

use crate::examples::{self, FOR_CLUSTERS};
use crate::rendering::{self, text};

/// What a server says of objects in a dry run.
enum Run {
    Dry,
    Real,
}

fn apply(testbed: &Testbed, objects: &[Value], run: &Run) -> Result<(), String> {
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    let mut command = testbed.kubectl();
    command.args(["apply", "--validate=strict", "--filename=-"]);
    if let Run::Dry = run {
        command.arg("--dry-run=server");
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(list.to_string().as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.success() && said.is_empty() {
        true => Ok(()),
        false => Err(said),
    }
}

fn namespace(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })
}

#[test]
fn a_real_api_server_takes_every_object() {
    let options = Options {
        nodes: 1,
        ..Options::default()
    };
    let testbed = Testbed::up(options)
        .unwrap_or_else(|error| panic!("no API server to try the manifests with: {error:#}"));
    let served = ["shop", "blog"].map(namespace);
    apply(&testbed, &served, &Run::Real).unwrap();
    let mut count = 0;
    for rendering in rendering::all() {
        let is_of_operator =
            |it: &Value| text(it, "/apiVersion").starts_with("monitoring.coreos.com/");
        let (namespaces, others): (Vec<_>, Vec<_>) = rendering
            .objects
            .iter()
            .filter(|it| !is_of_operator(it))
            .cloned()
            .partition(|it| it["kind"] == "Namespace");
        let result = apply(&testbed, &namespaces_of(namespaces), &Run::Real)
            .and_then(|()| apply(&testbed, &others, &Run::Dry));
        result.unwrap_or_else(|said| panic!("{}: {said}", rendering.name));
        count += others.len();
    }
    for example in FOR_CLUSTERS {
        let objects = examples::objects(example);
        let result = apply(&testbed, &objects, &Run::Dry);
        let said = result.err().unwrap_or_default();
        let complaints: Vec<_> = said
            .lines()
            .filter(|line| !is_about_the_annotation(line))
            .collect();
        assert!(complaints.is_empty(), "{example}: {said}");
        count += objects.len();
    }
    println!("a real API server takes {count} objects");
}

/// Those of a rendering; a chart is installed into one that is there.
fn namespaces_of(rendered: Vec<Value>) -> Vec<Value> {
    match rendered.is_empty() {
        true => vec![namespace("tidegate")],
        false => rendered,
    }
}

/// The server says so of every Ingress with it, which is what that example is about.
fn is_about_the_annotation(line: &str) -> bool {
    line.starts_with("Warning:") && line.contains("kubernetes.io/ingress.class")
}
