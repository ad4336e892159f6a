//! Objects that the API server of today would refuse, or that are huge: each costs only itself.

use tidegate_model::Reason;

use super::*;

const MIB: usize = 1 << 20;
const NEIGHBOUR: &str = "web-7.example.com";

/// Translates hostile objects beside a good Ingress, which must not notice, and takes them away again, which must leave
/// nothing behind.
fn beside_a_neighbour(hostile: Vec<Change>) -> Translation {
    let neighbour = || many_of(7, "/", "10.0.0.1");
    let alone = Translator::new(Settings::default()).apply(neighbour(), UnixTime(0));
    let removals: Vec<_> = hostile
        .iter()
        .filter_map(|change| match change {
            Change::Put(object) => Some(Change::Remove(object.reference())),
            _ => None,
        })
        .collect();
    let mut translator = Translator::new(Settings::default());
    let both = hostile.into_iter().chain(neighbour());
    let translation = translator.apply(both, UnixTime(0));
    assert_eq!(endpoints_at(&translation, NEIGHBOUR, "/"), 1);
    let neighbour = NamespacedName::new("default", "web-7");
    assert_eq!(translation.statuses[&neighbour].routes, 1);
    let mut by_object: BTreeMap<_, usize> = BTreeMap::new();
    for problem in &translation.problems {
        assert!(problem.object.name != neighbour, "{problem}");
        let text = problem.to_string();
        assert!(text.len() < 2000, "{} bytes", text.len());
        assert!(!text.contains(char::is_control), "{text:?}");
        *by_object.entry(&problem.object).or_default() += 1;
    }
    assert!(
        by_object.values().all(|count| *count <= 101),
        "{by_object:?}"
    );
    let left = translator.apply(removals, UnixTime(0));
    assert_eq!(seen(&left), seen(&alone));
    translation
}

/// How many endpoints a request would find.
fn endpoints_at(translation: &Translation, host: &str, path: &str) -> usize {
    let snapshot = &translation.snapshot;
    match snapshot.routes.find(host, path).route.map(|it| &it.target) {
        Some(tidegate_model::Target::Upstream(id)) => snapshot.upstreams[id].endpoints.len(),
        _ => 0,
    }
}

fn reasons(translation: &Translation) -> BTreeSet<Reason> {
    let problems = translation.problems.iter();
    problems.map(|problem| problem.reason).collect()
}

fn to(service: &str) -> Value {
    json!({"service": {"name": service, "port": {"number": 80}}})
}

fn path(path: &str) -> Value {
    json!({"path": path, "pathType": "Prefix", "backend": to("own")})
}

fn bad_ingress(spec: Value) -> Change {
    let mut spec = spec;
    spec["ingressClassName"] = json!("tidegate");
    put(
        Object::Ingress,
        json!({"metadata": {"name": "bad"}, "spec": spec}),
    )
}

/// The Service `own` and a slice with one endpoint.
fn own_service() -> [Change; 2] {
    let service = json!({"metadata": {"name": "own"}, "spec": {"ports": [{"port": 80}]}});
    let endpoints = json!([{"addresses": ["10.0.0.2"]}]);
    [
        put(Object::Service, service),
        own_slice("own", json!("IPv4"), json!([{"port": 80}]), endpoints),
    ]
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the literals of the callers read better"
)]
fn own_slice(name: &str, family: Value, ports: Value, endpoints: Value) -> Change {
    let labels = json!({"kubernetes.io/service-name": "own"});
    put(
        Object::EndpointSlice,
        json!({"metadata": {"name": name, "labels": labels}, "addressType": family,
            "ports": ports, "endpoints": endpoints}),
    )
}

