//! The admin pages, from outside.

use std::time::{Duration, Instant};

use tidegate::demo::backend::Backend;
use tidegate::demo::client::{self, Answer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Instance, Manifests, ingress, service};

async fn served() -> (Backend, Manifests, Instance) {
    let backend = Backend::start("web").await.unwrap();
    let manifests = Manifests::new();
    manifests.put("a.yaml", &ingress("web", "web.example.com", "web"));
    manifests.put("b.yaml", &service("web", backend.address()));
    manifests.put(
        "c.yaml",
        &ingress("broken", "broken.example.com", "missing"),
    );
    manifests.put("d.yaml", &secret_and_its_ingress());
    let instance = Instance::serve(manifests.path(), &[]).await;
    (backend, manifests, instance)
}

/// An Ingress with TLS, and its Secret.
fn secret_and_its_ingress() -> String {
    let made = rcgen::generate_simple_self_signed(["tls.example.com".to_owned()]).unwrap();
    let indented = |pem: String| {
        pem.lines()
            .map(|line| format!("    {line}\n"))
            .collect::<String>()
    };
    format!(
        "{}  tls: [{{hosts: [tls.example.com], secretName: tls}}]
---
apiVersion: v1
kind: Secret
metadata: {{name: tls}}
type: kubernetes.io/tls
stringData:
  tls.crt: |
{}  tls.key: |
{}",
        ingress("tls", "tls.example.com", "web"),
        indented(made.cert.pem()),
        indented(made.signing_key.serialize_pem()),
    )
}

async fn page(instance: &Instance, path: &str) -> Answer {
    client::get(instance.admin, "localhost", path)
        .await
        .unwrap()
}

#[tokio::test]
async fn pages_tell_what_is_in_force() {
    let (_backend, _manifests, instance) = served().await;
    assert_eq!(page(&instance, "/livez").await.status(), 200);
    let ready = page(&instance, "/readyz?verbose").await.text();
    assert!(ready.ends_with("\nready\n"), "{ready}");
    assert!(page(&instance, "/").await.text().contains("/metrics"));

    let snapshot: serde_json::Value =
        serde_json::from_slice(&page(&instance, "/snapshot").await.body).unwrap();
    assert!(snapshot["generation"].as_u64() >= Some(1));
    assert_eq!(snapshot["routes"].as_array().unwrap().len(), 3);
    assert_eq!(snapshot["certificates"][0]["secret"], "default/tls");
    assert!(!snapshot.to_string().contains("PRIVATE"));

    let problems: serde_json::Value =
        serde_json::from_slice(&page(&instance, "/problems").await.body).unwrap();
    assert_eq!(problems["problems"][0]["reason"], "ServiceNotFound");
    assert_eq!(problems["problems"][0]["object"], "Ingress default/broken");
}

#[tokio::test]
async fn metrics_of_both_planes_are_on_one_page() {
    let (_backend, _manifests, instance) = served().await;
    client::get(instance.http, "web.example.com", "/")
        .await
        .unwrap();
    let counted = async || {
        let text = page(&instance, "/metrics").await.text();
        text.lines()
            .any(|line| line.starts_with("tidegate_requests_total{") && line.ends_with(" 1"))
    };
    instance.eventually("the request is counted", counted).await;
    let metrics = page(&instance, "/metrics").await;
    assert!(
        metrics
            .header("content-type")
            .starts_with("application/openmetrics-text")
    );
    let text = metrics.text();
    assert!(text.ends_with("# EOF\n"));
    for part in [
        "tidegate_build_info{version=\"",
        "tidegate_snapshot_generation 1",
        "tidegate_snapshot_age_seconds ",
        "tidegate_routes 3",
        "tidegate_upstreams 1",
        "tidegate_problems{level=\"error\",reason=\"ServiceNotFound\"} 1",
        "tidegate_certificate_expiry_timestamp_seconds{secret=\"default/tls\",host=\"tls.example.com\"} ",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(text.contains("le=\"+Inf\""), "{text}");
    // Each family once: Prometheus refuses a page that repeats one.
    let mut families: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("# TYPE"))
        .collect();
    let all = families.len();
    families.sort_unstable();
    families.dedup();
    assert_eq!(families.len(), all, "{text}");
}

#[tokio::test]
async fn other_methods_and_pages_are_refused() {
    let (_backend, _manifests, instance) = served().await;
    let send = async |method, path| {
        let request = client::request(method, "localhost", path).unwrap();
        client::send(instance.admin, request).await.unwrap()
    };
    let refused = send("POST", "/livez").await;
    assert_eq!(refused.status(), 405);
    assert_eq!(refused.header("allow"), "GET, HEAD");
    assert_eq!(send("DELETE", "/snapshot").await.status(), 405);
    assert_eq!(send("GET", "/nothing").await.status(), 404);
    assert_eq!(send("GET", "/livez/").await.status(), 404);
    let head = send("HEAD", "/problems").await;
    assert_eq!(head.status(), 200);
    assert!(head.body.is_empty());
    assert_ne!(head.header("content-length"), "0");
}

#[tokio::test]
async fn hostile_clients_do_not_keep_others_out() {
    let (_backend, _manifests, instance) = served().await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(instance.admin).await.unwrap());
    }
    for garbage in ["\0\0\0\0\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET\r\n\r\n"] {
        let mut stream = TcpStream::connect(instance.admin).await.unwrap();
        _ = stream.write_all(garbage.as_bytes()).await;
    }
    let start = Instant::now();
    // Silent ones are cut after their time, and then there is room again.
    instance.ready().await;
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
    drop(silent);

    let mut stream = TcpStream::connect(instance.admin).await.unwrap();
    let endless = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(200_000));
    _ = stream.write_all(endless.as_bytes()).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut answer));
    assert!(read.await.is_ok(), "an endless head is held open");
    assert_eq!(page(&instance, "/livez").await.status(), 200);
}
