//! The chart says the same as kustomize, and refuses values that it does not know.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::programs::helm;
use crate::rendering::{self, Rendering, named, text};

/// Labels that Helm wants, and kustomize has not.
const OF_HELM: [&str; 3] = [
    "helm.sh/chart",
    "app.kubernetes.io/version",
    "app.kubernetes.io/managed-by",
];

type Objects = BTreeMap<[String; 4], Value>;

fn objects<'a>(renderings: impl IntoIterator<Item = &'a Rendering>) -> Objects {
    let all = renderings
        .into_iter()
        .flat_map(|rendering| &rendering.objects);
    // Helm installs into a namespace that it does not make.
    let all = all.filter(|object| text(object, "/kind") != "Namespace");
    all.map(|object| {
        let fields = [
            "/apiVersion",
            "/kind",
            "/metadata/namespace",
            "/metadata/name",
        ];
        (
            fields.map(|field| text(object, field).to_owned()),
            normal(object.clone()),
        )
    })
    .collect()
}

/// An object without what may differ: Helm's labels, the grouping of permissions, comments in the settings.
fn normal(mut object: Value) -> Value {
    if let Some(labels) = object
        .pointer_mut("/metadata/labels")
        .and_then(Value::as_object_mut)
    {
        labels.retain(|name, _| !OF_HELM.contains(&&**name));
    }
    if let Some(rules) = object.get_mut("rules").and_then(Value::as_array_mut) {
        *rules = ungrouped(rules);
    }
    if let Some(settings) = object.pointer_mut("/data/settings.yaml") {
        *settings = serde_saphyr::from_str(settings.as_str().unwrap()).unwrap();
    }
    object
}

/// A rule for each kind.
fn ungrouped(rules: &[Value]) -> Vec<Value> {
    let mut all = Vec::new();
    for rule in rules {
        for resource in rule["resources"].as_array().unwrap() {
            let mut rule = rule.clone();
            rule["resources"] = Value::Array(vec![resource.clone()]);
            all.push(rule);
        }
    }
    all.sort_by_key(Value::to_string);
    all
}

fn assert_same(chart: &Objects, kustomize: &Objects, name: &str) {
    let keys = |objects: &Objects| objects.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(chart), keys(kustomize), "{name}");
    for (key, object) in chart {
        let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap();
        let other = &kustomize[key];
        if object != other {
            let (chart, kustomize) = (pretty(object), pretty(other));
            let differs = |(one, other): &(&str, &str)| one != other;
            let at = chart.lines().zip(kustomize.lines()).find(differs);
            panic!(
                "{name}: {key:?}: chart and kustomize differ, first at {at:?}\n{chart}\n{kustomize}"
            );
        }
    }
}

#[test]
fn the_chart_renders_what_kustomize_does() {
    for (chart, kustomize) in [
        ("chart", "base"),
        ("chart: host-port", "overlays/host-port"),
        ("chart: metallb", "overlays/metallb"),
        ("chart: deployment", "overlays/deployment"),
        ("chart: without-bpf", "base + without-bpf"),
    ] {
        assert_same(
            &objects([named(chart)]),
            &objects([named(kustomize)]),
            chart,
        );
    }
    let pair = [named("chart: internal"), named("chart: external")];
    let overlay = [named("overlays/internal-external")];
    assert_same(&objects(pair), &objects(overlay), "internal and external");
}

/// Runs helm on the chart: whether it succeeded, and what it said.
fn run(arguments: &[&str]) -> (bool, String) {
    let home = tempfile::tempdir().unwrap();
    let (command, rest) = arguments.split_first().unwrap();
    let mut line = helm(home.path());
    if *command != "lint" {
        line.args([command, "tidegate"]);
    } else {
        line.arg(command);
    }
    let output = line.arg(rendering::chart()).args(rest).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn the_chart_is_free_of_findings() {
    let (passed, said) = run(&["lint", "--strict"]);
    assert!(passed && said.contains("0 chart(s) failed"), "{said}");
    assert!(
        !said.contains("[WARNING]") && !said.contains("[ERROR]"),
        "{said}"
    );
}

#[test]
fn wrong_values_are_refused_by_name() {
    for (value, word) in [
        ("kind=StatefulSet", "/kind"),
        ("hostNetwork=perhaps", "/hostNetwork"),
        ("ports.http=70000", "/ports/http"),
        ("ports.admin=0", "/ports/admin"),
        ("replicaCount=3", "replicaCount"),
        ("metrics.podMonitr.enabled=true", "podMonitr"),
        ("image.digest=latest", "/image/digest"),
        ("instance=Über", "/instance"),
        ("publish.nodeAddresses=both", "/publish/nodeAddresses"),
        ("publish.service=tidegate", "/publish/service"),
        ("namespaces={Shop}", "/namespaces/0"),
        ("adminAddress=$(POD_IP)", "/adminAddress"),
        (
            "podDisruptionBudget.maxUnavailable=half",
            "/podDisruptionBudget/maxUnavailable",
        ),
    ] {
        let (passed, said) = run(&["template", "--set", value]);
        assert!(!passed, "{value} is taken");
        assert!(said.contains(word), "{value}: {said}");
    }
    let both = [
        "template",
        "--set=metrics.podMonitor.enabled=true,metrics.serviceMonitor.enabled=true",
    ];
    let (passed, said) = run(&both);
    assert!(!passed && said.contains("scraped twice"), "{said}");
    let nobody = ["template", "--set=serviceAccount.create=false"];
    let (passed, said) = run(&nobody);
    assert!(!passed && said.contains("serviceAccount.name"), "{said}");
}

#[test]
fn notes_say_what_to_do_next() {
    let notes = |arguments: &[&str]| {
        let (passed, said) = run(&[
            &["install", "--dry-run=client", "--namespace=edge"],
            arguments,
        ]
        .concat());
        assert!(passed, "{said}");
        said.split("NOTES:").nth(1).unwrap().to_owned()
    };
    let of_set = notes(&[]);
    for part in [
        "rollout status daemonset/tidegate",
        "ingressClassName: tidegate",
        "pod-security",
        "without authentication",
    ] {
        assert!(of_set.contains(part), "{part}: {of_set}");
    }
    let of_deployment = notes(&["--set=kind=Deployment"]);
    assert!(
        of_deployment.contains("get service tidegate"),
        "{of_deployment}"
    );
    assert!(!of_deployment.contains("pod-security"), "{of_deployment}");
}