#[test]
fn annotations_of_a_mebibyte_are_not_repeated_in_messages() {
    let long = "x\n".repeat(MIB / 2);
    let ingress = json!({
        "metadata": {"name": "bad", "annotations": {
            "tidegate.dev/ssl-redirect": long, "tidegate.dev/service-upstream": long,
            format!("tidegate.dev/{long}"): "", "other": long,
        }},
        "spec": {"ingressClassName": "tidegate", "rules": [{"host": "bad.example.com", "http": {"paths": [path("/")]}}]}
    });
    let near = json!({"metadata": {"name": "near", "annotations": {
        "kubernetes.io/ingress.class": format!("Tidegate{}", " ".repeat(MIB))
    }}});
    let service = json!({
        "metadata": {"name": "own", "annotations": {"tidegate.dev/service-upstream": long}},
        "spec": {"ports": [{"port": 80, "appProtocol": long}]}
    });
    let [_, slice] = own_service();
    let translation = beside_a_neighbour(vec![
        put(Object::Ingress, ingress),
        put(Object::Ingress, near),
        put(Object::Service, service),
        slice,
    ]);
    assert_eq!(endpoints_at(&translation, "bad.example.com", "/"), 1);
    assert_eq!(
        reasons(&translation),
        BTreeSet::from([
            Reason::ClassMismatch,
            Reason::InvalidAnnotation,
            Reason::UnsupportedProtocol
        ])
    );
}

#[test]
fn thousands_of_paths_are_served_and_their_conflicts_counted() {
    let paths: Vec<_> = (0..5000)
        .map(|number| path(&format!("/{number}")))
        .collect();
    let paths = [paths.clone(), paths].concat();
    let long = path(&format!("/{}", "a/".repeat(MIB / 2)));
    let rules = json!([
        {"host": "bad.example.com", "http": {"paths": paths}},
        {"host": "bad.example.com", "http": {"paths": [long.clone(), long]}},
    ]);
    let mut objects = vec![bad_ingress(json!({"rules": rules}))];
    objects.extend(own_service());
    let translation = beside_a_neighbour(objects);
    assert_eq!(endpoints_at(&translation, "bad.example.com", "/4999/x"), 1);
    let bad = NamespacedName::new("default", "bad");
    assert_eq!(translation.statuses[&bad].routes, 5001);
    let [rest, first, ..] = translation.problems.as_slice() else {
        panic!("{:?}", translation.problems)
    };
    assert_eq!(rest.reason, Reason::TooManyProblems);
    assert!(rest.message.starts_with("4901 more"), "{rest}");
    assert_eq!(first.field, "spec.rules[0].http.paths[5000]");
}

#[test]
fn thousands_of_hosts_each_with_tls_are_served() {
    let host = |number: usize| match number % 2 {
        0 => format!("a.h{number}.example.com"),
        _ => format!("*.h{}.example.com", number - 1),
    };
    let hosts: Vec<_> = (0..10_000).map(host).collect();
    let rules: Vec<_> = hosts
        .iter()
        .map(|host| json!({"host": host, "http": {"paths": [path("/")]}}))
        .collect();
    let invalid = (0..1000).map(|number| json!({"host": format!("_{number}")}));
    let rules = [rules, invalid.collect()].concat();
    let mut objects = vec![bad_ingress(
        json!({"rules": rules, "tls": [{"hosts": hosts}]}),
    )];
    objects.extend(own_service());
    let translation = beside_a_neighbour(objects);
    let bad = NamespacedName::new("default", "bad");
    assert_eq!(translation.statuses[&bad].routes, 10_000);
    for host in ["a.h0.example.com", "b.h9998.example.com"] {
        assert_eq!(endpoints_at(&translation, host, "/"), 1);
        assert!(translation.snapshot.routes.find(host, "/").tls_host);
    }
    assert!(reasons(&translation).contains(&Reason::TooManyProblems));
}

#[test]
fn tls_entries_that_repeat_or_multiply_are_bounded() {
    let secrets: Vec<_> = (0..100)
        .map(|number| {
            let key = rcgen::KeyPair::generate().expect("key");
            let names = ["a.bad.example".to_owned()];
            let params = rcgen::CertificateParams::new(names).expect("name");
            let certificate = params.self_signed(&key).expect("certificate");
            let data = json!({"tls.crt": certificate.pem(), "tls.key": key.serialize_pem()});
            let metadata = json!({"name": format!("cert-{number}")});
            put::<Secret>(
                Object::Secret,
                json!({"metadata": metadata, "type": "Opaque", "stringData": data}),
            )
        })
        .collect();
    let named = |number: usize| format!("cert-{}", number % 100);
    let without_hosts = (0..5000).map(|number| json!({"secretName": named(number)}));
    let repeated = vec!["a.bad.example"; 100];
    let listing = (0..100).map(|number| json!({"secretName": named(number), "hosts": repeated}));
    let tls: Vec<_> = without_hosts.chain(listing).collect();
    let rules = json!([{"host": "a.bad.example", "http": {"paths": [path("/")]}}]);
    let mut objects = vec![bad_ingress(json!({"rules": rules, "tls": tls}))];
    objects.extend(own_service());
    objects.extend(secrets);
    let translation = beside_a_neighbour(objects.clone());
    let certificates = &translation.snapshot.certificates;
    assert_eq!(certificates.select(Some("a.bad.example")).len(), 1);

    let mut translator = Translator::new(Settings::default());
    translator.apply(objects, UnixTime(0));
    let derived = &translator.ingresses[&NamespacedName::new("default", "bad")];
    let claims: Vec<_> = derived.tls.values().map(Vec::len).collect();
    assert_eq!(claims, [32]);
}

