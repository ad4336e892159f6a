//! What is left of an object when it is held.

use serde_json::json;

use super::*;

fn metadata() -> serde_json::Value {
    json!({
        "name": "n", "namespace": "a", "uid": "u", "resourceVersion": "1", "generation": 3, "labels": {"l": "v"},
        "annotations": {LAST_APPLIED: "x", "long": "x".repeat(5000), "tidegate.dev/long": "x".repeat(5000), "short": "s"},
        "managedFields": [{"manager": "m"}], "finalizers": ["f"],
        "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "n", "uid": "u"}],
    })
}

fn kept(annotations: Option<&BTreeMap<String, String>>) -> Vec<&str> {
    annotations
        .into_iter()
        .flatten()
        .map(|(key, _)| key.as_str())
        .collect()
}

#[test]
fn metadata_shrinks_to_what_is_read() {
    let mut object: Ingress = serde_json::from_value(json!({"metadata": metadata()})).unwrap();
    ingress(&mut object);
    let metadata = object.metadata;
    assert_eq!(
        kept(metadata.annotations.as_ref()),
        ["short", "tidegate.dev/long"]
    );
    assert!(metadata.labels.is_some());
    assert!(metadata.managed_fields.is_none() && metadata.owner_references.is_none());
    assert!(
        metadata.uid.is_none()
            && metadata.resource_version.is_none()
            && metadata.finalizers.is_none()
    );
}

#[test]
fn a_service_shrinks_to_type_ports_name_and_addresses() {
    let spec = json!({
        "type": "ClusterIP", "ports": [{"port": 80}], "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
        "selector": {"a": "b"}, "sessionAffinity": "None", "externalName": "x.example",
    });
    let object = json!({"metadata": metadata(), "spec": spec, "status": {"conditions": []}});
    let mut object: Service = serde_json::from_value(object).unwrap();
    service(&mut object);
    assert!(object.status.is_none() && object.metadata.labels.is_none());
    let spec = serde_json::to_value(object.spec).unwrap();
    let members: Vec<_> = spec.as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        members,
        ["clusterIP", "clusterIPs", "externalName", "ports", "type"]
    );
}

#[test]
fn a_certificate_of_ours_keeps_what_says_so() {
    let read = |labels: serde_json::Value| {
        let annotations = json!({ISSUER_ANNOTATION: "le", "tidegate.dev/names": "a.example"});
        let metadata = json!({"labels": labels, "annotations": annotations});
        let mut object: Secret = serde_json::from_value(json!({"metadata": metadata})).unwrap();
        secret(&mut object);
        object.metadata
    };
    let ours = read(json!({CERTIFICATE_LABEL: "tidegate", "a": "b"}));
    assert_eq!(kept(ours.annotations.as_ref()), [ISSUER_ANNOTATION]);
    assert_eq!(kept(ours.labels.as_ref()), [CERTIFICATE_LABEL]);
    let other = read(json!({"a": "b"}));
    assert_eq!((other.annotations, other.labels), (None, None));
}

#[test]
fn a_secret_shrinks_to_certificate_and_key_unless_it_answers_challenges() {
    let object = |labels: serde_json::Value| {
        let data = json!({"tls.crt": "YQ==", "tls.key": "YQ==", "other": "YQ=="});
        let mut object: Secret =
            serde_json::from_value(json!({"metadata": {"labels": labels}, "data": data})).unwrap();
        secret(&mut object);
        object.data.unwrap().len()
    };
    assert_eq!(object(json!({"a": "b"})), 2);
    for label in OF_RECORDS {
        assert_eq!(object(json!({label: "true"})), 3);
    }
    assert_eq!(object(json!({CERTIFICATE_LABEL: "tidegate"})), 2);
}
