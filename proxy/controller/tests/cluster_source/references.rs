//! What is referred to: fetched when it is, held while it is, dropped after.

use std::time::Duration;

use serde_json::json;

use crate::server::{Fault, Server, until};
use crate::{Source, all_namespaces, meta, name, secret, slice};

#[tokio::test]
async fn endpoints_come_and_go_with_the_reference() {
    let server = Server::start().await;
    for service in ["one", "two", "three"] {
        server.put(
            "endpointslices",
            slice(&format!("a/{service}-1"), service, "10.0.0.1"),
        );
    }
    let mut source = Source::start(&server, all_namespaces()).await;
    source.complete(&["a/one"], &[]).await;
    assert_eq!(source.names("EndpointSlice"), ["a/one-1".to_owned()].into());
    source.refer(&["a/one", "a/two", "a/absent"], &[]);
    source.update().await;
    assert!(source.has("EndpointSlice", "a/two-1"));
    let seen = server.seen();
    let lists: Vec<_> = seen.iter().filter(|seen| seen.verb == "list").collect();
    assert_eq!(lists.len(), 2);
    assert!(
        lists
            .iter()
            .all(|seen| seen.path.ends_with("/namespaces/a/endpointslices"))
    );
    let asked = |service: &str| {
        let labels = format!("kubernetes.io/service-name={service}");
        lists
            .iter()
            .any(|seen| seen.query["labelSelector"] == labels)
    };
    assert!(asked("two") && asked("absent"));
    source.refer(&["a/two"], &[]);
    source.update().await;
    assert_eq!(source.names("EndpointSlice"), ["a/two-1".to_owned()].into());
    // A slice that goes over to another Service is no longer held.
    server.put("endpointslices", slice("a/two-1", "three", "10.0.0.1"));
    source.update().await;
    assert!(source.names("EndpointSlice").is_empty());
}

