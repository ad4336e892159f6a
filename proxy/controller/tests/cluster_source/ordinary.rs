//! A server that does as it should.

use std::time::Duration;

use serde_json::json;
use tidegate_controller::inventory::PublishedAddress;
use tidegate_controller::source::View;
use tidegate_controller::source::cluster::{Access, Kind, connect};
use tidegate_model::ObjectRef;

use crate::server::{Server, Streaming, until};
use crate::{Source, all_namespaces, ingress, kubeconfig, meta, name, secret, service, slice};

async fn furnished() -> Server {
    let server = Server::start().await;
    server.put("ingresses", ingress("a/web", "a.example"));
    server.put(
        "ingressclasses",
        json!({"metadata": {"name": "tidegate"}, "spec": {"controller": "c"}}),
    );
    server.put("namespaces", json!({"metadata": {"name": "a", "labels": {"team": "x"}}, "spec": {"finalizers": ["kubernetes"]}}));
    for (number, name) in ["a/web", "a/unused"].into_iter().enumerate() {
        server.put("services", service(name, 80));
        let short = name.strip_prefix("a/").unwrap();
        server.put(
            "endpointslices",
            slice(&format!("{name}-1"), short, &format!("10.0.0.{number}")),
        );
        server.put("secrets", secret(name, "b25l"));
    }
    server
}

#[tokio::test]
async fn first_what_refers_then_what_is_referred_to_and_only_that() {
    let server = furnished().await;
    let mut source = Source::start(&server, all_namespaces()).await;
    let first = source.update().await;
    assert_eq!((first.view, first.changes.len()), (View::Partial, 5));
    assert_eq!(
        server.count("stream", "endpointslices"),
        0,
        "before it is known which"
    );
    assert_eq!(server.count("stream", "secrets"), 0);
    assert!(!source.inventory.is_complete());
    source.refer(&["a/web"], &["a/web", "a/none"]);
    let second = source.update().await;
    assert_eq!((second.view, second.changes.len()), (View::Complete, 2));
    assert!(source.has("EndpointSlice", "a/web-1") && source.has("Secret", "a/web"));
    assert!(source.inventory.is_complete());
    assert_eq!(server.count("get", "secrets"), 2);
    assert_eq!(server.count("list", "secrets"), 0, "only a few are missing");

    let health = source.health.snapshot();
    assert!(health.is_complete);
    assert!(
        health
            .watches
            .values()
            .all(|watch| watch.is_synced && watch.failing.is_none())
    );
    let held = |kind| {
        health
            .watches
            .iter()
            .find(|(name, _)| name.kind == kind)
            .map(|(_, w)| w.held)
    };
    assert_eq!(held(Kind::Service), Some(2));
    assert_eq!(held(Kind::EndpointSlice), Some(1));
    assert_eq!(held(Kind::Secret), Some(1));
    assert_eq!(
        (
            health.requests.watch,
            health.requests.list,
            health.requests.get
        ),
        (7, 0, 2)
    );
    let agent = concat!("tidegate/", env!("CARGO_PKG_VERSION"));
    assert!(
        server
            .seen()
            .iter()
            .all(|seen| seen.agent == agent && seen.token == "first")
    );
}

#[tokio::test]
async fn changes_follow() {
    let server = furnished().await;
    let mut source = Source::start(&server, all_namespaces()).await;
    source.complete(&["a/web"], &["a/web"]).await;
    server.put("endpointslices", slice("a/web-1", "web", "10.0.0.9"));
    let update = source.update().await;
    assert_eq!((update.view, update.changes.len()), (View::Complete, 1));
    assert_eq!(
        source.object("EndpointSlice", "a/web-1")["endpoints"][0]["addresses"][0],
        "10.0.0.9"
    );
    server.put("endpointslices", slice("a/unused-1", "unused", "10.0.0.9"));
    server.delete("ingresses", "a", "web");
    let update = source.update().await;
    assert_eq!(update.changes.len(), 1, "{update:?}");
    assert!(!source.has("Ingress", "a/web"));
    server.put("secrets", secret("a/web", "dHdv"));
    source.update().await;
    assert_eq!(source.object("Secret", "a/web")["data"]["tls.crt"], "dHdv");
    server.put("secrets", secret("a/unused", "dHdv"));
    source.is_quiet(Duration::from_millis(300)).await;
    server.delete("secrets", "a", "web");
    source.update().await;
    assert!(!source.has("Secret", "a/web"));
}

