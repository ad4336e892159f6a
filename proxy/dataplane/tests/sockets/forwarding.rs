//! Which endpoint a request reaches, and what it looks like there.

use std::net::TcpListener;
use std::sync::Arc;

use tidegate_model::{Policy, Protocol, RedirectPolicy, TlsRedirect};

use crate::support::*;

#[test]
fn host_and_path_choose_the_backend() {
    let (a, b) = (Backend::saying("a"), Backend::saying("b"));
    let gate = Gate::start(snapshot(
        &[rule("a.example", "/", "a"), rule("*.example", "/x", "b")],
        &[
            upstream("a", Protocol::Http, &[a.address]),
            upstream("b", Protocol::Http, &[b.address]),
        ],
    ));
    let get =
        |host: &str, path: &str| gate.ask(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    assert_eq!(get("a.example", "/anything").text(), "a");
    assert_eq!(get("A.EXAMPLE:8080", "/").text(), "a");
    assert_eq!(get("c.example", "/x/y?z").text(), "b");
    assert_eq!(get("c.example", "/xy").status(), 404);
    assert_eq!(get("example", "/").status(), 404);
}

#[test]
fn one_connection_carries_many_requests_on_either_side() {
    let backend = Backend::saying("hello");
    let gate = Gate::start(everything_to(backend.address));
    let mut client = gate.client();
    for _ in 0..20 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().text(), "hello");
    }
    assert_eq!(backend.opened(), 1);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::http(|head, _| ok(head.split(' ').nth(1).unwrap()));
    let gate = Gate::start(everything_to(backend.address));
    let mut client = gate.client();
    client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n");
    let answers: Vec<_> = (0..3).map(|_| client.response().text()).collect();
    assert_eq!(answers, ["/1", "/2", "/3"]);
}

#[test]
fn the_endpoint_learns_who_the_client_is_and_nothing_that_it_forged() {
    let backend = Backend::saying("x");
    let gate = Gate::start(everything_to(backend.address));
    gate.ask(concat!(
        "GET /p?q=1 HTTP/1.1\r\nHost: a.example:1\r\nX-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n",
        "X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nForwarded: for=6.6.6.6\r\n",
        "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Authorization: x\r\nX-Kept: yes\r\n\r\n"
    ));
    let head = backend.last_head();
    assert!(head.starts_with("GET /p?q=1 HTTP/1.1\r\n"), "{head}");
    let port = gate.http.port().to_string();
    let expected = [
        ("host", Some("a.example:1")),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-real-ip", Some("127.0.0.1")),
        ("x-forwarded-proto", Some("http")),
        ("x-forwarded-host", Some("a.example:1")),
        ("x-forwarded-port", Some(port.as_str())),
        ("x-kept", Some("yes")),
        ("forwarded", None),
        ("connection", None),
        ("x-hop", None),
        ("keep-alive", None),
        ("proxy-authorization", None),
    ];
    for (name, value) in expected {
        assert_eq!(field(&head, name).as_deref(), value, "{name} in {head}");
    }
}