#[tokio::test]
async fn many_services_are_listed_at_once() {
    let server = Server::start().await;
    let services: Vec<_> = (0..40).map(|number| format!("s{number}")).collect();
    for service in &services {
        server.put(
            "endpointslices",
            slice(&format!("a/{service}-1"), service, "10.0.0.1"),
        );
    }
    server.put(
        "endpointslices",
        slice("a/unwanted-1", "unwanted", "10.0.0.1"),
    );
    let mut source = Source::start(&server, all_namespaces()).await;
    source.complete(&[], &[]).await;
    let names: Vec<_> = services
        .iter()
        .map(|service| format!("a/{service}"))
        .collect();
    source.refer(&names.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
    source.update().await;
    assert_eq!(source.names("EndpointSlice").len(), 40);
    assert_eq!(server.count("list", "endpointslices"), 1);
}

#[tokio::test]
async fn the_watch_knows_better_than_a_list_beside_it() {
    let server = Server::start().await;
    for slice_name in ["a/kept", "a/changed", "a/deleted"] {
        server.put("endpointslices", slice(slice_name, "web", "10.0.0.1"));
    }
    let mut source = Source::start(&server, all_namespaces()).await;
    source.complete(&[], &[]).await;
    server.fault(
        "list",
        "endpointslices",
        Fault::Late(Duration::from_millis(300)),
    );
    source.refer(&["a/web"], &[]);
    until("the list is asked for", || {
        server.count("list", "endpointslices") == 1
    })
    .await;
    server.put("endpointslices", slice("a/changed", "web", "10.0.0.2"));
    server.delete("endpointslices", "a", "deleted");
    source
        .until("the list", |source| source.has("EndpointSlice", "a/kept"))
        .await;
    source.is_quiet(Duration::from_millis(200)).await;
    let changed = source.object("EndpointSlice", "a/changed");
    assert_eq!(changed["endpoints"][0]["addresses"][0], "10.0.0.2");
    assert!(!source.has("EndpointSlice", "a/deleted"));
}

#[tokio::test]
async fn many_missing_secrets_are_one_list() {
    let server = Server::start().await;
    for number in 0..600 {
        server.put("secrets", secret(&format!("a/s{number:03}"), "b25l"));
    }
    let mut opaque = secret("a/s001", "b25l");
    opaque["type"] = json!("Opaque");
    server.put("secrets", opaque);
    let mut source = Source::start(&server, all_namespaces()).await;
    let names: Vec<_> = (0..50).map(|number| format!("a/s{number:03}")).collect();
    let mut wanted: Vec<_> = names.iter().map(String::as_str).collect();
    wanted.extend(["a/absent", "a/s599", "a/no name/..%2f"]);
    source.complete(&[], &wanted).await;
    assert_eq!(source.names("Secret").len(), 51);
    assert!(source.has("Secret", "a/s001") && source.has("Secret", "a/s599"));
    assert_eq!(server.count("list", "secrets"), 2, "two pages");
    assert_eq!(
        server.count("get", "secrets"),
        2,
        "another type, and absent"
    );
    let list = server
        .seen()
        .into_iter()
        .find(|seen| seen.verb == "list")
        .unwrap();
    assert_eq!(list.query["fieldSelector"], "type=kubernetes.io/tls");
    source.refer(&[], &["a/s000"]);
    source.update().await;
    assert_eq!(source.names("Secret"), ["a/s000".to_owned()].into());
    let health = source.health.clone();
    until("counted", || {
        health.snapshot().watches.iter().any(|(name, watch)| {
            name.kind == tidegate_controller::source::cluster::Kind::Secret && watch.held == 1
        })
    })
    .await;
}

#[tokio::test]
async fn a_secret_that_is_refused_holds_nothing_up() {
    let server = Server::start().await;
    server.put("secrets", secret("a/good", "b25l"));
    server.put("secrets", secret("a/bad", "b25l"));
    for _ in 0..4 {
        server.fault("get", "secrets", Fault::Status(403));
    }
    let mut source = Source::start(&server, all_namespaces()).await;
    source.complete(&[], &["a/bad", "a/good"]).await;
    source
        .until("both", |source| source.names("Secret").len() == 2)
        .await;
    let health = source.health.clone();
    until("nothing fails", || health.snapshot().secrets.is_empty()).await;
}

#[tokio::test]
async fn a_secret_that_the_server_cannot_read_holds_nothing_up() {
    let server = Server::start().await;
    server.put("secrets", secret("a/bad", "b25l"));
    for _ in 0..30 {
        server.fault("get", "secrets", Fault::Status(500));
    }
    let mut source = Source::start(&server, all_namespaces()).await;
    source.complete(&[], &["a/bad"]).await;
    let failing = source.health.snapshot().secrets;
    assert!(failing[&name("a/bad")].starts_with("500"), "{failing:?}");
    source
        .until("it is read", |source| source.has("Secret", "a/bad"))
        .await;
    assert!(source.health.snapshot().secrets.is_empty());
}

#[tokio::test]
async fn a_secret_that_changes_while_it_is_fetched_is_fetched_again() {
    let server = Server::start().await;
    server.put("secrets", secret("a/web", "b25l"));
    let mut source = Source::start(&server, all_namespaces()).await;
    source.complete(&[], &[]).await;
    server.fault("get", "secrets", Fault::Late(Duration::from_millis(200)));
    source.refer(&[], &["a/web"]);
    until("it is asked for", || server.count("get", "secrets") == 1).await;
    server.put("secrets", secret("a/web", "dHdv"));
    source
        .until("the new one", |source| {
            source.has("Secret", "a/web")
                && source.object("Secret", "a/web")["data"]["tls.crt"] == "dHdv"
        })
        .await;
    // Deleted and made again while it is fetched.
    server.fault("get", "secrets", Fault::Late(Duration::from_millis(200)));
    server.put("secrets", secret("a/web", "dGhyZWU="));
    until("it is asked for", || server.count("get", "secrets") == 3).await;
    server.delete("secrets", "a", "web");
    source
        .until("gone", |source| !source.has("Secret", "a/web"))
        .await;
    source.is_quiet(Duration::from_millis(400)).await;
    server.put("secrets", secret("a/web", "Zm91cg=="));
    source.update().await;
    assert_eq!(
        source.object("Secret", "a/web")["data"]["tls.crt"],
        "Zm91cg=="
    );
}

#[tokio::test]
async fn a_secret_that_comes_later_is_noticed() {
    let server = Server::start().await;
    let mut source = Source::start(&server, all_namespaces()).await;
    source.complete(&[], &["a/web"]).await;
    server.put("secrets", secret("a/web", "b25l"));
    source.update().await;
    assert!(source.has("Secret", "a/web"));
    assert_eq!(server.count("get", "secrets"), 2);
}

#[tokio::test]
async fn what_the_instance_keeps_is_held_though_nothing_refers_to_it() {
    let server = Server::start().await;
    let labelled = |at: &str, label: &str, instance: &str| {
        let mut metadata = meta(at);
        metadata["labels"] = json!({label: instance});
        let data = json!({"tls.crt": "YQ==", "keys.json": "W10="});
        server.put("secrets", json!({"metadata": metadata, "data": data}));
    };
    for (namespace, instance) in [
        ("tidegate", "tidegate"),
        ("a", "tidegate"),
        ("tidegate", "other"),
    ] {
        for kind in [
            "certificate",
            "ticket-keys",
            "certificate-requests",
            "ledger",
        ] {
            let at = format!("{namespace}/{kind}-of-{instance}");
            labelled(&at, &format!("tidegate.dev/{kind}"), instance);
        }
    }
    let mut source = Source::start(&server, all_namespaces()).await;
    source.complete(&[], &[]).await;
    let held = [
        "a/certificate-of-tidegate",
        "tidegate/certificate-of-tidegate",
        "tidegate/certificate-requests-of-tidegate",
        "tidegate/ticket-keys-of-tidegate",
    ];
    let held = held.map(str::to_owned).into();
    source
        .until("held", |source| source.names("Secret") == held)
        .await;
    let keys = |source: &Source, name| {
        source.object("Secret", name)["data"]
            .as_object()
            .unwrap()
            .len()
    };
    assert_eq!(keys(&source, "tidegate/certificate-of-tidegate"), 1);
    assert_eq!(keys(&source, "tidegate/ticket-keys-of-tidegate"), 2);
    labelled(
        "a/certificate-of-tidegate",
        "tidegate.dev/certificate",
        "other",
    );
    source
        .until("it is another's", |source| {
            !source.has("Secret", "a/certificate-of-tidegate")
        })
        .await;
}

#[tokio::test]
async fn challenge_answers_are_held_though_nothing_refers_to_them() {
    let server = Server::start().await;
    let answers = |namespace: &str, value: &str| {
        let mut metadata = meta(&format!("{namespace}/answers"));
        metadata["labels"] = json!({"tidegate.dev/challenge-answers": value});
        json!({"metadata": metadata, "data": {"token": "YW5zd2Vy"}})
    };
    server.put("secrets", answers("tidegate", "true"));
    server.put("secrets", answers("a", "true"));
    let mut source = Source::start(&server, all_namespaces()).await;
    source.complete(&[], &[]).await;
    source
        .until("held", |source| source.has("Secret", "tidegate/answers"))
        .await;
    assert_eq!(source.names("Secret").len(), 1, "only our own namespace's");
    assert_eq!(
        source.object("Secret", "tidegate/answers")["data"]["token"],
        "YW5zd2Vy"
    );
    server.put("secrets", answers("tidegate", "false"));
    source.update().await;
    assert!(source.names("Secret").is_empty());
}
