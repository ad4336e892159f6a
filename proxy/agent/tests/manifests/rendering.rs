//! Renderings: of the base, of every overlay and component, and of the chart with each of its example values.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;
use tempfile::TempDir;

use crate::programs::{helm, kubectl};

/// What a folder or chart renders to.
#[derive(Debug)]
pub(crate) struct Rendering {
    /// Such as `overlays/metallb`.
    pub(crate) name: String,
    pub(crate) objects: Vec<Value>,
}

/// Where `manifests/` is.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests")
}

/// All renderings; each is made once.
pub(crate) fn all() -> impl Iterator<Item = &'static Rendering> {
    kustomized().iter().chain(charts())
}

/// The base, the overlays, and components with what they can be used with.
pub(crate) fn kustomized() -> &'static [Rendering] {
    static ALL: LazyLock<Vec<Rendering>> = LazyLock::new(|| {
        let copy = Copy::new();
        let overlays = folders(&root().join("overlays"));
        let mut all = vec![kustomize("base", &copy.path("base"))];
        for overlay in &overlays {
            let name = format!("overlays/{overlay}");
            all.push(kustomize(&name, &copy.path(&name)));
        }
        for component in folders(&root().join("components")) {
            let mut bases = vec!["base".to_owned()];
            if component != "without-bpf" && component != "data-key" {
                let others = overlays.iter().filter(|name| *name != "internal-external");
                bases.extend(others.map(|name| format!("overlays/{name}")));
            }
            for base in bases {
                let trial = copy.trial(&base, &component);
                all.push(kustomize(&format!("{base} + {component}"), &trial));
            }
        }
        assert!(all.len() >= 12, "manifests are missing");
        all
    });
    &ALL
}

/// The chart, with its defaults and with each file of its folder `examples`.
pub(crate) fn charts() -> &'static [Rendering] {
    static ALL: LazyLock<Vec<Rendering>> = LazyLock::new(|| {
        let mut all = vec![template("chart", "tidegate", &[])];
        let mut examples: Vec<_> = fs::read_dir(chart().join("examples"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        examples.sort();
        assert!(examples.len() >= 7, "examples of the chart are missing");
        for file in examples {
            let name = file.file_stem().unwrap().to_string_lossy().into_owned();
            let values = format!("--values={}", file.display());
            all.push(template(&format!("chart: {name}"), "tidegate", &[&values]));
        }
        let old = ["--set=kind=Deployment", "--kube-version=1.27.0"];
        all.push(template(
            "chart: Deployment on Kubernetes 1.27",
            "tidegate",
            &old,
        ));
        let monitored = [
            "--set=metrics.podMonitor.enabled=true",
            "--set=kind=Deployment",
        ];
        all.push(template("chart: pod monitor", "edge", &monitored));
        let more = [
            "--set=dataKeySecret=key",
            "--set=publish.addresses={192.0.2.1,edge.example.com}",
            "--set=publish.nodeAddresses=external",
            "--set=bindAddresses={10.0.0.7}",
            "--set=selector=tier in (web\\, api)",
            "--set=extraCapabilities={PERFMON}",
            "--set=extraArgs={--workers=2}",
            "--set=ingressClass.default=true",
            "--set=adminAddress=127.0.0.1",
        ];
        all.push(template("chart: many values", "tidegate", &more));
        all
    });
    &ALL
}

/// The rendering of this name.
pub(crate) fn named(name: &str) -> &'static Rendering {
    all()
        .find(|rendering| rendering.name == name)
        .unwrap_or_else(|| panic!("nothing renders {name}"))
}

/// The folder of the chart.
pub(crate) fn chart() -> PathBuf {
    root().join("chart/tidegate")
}

/// A copy of `manifests/`, beside whose folders others can be tried.
struct Copy(TempDir);

impl Copy {
    fn new() -> Self {
        let copy = Self(tempfile::tempdir().unwrap());
        copy_folder(&root(), copy.0.path());
        copy
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A folder with a base and a component.
    fn trial(&self, base: &str, component: &str) -> PathBuf {
        let folder = self.path(&format!("trial-{}-{component}", base.replace('/', "-")));
        fs::create_dir(&folder).unwrap();
        let text = format!(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n\
             resources: [../{base}]\ncomponents: [../components/{component}]\n"
        );
        fs::write(folder.join("kustomization.yaml"), text).unwrap();
        folder
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy_folder(&path, &target),
            false => _ = fs::copy(&path, &target).unwrap(),
        }
    }
}

fn folders(of: &Path) -> Vec<String> {
    let entries = fs::read_dir(of).unwrap().map(|entry| entry.unwrap());
    let mut names: Vec<_> = entries
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn kustomize(name: &str, folder: &Path) -> Rendering {
    render(name, kubectl().arg("kustomize").arg(folder))
}

fn template(name: &str, release: &str, arguments: &[&str]) -> Rendering {
    let home = tempfile::tempdir().unwrap();
    let mut command = helm(home.path());
    command.args(["template", release]).arg(chart());
    command.args(["--namespace", "tidegate"]).args(arguments);
    render(name, &mut command)
}

/// Runs a command; a word of warning, as for a deprecated field, is a failure.
fn render(name: &str, command: &mut Command) -> Rendering {
    let output = command.output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && complaint.is_empty(),
        "{name}: {complaint}"
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text)
        .unwrap_or_else(|error| panic!("{name}: {error}\n{text}"));
    let objects: Vec<_> = documents.into_iter().filter(|it| !it.is_null()).collect();
    assert!(
        objects.len() >= 8,
        "{name} renders hardly anything:\n{text}"
    );
    Rendering {
        name: name.to_owned(),
        objects,
    }
}

impl Rendering {
    /// The objects of a kind.
    pub(crate) fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |it| it["kind"] == kind)
    }
}

/// Text at a place, such as `/metadata/name`; empty where there is none.
pub(crate) fn text<'a>(object: &'a Value, at: &str) -> &'a str {
    object
        .pointer(at)
        .and_then(Value::as_str)
        .unwrap_or_default()
}
