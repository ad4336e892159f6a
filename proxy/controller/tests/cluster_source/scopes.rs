//! Whole clusters, some namespaces, and rights that are missing.

use std::time::Duration;

use serde_json::json;
use tidegate_controller::source::View;
use tidegate_controller::source::cluster::{FailureSort, Kind, Scope};

use crate::server::{Server, until};
use crate::{Source, all_namespaces, ingress, secret, service, slice};

fn two_namespaces() -> Scope {
    Scope {
        namespaces: ["a".to_owned(), "b".to_owned()].into(),
        extra: ["defaults".to_owned()].into(),
        ..all_namespaces()
    }
}

#[tokio::test]
async fn some_namespaces_are_watched_each_by_itself() {
    let server = Server::start().await;
    for namespace in ["a", "b", "c", "defaults", "tidegate"] {
        let named = |name: &str| format!("{namespace}/{name}");
        server.put("ingresses", ingress(&named("web"), "a.example"));
        server.put("services", service(&named("web"), 80));
        server.put("endpointslices", slice(&named("web-1"), "web", "10.0.0.1"));
        server.put("secrets", secret(&named("web"), "b25l"));
    }
    // Roles do not reach what belongs to the whole cluster.
    server.deny("ingressclasses", 403);
    server.deny("namespaces", 403);
    let mut source = Source::start(&server, two_namespaces()).await;
    let every = ["a/web", "b/web", "c/web", "defaults/web"];
    source.complete(&every, &every).await;
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(source.names("Ingress"), names(&["a/web", "b/web"]));
    assert_eq!(
        source.names("Service"),
        names(&["a/web", "b/web", "defaults/web"])
    );
    assert_eq!(
        source.names("EndpointSlice"),
        names(&["a/web-1", "b/web-1", "defaults/web-1"])
    );
    assert_eq!(
        source.names("Secret"),
        names(&["a/web", "b/web", "defaults/web"])
    );
    let whole: Vec<_> = server
        .seen()
        .into_iter()
        .filter(|seen| !seen.path.contains("/namespaces/"))
        .collect();
    assert!(
        whole
            .iter()
            .all(|seen| ["ingressclasses", "namespaces"].contains(&&*seen.resource)),
        "{whole:?}"
    );
    // Its own namespace, for what it keeps there itself.
    let mut own = server.seen().into_iter();
    assert!(own.any(|seen| seen.path.contains("/tidegate/secrets")));
    assert!(!source.has("Secret", "tidegate/web"), "it has no label");
}

#[tokio::test]
async fn what_only_the_status_needs_holds_nothing_up() {
    let server = Server::start().await;
    server.deny("pods", 403);
    server.deny("secrets", 403);
    let mut source = Source::start(&server, all_namespaces()).await;
    source.complete(&[], &["a/web"]).await;
    let health = source.health.snapshot();
    let failing = health
        .watches
        .values()
        .filter_map(|watch| watch.failing.as_ref());
    assert!(
        failing
            .clone()
            .all(|failing| failing.sort == FailureSort::Forbidden)
    );
    assert_eq!(failing.count(), 2);
}

#[tokio::test]
async fn nothing_is_complete_without_the_ingresses() {
    let server = Server::start().await;
    server.put("ingresses", ingress("a/web", "a.example"));
    server.deny("ingresses", 403);
    let mut source = Source::start(&server, all_namespaces()).await;
    source.is_quiet(Duration::from_millis(500)).await;
    let health = source.health.clone();
    let failing = move || {
        let watches = health.snapshot().watches;
        let (_, watch) = watches
            .into_iter()
            .find(|(name, _)| name.kind == Kind::Ingress)
            .unwrap();
        watch.failing.map(|failing| failing.sort)
    };
    assert_eq!(failing(), Some(FailureSort::Forbidden));
    server.allow("ingresses");
    assert_eq!(source.update().await.view, View::Partial);
    until("all is well", || failing().is_none()).await;
}

#[tokio::test]
async fn changes_that_refer_are_told_before_all_is_complete() {
    let server = Server::start().await;
    server.put("ingresses", ingress("a/web", "a.example"));
    server.deny("endpointslices", 503);
    let mut source = Source::start(&server, all_namespaces()).await;
    assert_eq!(source.update().await.view, View::Partial);
    source.refer(&["a/web"], &[]);
    source.is_quiet(Duration::from_millis(200)).await;
    server.put(
        "ingresses",
        json!({"metadata": crate::meta("a/new"), "spec": {}}),
    );
    let update = source.update().await;
    assert_eq!((update.view, update.changes.len()), (View::Partial, 1));
    server.allow("endpointslices");
    assert_eq!(source.update().await.view, View::Complete);
}
