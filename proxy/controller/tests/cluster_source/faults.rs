//! A server that fails, lies, or falls silent.

use std::time::Duration;

use serde_json::json;
use tidegate_controller::source::cluster::{FailureSort, Health, Kind, WatchHealth};
use tidegate_model::{Level, Reason};

use crate::server::{Fault, Server, until};
use crate::{Source, all_namespaces, ingress, meta, secret, service, slice};

const QUIET: Duration = Duration::from_millis(400);

async fn furnished() -> Server {
    let server = Server::start().await;
    for name in ["one", "two", "three"] {
        server.put("ingresses", ingress(&format!("a/{name}"), "a.example"));
        server.put("services", service(&format!("a/{name}"), 80));
        server.put(
            "endpointslices",
            slice(&format!("a/{name}-1"), name, "10.0.0.1"),
        );
        server.put("secrets", secret(&format!("a/{name}"), "b25l"));
    }
    server
}

const ALL: &[&str] = &["a/one", "a/two", "a/three"];

fn watch_of(health: &Health, kind: Kind) -> WatchHealth {
    let watches = health.snapshot().watches;
    let mut watches = watches.into_iter().filter(|(name, _)| name.kind == kind);
    watches.next().map(|(_, watch)| watch).unwrap_or_default()
}

#[tokio::test]
async fn a_list_that_is_read_again_tells_only_what_differs() {
    for fault in [None, Some(Fault::ErrorEvent(410))] {
        let server = furnished().await;
        let mut source = Source::start(&server, all_namespaces()).await;
        source.complete(ALL, ALL).await;
        for (resource, name) in [
            ("ingresses", "one"),
            ("services", "one"),
            ("endpointslices", "one-1"),
            ("secrets", "one"),
        ] {
            server.forget(resource, "a", name);
        }
        server.put("services", service("a/two", 81));
        source.update().await;
        match fault {
            // As the answer to the watch that goes on.
            None => server.compact(),
            // As an event of it.
            Some(fault) => ["ingresses", "services", "endpointslices", "secrets"]
                .iter()
                .for_each(|resource| server.fault("watch", resource, fault)),
        }
        server.break_connections();
        source
            .until("the forgotten are gone", |source| {
                !source.has("Ingress", "a/one")
                    && !source.has("Service", "a/one")
                    && !source.has("EndpointSlice", "a/one-1")
                    && !source.has("Secret", "a/one")
            })
            .await;
        source.is_quiet(QUIET).await;
        assert_eq!(source.objects.len(), 8, "nothing else was touched");
        let failures = watch_of(&source.health, Kind::Service).failures;
        assert_eq!(failures.get(&FailureSort::Gone), Some(&1), "{failures:?}");
        assert_eq!(server.count("stream", "services"), 2);
    }
}

#[tokio::test]
async fn an_unchanged_list_tells_nothing() {
    let server = furnished().await;
    let mut source = Source::start(&server, all_namespaces()).await;
    source.complete(ALL, ALL).await;
    server.bookmark();
    server.compact();
    server.break_connections();
    until("listed again", || server.count("stream", "ingresses") == 2).await;
    source.is_quiet(QUIET).await;
}

#[tokio::test]
async fn a_watch_that_hangs_goes_on_where_it_was() {
    let server = furnished().await;
    let mut source = Source::start(&server, all_namespaces()).await;
    source.complete(ALL, ALL).await;
    server.fault("watch", "services", Fault::Silence);
    server.break_connections();
    until("the watch hangs", || server.count("watch", "services") == 1).await;
    server.put("services", service("a/four", 80));
    source
        .until("it is noticed", |source| source.has("Service", "a/four"))
        .await;
    assert_eq!(server.count("stream", "services"), 1, "without a list");
    assert_eq!(
        watch_of(&source.health, Kind::Service)
            .failures
            .get(&FailureSort::Silent),
        Some(&1)
    );
}

#[tokio::test]
async fn requests_that_are_never_answered_are_given_up() {
    let server = furnished().await;
    for resource in ["ingresses", "services", "endpointslices", "secrets"] {
        server.fault("stream", resource, Fault::Hang);
    }
    server.fault("get", "secrets", Fault::Hang);
    let mut source = Source::start(&server, all_namespaces()).await;
    source.complete(ALL, ALL).await;
    assert_eq!(source.objects.len(), 12);
}

#[tokio::test]
async fn garbage_and_broken_off_objects_are_passed_over() {
    for fault in [
        Fault::Garbage,
        Fault::Cut,
        Fault::ErrorEvent(500),
        Fault::Status(429),
    ] {
        let server = furnished().await;
        for resource in ["ingresses", "services", "endpointslices", "secrets"] {
            server.fault("stream", resource, fault);
            server.fault("watch", resource, fault);
        }
        let mut source = Source::start(&server, all_namespaces()).await;
        source.complete(ALL, ALL).await;
        server.break_connections();
        until("it is met again", || server.count("watch", "services") == 1).await;
        server.put("services", service("a/four", 80));
        source
            .until("it goes on", |source| source.has("Service", "a/four"))
            .await;
        assert_eq!(source.objects.len(), 13, "{fault:?}");
    }
}

#[tokio::test]
async fn a_server_that_ends_every_watch_is_not_flooded() {
    let server = furnished().await;
    let mut source = Source::start(&server, all_namespaces()).await;
    source.complete(ALL, ALL).await;
    for _ in 0..1000 {
        server.fault("watch", "services", Fault::End);
    }
    server.break_connections();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let count = server.count("watch", "services");
    assert!(
        (5..40).contains(&count),
        "{count} watches in a second, waits are 10 ms to 100 ms"
    );
    let failing = watch_of(&source.health, Kind::Service)
        .failing
        .map(|failing| failing.sort);
    assert_eq!(failing, Some(FailureSort::Ended));
}

