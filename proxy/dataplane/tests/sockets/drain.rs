//! The end of a data plane: nothing that has begun is cut before the deadline.

use std::net::TcpStream;
use std::time::Duration;

use crate::support::*;

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
    let report = gate.drain(PATIENCE);
    assert_eq!((report.finished, report.cut), (2, 0));
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
    let report = gate.drain(PATIENCE);
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
