//! What becomes of one object that arrives.

use serde_json::json;

use super::*;

fn reader() -> Reader {
    Reader {
        field_manager: "tidegate".into(),
        instance: "tidegate".into(),
        hashes: RandomState::new(),
    }
}

fn read(kind: Kind, value: &Value) -> Arrival {
    reader().read(kind, &value.to_string()).unwrap()
}

#[test]
fn an_object_that_fits_no_type_is_known_by_name_and_field() {
    let bad = json!({
        "metadata": {"name": "web", "namespace": "a", "uid": "u", "resourceVersion": "7"},
        "spec": {"rules": [{"http": {"paths": [{"path": 7}]}}]},
    });
    let arrival = read(Kind::Ingress, &bad);
    assert_eq!(arrival.name, NamespacedName::new("a", "web"));
    assert_eq!(
        (arrival.uid.as_deref(), arrival.version.as_deref()),
        (Some("u"), Some("7"))
    );
    let Content::Unreadable(problem) = arrival.content else {
        panic!("it is read: {arrival:?}");
    };
    assert_eq!(problem.field, "spec.rules[0].http.paths[0].path");
    assert!(
        problem
            .message
            .starts_with("invalid type: integer `7`, expected a string. "),
        "{problem}"
    );
}

#[test]
fn what_a_secret_has_is_not_quoted() {
    let bad = json!({"metadata": {"name": "x", "namespace": "a"}, "data": {"tls.key": ["s3cr3t"]}});
    let arrival = reader().read_secret(&bad.to_string()).unwrap();
    let bad = json!({"metadata": {"name": "x", "namespace": "a"}, "data": "s3cr3t"});
    let other = reader().read_secret(&bad.to_string()).unwrap();
    let bad = json!({"metadata": {"name": "x", "namespace": "a"}, "data": {"tls.key": "s3cr3t!"}});
    let third = reader().read_secret(&bad.to_string()).unwrap();
    for arrival in [arrival, other, third] {
        assert!(
            matches!(arrival.content, Content::Unreadable(_)),
            "{arrival:?}"
        );
        assert!(!format!("{arrival:?}").contains("s3cr3t"), "{arrival:?}");
    }
}

#[test]
fn what_has_no_name_is_nothing() {
    for text in [
        "7",
        "[]",
        "{}",
        r#"{"metadata": {}}"#,
        r#"{"metadata": {"name": ""}}"#,
        r#"{"metadata": {"name": 7}}"#,
    ] {
        assert!(reader().read(Kind::Service, text).is_none(), "{text}");
    }
}

#[test]
fn the_hash_is_of_what_is_held() {
    let service = |version: &str, port: u16| {
        json!({
            "metadata": {"name": "web", "namespace": "a", "resourceVersion": version, "generation": 2},
            "spec": {"ports": [{"port": port}]}, "status": {"loadBalancer": {"ingress": [{"ip": version}]}},
        })
    };
    let reader = reader();
    let hash = |value: Value| match reader
        .read(Kind::Service, &value.to_string())
        .unwrap()
        .content
    {
        Content::Service(held, _) => held.hash,
        other => panic!("{other:?}"),
    };
    assert_eq!(hash(service("1", 80)), hash(service("2", 80)));
    assert_ne!(hash(service("1", 80)), hash(service("1", 81)));
}

#[test]
fn a_pod_that_is_deleted_is_not_ready() {
    let pod = |deleted: Option<&str>| {
        json!({
            "metadata": {"name": "p", "namespace": "a", "deletionTimestamp": deleted},
            "status": {"conditions": [{"type": "Ready", "status": "True"}], "hostIPs": [{"ip": "no address"}]},
        })
    };
    for (deleted, ready) in [(None, true), (Some("2026-01-01T00:00:00Z"), false)] {
        let Content::Agent(agent) = read(Kind::Pod, &pod(deleted)).content else {
            panic!("no agent");
        };
        assert_eq!(agent.is_ready, ready);
        assert!(agent.host_addresses.is_empty() && agent.node.is_empty());
    }
}

#[test]
fn only_a_status_of_our_field_manager_is_ours() {
    let ingress = |manager: &str, subresource: Option<&str>| {
        json!({"metadata": {"name": "p", "namespace": "a", "managedFields": [
            {"manager": manager, "subresource": subresource, "operation": "Apply"},
        ]}})
    };
    let cases = [
        ("tidegate", Some("status"), true),
        ("tidegate", None, false),
        ("tidegate-internal", Some("status"), false),
    ];
    for (manager, subresource, ours) in cases {
        let Content::Ingress(_, record) =
            read(Kind::Ingress, &ingress(manager, subresource)).content
        else {
            panic!("no Ingress");
        };
        assert_eq!(record.is_ours, ours, "{manager} {subresource:?}");
    }
}
