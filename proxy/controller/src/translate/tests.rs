//! The translation of arbitrary objects: total, the same in any order, and incremental without a trace.

use std::fmt;
use std::sync::LazyLock;

use k8s_openapi::api::core::v1::{Namespace, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::IngressClass;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use tidegate_model::{ObjectRef, Route, VirtualHost};

use super::*;
use crate::{Object, Resolution};

mod hostile;
mod issuance;

/// Certificates for `a.example.com`, one of them short-lived, and for `*.example.com`: chain and key in PEM.
static CERTIFICATES: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let issue = |name: &str, year: i32| {
        let key = rcgen::KeyPair::generate().expect("key");
        let mut params = rcgen::CertificateParams::new([name.to_owned()]).expect("name");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = params.self_signed(&key).expect("certificate");
        (certificate.pem(), key.serialize_pem())
    };
    vec![
        issue("a.example.com", 2100),
        issue("a.example.com", 2025),
        issue("*.example.com", 2100),
    ]
});

/// One of a few sensible values most of the time, now and then anything.
fn text(values: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop_oneof![
        12 => select(values).prop_map(str::to_owned),
        1 => "[a-zA-Z0-9*./,:_ \u{e9}-]{0,12}",
    ]
}

fn maybe(strategy: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    prop_oneof![4 => strategy, 1 => Just(Value::Null)]
}

fn host() -> impl Strategy<Value = String> {
    text(&[
        "",
        "a.example.com",
        "b.example.com",
        "*.example.com",
        "*.org",
        "Upper.org",
    ])
}

fn metadata(names: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let namespace = select(vec!["red", "blue"]);
    let created = select(vec![
        Value::Null,
        json!("2025-01-01T00:00:00Z"),
        json!("2025-02-01T00:00:00Z"),
    ]);
    (select(names), namespace, created).prop_map(|(name, namespace, created)| {
        json!({"name": name, "namespace": namespace, "creationTimestamp": created})
    })
}

fn backend() -> impl Strategy<Value = Value> {
    let number = select(vec![0, 80, 443, 70_000, -1]);
    let port = prop_oneof![
        number.prop_map(|number| json!({"number": number})),
        text(&["http", "https"]).prop_map(|name| json!({"name": name})),
        Just(json!({"name": "http", "number": 80})),
    ];
    let service = (text(&["web", "api", "gone"]), maybe(port))
        .prop_map(|(name, port)| json!({"service": {"name": name, "port": port}}));
    prop_oneof![
        8 => service,
        1 => Just(json!({"resource": {"kind": "Bucket", "name": "b"}})),
        1 => Just(json!({})),
    ]
}

fn rule() -> impl Strategy<Value = Value> {
    let path = (
        text(&["/", "/a", "/a/", "/a/b", "", "a", "/a//b", "/x/*"]),
        text(&["Exact", "Prefix", "ImplementationSpecific", ""]),
        backend(),
    );
    let path = path.prop_map(
        |(path, kind, backend)| json!({"path": path, "pathType": kind, "backend": backend}),
    );
    let http = prop::collection::vec(path, 0..4).prop_map(|paths| json!({"paths": paths}));
    (host(), maybe(http)).prop_map(|(host, http)| json!({"host": host, "http": http}))
}

fn ingress() -> impl Strategy<Value = Value> {
    let tls = (
        prop::collection::vec(host(), 0..3),
        maybe(text(&["cert", "other"]).prop_map(Value::from)),
    );
    let tls = tls.prop_map(|(hosts, secret)| json!({"hosts": hosts, "secretName": secret}));
    let annotation = select(vec![
        json!({}),
        json!({}),
        json!({"tidegate.dev/ssl-redirect": "true"}),
        json!({"tidegate.dev/service-upstream": "true", "tidegate.dev/nonsense": ""}),
        json!({"kubernetes.io/ingress.class": "Edge"}),
        json!({"tidegate.dev/certificate": "acme", "tidegate.dev/certificate-hosts": "rules"}),
        json!({"kubernetes.io/tls-acme": "true", "tidegate.dev/issuer": "two"}),
    ]);
    let spec = (
        maybe(text(&["tidegate", "edge"]).prop_map(Value::from)),
        maybe(backend()),
        prop::collection::vec(rule(), 0..4),
        prop::collection::vec(tls, 0..3),
    );
    (metadata(&["a", "b", "c", "d"]), annotation, spec).prop_map(
        |(mut metadata, annotations, (class, default, rules, tls))| {
            metadata["annotations"] = annotations;
            json!({"metadata": metadata, "spec": {
                "ingressClassName": class, "defaultBackend": default, "rules": rules, "tls": tls
            }})
        },
    )
}

