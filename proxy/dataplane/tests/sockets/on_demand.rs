//! Certificates on demand: which names are passed on, which handshakes wait, and that nobody else does.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::version::TLS12;
use tidegate_model::{
    AllowRoutes, Asks, CertificateIndex, HostPattern, Hostname, OnDemand, Policy, Protocol,
    Snapshot,
};
use tokio::sync::mpsc;

use crate::handshake::speaking;
use crate::support::*;
use crate::tls::{Seen, certificate, client_config, get, open};

/// How long handshakes of these tests wait, where they are not to wait in vain.
const LONG: Duration = Duration::from_secs(30);

/// A data plane that hands names on to the test.
fn gate(snapshot: Snapshot, room: usize) -> (Gate, mpsc::Receiver<Hostname>) {
    let (asking, asked) = mpsc::channel(room);
    let mut settings = settings(1);
    settings.on_demand = Some(asking);
    let gate = Gate::start_with(settings, Vec::new());
    gate.publish(snapshot);
    (gate, asked)
}

/// Names below `shop.example` are allowed, and those of routes if said so.
fn allowing(mut snapshot: Snapshot, routes: AllowRoutes, wait: Duration) -> Snapshot {
    let on_demand = Some(OnDemand {
        suffixes: vec![Hostname::parse("shop.example").unwrap()],
        routes,
        asks: Asks::No,
        wait,
    });
    snapshot.policy = Arc::new(Policy {
        on_demand,
        ..(*snapshot.policy).clone()
    });
    snapshot
}

fn holding(mut snapshot: Snapshot, names: &[&str]) -> Snapshot {
    let entries = names.iter().map(|name| {
        let host = HostPattern::parse(name).unwrap();
        (host, vec![certificate(name)])
    });
    snapshot.certificates = Arc::new(CertificateIndex::new(entries));
    snapshot
}

/// A client on a thread of its own: the certificate that it was shown, and when.
fn client(
    address: SocketAddr,
    name: &'static str,
) -> JoinHandle<(CertificateDer<'static>, Duration)> {
    std::thread::spawn(move || {
        let began = Instant::now();
        let seen = Arc::new(Seen::default());
        let (answer, _) = get(address, name, &client_config(seen.clone(), &[]));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        (seen.certificates()[0].clone(), began.elapsed())
    })
}

fn waited(gate: &Gate, outcome: &str) -> u64 {
    let series = format!("tls_on_demand_handshakes_total{{outcome=\"{outcome}\"}} ");
    let metrics = gate.metrics();
    let line = metrics.lines().find_map(|line| line.split_once(&series));
    line.and_then(|(_, count)| count.parse().ok()).unwrap()
}

#[test]
fn the_first_handshake_of_an_allowed_name_waits_for_its_certificate() {
    let backend = Backend::saying("x");
    let snapshot = || allowing(everything_to(backend.address), AllowRoutes::No, LONG);
    let (gate, mut asked) = gate(snapshot(), 8);
    let clients = [(); 3].map(|()| client(gate.https, "new.shop.example"));
    assert_eq!(asked.blocking_recv().unwrap().as_str(), "new.shop.example");
    // Others are served meanwhile, and a snapshot without the certificate ends no wait.
    assert!(client(gate.https, "else.example").join().unwrap().1 < PATIENCE);
    gate.publish(snapshot());
    std::thread::sleep(Duration::from_millis(300));
    assert!(clients.iter().all(|client| !client.is_finished()));
    let complete = holding(snapshot(), &["new.shop.example"]);
    let made = complete.certificates.entries();
    let made = made.values().next().unwrap()[0].chain[0].clone();
    gate.publish(complete);
    for client in clients {
        assert_eq!(client.join().unwrap().0, made);
    }
    assert!(asked.try_recv().is_err(), "it was asked for once");
    assert_eq!(waited(&gate, "served"), 3);
    // Now nothing waits for it any more.
    assert!(client(gate.https, "new.shop.example").join().unwrap().1 < PATIENCE);
    assert_eq!(waited(&gate, "served"), 3);
    assert!(gate.metrics().contains("tls_on_demand_names_total 1"));
}

#[test]
fn a_wait_in_vain_ends_and_the_default_certificate_is_shown() {
    let backend = Backend::saying("x");
    let wait = Duration::from_secs(1);
    let mut snapshot = allowing(everything_to(backend.address), AllowRoutes::No, wait);
    // The wait is not part of the handshake's own time.
    snapshot = with_timeouts(
        snapshot,
        tidegate_model::Timeouts {
            handshake: Duration::from_millis(900),
            ..tidegate_model::Timeouts::default()
        },
    );
    let (gate, mut asked) = gate(snapshot, 8);
    let (_, took) = client(gate.https, "new.shop.example").join().unwrap();
    assert!(took >= wait && took < PATIENCE, "{took:?}");
    assert!(asked.try_recv().is_ok());
    assert_eq!(waited(&gate, "timed_out"), 1);
}

