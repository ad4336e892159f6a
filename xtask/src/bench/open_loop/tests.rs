//! The clients against a small server in plain text.

use std::io::{Read, Write};
use std::net::TcpListener;

use rustls::RootCertStore;

use super::*;

/// Answers one request on each connection, after a while.
fn serve(listener: &TcpListener, pause: Duration, answer: &'static [u8]) {
    while let Ok((mut stream, _)) = listener.accept() {
        thread::sleep(pause);
        thread::spawn(move || {
            while stream.read(&mut [0; 1024]).is_ok_and(|count| count > 0) {
                if stream.write_all(answer).is_err() {
                    break;
                }
            }
        });
    }
}

fn target(answer: &'static [u8], pause: Duration) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    thread::spawn(move || serve(&listener, pause, answer));
    let settings = ClientConfig::builder()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    Target {
        http: server,
        https: server,
        plain_host: "plain.test",
        tls_host: "tls.test",
        long_host: "long.test",
        tls: Arc::new(settings),
        kept: 2,
    }
}

fn see(target: &Target, kind: Kind, per_second: f64) -> Record {
    let clients = Clients::start(target, &[Rate { kind, per_second }], 1).unwrap();
    thread::sleep(Duration::from_millis(500));
    clients.stop().unwrap().kind(kind)
}

const KEEP: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const CLOSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

#[test]
fn every_request_has_an_answer() {
    for (kind, answer) in [(Kind::Plain, KEEP), (Kind::Kept, KEEP), (Kind::Kept, CLOSE)] {
        let record = see(&target(answer, Duration::ZERO), kind, 400.0);
        assert_eq!(record.failures(), 0, "{record:?}");
        assert!(record.answered > 100, "{record:?}");
    }
}

#[test]
fn latency_counts_from_when_a_request_was_due() {
    // One every 20 ms is served, and one every 5 ms is due.
    let record = see(&target(KEEP, Duration::from_millis(20)), Kind::Plain, 200.0);
    let Percentiles { p50, .. } = record.percentiles();
    assert!(p50 > 200.0, "{p50}");
    assert_eq!(record.failures(), 0, "{record:?}");
}

#[test]
fn another_status_is_a_failure() {
    let unavailable = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
    let record = see(&target(unavailable, Duration::ZERO), Kind::Plain, 100.0);
    assert_eq!((record.answered, record.reset, record.refused), (0, 0, 0));
    assert!(record.failed > 10, "{record:?}");
    assert_eq!(record.first_failure.as_deref(), Some("status 503"));
}

#[test]
fn who_is_not_there_refuses() {
    let mut target = target(KEEP, Duration::ZERO);
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    target.http = free.local_addr().unwrap();
    drop(free);
    let record = see(&target, Kind::Plain, 100.0);
    assert!(record.refused > 10, "{record:?}");
    assert_eq!(record.failures(), record.refused, "{record:?}");
}