fn service() -> impl Strategy<Value = Value> {
    let port = (
        select(vec![80, 443, 0, 70_000]),
        maybe(text(&["http", "https"]).prop_map(Value::from)),
        maybe(text(&["https", "grpc", "mysql"]).prop_map(Value::from)),
        select(vec!["TCP", "UDP"]),
    );
    let port = port.prop_map(|(port, name, app, protocol)| {
        json!({"port": port, "name": name, "appProtocol": app, "protocol": protocol})
    });
    let kind = select(vec![
        json!({}),
        json!({"clusterIP": "10.96.0.1"}),
        json!({"clusterIP": "None"}),
        json!({"type": "ExternalName", "externalName": "x.example.org"}),
        json!({"type": "ExternalName", "externalName": "192.0.2.1"}),
        json!({"type": "ExternalName", "externalName": "?"}),
    ]);
    let ports = prop::collection::vec(port, 0..3);
    (metadata(&["web", "api"]), ports, kind, any::<bool>()).prop_map(
        |(mut metadata, ports, mut spec, annotated)| {
            if annotated {
                metadata["annotations"] = json!({"tidegate.dev/service-upstream": "true"});
            }
            spec["ports"] = json!(ports);
            json!({"metadata": metadata, "spec": spec})
        },
    )
}

fn slice() -> impl Strategy<Value = Value> {
    let endpoint = (
        text(&["10.0.0.1", "10.0.0.2", "fd00::1", "0.0.0.0"]),
        select(vec![
            Value::Null,
            json!({"ready": false}),
            json!({"ready": false, "serving": true, "terminating": true}),
        ]),
    );
    let endpoint = endpoint.prop_map(
        |(address, conditions)| json!({"addresses": [address], "conditions": conditions}),
    );
    let port = (
        maybe(select(vec![8080, 0, -1]).prop_map(Value::from)),
        text(&["", "http", "https"]),
    )
        .prop_map(|(port, name)| json!({"port": port, "name": name}));
    (
        metadata(&["web-1", "web-2", "api-1"]),
        text(&["web", "api"]),
        text(&["IPv4", "IPv6", "FQDN"]),
        prop::collection::vec(endpoint, 0..3),
        prop::collection::vec(port, 0..3),
    )
        .prop_map(|(mut metadata, service, family, endpoints, ports)| {
            metadata["labels"] = json!({"kubernetes.io/service-name": service});
            json!({"metadata": metadata, "addressType": family, "endpoints": endpoints, "ports": ports})
        })
}

fn secret() -> impl Strategy<Value = Value> {
    let pair = (0..CERTIFICATES.len(), 0..CERTIFICATES.len() * 4);
    let owner = select(vec![None, None, Some("one"), Some("two")]);
    let name = metadata(&["cert", "other"]);
    (name, owner, pair).prop_map(|(mut metadata, owner, (chain, key))| {
        if let Some(owner) = owner {
            metadata["labels"] = json!({CERTIFICATE_LABEL: owner});
            metadata["annotations"] = json!({ISSUER_ANNOTATION: "le"});
        }
        // The key of the same certificate most of the time.
        let key = if key < CERTIFICATES.len() { key } else { chain };
        let (chain, key) = (&CERTIFICATES[chain].0, &CERTIFICATES[key].1);
        json!({"metadata": metadata, "stringData": {"tls.crt": chain, "tls.key": key}})
    })
}

fn class() -> impl Strategy<Value = Value> {
    let controller = select(vec![CONTROLLER, "example.com/other"]);
    (select(vec!["tidegate", "edge"]), controller, any::<bool>()).prop_map(
        |(name, controller, default)| {
            let default = if default { "true" } else { "false" };
            let mut annotations = json!({"ingressclass.kubernetes.io/is-default-class": default});
            if name == "edge" {
                annotations["tidegate.dev/certificate"] = json!("acme");
            }
            json!({"metadata": {"name": name, "annotations": annotations}, "spec": {"controller": controller}})
        },
    )
}