#[test]
fn names_that_are_not_allowed_or_have_a_certificate_are_served_at_once() {
    let backend = Backend::saying("x");
    let routes = snapshot(
        &[
            rule("", "/", "u"),
            rule("routed.example", "/", "u"),
            rule("*.routed.example", "/", "u"),
        ],
        &[upstream("u", Protocol::Http, &[backend.address])],
    );
    let names = ["held.shop.example", "*.wild.shop.example"];
    let by_suffix = holding(allowing(routes, AllowRoutes::No, LONG), &names);
    let (gate, mut asked) = gate(by_suffix.clone(), 8);
    for name in [
        "held.shop.example",
        "a.wild.shop.example",
        "othershop.example",
        "routed.example",
        "a.routed.example",
    ] {
        assert!(
            client(gate.https, name).join().unwrap().1 < PATIENCE,
            "{name}"
        );
    }
    assert!(asked.try_recv().is_err());
    gate.publish(allowing(
        by_suffix,
        AllowRoutes::Yes,
        Duration::from_millis(1),
    ));
    for name in ["routed.example", "a.routed.example"] {
        eventually("its name is passed on", || {
            client(gate.https, name).join().unwrap();
            true
        });
        assert_eq!(asked.blocking_recv().unwrap().as_str(), name);
    }
    client(gate.https, "b.a.routed.example").join().unwrap();
    assert!(
        asked.try_recv().is_err(),
        "the route for any host allows nothing"
    );
}

#[test]
fn an_acme_server_does_not_wait_for_the_certificate_that_it_is_to_make() {
    let snapshot = allowing(Snapshot::default(), AllowRoutes::No, LONG);
    let (gate, mut asked) = gate(snapshot, 8);
    let mut config = speaking(&TLS12);
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let began = Instant::now();
    let mut stream = open(gate.https, "new.shop.example", &Arc::new(config));
    assert!(stream.conn.complete_io(&mut stream.sock).is_err());
    assert!(began.elapsed() < PATIENCE && asked.try_recv().is_err());
}

#[test]
fn a_client_that_goes_away_gives_its_place_back() {
    let (gate, mut asked) = gate(allowing(Snapshot::default(), AllowRoutes::No, LONG), 8);
    let config = client_config(Arc::default(), &[]);
    let mut stream = open(gate.https, "new.shop.example", &config);
    stream.conn.write_tls(&mut stream.sock).unwrap();
    assert!(asked.blocking_recv().is_some());
    drop(stream);
    eventually("it is seen", || waited(&gate, "left") == 1);
}

/// Sends a hello for a name and leaves it at that.
fn say_hello(address: SocketAddr, name: &str) -> TcpStream {
    let mut stream = open(address, name, &client_config(Arc::default(), &[]));
    stream.conn.write_tls(&mut stream.sock).unwrap();
    stream.sock
}

#[test]
fn so_many_wait_and_no_more() {
    const WAITING: usize = 128;
    let backend = Backend::saying("x");
    let snapshot = allowing(everything_to(backend.address), AllowRoutes::No, LONG);
    let (gate, mut asked) = gate(snapshot.clone(), WAITING);
    let waiting: Vec<TcpStream> = (0..WAITING)
        .map(|number| say_hello(gate.https, &format!("n{number}.shop.example")))
        .collect();
    for _ in 0..WAITING {
        assert!(asked.blocking_recv().is_some());
    }
    let (_, took) = client(gate.https, "late.shop.example").join().unwrap();
    assert!(took < PATIENCE, "{took:?}");
    assert_eq!(asked.blocking_recv().unwrap().as_str(), "late.shop.example");
    assert_eq!(waited(&gate, "crowded"), 1);
    // And nobody else is held up.
    for _ in 0..20 {
        assert!(client(gate.https, "else.example").join().unwrap().1 < PATIENCE);
    }
    drop(waiting);
    eventually("they are gone", || waited(&gate, "left") == WAITING as u64);
}

#[test]
fn a_flood_of_names_that_are_not_allowed_changes_nothing() {
    const NAMES: usize = 1000;
    let backend = Backend::saying("x");
    let snapshot = allowing(everything_to(backend.address), AllowRoutes::Yes, LONG);
    let (gate, mut asked) = gate(holding(snapshot, &["a.example"]), 1);
    for number in 0..NAMES {
        let stream = say_hello(gate.https, &format!("n{number}.flood.example"));
        drop(stream);
        if number % 100 == 0 {
            assert!(client(gate.https, "a.example").join().unwrap().1 < PATIENCE);
        }
    }
    assert!(client(gate.https, "a.example").join().unwrap().1 < PATIENCE);
    assert!(asked.try_recv().is_err());
    for outcome in ["served", "timed_out", "left", "crowded"] {
        assert_eq!(waited(&gate, outcome), 0, "{outcome}");
    }
    assert!(gate.metrics().contains("tls_on_demand_names_total 0"));
}

#[test]
fn a_flood_of_names_that_are_allowed_is_passed_on_as_far_as_there_is_room() {
    const ROOM: usize = 16;
    let backend = Backend::saying("x");
    let snapshot = allowing(everything_to(backend.address), AllowRoutes::No, LONG);
    let (gate, mut asked) = gate(snapshot, ROOM);
    let flood: Vec<TcpStream> = (0..500)
        .map(|number| say_hello(gate.https, &format!("n{number}.shop.example")))
        .collect();
    eventually("what does not fit in goes on", || {
        waited(&gate, "crowded") == (500 - ROOM) as u64
    });
    let passed_on = std::iter::from_fn(|| asked.try_recv().ok()).count();
    assert_eq!(passed_on, ROOM);
    assert!(client(gate.https, "else.example").join().unwrap().1 < PATIENCE);
    drop(flood);
}

#[test]
fn without_a_taker_nobody_waits() {
    let backend = Backend::saying("x");
    let snapshot = allowing(everything_to(backend.address), AllowRoutes::No, LONG);
    let gate = Gate::start(snapshot);
    assert!(client(gate.https, "new.shop.example").join().unwrap().1 < PATIENCE);
}
