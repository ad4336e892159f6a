//! Sessions that move: from one process to another, and across a rotation of the keys that their tickets are sealed with.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use rustls::HandshakeKind::{self, Full, Resumed};
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls12Resumption, Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, NamedGroup, SupportedProtocolVersion};
use tidegate_model::{
    CertificateIndex, HostPattern, Snapshot, TICKET_LIFETIME, TicketKey, TicketKeys, UnixTime,
};

use crate::handshake::speaking;
use crate::support::*;
use crate::tls::{certificate, get};

const BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_secs() as i64
}

/// A key, active since so many seconds ago.
fn key(number: u8, seconds_ago: i64) -> TicketKey {
    TicketKey {
        name: [number; 16],
        active_from: UnixTime(now() - seconds_ago),
        secret: [number; 32],
    }
}

fn with_keys(mut snapshot: Snapshot, keys: &[TicketKey]) -> Snapshot {
    snapshot.tickets = Arc::new(TicketKeys::new(keys.to_vec()));
    snapshot
}

/// A client that keeps its sessions.
fn resuming(version: &'static SupportedProtocolVersion) -> ClientConfig {
    let mut config = speaking(version);
    let how = Tls12Resumption::SessionIdOrTickets;
    config.resumption = Resumption::in_memory_sessions(32).tls12_resumption(how);
    config
}

fn kind(address: SocketAddr, config: &Arc<ClientConfig>) -> HandshakeKind {
    let (answer, kind) = get(address, "a.example", config);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    match kind.unwrap() {
        HandshakeKind::FullWithHelloRetryRequest => Full,
        kind => kind,
    }
}

#[test]
fn a_session_goes_on_in_another_process_that_has_the_same_keys() {
    let backend = Backend::saying("x");
    let gate = |keys: &[TicketKey]| Gate::start(with_keys(everything_to(backend.address), keys));
    let (one, two) = (gate(&[key(1, 60)]), gate(&[key(1, 60)]));
    let (other, none) = (gate(&[key(2, 60)]), gate(&[]));
    for version in BOTH {
        let config = Arc::new(resuming(version));
        let on = |gate: &Gate| kind(gate.https, &config);
        assert_eq!([on(&one), on(&two), on(&one)], [Full, Resumed, Resumed]);
        // Other keys: a full handshake, no error; and the next ticket is theirs.
        assert_eq!([on(&other), on(&other), on(&one)], [Full, Resumed, Full]);
        assert_eq!([on(&none), on(&none), on(&two)], [Full, Resumed, Full]);
    }
}