fn namespace() -> impl Strategy<Value = Value> {
    let labels = select(vec![Value::Null, json!({"a": "b"}), json!({"a": "c"})]);
    (select(vec!["red", "blue"]), labels)
        .prop_map(|(name, labels)| json!({"metadata": {"name": name, "labels": labels}}))
}

fn answers() -> impl Strategy<Value = Value> {
    let token = select(vec!["a", "b", "?"]);
    let label = select(vec!["true", "true", "false"]);
    let print = select(vec!["A", "B"]);
    (metadata(&["cert", "answers"]), label, token, print).prop_map(
        |(mut metadata, label, token, print)| {
            metadata["labels"] = json!({CHALLENGE_ANSWERS_LABEL: label});
            let answer = format!("{token}.{}", print.repeat(43));
            json!({"metadata": metadata, "stringData": {token: answer}})
        },
    )
}

fn record() -> impl Strategy<Value = Value> {
    let key = "[{\"name\": \"00000000000000000000000000000001\", \"activeFrom\": 1, \"secret\": \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"}]";
    let content = select(vec![
        (TICKET_KEYS_LABEL, json!({"keys.json": key})),
        (TICKET_KEYS_LABEL, json!({"keys.json": "[]"})),
        (TICKET_KEYS_LABEL, json!({"keys.json": "?"})),
        (
            REQUESTS_LABEL,
            json!({"renew.a.example.com": "2025-01-01T00:00:00Z"}),
        ),
        (
            REQUESTS_LABEL,
            json!({"renew._.example.com": "2025-01-01T00:00:00Z", "x": ""}),
        ),
    ]);
    (metadata(&["cert", "record"]), content).prop_map(|(mut metadata, (label, entries))| {
        metadata["labels"] = json!({label: "one"});
        json!({"metadata": metadata, "stringData": entries})
    })
}

fn object() -> impl Strategy<Value = Object> {
    fn typed<T: serde::de::DeserializeOwned>(value: Value) -> Arc<T> {
        Arc::new(serde_json::from_value(value).expect("object"))
    }
    prop_oneof![
        6 => ingress().prop_map(|value| Object::Ingress(typed(value))),
        3 => service().prop_map(|value| Object::Service(typed::<Service>(value))),
        3 => slice().prop_map(|value| Object::EndpointSlice(typed::<EndpointSlice>(value))),
        2 => secret().prop_map(|value| Object::Secret(typed::<Secret>(value))),
        1 => class().prop_map(|value| Object::IngressClass(typed::<IngressClass>(value))),
        1 => namespace().prop_map(|value| Object::Namespace(typed::<Namespace>(value))),
        1 => answers().prop_map(|value| Object::Secret(typed::<Secret>(value))),
        1 => record().prop_map(|value| Object::Secret(typed::<Secret>(value))),
    ]
}

fn resolution() -> impl Strategy<Value = Change> {
    let resolution = select(vec![
        None,
        Some(Resolution::Failed("no such name".to_owned())),
        Some(Resolution::Addresses([[192, 0, 2, 1].into()].into())),
    ]);
    resolution.prop_map(|resolution| {
        let name = Hostname::parse("x.example.org").expect("name");
        Change::Resolved(name, resolution)
    })
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        8 => object().prop_map(Change::Put),
        2 => object().prop_map(|object| Change::Remove(object.reference())),
        1 => resolution(),
    ]
}

fn settings() -> impl Strategy<Value = Settings> {
    let backend = ServicePort {
        service: NamespacedName::new("red", "web"),
        port: PortRef::Number(80),
    };
    let class = ["edge".to_owned()].into();
    (
        any::<bool>(),
        select(vec![None, None, Some(class)]),
        select(vec![None, Some(backend)]),
        select(vec![None, Some(NamespacedName::new("red", "cert"))]),
        select(vec!["", "a=b", "a!=b"]),
        select(vec![Hosts::Tls, Hosts::Rules]),
    )
        .prop_map(
            |(
                without_class,
                ingress_class,
                default_backend,
                default_certificate,
                selector,
                hosts,
            )| {
                Settings {
                    watch_ingress_without_class: without_class,
                    ingress_class,
                    namespace_selector: selector.parse().expect("selector"),
                    own_namespace: Some("red".to_owned()),
                    instance_label: "one".to_owned(),
                    certificates: CertificateDefaults {
                        hosts,
                        ..CertificateDefaults::default()
                    },
                    default_backend,
                    default_certificate,
                    ..Settings::default()
                }
            },
        )
}

