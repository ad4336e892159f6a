//! TLS handshakes and streams that are slow, broken, cut short, or old.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::{Resumption, Tls12Resumption};
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, HandshakeKind, StreamOwned,
    SupportedProtocolVersion,
};
use tidegate_model::{Protocol, Timeouts};

use crate::support::*;
use crate::tls::{Seen, client_config};

pub(crate) fn speaking(version: &'static SupportedProtocolVersion) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Seen::default()))
        .with_no_client_auth()
}

fn open(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
) -> StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::try_from("a.example").unwrap();
    let session = ClientConnection::new(config.clone(), name).unwrap();
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_nodelay(true).unwrap();
    StreamOwned::new(session, socket)
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";

/// One request; the answer and how the session came to be.
fn get(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
) -> (String, HandshakeKind, Option<CipherSuite>) {
    let mut stream = open(address, config);
    stream.write_all(GET).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let suite = stream.conn.negotiated_cipher_suite();
    (
        answer,
        stream.conn.handshake_kind().unwrap(),
        suite.map(|suite| suite.suite()),
    )
}

/// The first message of a handshake.
fn hello(config: &Arc<ClientConfig>) -> Vec<u8> {
    let name = ServerName::try_from("a.example").unwrap();
    let mut session = ClientConnection::new(config.clone(), name).unwrap();
    let mut bytes = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// A hello of our own: a version, cipher suites, and a signature algorithm (ECDSA on P-256 with SHA-256).
fn bare_hello(version: u16, suites: &[u16]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    body.extend([7; 32]);
    body.push(0);
    body.extend((suites.len() as u16 * 2).to_be_bytes());
    suites
        .iter()
        .for_each(|suite| body.extend(suite.to_be_bytes()));
    body.extend([1, 0]);
    body.extend([0, 8, 0, 13, 0, 4, 0, 2, 4, 3]);
    let mut message = vec![1, 0];
    message.extend((body.len() as u16).to_be_bytes());
    message.extend(body);
    let mut record = vec![22, 3, 1];
    record.extend((message.len() as u16).to_be_bytes());
    record.extend(message);
    record
}

fn gate_with_handshakes_of(limit: Duration) -> (Gate, Backend) {
    let backend = Backend::saying("x");
    let gate = Gate::start(with_timeouts(
        everything_to(backend.address),
        Timeouts {
            handshake: limit,
            ..Timeouts::default()
        },
    ));
    (gate, backend)
}

fn failed(gate: &Gate) -> u64 {
    let metrics = gate.metrics();
    let line = metrics
        .lines()
        .find(|line| line.contains("tls_handshakes_total{outcome=\"failed\"}"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or(0)
}

#[test]
fn a_hello_may_come_byte_by_byte() {
    let (gate, _backend) = gate_with_handshakes_of(PATIENCE);
    let StreamOwned { mut conn, mut sock } = open(gate.https, &client_config(Arc::default(), &[]));
    let mut hello = Vec::new();
    conn.write_tls(&mut hello).unwrap();
    for byte in hello.chunks(1) {
        sock.write_all(byte).unwrap();
    }
    let mut stream = StreamOwned { conn, sock };
    stream.write_all(GET).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn who_stalls_in_the_handshake_is_cut_and_holds_up_nobody() {
    const STALLED: usize = 300;
    let limit = Duration::from_secs(3);
    let (gate, _backend) = gate_with_handshakes_of(limit);
    let config = client_config(Arc::default(), &[]);
    let hello = hello(&config);
    let began = Instant::now();
    let mut stalled: Vec<TcpStream> = (0..STALLED)
        .map(|number| {
            let mut socket = TcpStream::connect(gate.https).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            // Nothing, a part, or all of the hello (and then silence), in turn.
            let part = [0, hello.len() / 2, hello.len()][number % 3];
            socket.write_all(&hello[..part]).unwrap();
            socket
        })
        .collect();
    for _ in 0..200 {
        let (answer, ..) = get(gate.https, &config);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    for socket in &mut stalled {
        // Closed, or reset if what it had sent was never read.
        let _ = socket.read_to_end(&mut Vec::new());
    }
    let took = began.elapsed();
    assert!(took >= limit && took < limit * 3, "{took:?}");
    eventually("they are counted", || failed(&gate) == STALLED as u64);
}

#[test]
fn nothing_in_common_is_told_by_an_alert() {
    let (gate, _backend) = gate_with_handshakes_of(PATIENCE);
    const RC4: u16 = 0x0005;
    const AES: u16 = 0xc02f;
    const HANDSHAKE_FAILURE: u8 = 40;
    const PROTOCOL_VERSION: u8 = 70;
    for (hello, wanted) in [
        (bare_hello(0x0303, &[RC4]), HANDSHAKE_FAILURE),
        (bare_hello(0x0301, &[AES]), PROTOCOL_VERSION),
    ] {
        let mut socket = TcpStream::connect(gate.https).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(&hello).unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, [21, 3, 3, 0, 2, 2, wanted]);
    }
    eventually("they are counted", || failed(&gate) == 2);
}

#[test]
fn garbage_is_refused_at_once() {
    let (gate, _backend) = gate_with_handshakes_of(PATIENCE);
    let config = client_config(Arc::default(), &[]);
    let mut broken_hello = hello(&config);
    broken_hello[9..].fill(0xff);
    let mut huge = vec![22, 3, 1, 0xff, 0xff];
    huge.resize(70_000, 0);
    let cases: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0; 100],
        &[0xff; 20_000],
        &broken_hello,
        &huge,
        // Data before any handshake.
        &[23, 3, 3, 0, 2, 1, 1],
    ];
    let began = Instant::now();
    for case in cases {
        let mut socket = TcpStream::connect(gate.https).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = socket.write_all(case);
        let mut answer = Vec::new();
        // Reset where more came than was read.
        if socket.read_to_end(&mut answer).is_ok() {
            assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
        }
    }
    assert!(began.elapsed() < PATIENCE);
    eventually("they are counted", || failed(&gate) == cases.len() as u64);
    let (answer, ..) = get(gate.https, &config);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_request_that_is_cut_short_reaches_no_endpoint_as_a_whole_one() {
    let backend = Backend::http(|_, body| ok(&String::from_utf8_lossy(body)));
    let gate = Gate::start(everything_to(backend.address));
    let config = client_config(Arc::default(), &[]);
    let mut stream = open(gate.https, &config);
    stream
        .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        .unwrap();
    stream.flush().unwrap();
    stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(!answer.contains("200 OK"), "{answer}");
    assert!(get(gate.https, &config).0.starts_with("HTTP/1.1 200"));
}

/// An endpoint whose response lasts until it closes: with `close_notify`, or without.
fn endpoint_that_closes(says_so: bool) -> Backend {
    let made = rcgen::generate_simple_self_signed(vec!["pod".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let config = Arc::new(config);
    Backend::raw(move |socket, _| {
        let session = rustls::ServerConnection::new(config.clone()).unwrap();
        let mut stream = StreamOwned::new(session, socket);
        let mut head = [0; 4096];
        let _ = stream.read(&mut head).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\npart").unwrap();
        if says_so {
            stream.conn.send_close_notify();
        }
        stream.flush().unwrap();
    })
}

#[test]
fn a_response_until_close_is_whole_only_if_the_endpoint_says_so_under_tls() {
    for says_so in [true, false] {
        let backend = endpoint_that_closes(says_so);
        let gate = Gate::start(snapshot(
            &[rule("", "/", "u")],
            &[upstream("u", Protocol::Https, &[backend.address])],
        ));
        let mut client = gate.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answer = client.rest();
        // What came before the cut may be passed on or not.
        assert_eq!(answer.contains("part\r\n0\r\n\r\n"), says_so, "{answer}");
    }
}

#[test]
fn much_passes_under_tls_in_both_directions_and_through_new_keys() {
    let backend = Backend::http(|_, body| ok(&String::from_utf8_lossy(body)));
    let gate = Gate::start(everything_to(backend.address));
    let mut stream = open(gate.https, &client_config(Arc::default(), &[]));
    let body = "0123456789abcdef".repeat(100_000);
    for _ in 0..3 {
        let head = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let (half, rest) = body.as_bytes().split_at(body.len() / 2);
        stream.write_all(half).unwrap();
        stream.conn.refresh_traffic_keys().unwrap();
        stream.write_all(rest).unwrap();
        let answer = read_message(&mut std::io::BufReader::new(&mut stream)).unwrap();
        assert!(answer.status() == 200 && answer.text() == body);
    }
}

#[test]
fn sessions_of_both_versions_are_resumed_by_ticket_and_by_id() {
    let (gate, _backend) = gate_with_handshakes_of(PATIENCE);
    for (version, how) in [
        (&TLS13, Tls12Resumption::Disabled),
        (&TLS12, Tls12Resumption::SessionIdOnly),
        (&TLS12, Tls12Resumption::SessionIdOrTickets),
    ] {
        let mut config = speaking(version);
        config.resumption = Resumption::in_memory_sessions(8).tls12_resumption(how);
        let config = Arc::new(config);
        let kinds = [(); 2].map(|()| get(gate.https, &config).1);
        assert_eq!(
            kinds,
            [HandshakeKind::Full, HandshakeKind::Resumed],
            "{version:?} {how:?}"
        );
    }
}

#[test]
fn the_cheapest_cipher_for_this_machine_is_chosen() {
    #[cfg(target_arch = "x86_64")]
    let has_aes = std::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    let has_aes = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let has_aes = false;
    let (gate, _backend) = gate_with_handshakes_of(PATIENCE);
    for version in [&TLS13, &TLS12] {
        let (.., suite) = get(gate.https, &Arc::new(speaking(version)));
        let suite = format!("{:?}", suite.unwrap());
        let wanted = if has_aes { "AES_128_GCM" } else { "CHACHA20" };
        assert!(suite.contains(wanted), "{suite}");
    }
}