#[test]
fn a_session_outlives_the_rotation_of_keys() {
    let backend = Backend::saying("x");
    let (first, second, third) = (key(1, 120), key(2, 60), key(3, -3600));
    let gates = [(); 2].map(|()| Gate::start_empty(1));
    let publish = |keys: &[TicketKey]| {
        for gate in &gates {
            gate.publish(with_keys(everything_to(backend.address), keys));
        }
    };
    for version in BOTH {
        let config = Arc::new(resuming(version));
        let kinds = || gates.each_ref().map(|gate| kind(gate.https, &config));
        publish(std::slice::from_ref(&first));
        eventually("the first key is in force", || kinds() == [Resumed; 2]);
        // The second key seals at once, the third from some later time on.
        publish(&[first.clone(), second.clone(), third.clone()]);
        for _ in 0..5 {
            assert_eq!(kinds(), [Resumed; 2], "{version:?}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        // What was sealed with the first key does not matter any more.
        publish(&[second.clone(), third.clone()]);
        for _ in 0..5 {
            assert_eq!(kinds(), [Resumed; 2], "{version:?}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        // Keys that have nothing to do with what was.
        publish(&[key(9, 60)]);
        eventually("the old keys are gone", || kinds() == [Full, Resumed]);
        publish(&[]);
        eventually("each process has keys of its own", || kinds() == [Full; 2]);
    }
}

/// Sessions under one name for all: what a client would be that does not care whom it resumes with.
#[derive(Debug)]
struct OneForAll(ClientSessionMemoryCache, Mutex<Option<NamedGroup>>);

fn anyone() -> ServerName<'static> {
    ServerName::try_from("anyone.example").unwrap()
}

impl ClientSessionStore for OneForAll {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        *self.1.lock().unwrap() = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        *self.1.lock().unwrap()
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(anyone(), value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&anyone())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&anyone());
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(anyone(), value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&anyone())
    }
}

#[test]
fn a_session_is_for_the_name_that_it_was_made_for_wherever_it_is_resumed() {
    let backend = Backend::saying("x");
    let certificates = ["a.example", "b.example"].map(|name| {
        let host = HostPattern::parse(name).unwrap();
        (host, vec![certificate(name)])
    });
    let index = Arc::new(CertificateIndex::new(certificates));
    let gate = || {
        let mut snapshot = with_keys(everything_to(backend.address), &[key(1, 60)]);
        snapshot.certificates = index.clone();
        Gate::start(snapshot)
    };
    let (one, two) = (gate(), gate());
    for version in BOTH {
        let mut config = speaking(version);
        let cache = ClientSessionMemoryCache::new(8);
        config.resumption = Resumption::store(Arc::new(OneForAll(cache, Mutex::default())));
        let config = Arc::new(config);
        let first = get(one.https, "a.example", &config);
        let other = get(two.https, "b.example", &config);
        assert_ne!(other.1, Some(Resumed), "{version:?}");
        let again = get(one.https, "b.example", &config);
        assert_eq!(again.1, Some(Resumed), "{version:?}");
        for (answer, _) in [first, other, again] {
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        // On a resumed session too a request for a host with another certificate is in the wrong place.
        let mut stream = crate::tls::open(two.https, "b.example", &config);
        let request = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
        std::io::Write::write_all(&mut stream, request).unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
        assert_eq!(stream.conn.handshake_kind(), Some(Resumed), "{version:?}");
    }
}

#[test]
fn keys_change_without_touching_connections() {
    let backend = Backend::saying("x");
    let gate = Gate::start(with_keys(everything_to(backend.address), &[key(1, 60)]));
    let config = Arc::new(resuming(&TLS13));
    let mut stream = crate::tls::open(gate.https, "a.example", &config);
    for number in 1..=5 {
        let request = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
        std::io::Write::write_all(&mut stream, request).unwrap();
        let answer = read_message(&mut std::io::BufReader::new(&mut stream)).unwrap();
        assert_eq!(answer.status(), 200);
        gate.publish(with_keys(
            everything_to(backend.address),
            &[key(number, 60)],
        ));
    }
}

#[test]
fn openssl_resumes_with_a_ticket_of_another_process() {
    let backend = Backend::saying("x");
    let gates =
        [(); 2].map(|()| Gate::start(with_keys(everything_to(backend.address), &[key(1, 60)])));
    for version in ["-tls1_3", "-tls1_2"] {
        let file = std::env::temp_dir().join(format!("tidegate{version}-{}", std::process::id()));
        let session = file.to_str().unwrap();
        let run = |gate: &Gate, how: &str| {
            let mut openssl = Command::new("openssl")
                .args(["s_client", version, "-servername", "a.example"])
                .args([
                    "-connect",
                    &gate.https.to_string(),
                    how,
                    session,
                    "-ign_eof",
                ])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("openssl (the program of that name) is needed");
            let request = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
            let mut input = openssl.stdin.take().unwrap();
            std::io::Write::write_all(&mut input, request).unwrap();
            let output = openssl.wait_with_output().unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let first = run(&gates[0], "-sess_out");
        let second = run(&gates[1], "-sess_in");
        std::fs::remove_file(&file).unwrap();
        assert!(first.contains("\nNew, TLSv1."), "{version}: {first}");
        assert!(second.contains("\nReused, TLSv1."), "{version}: {second}");
        assert!(second.contains("HTTP/1.1 200"), "{second}");
        let hint = format!("lifetime hint: {} (seconds)", TICKET_LIFETIME.as_secs());
        assert!(first.contains(&hint), "{version}: {first}");
    }
}