/// Everything that can be seen of a translation.
fn seen(translation: &Translation) -> impl PartialEq + fmt::Debug + use<> {
    let snapshot = &translation.snapshot;
    let hosts: Vec<_> = snapshot
        .routes
        .hosts()
        .iter()
        .map(|(pattern, host)| (pattern.clone(), host.tls()))
        .collect();
    let server_names: BTreeMap<_, _> = snapshot
        .upstreams
        .values()
        .map(|upstream| (upstream.id.clone(), upstream.server_name.clone()))
        .collect();
    let issuance = &translation.issuance;
    let held: Vec<_> = issuance
        .secrets
        .iter()
        .map(|(name, held)| {
            let certificate = held.certificate.as_ref();
            let fingerprint = certificate.map(|certificate| certificate.fingerprint);
            (name.clone(), held.owner, fingerprint, held.issuer.clone())
        })
        .collect();
    let kept = (
        issuance.wishes.clone(),
        held,
        issuance.requests.clone(),
        issuance.hosts.clone(),
        snapshot.tickets.clone(),
    );
    (
        snapshot.describe(),
        hosts,
        server_names,
        kept,
        translation.statuses.clone(),
        translation.problems.clone(),
        translation.names.clone(),
        translation.referenced.clone(),
        translation.recheck_at,
    )
}

/// The objects that are left after all changes.
fn last_state(batches: &[Vec<Change>]) -> Vec<Change> {
    let mut objects: BTreeMap<ObjectRef, Change> = BTreeMap::new();
    let mut resolutions = BTreeMap::new();
    for change in batches.iter().flatten() {
        match change {
            Change::Put(object) => _ = objects.insert(object.reference(), change.clone()),
            Change::Remove(reference) => _ = objects.remove(reference),
            Change::Resolved(name, _) => _ = resolutions.insert(name.clone(), change.clone()),
        }
    }
    objects
        .into_values()
        .chain(resolutions.into_values())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn step_by_step_is_as_all_at_once(
        settings in settings(),
        batches in prop::collection::vec(prop::collection::vec(change(), 0..8), 1..8),
        times in prop::collection::vec(select(vec![2019, 2023, 2030]), 8),
        shuffled in any::<prop::sample::Index>(),
    ) {
        let mut translator = Translator::new(settings.clone());
        let mut now = UnixTime(0);
        let mut stepwise = None;
        for (batch, year) in batches.iter().zip(times) {
            now = UnixTime((year - 1970) * 31_557_600);
            stepwise = Some(translator.apply(batch.clone(), now));
        }
        let mut objects = last_state(&batches);
        if !objects.is_empty() {
            let start = shuffled.index(objects.len());
            objects.rotate_left(start);
        }
        let fresh = Translator::new(settings).apply(objects, now);
        prop_assert_eq!(stepwise.as_ref().map(seen), Some(seen(&fresh)));
    }
}

/// What each of a hundred Ingresses and their Services needs.
fn many() -> Vec<Change> {
    (0..100)
        .flat_map(|number| many_of(number, "/", "10.0.0.1"))
        .collect()
}

fn many_of(number: usize, path: &str, address: &str) -> Vec<Change> {
    let name = format!("web-{number}");
    let metadata = json!({"name": name});
    let ingress = json!({"metadata": metadata, "spec": {"ingressClassName": "tidegate", "rules": [{
        "host": format!("{name}.example.com"),
        "http": {"paths": [{"path": path, "pathType": "Prefix", "backend": {"service": {"name": name, "port": {"number": 80}}}}]}
    }]}});
    let service = json!({"metadata": metadata, "spec": {"ports": [{"port": 80}]}});
    let labels = json!({"kubernetes.io/service-name": name});
    let slice = json!({"metadata": {"name": name, "labels": labels}, "addressType": "IPv4",
        "ports": [{"port": 80}], "endpoints": [{"addresses": [address]}]});
    vec![
        Change::Put(Object::Ingress(Arc::new(
            serde_json::from_value(ingress).expect("ingress"),
        ))),
        Change::Put(Object::Service(Arc::new(
            serde_json::from_value(service).expect("service"),
        ))),
        Change::Put(Object::EndpointSlice(Arc::new(
            serde_json::from_value(slice).expect("slice"),
        ))),
    ]
}