#[test]
fn services_without_ports_or_with_impossible_ones_answer_503() {
    let services = [
        json!({"metadata": {"name": "own"}}),
        json!({"metadata": {"name": "own"}, "spec": {}}),
        json!({"metadata": {"name": "own"}, "spec": {"ports": []}}),
        json!({"metadata": {"name": "own"}, "spec": {"ports": [{"port": -80}, {"port": 0}, {"port": i32::MAX}]}}),
        json!({"metadata": {"name": "own"}, "spec": {"type": "?", "ports": [{"port": 65_616, "name": "x".repeat(MIB)}]}}),
    ];
    for service in services {
        let rules = json!([{"host": "bad.example.com", "http": {"paths": [path("/")]}}]);
        let [_, slice] = own_service();
        let translation = beside_a_neighbour(vec![
            bad_ingress(json!({"rules": rules})),
            put(Object::Service, service.clone()),
            slice,
        ]);
        assert_eq!(
            reasons(&translation),
            BTreeSet::from([Reason::PortNotFound]),
            "{}",
            service["spec"]["type"]
        );
    }
}

#[test]
fn ports_of_backends_that_are_none_answer_503() {
    for port in [
        json!({"number": -1}),
        json!({"number": 65_616}),
        json!({"number": i32::MIN}),
        json!({"name": ""}),
        json!({"name": "p".repeat(MIB)}),
        json!({"name": "p".repeat(MIB), "number": 80}),
        Value::Null,
    ] {
        let backend = json!({"service": {"name": "own", "port": port}});
        let mut objects = vec![bad_ingress(json!({"defaultBackend": backend}))];
        objects.extend(own_service());
        let translation = beside_a_neighbour(objects);
        let bad = NamespacedName::new("default", "bad");
        assert_eq!(translation.statuses[&bad].routes, 1, "a 503");
        assert_eq!(
            reasons(&translation),
            BTreeSet::from([Reason::InvalidBackend])
        );
    }
}

#[test]
fn slices_give_what_is_usable_in_them() {
    let endpoint = |number: usize| json!({"addresses": [format!("10.1.{}.{}", number / 250, number % 250 + 1)]});
    let many: Vec<_> = (0..10_000).map(endpoint).collect();
    let bad = (0..10_000)
        .map(|number| json!({"addresses": [format!("10.0.0.{number}.x"), "y".repeat(1000)]}));
    let ports = || json!([{"port": 80}]);
    let one = || json!([{"addresses": ["10.9.0.1"]}]);
    let [service, _] = own_service();
    let rules = json!([{"host": "bad.example.com", "http": {"paths": [path("/")]}}]);
    let translation = beside_a_neighbour(vec![
        bad_ingress(json!({"rules": rules})),
        service,
        own_slice("many", json!("IPv4"), ports(), json!(many)),
        own_slice(
            "bad",
            json!("IPv4"),
            ports(),
            json!(bad.collect::<Vec<_>>()),
        ),
        own_slice(
            "fqdn",
            json!("FQDN"),
            ports(),
            json!([{"addresses": ["a.example"]}]),
        ),
        own_slice("unknown", json!("I".repeat(MIB)), ports(), one()),
        own_slice("empty", json!(""), ports(), json!([])),
        own_slice("no-number", json!("IPv4"), json!([{"port": null}]), one()),
        own_slice("negative", json!("IPv4"), json!([{"port": -80}]), one()),
        own_slice("huge", json!("IPv4"), json!([{"port": i32::MAX}]), one()),
        own_slice("no-ports", json!("IPv4"), Value::Null, one()),
        own_slice("no-endpoints", json!("IPv4"), ports(), Value::Null),
        own_slice(
            "no-addresses",
            json!("IPv4"),
            ports(),
            json!([{"addresses": []}]),
        ),
    ]);
    assert_eq!(endpoints_at(&translation, "bad.example.com", "/"), 10_000);
    assert_eq!(translation.problems.len(), 4);
}

