//! The cluster source against an API server that misbehaves.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test stops at the first surprise"
)]

mod faults;
mod ordinary;
mod references;
mod scopes;
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_controller::inventory::Inventory;
use tidegate_controller::source::cluster::{Access, Cluster, Health, Scope, Timing, connect};
use tidegate_controller::source::{Update, View};
use tidegate_controller::translate::Referenced;
use tidegate_controller::{Change, Object};
use tidegate_model::{NamespacedName, ObjectRef, Problem};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use server::Server;

/// Times that a test can wait for.
fn quick() -> Timing {
    Timing {
        first_delay: Duration::from_millis(20),
        longest_delay: Duration::from_millis(100),
        healthy: Duration::from_millis(300),
        silence: Duration::from_millis(600),
        initial_end: Duration::from_millis(400),
        answer: Duration::from_millis(500),
        watch: Duration::from_secs(300),
    }
}

fn all_namespaces() -> Scope {
    Scope {
        own_namespace: "tidegate".to_owned(),
        instance: "tidegate".to_owned(),
        field_manager: "tidegate".to_owned(),
        ..Scope::default()
    }
}

/// A source that runs, and what it has told.
struct Source {
    referenced: watch::Sender<Arc<Referenced>>,
    updates: mpsc::Receiver<Update>,
    settings: watch::Receiver<Option<String>>,
    inventory: Inventory,
    health: Health,
    /// What a translator would hold.
    objects: BTreeMap<ObjectRef, Object>,
    problems: Vec<Problem>,
    folder: TempDir,
    task: JoinHandle<()>,
}

impl Drop for Source {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Source {
    async fn start(server: &Server, scope: Scope) -> Self {
        Self::start_with(server, scope, quick()).await
    }

    async fn start_with(server: &Server, scope: Scope, timing: Timing) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = kubeconfig(&folder, &format!("http://{}", server.address()));
        let access = Access {
            kubeconfig: Some(kubeconfig),
            context: None,
        };
        let connection = connect(&access).await.unwrap();
        let (inventory, health) = (Inventory::default(), Health::default());
        let cluster = Cluster::new(connection, scope, inventory.clone(), health.clone());
        let (referenced, referenced_receiver) = watch::channel(Arc::default());
        let (sender, updates) = mpsc::channel(4);
        let (settings_sender, settings) = watch::channel(None);
        let cluster = cluster.with_timing(timing);
        let task = tokio::spawn(cluster.run(referenced_receiver, sender, settings_sender));
        Self {
            referenced,
            updates,
            settings,
            inventory,
            health,
            objects: BTreeMap::new(),
            problems: Vec::new(),
            folder,
            task,
        }
    }

    /// The next update, taken in.
    async fn update(&mut self) -> Update {
        let update = timeout(Duration::from_secs(10), self.updates.recv()).await;
        let update = update
            .expect("an update within 10 s")
            .expect("the source runs");
        for change in &update.changes {
            match change {
                Change::Put(object) => {
                    self.objects.insert(object.reference(), object.clone());
                }
                Change::Remove(name) => {
                    let before = self.objects.remove(name);
                    assert!(before.is_some(), "{name} is removed and was not there");
                }
                Change::Resolved(..) => panic!("no source resolves"),
            }
        }
        self.problems.clone_from(&update.problems);
        update
    }

    /// Updates until something is so of the objects.
    async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while !holds(self) {
            assert!(
                tokio::time::Instant::now() < deadline,
                "never came true: {what}"
            );
            self.update().await;
        }
    }

    /// Nothing is told for a while.
    async fn is_quiet(&mut self, time: Duration) {
        if let Ok(update) = timeout(time, self.updates.recv()).await {
            panic!("told without need: {update:?}");
        }
    }

    fn refer(&self, services: &[&str], secrets: &[&str]) {
        let names = |names: &[&str]| names.iter().map(|text| name(text)).collect();
        self.referenced.send_replace(Arc::new(Referenced {
            services: names(services),
            secrets: names(secrets),
        }));
    }

    /// From the start to the first complete view.
    async fn complete(&mut self, services: &[&str], secrets: &[&str]) {
        assert_eq!(self.update().await.view, View::Partial);
        self.refer(services, secrets);
        while self.update().await.view != View::Complete {}
        assert!(self.inventory.is_complete());
    }

    fn has(&self, kind: &str, text: &str) -> bool {
        self.objects.contains_key(&ObjectRef::new(kind, name(text)))
    }

    fn names(&self, kind: &str) -> BTreeSet<String> {
        let ours = self.objects.keys().filter(|object| object.kind == kind);
        ours.map(|object| object.name.to_string()).collect()
    }

    fn object(&self, kind: &str, text: &str) -> Value {
        let object = self.objects.get(&ObjectRef::new(kind, name(text)));
        let object = object.unwrap_or_else(|| panic!("{kind} {text} is not held"));
        let value = match object {
            Object::Ingress(object) => serde_json::to_value(&**object),
            Object::IngressClass(object) => serde_json::to_value(&**object),
            Object::Service(object) => serde_json::to_value(&**object),
            Object::EndpointSlice(object) => serde_json::to_value(&**object),
            Object::Secret(object) => serde_json::to_value(&**object),
            Object::Namespace(object) => serde_json::to_value(&**object),
        };
        value.unwrap()
    }
}

fn kubeconfig(folder: &TempDir, server: &str) -> PathBuf {
    let token = folder.path().join("token");
    std::fs::write(&token, "first\n").unwrap();
    let path = folder.path().join("kubeconfig");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": server}}],
        "users": [{"name": "test", "user": {"tokenFile": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "here"}}],
    });
    std::fs::write(&path, text.to_string()).unwrap();
    path
}

fn name(text: &str) -> NamespacedName {
    match text.split_once('/') {
        Some((namespace, name)) => NamespacedName::new(namespace, name),
        None => NamespacedName::new("", text),
    }
}

fn meta(text: &str) -> Value {
    let name = name(text);
    json!({"namespace": name.namespace, "name": name.name})
}

fn ingress(text: &str, host: &str) -> Value {
    json!({"metadata": meta(text), "spec": {"rules": [{"host": host}]}})
}

fn service(text: &str, port: u16) -> Value {
    json!({"metadata": meta(text), "spec": {"ports": [{"port": port}]}})
}

/// A slice `NS/NAME` of a Service in the same namespace.
fn slice(text: &str, service: &str, address: &str) -> Value {
    let mut metadata = meta(text);
    metadata["labels"] = json!({"kubernetes.io/service-name": service, "other": "label"});
    json!({
        "metadata": metadata, "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "nodeName": "n", "conditions": {"ready": true}}], "ports": [{"port": 80}],
    })
}

/// A Secret with `text` in base64 as its certificate.
fn secret(name: &str, text: &str) -> Value {
    json!({
        "metadata": meta(name), "type": "kubernetes.io/tls",
        "data": {"tls.crt": text, "tls.key": "a2V5", "ca.crt": "Y2E="},
    })
}