#[test]
fn what_did_not_change_stays_the_same_allocation() {
    let mut translator = Translator::new(Settings::default());
    let first = translator.apply(many(), UnixTime(0)).snapshot;
    let same = translator.apply(many(), UnixTime(1)).snapshot;
    assert!(Arc::ptr_eq(&first.routes, &same.routes));
    assert!(Arc::ptr_eq(&first.upstreams, &same.upstreams));
    assert!(Arc::ptr_eq(&first.certificates, &same.certificates));
    assert!(Arc::ptr_eq(&first.policy, &same.policy));

    let moved = translator
        .apply(many_of(7, "/", "10.0.0.2"), UnixTime(2))
        .snapshot;
    assert!(
        Arc::ptr_eq(&first.routes, &moved.routes),
        "endpoints are no routes"
    );
    let other = |snapshot: &Snapshot| {
        let ids = first.upstreams.iter();
        ids.filter(|(id, upstream)| !Arc::ptr_eq(upstream, &snapshot.upstreams[*id]))
            .count()
    };
    assert_eq!(other(&moved), 1);

    let rerouted = translator
        .apply(many_of(7, "/new", "10.0.0.2"), UnixTime(3))
        .snapshot;
    assert!(
        Arc::ptr_eq(&moved.upstreams, &rerouted.upstreams),
        "routes are no endpoints"
    );
    let (before, after) = (moved.routes.hosts(), rerouted.routes.hosts());
    let allocations = |host: &VirtualHost| -> Vec<*const Route> {
        host.routes().into_iter().map(Arc::as_ptr).collect()
    };
    let untouched = before
        .iter()
        .filter(|(host, routes)| allocations(routes) == allocations(after[*host]));
    assert_eq!(untouched.count(), before.len() - 1);
}

fn put<T: serde::de::DeserializeOwned>(kind: fn(Arc<T>) -> Object, value: Value) -> Change {
    Change::Put(kind(Arc::new(
        serde_json::from_value(value).expect("object"),
    )))
}

#[test]
fn answers_to_challenges_are_made_again_only_when_they_change() {
    let settings = Settings {
        own_namespace: Some("tidegate".to_owned()),
        ..Settings::default()
    };
    let secret = |name: &str, labelled: bool, token: &str, team: &str| {
        let print = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
        let labels = json!({CHALLENGE_ANSWERS_LABEL: labelled.to_string(), "team": team});
        let metadata = json!({"name": name, "namespace": "tidegate", "labels": labels});
        let data = json!({token: format!("{token}.{print}")});
        put::<Secret>(
            Object::Secret,
            json!({"metadata": metadata, "stringData": data}),
        )
    };
    let named = |name: &str| NamespacedName::new("tidegate", name);
    let mut translator = Translator::new(settings.clone());
    let first = translator.apply(
        many().into_iter().chain([secret("x", true, "a", "")]),
        UnixTime(0),
    );
    assert!(first.snapshot.challenges.answer("a").is_some());
    assert!(first.referenced.secrets.contains(&named("x")));

    let same = translator.apply(
        [
            secret("x", true, "a", "other"),
            secret("y", false, "b", ""),
            many_of(7, "/new", "10.0.0.2").remove(0),
        ],
        UnixTime(1),
    );
    let (before, after) = (&first.snapshot, &same.snapshot);
    assert!(Arc::ptr_eq(&before.challenges, &after.challenges));
    assert!(Arc::ptr_eq(&first.referenced, &same.referenced));

    let more = translator.apply([secret("y", true, "b", "")], UnixTime(2));
    assert_eq!(more.snapshot.challenges.entries().len(), 2);
    assert!(more.referenced.secrets.contains(&named("y")));
    assert!(Arc::ptr_eq(&after.routes, &more.snapshot.routes));

    translator.set_settings(settings);
    let again = translator.apply([], UnixTime(3));
    assert_eq!(again.snapshot.challenges, more.snapshot.challenges);

    let gone = ObjectRef::new("Secret", named("x"));
    let less = translator.apply([Change::Remove(gone)], UnixTime(4));
    assert!(less.snapshot.challenges.answer("a").is_none());
    assert!(!less.referenced.secrets.contains(&named("x")));
}