#[tokio::test]
async fn only_what_is_needed_is_held() {
    let server = furnished().await;
    let mut metadata = meta("a/web");
    metadata["annotations"] = json!({
        "kubectl.kubernetes.io/last-applied-configuration": "x", "big": "x".repeat(1 << 20), "kubernetes.io/ingress.class": "a",
    });
    metadata["managedFields"] = json!([
        {"manager": "tidegate", "subresource": "status", "operation": "Apply", "fieldsV1": {"f:status": {}}},
    ]);
    metadata["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "x"}]);
    let status =
        json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "h.example"}]}});
    server.put(
        "ingresses",
        json!({"metadata": metadata, "spec": {}, "status": status}),
    );
    let mut source = Source::start(&server, all_namespaces()).await;
    source.complete(&["a/web"], &["a/web"]).await;
    assert_eq!(
        source.object("Ingress", "a/web"),
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "spec": {},
            "metadata": {"name": "web", "namespace": "a", "annotations": {"kubernetes.io/ingress.class": "a"}},
        })
    );
    let slice = source.object("EndpointSlice", "a/web-1");
    assert_eq!(
        slice["endpoints"],
        json!([{"addresses": ["10.0.0.0"], "conditions": {"ready": true}}])
    );
    assert_eq!(
        slice["metadata"]["labels"],
        json!({"kubernetes.io/service-name": "web"})
    );
    assert_eq!(
        source.object("Secret", "a/web")["data"],
        json!({"tls.crt": "b25l", "tls.key": "a2V5"})
    );

    assert_eq!(
        source.object("Namespace", "a")["metadata"],
        json!({"name": "a", "labels": {"team": "x"}})
    );

    let record = source.inventory.ingress(&name("a/web")).unwrap();
    let addresses = [
        PublishedAddress::Ip([192, 0, 2, 1].into()),
        PublishedAddress::Hostname("h.example".into()),
    ];
    assert_eq!(
        (record.is_ours, record.addresses),
        (true, addresses.to_vec())
    );
    assert_eq!(source.inventory.written(), [name("a/web")]);
    let uid = |kind: &str, text: &str| source.inventory.uid(&ObjectRef::new(kind, name(text)));
    assert!(uid("Ingress", "a/web").is_some() && uid("IngressClass", "tidegate").is_some());
    assert!(uid("Service", "a/web").is_some() && uid("Secret", "a/web").is_some());
    assert!(uid("Secret", "a/unused").is_none());
    // A status that was written is nothing to translate.
    server.put("ingresses", json!({"metadata": {
        "name": "web", "namespace": "a", "annotations": {"kubernetes.io/ingress.class": "a"}}, "spec": {}}));
    source.is_quiet(Duration::from_millis(200)).await;
    assert!(source.inventory.written().is_empty());
}

