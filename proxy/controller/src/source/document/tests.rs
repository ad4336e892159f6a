//! Texts to objects, and what is said of those that are none.

use super::*;
use crate::source::fault::{Fallback, Place};
use std::path::Path;
use tidegate_model::Problem;

fn read_all(text: &str) -> (Vec<Object>, Vec<Problem>) {
    let mut objects = Vec::new();
    let mut problems = Vec::new();
    for (at, chunk) in split(text).into_iter().enumerate() {
        let document = parse(chunk.text);
        let line = 1 + text[..chunk.offset].matches('\n').count();
        let place = Place {
            path: Path::new("m.yaml"),
            document: at + 1,
            line,
        };
        let faults = &document.faults;
        problems.extend(
            faults
                .iter()
                .map(|fault| fault.problem(place, Fallback::Nothing)),
        );
        objects.extend(document.objects);
    }
    (objects, problems)
}

fn names(objects: &[Object]) -> Vec<String> {
    objects
        .iter()
        .map(|object| object.reference().to_string())
        .collect()
}

fn only_problem(text: &str) -> Problem {
    let (objects, problems) = read_all(text);
    assert_eq!(names(&objects), Vec::<String>::new());
    let [problem] = &problems[..] else {
        panic!("one problem was expected, not {problems:#?}")
    };
    problem.clone()
}

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n";

fn texts(text: &str) -> Vec<&str> {
    split(text)
        .into_iter()
        .map(|chunk| chunk.text.trim())
        .collect()
}

#[test]
fn a_stream_is_split_at_its_markers() {
    assert_eq!(texts(""), Vec::<&str>::new());
    assert_eq!(texts("---\n---\n# only a comment\n---"), Vec::<&str>::new());
    assert_eq!(
        texts("a: 1\n---\nb: 2\n...\n---\nc: 3"),
        ["a: 1", "b: 2", "c: 3"]
    );
    assert_eq!(
        texts("\u{feff}---\r\na: 1\r\n---\r\nb: 2\r\n"),
        ["a: 1", "b: 2"]
    );
    assert_eq!(
        texts("%YAML 1.2\n--- # first\na: 1\n--- {b: 2}"),
        ["# first\na: 1", "{b: 2}"]
    );
    assert_eq!(
        texts("a: |\n  ---\n  x\nb: ---x\n---y: 1"),
        ["a: |\n  ---\n  x\nb: ---x\n---y: 1"]
    );
    assert_eq!(texts("a: 1\n...\n# trailer\n"), ["a: 1"]);
}

#[test]
fn a_marker_within_a_block_scalar_does_not_end_the_document() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData:\n  script: |\n    ---\n    ...\n---\n";
    let (objects, problems) = read_all(&format!("{text}{SERVICE}"));
    assert_eq!(problems, []);
    assert_eq!(names(&objects), ["Secret default/s", "Service default/web"]);
}

#[test]
fn every_kind_is_read() {
    let text = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop}
spec:
  rules:
  - host: example.com
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: tidegate}
spec: {controller: tidegate.dev/ingress-controller}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{port: 80, targetPort: http}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [127.0.0.1], conditions: {ready: true}}]
ports: [{name: http, port: 8080}]
---
apiVersion: v1
kind: Secret
metadata: {name: cert, namespace: shop}
type: kubernetes.io/tls
data: {tls.crt: aGk=, tls.key: aG8=}
";
    let (objects, problems) = read_all(text);
    assert_eq!(problems, []);
    assert_eq!(
        names(&objects),
        [
            "Ingress shop/web",
            "IngressClass tidegate",
            "Service shop/web",
            "EndpointSlice shop/web-1",
            "Secret shop/cert"
        ]
    );
    let Object::Ingress(ingress) = &objects[0] else {
        panic!("an Ingress")
    };
    let rules = ingress.spec.as_ref().and_then(|spec| spec.rules.as_ref());
    assert_eq!(rules.unwrap()[0].host.as_deref(), Some("example.com"));
}

#[test]
fn json_is_read_alone_in_lists_and_in_a_row() {
    let one = r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}}"#;
    let two = one.replace("\"a\"", "\"b\"");
    let list = format!(r#"{{"apiVersion": "v1", "kind": "List", "items": [{one}, {two}]}}"#);
    assert_eq!(names(&read_all(one).0), ["Service default/a"]);
    assert_eq!(
        names(&read_all(&list).0),
        ["Service default/a", "Service default/b"]
    );
    let row = format!("{one}\n{two}");
    assert_eq!(
        names(&read_all(&row).0),
        ["Service default/a", "Service default/b"]
    );
}

