//! Retirement: connections end, the sockets stay open, and it can be taken back.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};

use crate::support::*;
use crate::tls::http2_client;
use crate::upgrade::{UPGRADE, read_text, switching};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A client whose connection has served a request and is idle.
fn idle(gate: &Gate) -> Client {
    let mut client = gate.client();
    client.send(GET);
    assert_eq!(client.response().field("connection"), None);
    client
}

fn asked_to_close(client: &mut Client) -> bool {
    client.send(GET);
    let response = client.response();
    assert_eq!(response.text(), "served");
    response.field("connection").as_deref() == Some("close")
}

#[test]
fn a_retired_data_plane_accepts_and_ends_connections() {
    let backend = Backend::saying("served");
    let gate = Gate::start(everything_to(backend.address));
    let mut known = idle(&gate);
    assert_eq!(gate.dataplane().open_connections(), 1);
    gate.dataplane().retire();
    // The order reaches the worker's thread before the wake-up for a request that is sent now, or after it.
    eventually("it is in force", || asked_to_close(&mut gate.client()));
    assert!(asked_to_close(&mut known));
    assert!(known.is_closed());
    for _ in 0..20 {
        let mut late = gate.client();
        assert!(asked_to_close(&mut late));
        assert!(late.is_closed());
    }
    eventually("nothing is open", || {
        gate.dataplane().open_connections() == 0
    });
    let address = gate.http;
    let report = gate.drain(PATIENCE);
    assert_eq!((report.finished, report.cut), (0, 0));
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_retired_data_plane_serves_the_first_request_of_an_http2_connection() {
    let backend = Backend::saying("served");
    let gate = Gate::start(everything_to(backend.address));
    gate.dataplane().retire();
    eventually("it is in force", || asked_to_close(&mut gate.client()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut sender = http2_client(gate.https).await;
        // Whatever the gate has to say to a new connection is there long before the request.
        tokio::time::sleep(Duration::from_millis(300)).await;
        sender.ready().await.unwrap();
        let request = http::Request::get("https://a.example/").body(Full::default());
        let response = sender.send_request(request.unwrap()).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "served");
        assert!(sender.ready().await.is_err(), "there is no second one");
    });
}

#[test]
fn silence_ends_a_retired_connection_and_no_resumed_one() {
    let backend = Backend::saying("served");
    let (retired, resumed) = (
        Gate::start(everything_to(backend.address)),
        Gate::start(everything_to(backend.address)),
    );
    let (mut ending, mut living) = (idle(&retired), idle(&resumed));
    let begun = Instant::now();
    retired.dataplane().retire();
    resumed.dataplane().retire();
    eventually("it is in force", || asked_to_close(&mut resumed.client()));
    resumed.dataplane().resume();
    assert!(ending.is_closed());
    let taken = begun.elapsed();
    assert!((4900..6000).contains(&taken.as_millis()), "{taken:?}");
    std::thread::sleep(Duration::from_millis(500));
    assert!(!asked_to_close(&mut living), "it is as if nothing had been");
    assert!(!asked_to_close(&mut resumed.client()));
    assert!(!asked_to_close(&mut living));
}

#[test]
fn a_tunnel_lives_through_retirement_until_the_deadline_of_the_drain() {
    let backend = switching();
    let gate = Gate::start(everything_to(backend.address));
    let mut client = gate.client();
    client.send(UPGRADE);
    client.response_without_body();
    read_text(&mut client, 6);
    let mut echoes = |text: &str| {
        client.send(text);
        assert_eq!(read_text(&mut client, text.len()), text);
    };
    gate.dataplane().retire();
    std::thread::sleep(Duration::from_millis(300));
    echoes("retired");
    let deadline = Duration::from_millis(1000);
    let begun = Instant::now();
    let draining = std::thread::spawn(move || gate.drain(deadline));
    std::thread::sleep(deadline * 2 / 3);
    echoes("draining");
    assert!(client.is_closed());
    assert!(begun.elapsed() >= deadline);
    let report = draining.join().unwrap();
    assert_eq!((report.finished, report.cut), (0, 1));
}

#[test]
fn retirement_before_the_first_snapshot_holds_after_it() {
    let backend = Backend::saying("served");
    let gate = Gate::start_empty(2);
    gate.dataplane().retire();
    std::thread::sleep(Duration::from_millis(50));
    gate.publish(everything_to(backend.address));
    assert!(asked_to_close(&mut gate.client()));
    gate.dataplane().resume();
    eventually("it is taken back", || !asked_to_close(&mut gate.client()));
}
