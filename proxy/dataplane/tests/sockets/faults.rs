//! What a client gets when something is wrong, and that nothing else suffers.

use std::io::Write;
use std::net::TcpListener;
use std::time::Duration;

use tidegate_model::{Protocol, Timeouts};

use crate::support::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn short() -> Timeouts {
    let short = Duration::from_millis(300);
    Timeouts {
        request_head: short,
        idle: short,
        connect: short,
        response_head: short,
        handshake: short,
        upstream_idle: short,
    }
}

#[test]
fn no_route_no_endpoint_and_no_service_are_told_apart() {
    let gate = Gate::start(snapshot(
        &[
            rule("", "/empty", "empty"),
            Rule {
                target: None,
                ..rule("", "/missing", "")
            },
        ],
        &[upstream("empty", Protocol::Http, &[])],
    ));
    let get = |path: &str| gate.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    for (path, status) in [("/", 404), ("/empty", 503), ("/missing", 503)] {
        let response = get(path);
        assert_eq!(response.status(), status, "{path}");
        assert!(
            response.text().contains("Tidegate") && response.text().len() < 100,
            "{}",
            response.text()
        );
    }
    let metrics = gate.metrics();
    for reason in ["no-route", "no-endpoint", "backend-unusable"] {
        assert!(
            metrics.contains(&format!("reason=\"{reason}\"")),
            "{reason}"
        );
    }
}

#[test]
fn refused_broken_and_silent_endpoints() {
    let refusing = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let gate = Gate::start(everything_to(refusing));
    assert_eq!(gate.ask(GET).status(), 502);

    let garbage = Backend::raw(|mut stream, _| {
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        read_message(&mut reader);
        let _ = stream.write_all(b"this is not HTTP\r\n\r\n");
    });
    let gate = Gate::start(everything_to(garbage.address));
    assert_eq!(gate.ask(GET).status(), 502);

    let closing = Backend::raw(|stream, _| {
        let mut reader = std::io::BufReader::new(stream);
        read_message(&mut reader);
    });
    let gate = Gate::start(everything_to(closing.address));
    assert_eq!(gate.ask(GET).status(), 502);

    let silent = Backend::raw(|_stream, _| std::thread::sleep(PATIENCE));
    let gate = Gate::start(with_timeouts(everything_to(silent.address), short()));
    assert_eq!(gate.ask(GET).status(), 504);
}

#[test]
fn an_endpoint_that_falls_silent_within_a_body_is_given_up() {
    let stalling = Backend::raw(|mut stream, _| {
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        read_message(&mut reader);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
        std::thread::sleep(PATIENCE);
    });
    let gate = Gate::start(with_timeouts(everything_to(stalling.address), short()));
    let mut client = gate.client();
    client.send(GET);
    assert!(client.rest().ends_with("half"));
}

#[test]
fn a_stale_connection_costs_no_request() {
    // The endpoint closes each connection some time after its first answer, as servers do with idle ones.
    let backend = Backend::raw(|mut stream, number| {
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        if read_message(&mut reader).is_none() {
            return;
        }
        let _ = stream.write_all(ok("first").as_bytes());
        if number == 0 {
            // Closed while the second request is under way.
            read_message(&mut reader);
        }
    });
    let gate = Gate::start(everything_to(backend.address));
    let mut client = gate.client();
    client.send(GET);
    assert_eq!(client.response().text(), "first");
    std::thread::sleep(Duration::from_millis(800));
    client.send(GET);
    assert_eq!(client.response().text(), "first");
    assert_eq!(backend.opened(), 2);
    assert!(gate.metrics().contains("tidegate_upstream_retries_total 1"));
}

#[test]
fn what_is_not_idempotent_is_not_sent_twice() {
    let backend = Backend::raw(|mut stream, _| {
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        if read_message(&mut reader).is_some() {
            let _ = stream.write_all(ok("first").as_bytes());
            read_message(&mut reader);
        }
    });
    let gate = Gate::start(everything_to(backend.address));
    let mut client = gate.client();
    client.send(GET);
    client.response();
    std::thread::sleep(Duration::from_millis(800));
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.response().status(), 502);
    assert_eq!(backend.opened(), 1);
}

#[test]
fn a_slow_head_is_answered_408_and_silence_is_closed() {
    let gate = Gate::start(with_timeouts(
        everything_to("127.0.0.1:9".parse().unwrap()),
        short(),
    ));
    let mut slow = gate.client();
    slow.send("GET / HTTP/1.1\r\nHost:");
    assert!(slow.rest().starts_with("HTTP/1.1 408"));
    let mut silent = gate.client();
    assert_eq!(silent.rest(), "");
    eventually("both are counted", || {
        gate.metrics()
            .contains("tidegate_connections_timed_out_total 2")
    });
}

#[test]
fn a_body_that_never_comes_is_answered_408() {
    let backend = Backend::saying("x");
    let gate = Gate::start(with_timeouts(everything_to(backend.address), short()));
    let mut client = gate.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
    assert_eq!(client.response().status(), 408);
}
