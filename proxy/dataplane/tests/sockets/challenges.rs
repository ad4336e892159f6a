//! HTTP-01 challenges: answered before anything else, for tokens that are known.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_model::{ChallengeAnswers, Protocol, Snapshot, TlsRedirect};

use crate::support::*;

/// The thumbprint of RFC 7638 section 3.1.
const ANSWER: &str = "Token_1.NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";

/// A route for `a` to the endpoint and a redirect for everything else.
fn routes(backend: &Backend) -> Snapshot {
    let redirected = Rule {
        redirect: TlsRedirect::Always,
        ..rule("", "/", "u")
    };
    snapshot(
        &[rule("a", "/", "u"), redirected],
        &[upstream("u", Protocol::Http, &[backend.address])],
    )
}

fn answering(mut snapshot: Snapshot) -> Snapshot {
    let mut answers = ChallengeAnswers::default();
    answers.insert("Token_1", ANSWER).unwrap();
    snapshot.challenges = Arc::new(answers);
    snapshot
}

fn request(method: &str, host: &str, token: &str) -> String {
    format!("{method} /.well-known/acme-challenge/{token} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

#[test]
fn a_known_token_is_answered_whatever_the_host_and_the_routes() {
    let backend = Backend::saying("app");
    let gate = Gate::start(answering(routes(&backend)));
    let mut client = gate.client();
    for host in ["a", "b", "unknown.example:80", "192.0.2.1"] {
        client.send(&request("GET", host, "Token_1"));
        let answer = client.response();
        assert_eq!((answer.status(), &*answer.text()), (200, ANSWER), "{host}");
        assert_eq!(
            answer.field("content-type").as_deref(),
            Some("application/octet-stream")
        );
    }
    client.send(&request("HEAD", "b", "Token_1"));
    let head = client.response_without_body();
    assert_eq!(head.status(), 200);
    assert_eq!(
        head.field("content-length"),
        Some(ANSWER.len().to_string()),
        "{}",
        head.head
    );
    client.send(&request("GET", "b", "Token_1?x=y"));
    assert_eq!(client.response().text(), ANSWER, "behind a HEAD");
    assert_eq!(backend.opened(), 0);
    let counted = r#"tidegate_requests_total{namespace="",ingress="",service="",code="200"} 6"#;
    eventually("six requests without a route", || {
        gate.metrics().contains(counted)
    });
}

#[test]
fn other_tokens_and_methods_go_on_as_usual() {
    let backend = Backend::saying("app");
    let gate = Gate::start(answering(routes(&backend)));
    for (method, token) in [
        ("GET", "Token_2"),
        ("GET", "token_1"),
        ("GET", "Token_1/"),
        ("GET", ""),
        ("POST", "Token_1"),
    ] {
        let app = gate.ask(&request(method, "a", token));
        assert_eq!(app.text(), "app", "{method} {token}");
        let redirected = gate.ask(&request(method, "b", token));
        assert_eq!(redirected.status(), 308, "{method} {token}");
    }
}

#[test]
fn answers_come_and_go_with_the_snapshot_also_where_nothing_else_is_served() {
    let gate = Gate::start(Snapshot::default());
    let mut client = gate.client();
    let mut status = || {
        client.send(&request("GET", "a", "Token_1"));
        client.response().status()
    };
    // A worker takes a snapshot up a moment after it was published.
    let mut becomes = |wanted| {
        let deadline = Instant::now() + Duration::from_secs(10);
        while status() != wanted {
            assert!(Instant::now() < deadline, "not answered {wanted}");
        }
    };
    becomes(404);
    gate.publish(answering(Snapshot::default()));
    becomes(200);
    gate.publish(Snapshot::default());
    becomes(404);
}

#[test]
fn over_tls_a_challenge_is_a_request_like_any_other() {
    let backend = Backend::saying("app");
    let gate = Gate::start(answering(routes(&backend)));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut client = crate::tls::http2_client(gate.https).await;
        let request = http::Request::get("https://a/.well-known/acme-challenge/Token_1")
            .body(http_body_util::Full::default())
            .unwrap();
        let response = client.send_request(request).await.unwrap();
        assert_ne!(
            response
                .headers()
                .get("content-type")
                .map(|value| value.as_bytes()),
            Some(&b"application/octet-stream"[..])
        );
    });
    assert_eq!(backend.opened(), 1);
}