#[test]
fn names_that_no_object_can_have_are_not_asked_for() {
    let hostile_names = [
        "../../configmaps/x",
        "a,b!=c",
        "Upper",
        "a?b",
        "-",
        ".",
        "\n",
        "é",
    ];
    let long = "x".repeat(MIB);
    for name in hostile_names.into_iter().chain([long.as_str()]) {
        let rules = json!([{"host": "bad.example.com", "http": {"paths": [
            {"path": "/", "pathType": "Prefix", "backend": to(name)},
        ]}}]);
        let tls = json!([{"hosts": ["bad.example.com"], "secretName": name}]);
        let translation =
            beside_a_neighbour(vec![bad_ingress(json!({"rules": rules, "tls": tls}))]);
        assert_eq!(
            reasons(&translation),
            BTreeSet::from([Reason::InvalidBackend, Reason::InvalidField])
        );
        assert!(translation.referenced.secrets.is_empty());
        assert_eq!(translation.referenced.services.len(), 1, "the neighbour's");
    }
}

#[test]
fn empty_texts_are_told_of_and_serve_nothing() {
    let path = json!({"path": "", "pathType": "", "backend": {"service": {"name": "", "port": {"name": ""}}}});
    let resource = json!({"path": "/", "pathType": "Exact", "backend": {"resource": {"kind": "", "name": ""}}});
    let spec = json!({
        "defaultBackend": {"service": {"name": ""}},
        "rules": [{"host": "", "http": {"paths": [path, resource]}}, {"host": ""}, {}],
        "tls": [{"hosts": ["", ""], "secretName": ""}, {"hosts": [], "secretName": ""}, {}],
    });
    let metadata =
        json!({"name": "", "namespace": "", "labels": {"": ""}, "annotations": {"": ""}});
    let [service, _] = own_service();
    let translation = beside_a_neighbour(vec![
        bad_ingress(spec.clone()),
        put(
            Object::Ingress,
            json!({"metadata": metadata, "spec": {"ingressClassName": ""}}),
        ),
        put(
            Object::Service,
            json!({"metadata": metadata, "spec": {"type": "", "externalName": "", "ports": [{"port": 80, "name": "", "protocol": "", "appProtocol": ""}]}}),
        ),
        put(
            Object::Secret,
            json!({"metadata": metadata, "type": "", "data": {"": ""}}),
        ),
        put(
            Object::IngressClass,
            json!({"metadata": metadata, "spec": {"controller": "", "parameters": {"kind": "", "name": ""}}}),
        ),
        put(Object::Namespace, json!({"metadata": metadata})),
        service,
        own_slice(
            "",
            json!(""),
            json!([{"name": ""}]),
            json!([{"addresses": [""]}]),
        ),
    ]);
    assert_eq!(
        reasons(&translation),
        BTreeSet::from([
            Reason::InvalidBackend,
            Reason::InvalidField,
            Reason::InvalidHost,
            Reason::ResourceBackend
        ])
    );
}

#[test]
fn an_object_from_the_future_is_the_youngest() {
    let rules = json!([{"host": NEIGHBOUR, "http": {"paths": [path("/")]}}]);
    let spec = json!({"ingressClassName": "tidegate", "rules": rules});
    let mut neighbour = many_of(7, "/", "10.0.0.1");
    let Change::Put(Object::Ingress(known)) = &mut neighbour[0] else {
        unreachable!("an Ingress is put first")
    };
    let created = serde_json::from_value(json!("2026-01-01T00:00:00Z"));
    Arc::make_mut(known).metadata.creation_timestamp = created.expect("time");
    let future = json!({"metadata": {"name": "a", "creationTimestamp": "9998-12-31T23:59:59Z"}, "spec": spec});
    neighbour.push(put(Object::Ingress, future));
    neighbour.extend(own_service());
    let translation = Translator::new(Settings::default()).apply(neighbour, UnixTime(0));
    let route = translation.snapshot.routes.find(NEIGHBOUR, "/").route;
    let owner = route.and_then(|route| route.labels.ingress.clone());
    assert_eq!(owner, Some(NamespacedName::new("default", "web-7")));
    let [problem] = translation.problems.as_slice() else {
        panic!("{:?}", translation.problems)
    };
    assert_eq!(problem.reason, Reason::RouteConflict);
}

