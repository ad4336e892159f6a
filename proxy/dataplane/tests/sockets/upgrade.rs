//! Switches of protocol: WebSocket and whatever else an endpoint agrees to.

use std::io::{BufReader, Read, Write};
use std::time::Duration;

use tidegate_model::Timeouts;

use crate::support::*;

pub(crate) const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// Agrees, then echoes bytes.
pub(crate) fn switching() -> Backend {
    Backend::raw(|mut stream, _| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let request = read_message(&mut reader).unwrap();
        assert_eq!(
            field(&request.head, "upgrade").as_deref(),
            Some("websocket")
        );
        assert_eq!(
            field(&request.head, "connection").as_deref(),
            Some("upgrade")
        );
        // The first bytes of the new protocol come in one piece with the head.
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello ").unwrap();
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = reader.read(&mut buffer) {
            if stream.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    })
}

pub(crate) fn read_text(client: &mut Client, length: usize) -> String {
    let mut bytes = vec![0; length];
    client.reader.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn bytes_pass_both_ways_after_the_switch() {
    let backend = switching();
    let gate = Gate::start(everything_to(backend.address));
    let mut client = gate.client();
    client.send(&format!("{UPGRADE}early"));
    let head = client.response_without_body();
    assert_eq!(head.status(), 101);
    assert_eq!(head.field("upgrade").as_deref(), Some("websocket"));
    assert_eq!(read_text(&mut client, 11), "hello early");
    client.send("later");
    assert_eq!(read_text(&mut client, 5), "later");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(client.is_closed());
}

#[test]
fn a_snapshot_does_not_touch_it() {
    let backend = switching();
    let gate = Gate::start(everything_to(backend.address));
    let mut client = gate.client();
    client.send(UPGRADE);
    client.response_without_body();
    read_text(&mut client, 6);
    for _ in 0..10 {
        gate.publish(snapshot(&[], &[]));
    }
    client.send("still here");
    assert_eq!(read_text(&mut client, 10), "still here");
}

#[test]
fn silence_in_both_directions_ends_it() {
    let backend = switching();
    let timeouts = Timeouts {
        idle: Duration::from_millis(300),
        ..Timeouts::default()
    };
    let gate = Gate::start(with_timeouts(everything_to(backend.address), timeouts));
    let mut client = gate.client();
    client.send(UPGRADE);
    client.response_without_body();
    read_text(&mut client, 6);
    assert!(client.is_closed());
}

#[test]
fn an_endpoint_that_declines_is_an_ordinary_answer() {
    let backend = Backend::saying("no");
    let gate = Gate::start(everything_to(backend.address));
    let mut client = gate.client();
    client.send(UPGRADE);
    assert_eq!(client.response().text(), "no");
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().text(), "no");
}

#[test]
fn a_switch_that_nobody_asked_for_is_no_answer() {
    let backend = Backend::http(|_, _| {
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n".to_owned()
    });
    let gate = Gate::start(everything_to(backend.address));
    assert_eq!(gate.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 502);
}

#[test]
fn an_upgrade_to_h2c_is_never_passed_on() {
    let backend = Backend::saying("plain");
    let gate = Gate::start(everything_to(backend.address));
    let answer = gate.ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n");
    assert_eq!(answer.text(), "plain");
    let head = backend.last_head();
    assert_eq!(
        (field(&head, "upgrade"), field(&head, "http2-settings")),
        (None, None)
    );
}