#[test]
fn a_trusted_proxy_is_believed_and_added_to_the_chain() {
    let backend = Backend::saying("x");
    let mut snapshot = everything_to(backend.address);
    snapshot.policy = Arc::new(Policy {
        trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
        ..Policy::default()
    });
    let gate = Gate::start(snapshot);
    gate.ask(concat!(
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.1.1.1, 10.2.2.2\r\nX-Forwarded-Proto: https\r\n",
        "X-Forwarded-Host: public.example\r\n\r\n"
    ));
    let head = backend.last_head();
    assert_eq!(
        field(&head, "x-forwarded-for").as_deref(),
        Some("10.1.1.1, 10.2.2.2, 127.0.0.1")
    );
    assert_eq!(field(&head, "x-real-ip").as_deref(), Some("10.1.1.1"));
    assert_eq!(field(&head, "x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(
        field(&head, "x-forwarded-host").as_deref(),
        Some("public.example")
    );
}

#[test]
fn the_absolute_form_is_the_authority() {
    let backend = Backend::saying("x");
    let gate = Gate::start(snapshot(
        &[rule("a.example", "/", "u")],
        &[upstream("u", Protocol::Http, &[backend.address])],
    ));
    let response = gate.ask("GET http://a.example/p HTTP/1.1\r\nHost: other\r\n\r\n");
    assert_eq!(response.status(), 200);
    let head = backend.last_head();
    assert!(head.starts_with("GET /p HTTP/1.1"), "{head}");
    assert_eq!(field(&head, "host").as_deref(), Some("a.example"));
}

#[test]
fn plain_text_is_redirected_with_host_path_and_query() {
    let mut snapshot = snapshot(
        &[Rule {
            redirect: TlsRedirect::Always,
            ..rule("", "/", "u")
        }],
        &[],
    );
    let gate = Gate::start(snapshot.clone());
    let response = gate.ask("GET /p?q=1 HTTP/1.1\r\nHost: a.example:8080\r\n\r\n");
    assert_eq!(response.status(), 308);
    assert_eq!(
        response.field("location").as_deref(),
        Some("https://a.example/p?q=1")
    );
    let redirect = RedirectPolicy {
        status: 302,
        port: 8443,
        ..RedirectPolicy::default()
    };
    snapshot.policy = Arc::new(Policy {
        redirect,
        ..Policy::default()
    });
    gate.publish(snapshot);
    eventually("the new policy is in force", || {
        let response = gate.ask("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
        response.status() == 302
            && response.field("location").as_deref() == Some("https://a.example:8443/")
    });
}

#[test]
fn date_and_server_are_added_only_where_the_endpoint_sent_none() {
    let (silent, telling) = (
        Backend::saying("x"),
        Backend::http(|_, _| {
            "HTTP/1.1 200 OK\r\nServer: mine\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\ncontent-length: 0\r\n\r\n".to_owned()
        }),
    );
    let gate = Gate::start(snapshot(
        &[rule("", "/s", "s"), rule("", "/t", "t")],
        &[
            upstream("s", Protocol::Http, &[silent.address]),
            upstream("t", Protocol::Http, &[telling.address]),
        ],
    ));
    let response = gate.ask("GET /s HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(response.field("server").as_deref(), Some("tidegate"));
    assert!(response.field("date").is_some());
    let response = gate.ask("GET /t HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(response.field("server").as_deref(), Some("mine"));
    assert_eq!(
        response.field("date").as_deref(),
        Some("Thu, 01 Jan 1970 00:00:00 GMT")
    );
}

#[test]
fn another_endpoint_is_tried_when_one_refuses() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let alive = Backend::saying("alive");
    let gate = Gate::start(snapshot(
        &[rule("", "/", "u")],
        &[upstream("u", Protocol::Http, &[closed, alive.address])],
    ));
    for _ in 0..20 {
        assert_eq!(
            gate.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").text(),
            "alive"
        );
    }
}

#[test]
fn a_snapshot_leaves_connections_alone() {
    let (old, new) = (Backend::saying("old"), Backend::saying("new"));
    let gate = Gate::start(everything_to(old.address));
    let mut client = gate.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().text(), "old");
    gate.publish(everything_to(new.address));
    let limit = std::time::Instant::now() + PATIENCE;
    loop {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        if client.response().text() == "new" {
            break;
        }
        assert!(
            std::time::Instant::now() < limit,
            "the same connection never saw the new snapshot"
        );
    }
}

#[test]
fn h2c_endpoints_get_http2() {
    // The client preface of RFC 9113 section 3.4 is what tells HTTP/2 with prior knowledge.
    use std::io::Read;
    let (sender, preface) = std::sync::mpsc::channel();
    let backend = Backend::raw(move |mut stream, _| {
        let mut start = [0; 24];
        let _ = stream.read_exact(&mut start);
        let _ = sender.send(start);
    });
    let gate = Gate::start(snapshot(
        &[rule("", "/", "u")],
        &[upstream("u", Protocol::H2c, &[backend.address])],
    ));
    assert_eq!(gate.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 502);
    assert_eq!(
        &preface.recv_timeout(PATIENCE).unwrap(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    );
}

#[test]
fn requests_are_counted_by_ingress_service_and_code() {
    let backend = Backend::saying("x");
    let gate = Gate::start(snapshot(
        &[rule("", "/a", "default/web:80")],
        &[upstream(
            "default/web:80",
            Protocol::Http,
            &[backend.address],
        )],
    ));
    gate.ask("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    gate.ask("GET /b HTTP/1.1\r\nHost: a\r\n\r\n");
    let counted = |line: &str| gate.metrics().lines().any(|found| found == line);
    let served = r#"tidegate_requests_total{namespace="default",ingress="test",service="default/web:80",code="200"} 1"#;
    let missed = r#"tidegate_requests_total{namespace="",ingress="",service="",code="404"} 1"#;
    eventually("both are counted", || counted(served) && counted(missed));
    assert!(counted(
        r#"tidegate_faults_total{reason="no-route",source="internal"} 1"#
    ));
}
