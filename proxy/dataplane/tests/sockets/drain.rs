//! The end of a data plane: nothing that has begun is cut before the deadline.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use tidegate_dataplane::{AcceptMode, Settings};

use crate::http2_hostile::{ACK, Frame, GOAWAY, HEADERS, PING, Peer, frame, get};
use crate::support::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn idle_connections_close_and_requests_in_flight_finish() {
    let backend = Backend::http(|_, _| {
        std::thread::sleep(Duration::from_millis(500));
        ok("late")
    });
    let gate = Gate::start(everything_to(backend.address));
    let mut idle = gate.client();
    idle.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(idle.response().text(), "late");
    let mut busy = gate.client();
    busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request is under way", || {
        backend.heads.lock().unwrap().len() == 2
    });
    let address = gate.http;
    let begun = Instant::now();
    let report = gate.drain(Duration::from_secs(4));
    assert_eq!((report.finished, report.cut), (2, 0));
    let taken = begun.elapsed();
    assert!(
        (2000..3500).contains(&taken.as_millis()),
        "half of the deadline is for the idle one: {taken:?}"
    );
    let response = busy.response();
    assert_eq!(response.text(), "late");
    assert_eq!(response.field("connection").as_deref(), Some("close"));
    assert!(idle.is_closed() && busy.is_closed());
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn what_is_left_at_the_deadline_is_cut_and_reported() {
    let backend = Backend::raw(|_stream, _| std::thread::sleep(PATIENCE));
    let gate = Gate::start(everything_to(backend.address));
    let mut client = gate.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request is under way", || backend.opened() == 1);
    let report = gate.drain(Duration::from_millis(200));
    assert_eq!((report.finished, report.cut), (0, 1));
    assert!(client.is_closed());
}

#[test]
fn whoever_was_let_into_the_queue_is_served() {
    let backend = Backend::saying("served");
    let gate = Gate::start(everything_to(backend.address));
    let mut clients: Vec<Client> = (0..200).map(|_| gate.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    // Who was answered before the order came is idle for half of it.
    let report = gate.drain(Duration::from_secs(4));
    assert_eq!(report.cut, 0);
    for client in &mut clients {
        assert_eq!(client.response().text(), "served");
    }
}

#[test]
fn a_drain_before_the_first_snapshot_ends_at_once() {
    let gate = Gate::start_empty(2);
    let report = gate.drain(PATIENCE);
    assert_eq!((report.finished, report.cut), (0, 0));
}

#[test]
fn connections_wait_for_the_first_snapshot() {
    let backend = Backend::saying("served");
    let gate = Gate::start_empty(2);
    let mut client = gate.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    std::thread::sleep(Duration::from_millis(100));
    gate.publish(everything_to(backend.address));
    assert_eq!(client.response().text(), "served");
}

#[test]
fn an_idle_connection_is_kept_for_a_request_on_its_way() {
    let backend = Backend::saying("served");
    // A connection without a byte is accepted, too.
    let gate = Gate::start_with(
        Settings {
            accept: AcceptMode::OnConnect,
            ..settings(1)
        },
        Vec::new(),
    );
    gate.publish(everything_to(backend.address));
    let delays = [50, 150, 300].map(Duration::from_millis);
    let mut clients: Vec<(Duration, Client)> = Vec::new();
    for delay in delays {
        let mut used = gate.client();
        used.send(GET);
        let response = used.response();
        assert_eq!(response.field("connection"), None);
        clients.extend([(delay, used), (delay, gate.client())]);
    }
    eventually("all are accepted", || {
        gate.dataplane().open_connections() == 2 * delays.len()
    });
    let draining = std::thread::spawn(move || gate.drain(PATIENCE));
    let begun = Instant::now();
    for (delay, client) in &mut clients {
        std::thread::sleep(delay.saturating_sub(begun.elapsed()));
        client.send(GET);
    }
    for (delay, client) in &mut clients {
        let response = client.response();
        assert_eq!(response.text(), "served", "after {delay:?}");
        assert_eq!(response.field("connection").as_deref(), Some("close"));
        assert!(client.is_closed());
    }
    let report = draining.join().unwrap();
    assert_eq!((report.finished, report.cut), (6, 0));
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "nobody is waited for who has been answered: {:?}",
        begun.elapsed()
    );
}

/// The number in a frame's payload at an offset.
fn number(frame: &Frame, at: usize) -> u32 {
    u32::from_be_bytes(frame.payload[at..at + 4].try_into().unwrap())
}

#[test]
fn an_http2_request_that_crosses_the_first_goaway_is_served() {
    let backend = Backend::saying("served");
    let gate = Gate::start(everything_to(backend.address));
    let mut peer = Peer::connect(&gate);
    peer.send(&get(1));
    let mut until =
        |kind: u8| std::iter::from_fn(|| peer.receive()).find(|frame| frame.kind == kind);
    assert_eq!(until(HEADERS).unwrap().stream, 1);
    let draining = std::thread::spawn(move || gate.drain(PATIENCE));
    let goaway = until(GOAWAY).unwrap();
    assert_eq!(
        (number(&goaway, 0), number(&goaway, 4)),
        (i32::MAX as u32, 0),
        "every stream is served, and nothing is wrong"
    );
    let ping = until(PING).unwrap();
    assert_eq!(ping.flags & ACK, 0);
    // Longer than an idle connection is said farewell.
    std::thread::sleep(Duration::from_millis(1500));
    peer.send(&get(3));
    peer.send(&frame(PING, ACK, 0, &ping.payload));
    let mut answered = false;
    let mut last = None;
    while let Some(frame) = peer.receive() {
        answered |= frame.kind == HEADERS && frame.stream == 3;
        if frame.kind == GOAWAY {
            last = Some((number(&frame, 0), number(&frame, 4)));
        }
    }
    assert!(answered);
    assert_eq!(last, Some((3, 0)));
    let report = draining.join().unwrap();
    assert_eq!((report.finished, report.cut), (1, 0));
}