#[test]
fn items_of_a_typed_list_need_no_kind_and_a_bad_item_costs_only_itself() {
    let text = "
apiVersion: networking.k8s.io/v1
kind: IngressList
items:
- metadata: {name: a}
- metadata: {name: B}
- metadata: {name: c}
";
    let (objects, problems) = read_all(text);
    assert_eq!(names(&objects), ["Ingress default/a", "Ingress default/c"]);
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].object.to_string(), "Ingress default/B");
    assert_eq!(problems[0].field, "metadata.name");
}

#[test]
fn other_kinds_are_passed_over() {
    let text = "
{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}}
---
{apiVersion: config.openshift.io/v1, kind: Ingress, metadata: {name: cluster}}
---
{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: web}}
---
{apiVersion: v1, kind: ConfigMapList, items: [{metadata: {name: a}}]}
";
    let (objects, problems) = read_all(text);
    assert_eq!(names(&objects), Vec::<String>::new());
    assert_eq!(problems, []);
}

#[test]
fn syntax_errors_name_file_line_document_and_object() {
    let text = format!(
        "{SERVICE}---\n# the shop\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: shop\nspec:\n  rules: [\n---\n{SERVICE}"
    );
    let (objects, problems) = read_all(&text);
    assert_eq!(objects.len(), 2);
    let [problem] = &problems[..] else {
        panic!("{problems:#?}")
    };
    assert_eq!(problem.level, Level::Error);
    assert_eq!(problem.reason, Reason::InvalidDocument);
    assert_eq!(problem.object.to_string(), "File m.yaml");
    assert_eq!(problem.field, "document 2");
    let expected = "m.yaml line 12 (document 2): the document (it looks like Ingress default/shop) is neither YAML nor JSON: ";
    assert!(problem.message.starts_with(expected), "{}", problem.message);
    assert!(
        problem.message.ends_with("Until then it is not served."),
        "{}",
        problem.message
    );
}

#[test]
fn type_errors_name_the_field() {
    let text = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec: {defaultBackend: {service: {name: web, port: {number: http}}}}
";
    let problem = only_problem(text);
    assert_eq!(problem.object.to_string(), "Ingress default/web");
    assert_eq!(problem.field, "spec.defaultBackend.service.port.number");
    assert!(
        problem.message.starts_with(
            "m.yaml document 1 (from line 2): invalid type: string \"http\", expected a whole number; correct the value."
        ),
        "{}",
        problem.message
    );
}

#[test]
fn a_word_that_yaml_takes_for_true_wants_quotes() {
    let text = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, annotations: {tidegate.dev/ssl-redirect: true}}
";
    let problem = only_problem(text);
    assert!(
        problem.message.contains("put the value in quotes"),
        "{}",
        problem.message
    );
}

#[test]
fn what_stands_in_a_secret_is_not_repeated() {
    let problem =
        only_problem("{apiVersion: v1, kind: Secret, metadata: {name: s}, data: {a: pa$$word}}");
    assert_eq!(problem.object.to_string(), "Secret default/s");
    assert_eq!(problem.field, "data.a");
    assert!(!problem.message.contains("pa$$word"), "{}", problem.message);
    assert!(problem.message.contains("base64"), "{}", problem.message);
}

#[test]
fn string_data_is_written_over_data() {
    let (objects, problems) = read_all(
        "{apiVersion: v1, kind: Secret, metadata: {name: s}, data: {a: eA==, b: eQ==}, stringData: {b: new, c: z}}",
    );
    assert_eq!(problems, []);
    let Object::Secret(secret) = &objects[0] else {
        panic!("a Secret")
    };
    let data = secret.data.as_ref().unwrap();
    let plain: Vec<_> = data
        .iter()
        .map(|(key, value)| (key.as_str(), String::from_utf8_lossy(&value.0)))
        .collect();
    assert_eq!(
        plain,
        [("a", "x".into()), ("b", "new".into()), ("c", "z".into())]
    );
    assert_eq!(secret.string_data, None);
}

#[test]
fn unknown_fields_are_warned_of_and_the_object_is_read() {
    let (objects, problems) = read_all(
        "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  rules:
  - hosst: example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {serviceName: web}}]}
",
    );
    assert_eq!(objects.len(), 1);
    let found: Vec<_> = problems
        .iter()
        .map(|problem| (problem.level, problem.reason, problem.field.as_str()))
        .collect();
    let unknown = (Level::Warning, Reason::UnknownField);
    assert_eq!(
        found,
        [
            (unknown.0, unknown.1, "spec.rules[0].hosst"),
            (
                unknown.0,
                unknown.1,
                "spec.rules[0].http.paths[0].backend.serviceName"
            )
        ]
    );
    assert!(problems[0].message.contains("did you mean 'host'"));
    assert!(problems[1].message.contains("did you mean 'service.name'"));
}