#[tokio::test]
async fn our_own_pods_service_and_settings_are_known() {
    let server = furnished().await;
    let pod = |ready: &str| {
        let mut metadata = meta("tidegate/one");
        metadata["labels"] =
            json!({"app.kubernetes.io/name": "tidegate", "app.kubernetes.io/instance": "tidegate"});
        json!({"metadata": metadata, "spec": {"nodeName": "n1", "containers": []}, "status": {
            "conditions": [{"type": "Ready", "status": ready}],
            "hostIPs": [{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}], "podIPs": [{"ip": "10.0.0.1"}],
        }})
    };
    server.put("pods", pod("True"));
    server.put(
        "pods",
        json!({"metadata": meta("tidegate/other"), "spec": {"containers": []}}),
    );
    let mut lb = service("a/lb", 80);
    lb["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}});
    server.put("services", lb);
    let settings = |text: &str| json!({"metadata": meta("tidegate/settings"), "data": {"settings.yaml": text}});
    server.put("configmaps", settings("one"));
    server.put(
        "configmaps",
        json!({"metadata": meta("tidegate/other"), "data": {"settings.yaml": "no"}}),
    );
    let mut scope = all_namespaces();
    scope.publish_service = Some(name("a/lb"));
    scope.config_map = Some(name("tidegate/settings"));
    let mut source = Source::start(&server, scope).await;
    source.complete(&[], &[]).await;
    let agents = source.inventory.agents();
    let agent = &agents[&name("tidegate/one")];
    assert_eq!(
        (agents.len(), agent.is_ready, agent.node.as_str()),
        (1, true, "n1")
    );
    assert_eq!(
        (agent.host_addresses.len(), agent.pod_addresses.len()),
        (2, 1)
    );
    let address = PublishedAddress::Ip([192, 0, 2, 9].into());
    assert_eq!(source.inventory.published(), Some(vec![address]));
    assert_eq!(source.settings.borrow().as_deref(), Some("one"));

    server.put("pods", pod("False"));
    server.put("configmaps", settings("two"));
    server.delete("services", "a", "lb");
    source
        .until("the Service is gone", |source| {
            !source.has("Service", "a/lb")
        })
        .await;
    assert_eq!(source.inventory.published(), None);
    let (inventory, settings) = (source.inventory.clone(), source.settings.clone());
    until("not ready", || {
        !inventory.agents()[&name("tidegate/one")].is_ready
    })
    .await;
    until("new settings", || {
        settings.borrow().as_deref() == Some("two")
    })
    .await;
    server.delete("configmaps", "tidegate", "settings");
    until("no settings", || settings.borrow().is_none()).await;
}

#[tokio::test]
async fn servers_without_streaming_lists_are_listed_page_by_page() {
    for streaming in [Streaming::Refused, Streaming::Ignored] {
        let server = furnished().await;
        server.set_streaming(streaming);
        for number in 0..1200 {
            server.put("services", service(&format!("b/s{number}"), 80));
        }
        let mut source = Source::start(&server, all_namespaces()).await;
        source.complete(&["a/web"], &["a/web"]).await;
        assert_eq!(source.names("Service").len(), 1202);
        assert_eq!(server.count("stream", "services"), 1, "it is remembered");
        assert_eq!(server.count("list", "services"), 3);
        server.break_connections();
        server.compact();
        server.put("services", service("b/new", 80));
        source
            .until("the new one", |source| source.has("Service", "b/new"))
            .await;
        assert_eq!(server.count("stream", "services"), 1, "it is remembered");
    }
}

#[tokio::test]
async fn ten_thousand_objects_are_few_updates() {
    let server = Server::start().await;
    for number in 0..10_000 {
        server.put("ingresses", ingress(&format!("a/i{number}"), "a.example"));
    }
    let mut source = Source::start(&server, all_namespaces()).await;
    let update = source.update().await;
    assert_eq!((update.view, update.changes.len()), (View::Partial, 10_000));
    source.refer(&[], &[]);
    assert_eq!(source.update().await.view, View::Complete);
}

#[tokio::test]
async fn the_connection_needs_no_server() {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = kubeconfig(&folder, "https://127.0.0.1:1");
    let access = |path, context: Option<&str>| Access {
        kubeconfig: Some(path),
        context: context.map(str::to_owned),
    };
    let connection = connect(&access(kubeconfig.clone(), Some("test")))
        .await
        .unwrap();
    assert_eq!(connection.namespace, "here");
    let error = connect(&access(kubeconfig.clone(), Some("nowhere")))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
    let error = connect(&access(folder.path().join("missing"), None))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("missing") && error.to_string().contains("--kubeconfig"),
        "{error}"
    );
    std::fs::remove_file(folder.path().join("token")).unwrap();
    let error = connect(&access(kubeconfig, None)).await.unwrap_err();
    assert!(error.to_string().contains("token"), "{error}");
}
