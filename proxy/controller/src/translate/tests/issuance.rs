//! What is asked for and held, and our own certificates, as objects and time change.

use super::*;

/// An Ingress that asks for a certificate, in a Secret that is named after it.
fn wishing(name: &str, host: &str, path: &str) -> Change {
    let metadata = json!({"name": name, "namespace": "shop",
        "annotations": {"tidegate.dev/certificate": "acme"}});
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let paths = json!([{"path": path, "pathType": "Prefix", "backend": backend}]);
    let spec = json!({"ingressClassName": "tidegate", "tls": [{"hosts": [host], "secretName": name}],
        "rules": [{"host": host, "http": {"paths": paths}}]});
    put(Object::Ingress, json!({"metadata": metadata, "spec": spec}))
}

fn held(namespace: &str, name: &str, label: &str, certificate: usize) -> Change {
    let (chain, key) = &CERTIFICATES[certificate];
    let metadata =
        json!({"name": name, "namespace": namespace, "labels": {CERTIFICATE_LABEL: label}});
    let pair = json!({"tls.crt": chain, "tls.key": key});
    put(
        Object::Secret,
        json!({"metadata": metadata, "stringData": pair}),
    )
}

#[test]
fn what_is_asked_for_is_made_again_only_when_it_changes() {
    let settings = Settings {
        own_namespace: Some("tidegate".to_owned()),
        instance_label: "one".to_owned(),
        ..Settings::default()
    };
    let mut translator = Translator::new(settings);
    let start = [
        wishing("a", "a.example.com", "/"),
        held("shop", "a", "one", 0),
    ];
    let first = translator.apply(start, UnixTime(0)).issuance;
    assert_eq!((first.wishes.len(), first.secrets.len()), (1, 1));
    let unrelated = [
        held("shop", "other", "two", 0),
        wishing("a", "a.example.com", "/elsewhere"),
        held("shop", "a", "one", 0),
    ];
    let same = translator
        .apply(unrelated, UnixTime(1_900_000_000))
        .issuance;
    assert!(Arc::ptr_eq(&first, &same));

    let more = translator
        .apply([wishing("b", "b.example.com", "/")], UnixTime(0))
        .issuance;
    assert_eq!(
        (more.wishes.len(), more.secrets.len(), more.hosts.len()),
        (2, 1, 2)
    );
    let renewed = translator
        .apply([held("shop", "a", "one", 1)], UnixTime(0))
        .issuance;
    assert!(!Arc::ptr_eq(&more, &renewed) && Arc::ptr_eq(&more.hosts, &renewed.hosts));
    let foreign = translator
        .apply([held("shop", "a", "two", 1)], UnixTime(0))
        .issuance;
    let owner = |issuance: &Issuance| issuance.secrets[&NamespacedName::new("shop", "a")].owner;
    assert_eq!(owner(&renewed), tidegate_model::SecretOwner::Tidegate);
    assert_eq!(owner(&foreign), tidegate_model::SecretOwner::Other);
    let gone = ObjectRef::new("Ingress", NamespacedName::new("shop", "a"));
    let gone = translator
        .apply([Change::Remove(gone)], UnixTime(0))
        .issuance;
    assert_eq!(
        (gone.wishes.len(), gone.secrets.len(), gone.hosts.len()),
        (1, 0, 1)
    );
}

#[test]
fn our_own_certificates_are_referred_to_and_served_by_the_clock() {
    let settings = Settings {
        own_namespace: Some("tidegate".to_owned()),
        instance_label: "one".to_owned(),
        ..Settings::default()
    };
    let mut translator = Translator::new(settings);
    // Number 1 ends its life in 2025; number 2 is for the wildcard above it.
    let start = [
        held("tidegate", "short", "one", 1),
        held("tidegate", "wild", "one", 2),
    ];
    let served = |translation: &Translation| {
        let found = translation
            .snapshot
            .certificates
            .select(Some("a.example.com"));
        found
            .iter()
            .map(|it| it.secret.name.clone())
            .collect::<Vec<_>>()
    };
    let before = translator.apply(start, UnixTime(1_700_000_000));
    assert_eq!(served(&before), ["short"]);
    assert_eq!(before.referenced.secrets.len(), 2);
    let end = before.recheck_at.expect("an end");
    let after = translator.apply([], end);
    assert_eq!(served(&after), ["wild"], "a valid one is better");
    let gone = ObjectRef::new("Secret", NamespacedName::new("tidegate", "wild"));
    let gone = translator.apply([Change::Remove(gone)], end);
    assert_eq!(served(&gone), ["short"], "nothing is better");
    assert_eq!(gone.referenced.secrets.len(), 1);
}
