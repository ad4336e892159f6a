//! Objects that are wrong cost themselves and nothing else.

use serde_json::{Value, json};

use crate::support::bed::{Bed, with_tidegate};
use crate::support::make::{self, NAMESPACE};

fn ingress(name: &str, annotations: &Value, paths: &[Value]) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": { "name": name, "namespace": NAMESPACE, "annotations": annotations },
        "spec": {
            "ingressClassName": "tidegate",
            "rules": [{ "host": format!("{name}.test"), "http": { "paths": paths } }],
        },
    })
}

fn path(path: &str, service: &str) -> Value {
    json!({
        "path": path,
        "pathType": "Prefix",
        "backend": { "service": { "name": service, "port": { "number": 80 } } },
    })
}

#[test]
fn odd_objects_do_not_keep_their_neighbours_from_being_served() {
    with_tidegate(1, async |bed: Bed| {
        bed.backend("web", 1).await;
        let long = "x".repeat(200 * 1024);
        let paths: Vec<_> = (0..1_000).map(|n| path(&format!("/p{n}"), "web")).collect();
        let folder = tempfile::tempdir().unwrap();
        let objects = [
            ingress("huge", &json!({ "a/b": long }), &[path("/", "web")]),
            ingress("many", &json!({}), &paths),
            ingress(
                "odd",
                &json!({ "tidegate.dev/ssl-redirect": long }),
                &[path("/", "web")],
            ),
            ingress("headless", &json!({}), &[path("/", "no-ports")]),
            json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": { "name": "no-ports", "namespace": NAMESPACE },
                "spec": { "clusterIP": "None", "selector": { "app": "web" } },
            }),
            json!({
                "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
                "metadata": { "name": "odd", "namespace": NAMESPACE },
                "stringData": { "password": "not a certificate" },
            }),
            json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
                "metadata": { "name": "with-parameters" },
                "spec": {
                    "controller": "tidegate.dev/ingress-controller",
                    "parameters": { "apiGroup": "example.com", "kind": "Thing", "name": "x" },
                },
            }),
        ];
        for (number, object) in objects.iter().enumerate() {
            let file = folder.path().join(format!("{number}.json"));
            std::fs::write(&file, object.to_string()).unwrap();
            bed.kubectl(&["create", "-f", file.to_str().unwrap()]);
        }
        bed.create(&make::tls_ingress(
            "wrong-type",
            "wrong-type.test",
            "web",
            "odd",
        ))
        .await;
        bed.create(&make::ingress("good", "good.test", "web")).await;
        bed.everywhere("good.test", 200).await;
        bed.everywhere("huge.test", 200).await;
        bed.everywhere("odd.test", 200).await;
        bed.everywhere("headless.test", 503).await;
        bed.everywhere("many.test", 404).await;
        for n in [0, 500, 999] {
            let answer =
                tidegate::demo::client::get(bed.http()[0], "many.test", &format!("/p{n}")).await;
            assert_eq!(answer.unwrap().status(), 200, "/p{n}");
        }
    });
}