#[tokio::test]
async fn an_object_that_fits_no_type_costs_only_itself() {
    let server = furnished().await;
    let hostile = |name: &str| json!({"metadata": meta(name), "spec": {"rules": [{"host": ["not", "text"]}]}});
    server.put("ingresses", hostile("a/bad"));
    let mut bad_secret = secret("a/bad", "b25l");
    bad_secret["data"]["tls.key"] = json!({"hidden": "s3cr3t"});
    server.put("secrets", bad_secret);
    server.put("services", json!({"metadata": {"name": 7}}));
    let mut source = Source::start(&server, all_namespaces()).await;
    let secrets = [ALL, &["a/bad"]].concat();
    source.complete(ALL, &secrets).await;
    assert_eq!(source.objects.len(), 12, "all others");
    let problems = source.problems.clone();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems
            .iter()
            .all(|p| (p.level, p.reason) == (Level::Error, Reason::InvalidField))
    );
    assert_eq!(problems[0].object.to_string(), "Ingress a/bad");
    assert_eq!(problems[0].field, "spec.rules[0].host");
    assert_eq!(problems[1].field, "data.tls.key");
    assert!(!format!("{problems:?}").contains("s3cr3t"), "{problems:?}");

    // The last good version of one that was good stays.
    server.put("ingresses", hostile("a/one"));
    let update = source.update().await;
    assert!(update.changes.is_empty() && update.problems.len() == 3);
    server.compact();
    server.break_connections();
    until("listed again", || server.count("stream", "ingresses") == 2).await;
    source.is_quiet(QUIET).await;
    assert!(source.has("Ingress", "a/one"));
    server.put("ingresses", ingress("a/one", "b.example"));
    server.delete("ingresses", "a", "bad");
    source
        .until("corrected", |source| source.problems.len() == 1)
        .await;
    assert_eq!(
        source.object("Ingress", "a/one")["spec"]["rules"][0]["host"],
        "b.example"
    );
}

#[tokio::test]
async fn a_token_that_expired_is_read_again() {
    let server = furnished().await;
    let mut source = Source::start(&server, all_namespaces()).await;
    source.complete(ALL, ALL).await;
    server.require_token("second");
    server.break_connections();
    let health = source.health.clone();
    until("refused", || {
        let failing = watch_of(&health, Kind::Service).failing;
        failing.is_some_and(|failing| failing.sort == FailureSort::Unauthorized)
    })
    .await;
    server.put("services", service("a/four", 80));
    source.is_quiet(QUIET).await;
    std::fs::write(source.folder.path().join("token"), "second").unwrap();
    source
        .until("it goes on", |source| source.has("Service", "a/four"))
        .await;
    assert_eq!(source.objects.len(), 13);
    assert_eq!(server.count("stream", "services"), 1);
    until("well again", || {
        watch_of(&health, Kind::Service).failing.is_none()
    })
    .await;
}

#[tokio::test]
async fn rights_that_are_revoked_take_nothing_away() {
    let server = furnished().await;
    let mut source = Source::start(&server, all_namespaces()).await;
    source.complete(ALL, ALL).await;
    server.deny("services", 403);
    server.break_connections();
    let health = source.health.clone();
    let failing = |kind| watch_of(&health, kind).failing.map(|failing| failing.sort);
    until("forbidden", || {
        failing(Kind::Service) == Some(FailureSort::Forbidden)
    })
    .await;
    server.delete("services", "a", "one");
    server.put("ingresses", ingress("a/four", "a.example"));
    source
        .until("others go on", |source| source.has("Ingress", "a/four"))
        .await;
    source.is_quiet(QUIET).await;
    assert!(source.has("Service", "a/one"));
    assert_eq!(failing(Kind::Ingress), None);
    server.allow("services");
    source
        .until("noticed", |source| !source.has("Service", "a/one"))
        .await;
    assert_eq!(failing(Kind::Service), None);
}

#[tokio::test]
async fn a_server_that_is_away_for_a_while_is_found_again() {
    let mut server = furnished().await;
    server.down().await;
    let mut source = Source::start(&server, all_namespaces()).await;
    source.is_quiet(QUIET).await;
    assert!(!source.inventory.is_complete());
    server.up().await;
    source.complete(ALL, ALL).await;
    server.down().await;
    server.delete("ingresses", "a", "one");
    server.put("services", service("a/four", 80));
    let health = source.health.clone();
    until("noticed", || {
        watch_of(&health, Kind::Ingress).failing.is_some()
    })
    .await;
    source.is_quiet(QUIET).await;
    server.up().await;
    source
        .until("caught up", |source| {
            !source.has("Ingress", "a/one") && source.has("Service", "a/four")
        })
        .await;
    assert_eq!(source.objects.len(), 12);
    assert_eq!(server.count("stream", "ingresses"), 1, "no list was needed");
}

#[tokio::test]
async fn a_server_whose_versions_begin_again_is_listed_again() {
    let server = furnished().await;
    let mut source = Source::start(&server, all_namespaces()).await;
    source.complete(ALL, ALL).await;
    server.restore();
    server.put("services", service("a/new", 80));
    server.break_connections();
    source
        .until("as restored", |source| {
            source.objects.len() == 1 && source.has("Service", "a/new")
        })
        .await;
}