#[test]
fn former_versions_are_refused_with_the_present_one() {
    for (version, kind, present) in [
        ("extensions/v1beta1", "Ingress", "networking.k8s.io/v1"),
        (
            "networking.k8s.io/v1beta1",
            "Ingress",
            "networking.k8s.io/v1",
        ),
        (
            "networking.k8s.io/v1beta1",
            "IngressClass",
            "networking.k8s.io/v1",
        ),
        (
            "discovery.k8s.io/v1beta1",
            "EndpointSlice",
            "discovery.k8s.io/v1",
        ),
    ] {
        let problem = only_problem(&format!(
            "{{apiVersion: {version}, kind: {kind}, metadata: {{name: x}}}}"
        ));
        assert_eq!(problem.reason, Reason::UnsupportedVersion);
        assert_eq!(problem.level, Level::Error);
        assert_eq!(problem.field, "apiVersion");
        assert!(problem.message.contains(version) && problem.message.contains(present));
    }
}

#[test]
fn documents_that_are_no_objects_are_refused() {
    for (text, expected) in [
        ("- a\n- b", "a sequence"),
        ("just text", "a text"),
        ("42", "a single value"),
        ("kind: Service", "no apiVersion"),
        ("apiVersion: v1", "no kind"),
        ("apiVersion: 1\nkind: Service", "apiVersion is 1"),
        (
            "apiVersion: v1\nkind: service\nmetadata: {name: a}",
            "write 'Service'",
        ),
        ("apiVersion: v1\nkind: Service", "no metadata.name"),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a.b}",
            "'a.b'",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: A}",
            "'A'",
        ),
        (
            "apiVersion: v1\nkind: Service\nkind: Service\nmetadata: {name: a}",
            "duplicate",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: [",
            "neither YAML nor JSON",
        ),
    ] {
        let problem = only_problem(text);
        assert_eq!(problem.reason, Reason::InvalidDocument, "{text}");
        assert!(
            problem.message.contains(expected),
            "{text}: {}",
            problem.message
        );
    }
}

#[test]
fn an_alias_bomb_is_refused_and_a_large_secret_is_not() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let before = format!("*a{}, ", level - 1).repeat(10);
        bomb += &format!("a{level}: &a{level} [{before}]\n");
    }
    assert_eq!(only_problem(&bomb).reason, Reason::InvalidDocument);

    let base64 = "aGkh".repeat(256 * 1024);
    let text =
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: big}}\ndata:\n  a: {base64}\n");
    let (objects, problems) = read_all(&text);
    assert_eq!((objects.len(), problems.len()), (1, 0));
}

#[test]
fn anchors_and_merge_keys_are_understood() {
    let text = "
apiVersion: v1
kind: Service
metadata: {name: web, labels: &labels {app: web}}
spec: {selector: {<<: *labels}}
";
    let (objects, problems) = read_all(text);
    assert_eq!(problems, []);
    let Object::Service(service) = &objects[0] else {
        panic!("a Service")
    };
    let selector = service
        .spec
        .as_ref()
        .and_then(|spec| spec.selector.as_ref());
    assert_eq!(selector.unwrap()["app"], "web");
}

proptest::proptest! {
    #[test]
    fn no_text_is_too_strange(text in "[-{}\\[\\]:&*!|>%@`'\"#a-z0-9 \n\t.,?~<é]{0,200}") {
        for chunk in split(&text) {
            let document = parse(chunk.text);
            proptest::prop_assert!(document.objects.is_empty());
        }
    }
}

#[test]
fn a_namespace_is_an_object_of_the_whole_cluster() {
    let text = "{apiVersion: v1, kind: Namespace, metadata: {name: shop, namespace: x, labels: {a: b}}, \
        spec: {finalizers: [kubernetes]}, status: {phase: Active}}";
    let document = parse(text);
    assert!(document.faults.is_empty(), "{:?}", document.faults);
    let [object] = document.objects.as_slice() else {
        panic!("{:?}", document.objects)
    };
    let name = NamespacedName::new("", "shop");
    assert_eq!(object.reference(), ObjectRef::new("Namespace", name));
    let problem = only_problem("{apiVersion: v1, kind: Namespace, metadata: {name: a.b}}");
    assert_eq!(problem.field, "metadata.name");
}