#[test]
fn a_namespace_that_changes_touches_only_its_ingresses() {
    let settings = Settings {
        namespace_selector: "exposed".parse().expect("selector"),
        ..Settings::default()
    };
    let namespace = |name: &str, labels: Value| {
        put(
            Object::Namespace,
            json!({"metadata": {"name": name, "labels": labels}}),
        )
    };
    let mut translator = Translator::new(settings);
    let exposed = || json!({"exposed": ""});
    let mut objects = many();
    objects.extend([
        namespace("default", exposed()),
        namespace("other", Value::Null),
    ]);
    let metadata = json!({"name": "a", "namespace": "other"});
    let rules = json!([{"host": "a.example.com", "http": {"paths": [path("/")]}}]);
    let spec = json!({"ingressClassName": "tidegate", "rules": rules});
    objects.push(put(
        Object::Ingress,
        json!({"metadata": metadata, "spec": spec}),
    ));
    let before = translator.apply(objects, UnixTime(0));
    assert_eq!(before.statuses.len(), 100);

    let noted =
        json!({"metadata": {"name": "default", "labels": exposed(), "annotations": {"a": "b"}}});
    let same = translator.apply([put(Object::Namespace, noted)], UnixTime(0));
    assert!(Arc::ptr_eq(&before.snapshot.routes, &same.snapshot.routes));

    let mut dirty = Dirty::default();
    let change = namespace("other", exposed());
    translator.objects.apply(change, &mut dirty);
    let touched = translator.touched_ingresses(&dirty);
    assert_eq!(touched, BTreeSet::from([NamespacedName::new("other", "a")]));
    let after = translator.apply([namespace("other", Value::Null)], UnixTime(0));
    assert_eq!(after.statuses.len(), 100);
    let after = translator.apply([namespace("other", exposed())], UnixTime(0));
    assert_eq!(after.statuses.len(), 101);
    let gone = ObjectRef::new("Namespace", NamespacedName::new("", "default"));
    let after = translator.apply([Change::Remove(gone)], UnixTime(0));
    assert_eq!(after.statuses.len(), 1);
    assert!(reasons(&after).contains(&Reason::NamespaceNotFound));
}

#[test]
fn an_ingress_that_asks_for_certificates_with_very_many_names() {
    let rules: Vec<_> = (0..2000)
        .map(|number| json!({"host": format!("h{number}.example.org"), "http": {"paths": [path("/")]}}))
        .collect();
    let hosts: Vec<_> = (0..101)
        .map(|number| format!("h{number}.example.org"))
        .collect();
    let annotations =
        json!({"tidegate.dev/certificate": "acme", "tidegate.dev/certificate-hosts": "rules"});
    let asking = |name: &str, tls: Value| {
        let spec = json!({"ingressClassName": "tidegate", "rules": rules, "tls": tls});
        let metadata = json!({"name": name, "annotations": annotations});
        put(Object::Ingress, json!({"metadata": metadata, "spec": spec}))
    };
    let without_hosts = vec![json!({"secretName": "bad"}); 40];
    let with_hosts = json!([{"hosts": hosts}, {"hosts": ["h0.example.org"]}]);
    let mut changes = vec![
        asking("bad", json!(without_hosts)),
        asking("worse", with_hosts),
    ];
    changes.extend(own_service());
    let translation = beside_a_neighbour(changes);
    assert!(reasons(&translation).contains(&Reason::InvalidField));
    let wishes = &translation.issuance.wishes;
    assert!(wishes.iter().all(|wish| wish.names.len() == 1));
    assert_eq!(
        wishes.len(),
        1 + 2000 - 101,
        "one of an entry, the others of rules"
    );
}
