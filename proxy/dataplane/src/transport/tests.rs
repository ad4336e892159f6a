//! Transports against a peer that is rustls' ordinary, blocking API on a thread of its own.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection,
    StreamOwned,
};

use tidegate_model::TlsPolicy;

use super::handshake::HandshakeError;
use super::*;
use crate::clock::Clock;
use crate::tls::{Resolver, ServerCertificates, Sessions};

type ClientStream = StreamOwned<ClientConnection, TcpStream>;
type ServerStream = StreamOwned<ServerConnection, TcpStream>;

const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn server_config() -> Arc<ServerConfig> {
    let provider = crate::tls::provider();
    let certificates = ServerCertificates::self_signed(&provider).unwrap();
    let resolver = Resolver::new(Arc::new(certificates));
    let sessions = Sessions::new(provider).unwrap();
    let offer = sessions.offer(&TlsPolicy::default(), &Arc::default());
    offer.unwrap().server(resolver)
}

pub(super) fn client_config() -> Arc<ClientConfig> {
    crate::upstream::connector(crate::tls::provider()).unwrap()
}

/// Two ends of a connection: ours as accepted, and the peer's.
pub(super) fn sockets() -> (Socket, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.set_nodelay(true).unwrap();
    let (ours, _) = listener.accept().unwrap();
    ours.set_nonblocking(true).unwrap();
    (Socket::accepted(ours), peer)
}

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await.unwrap() })
}

async fn accept(socket: Socket) -> Result<Transport, HandshakeError> {
    let acceptor = TlsAcceptor::new(server_config(), Clock::new(), None);
    let stream = acceptor.accept(socket, PATIENCE).await?;
    Ok(Transport::Tls(stream))
}

async fn connect(socket: Socket) -> io::Result<Transport> {
    let name = ServerName::try_from("pod.example").unwrap();
    let stream = connect_tls(socket, client_config(), name).await?;
    Ok(Transport::Tls(stream))
}

/// The first message of a client's handshake.
pub(super) fn hello(config: &Arc<ClientConfig>) -> Vec<u8> {
    let name = ServerName::try_from("a.example").unwrap();
    let mut session = ClientConnection::new(config.clone(), name).unwrap();
    let mut bytes = Vec::new();
    session.write_tls(&mut bytes).unwrap();
    bytes
}

/// A client on a thread of its own.
pub(super) fn client<T: Send + 'static>(
    socket: TcpStream,
    talk: impl FnOnce(ClientStream) -> T + Send + 'static,
) -> JoinHandle<T> {
    std::thread::spawn(move || {
        let name = ServerName::try_from("A.example").unwrap();
        let session = ClientConnection::new(client_config(), name).unwrap();
        talk(StreamOwned::new(session, socket))
    })
}

/// Ends a peer's sending side and reads what still comes: closing with something unread would be a reset.
fn end(socket: &mut TcpStream) {
    let _ = socket.shutdown(std::net::Shutdown::Write);
    let _ = socket.read_to_end(&mut Vec::new());
}

/// A server on a thread of its own.
fn server<T: Send + 'static>(
    socket: TcpStream,
    config: Arc<ServerConfig>,
    talk: impl FnOnce(ServerStream) -> T + Send + 'static,
) -> JoinHandle<T> {
    std::thread::spawn(move || {
        let session = ServerConnection::new(config).unwrap();
        talk(StreamOwned::new(session, socket))
    })
}

async fn read(transport: &mut Transport, buf: &mut [u8]) -> io::Result<usize> {
    poll_fn(|cx| transport.poll_read(cx, buf)).await
}

/// Reads until the peer ends, in pieces of `size` bytes.
async fn read_all(transport: &mut Transport, size: usize) -> io::Result<Vec<u8>> {
    let (mut all, mut buf) = (Vec::new(), vec![0; size]);
    loop {
        match read(transport, &mut buf).await? {
            0 => return Ok(all),
            count => all.extend_from_slice(&buf[..count]),
        }
    }
}

async fn write_all(transport: &mut Transport, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let taken = poll_fn(|cx| transport.poll_write(cx, bytes)).await?;
        bytes = &bytes[taken..];
    }
    poll_fn(|cx| transport.poll_flush(cx)).await
}

async fn shutdown(transport: &mut Transport) -> io::Result<()> {
    poll_fn(|cx| transport.poll_shutdown(cx)).await
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n % 251) as u8).collect()
}

/// The content types of the records in these bytes (RFC 8446 section 5.1), which must end with one.
fn records(mut bytes: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    while !bytes.is_empty() {
        types.push(bytes[0]);
        let length = usize::from(u16::from_be_bytes([bytes[3], bytes[4]]));
        bytes = &bytes[5 + length..];
    }
    types
}

#[test]
fn an_accepted_socket_is_registered_when_it_would_block() {
    let (ours, mut peer) = sockets();
    peer.write_all(b"request").unwrap();
    block_on(async {
        let mut ours = Transport::Plain(ours);
        let mut buf = [0; 64];
        assert_eq!(read(&mut ours, &mut buf).await.unwrap(), 7);
        write_all(&mut ours, b"response").await.unwrap();
        assert!(!ours.is_registered());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(ours.poll_read(&mut cx, &mut buf).is_pending());
        assert!(ours.is_registered());
        peer.write_all(b"more").unwrap();
        assert_eq!(read(&mut ours, &mut buf).await.unwrap(), 4);
        assert_eq!(&buf[..4], b"more");
    });
}

#[test]
fn last_bytes_leave_whole_and_only_once_the_end_is_sent() {
    for registered in [false, true] {
        let (mut ours, mut peer) = sockets();
        block_on(async {
            if registered {
                ours.register().unwrap();
            }
            let mut ours = Transport::Plain(ours);
            let taken = poll_fn(|cx| ours.poll_write_last(cx, b"last")).await;
            assert_eq!(taken.unwrap(), 4);
            shutdown(&mut ours).await.unwrap();
            shutdown(&mut ours).await.unwrap();
        });
        let mut text = String::new();
        peer.read_to_string(&mut text).unwrap();
        assert_eq!(text, "last");
    }
}

#[test]
fn connecting_finds_a_listener_and_tells_of_none() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    block_on(async {
        let mut ours = Transport::Plain(Socket::connect(address).await.unwrap());
        write_all(&mut ours, b"x").await.unwrap();
        drop(listener);
        let refused = Socket::connect(address).await.err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn much_passes_both_ways_whatever_the_size_of_the_buffers() {
    let sent = pattern(3_000_000);
    for size in [700, 16 * 1024, 256 * 1024] {
        let (ours, peer) = sockets();
        let wanted = sent.clone();
        let peer = client(peer, move |mut stream| {
            stream.write_all(&wanted).unwrap();
            stream.conn.send_close_notify();
            stream.flush().unwrap();
            let mut back = Vec::new();
            stream.read_to_end(&mut back).unwrap();
            back
        });
        block_on(async {
            let mut ours = accept(ours).await.unwrap();
            let received = read_all(&mut ours, size).await.unwrap();
            assert!(received == sent, "{} bytes", received.len());
            write_all(&mut ours, &received).await.unwrap();
            shutdown(&mut ours).await.unwrap();
        });
        assert!(peer.join().unwrap() == sent);
    }
}

#[test]
fn a_peer_that_does_not_read_holds_the_writer() {
    let (ours, peer) = sockets();
    let (go, wait) = std::sync::mpsc::channel();
    let peer = client(peer, move |mut stream| {
        stream.write_all(b"begin").unwrap();
        wait.recv().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all.len()
    });
    block_on(async {
        let mut ours = accept(ours).await.unwrap();
        let bytes = pattern(session::WRITE);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut taken = 0;
        while let Poll::Ready(count) = ours.poll_write(&mut cx, &bytes) {
            taken += count.unwrap();
            assert!(taken < 100_000_000);
        }
        assert!(ours.poll_flush(&mut cx).is_pending());
        go.send(()).unwrap();
        poll_fn(|cx| ours.poll_write_last(cx, b"end"))
            .await
            .unwrap();
        shutdown(&mut ours).await.unwrap();
        assert_eq!(peer.join().unwrap(), taken + 3);
    });
}

#[test]
fn an_end_is_told_from_a_cut() {
    for says_so in [true, false] {
        let (ours, peer) = sockets();
        let peer = client(peer, move |mut stream| {
            stream.write_all(b"half").unwrap();
            if says_so {
                stream.conn.send_close_notify();
            }
            stream.flush().unwrap();
            end(&mut stream.sock);
        });
        block_on(async {
            let mut ours = accept(ours).await.unwrap();
            let mut buf = [0; 16];
            assert_eq!(read(&mut ours, &mut buf).await.unwrap(), 4);
            let end = read(&mut ours, &mut buf).await.map_err(|e| e.kind());
            if says_so {
                assert_eq!(end, Ok(0));
                assert_eq!(read(&mut ours, &mut buf).await.unwrap(), 0, "and again");
            } else {
                assert_eq!(end, Err(io::ErrorKind::UnexpectedEof));
            }
        });
        peer.join().unwrap();
    }
}

#[test]
fn a_response_its_end_and_the_tickets_leave_in_one_flight() {
    let (ours, peer) = sockets();
    let peer = std::thread::spawn(move || {
        let name = ServerName::try_from("a.example").unwrap();
        let mut session = ClientConnection::new(client_config(), name).unwrap();
        let mut socket = peer;
        session.write_tls(&mut socket).unwrap();
        while session.is_handshaking() {
            session.read_tls(&mut socket).unwrap();
            session.process_new_packets().unwrap();
        }
        assert_eq!(session.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        session.writer().write_all(b"request").unwrap();
        // The end of the handshake and the request at once, so that the reader has no reason to wait between them.
        let mut flight = Vec::new();
        while session.wants_write() {
            session.write_tls(&mut flight).unwrap();
        }
        socket.write_all(&flight).unwrap();
        let mut flight = vec![0; 4096];
        let count = socket.read(&mut flight).unwrap();
        flight.truncate(count);
        assert_eq!(socket.read(&mut [0; 1]).unwrap(), 0, "FIN and no more");
        flight
    });
    block_on(async {
        let mut ours = accept(ours).await.unwrap();
        let mut buf = [0; 64];
        assert_eq!(read(&mut ours, &mut buf).await.unwrap(), 7);
        let taken = poll_fn(|cx| ours.poll_write_last(cx, b"response")).await;
        assert_eq!(taken.unwrap(), 8);
        shutdown(&mut ours).await.unwrap();
        let late = poll_fn(|cx| ours.poll_write(cx, b"late")).await;
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    });
    let flight = peer.join().unwrap();
    let types = records(&flight);
    assert!((2..=3).contains(&types.len()), "{types:?}");
    assert!(types.iter().all(|kind| *kind == 23), "{types:?}");
}

#[test]
fn a_client_that_says_nothing_more_still_gets_its_tickets() {
    let (ours, peer) = sockets();
    let peer = client(peer, |mut stream| {
        while stream.conn.tls13_tickets_received() == 0 {
            stream.conn.complete_io(&mut stream.sock).unwrap();
        }
        stream.conn.send_close_notify();
        stream.flush().unwrap();
    });
    block_on(async {
        let mut ours = accept(ours).await.unwrap();
        assert_eq!(read(&mut ours, &mut [0; 8]).await.unwrap(), 0);
    });
    peer.join().unwrap();
}

#[test]
fn keys_are_updated_on_either_side_s_wish() {
    let (ours, peer) = sockets();
    let peer = client(peer, |mut stream| {
        let mut buf = [0; 4];
        for _ in 0..3 {
            stream.write_all(b"ping").unwrap();
            stream.conn.refresh_traffic_keys().unwrap();
            stream.write_all(b"PING").unwrap();
            stream.read_exact(&mut buf).unwrap();
            assert_eq!(&buf, b"pong");
        }
        stream.conn.send_close_notify();
        stream.flush().unwrap();
    });
    block_on(async {
        let mut ours = accept(ours).await.unwrap();
        let mut received = Vec::new();
        let mut buf = [0; 16];
        loop {
            let count = read(&mut ours, &mut buf).await.unwrap();
            if count == 0 {
                break;
            }
            received.extend_from_slice(&buf[..count]);
            if received.len() % 8 == 0 {
                write_all(&mut ours, b"pong").await.unwrap();
            }
        }
        assert_eq!(received, b"pingPING".repeat(3));
    });
    peer.join().unwrap();
}

#[test]
fn writing_goes_on_while_a_handshake_message_is_incomplete() {
    let (ours, peer) = sockets();
    let mut config = Arc::into_inner(server_config()).unwrap();
    // The ticket comes in many records.
    config.max_fragment_size = Some(40);
    let (go, wait) = std::sync::mpsc::channel();
    let peer = server(peer, Arc::new(config), move |stream| {
        let StreamOwned { mut conn, mut sock } = stream;
        while conn.is_handshaking() {
            if conn.wants_write() {
                conn.write_tls(&mut sock).unwrap();
            } else {
                conn.read_tls(&mut sock).unwrap();
                conn.process_new_packets().unwrap();
            }
        }
        conn.writer().write_all(b"answer").unwrap();
        let mut flight = Vec::new();
        while conn.wants_write() {
            conn.write_tls(&mut flight).unwrap();
        }
        let (part, rest) = flight.split_at(100);
        sock.write_all(part).unwrap();
        wait.recv().unwrap();
        let mut stream = StreamOwned { conn, sock };
        let mut request = [0; 7];
        stream.read_exact(&mut request).unwrap();
        stream.sock.write_all(rest).unwrap();
        request
    });
    block_on(async {
        let mut ours = connect(ours).await.unwrap();
        let mut buf = [0; 16];
        // The client's last message is held back until the reader waits.
        let early = tokio::time::timeout(Duration::from_millis(200), read(&mut ours, &mut buf));
        assert!(early.await.is_err(), "a part of a ticket is nothing yet");
        write_all(&mut ours, b"request").await.unwrap();
        go.send(()).unwrap();
        assert_eq!(read(&mut ours, &mut buf).await.unwrap(), 6);
        assert_eq!(&buf[..6], b"answer");
    });
    assert_eq!(&peer.join().unwrap(), b"request");
}

#[test]
fn a_record_that_was_tampered_with_ends_the_session_with_an_alert() {
    let (ours, peer) = sockets();
    let peer = client(peer, |stream| {
        let StreamOwned { mut conn, mut sock } = stream;
        while conn.tls13_tickets_received() == 0 {
            conn.complete_io(&mut sock).unwrap();
        }
        conn.writer().write_all(b"request").unwrap();
        let mut record = Vec::new();
        conn.write_tls(&mut record).unwrap();
        *record.last_mut().unwrap() ^= 1;
        sock.write_all(&record).unwrap();
        loop {
            conn.read_tls(&mut sock).unwrap();
            if let Err(error) = conn.process_new_packets() {
                return error;
            }
        }
    });
    block_on(async {
        let mut ours = accept(ours).await.unwrap();
        for _ in 0..2 {
            let error = read(&mut ours, &mut [0; 16]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
        let error = poll_fn(|cx| ours.poll_write(cx, b"x")).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        shutdown(&mut ours).await.unwrap();
    });
    assert_eq!(
        peer.join().unwrap(),
        rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac)
    );
}

#[test]
fn the_server_name_is_known_and_the_next_session_is_resumed() {
    let config = server_config();
    let towards = client_config();
    for wanted in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let (ours, peer) = sockets();
        let towards = towards.clone();
        let peer = std::thread::spawn(move || {
            let name = ServerName::try_from("A.example").unwrap();
            let session = ClientConnection::new(towards, name).unwrap();
            let mut stream = StreamOwned::new(session, peer);
            stream.write_all(b"x").unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap();
        });
        block_on(async {
            let acceptor = TlsAcceptor::new(config.clone(), Clock::new(), None);
            let mut stream = acceptor.accept(ours, PATIENCE).await.unwrap();
            assert_eq!(stream.server_name(), Some("a.example"));
            assert_eq!(stream.alpn_protocol(), Some(&b"http/1.1"[..]));
            assert_eq!(stream.handshake_kind(), Some(wanted));
            poll_fn(|cx| stream.poll_shutdown(cx)).await.unwrap();
        });
        peer.join().unwrap();
    }
}

#[test]
fn streams_and_their_handshakes_are_small() {
    // With what rustls keeps on the heap an idle connection stays well below 8 KB. The future of a handshake is a part
    // of the connection's task, which keeps its size for the connection's life.
    let size = size_of::<TlsStream>();
    assert!(size <= 1536, "{size}");
    let (ours, _peer) = sockets();
    let acceptor = TlsAcceptor::new(server_config(), Clock::new(), None);
    let size = size_of_val(&acceptor.accept(ours, PATIENCE));
    assert!(size <= 768, "{size}");
    let name = ServerName::try_from("pod.example").unwrap();
    let (ours, _peer) = sockets();
    let size = size_of_val(&connect_tls(ours, client_config(), name));
    assert!(size <= 768, "{size}");
}

/// A socket on whose way bytes are split anywhere, and one of them is changed.
struct Noisy {
    socket: TcpStream,
    course: u64,
    /// Bytes until the change.
    until: usize,
}

impl Noisy {
    fn random(&mut self, below: usize) -> usize {
        self.course = self
            .course
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1);
        (self.course >> 33) as usize % below
    }
}

impl Read for Noisy {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.socket.read(buf)
    }
}

impl Write for Noisy {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(1 + self.random(400));
        let mut part = bytes[..count].to_vec();
        if self.until < count {
            part[self.until] ^= 1 << self.random(8);
        }
        self.until = self.until.wrapping_sub(count);
        self.socket.write_all(&part)?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn one_wrong_bit_anywhere_ends_the_stream_and_never_changes_what_it_carries() {
    const UNCHANGED: u64 = 190;
    let sent = pattern(3000);
    let mut whole = 0;
    for round in 0..200 {
        let (ours, socket) = sockets();
        if round < UNCHANGED {
            // A wrong length leaves both sides waiting for each other.
            let patience = Duration::from_millis(300);
            socket.set_read_timeout(Some(patience)).unwrap();
        }
        let bytes = sent.clone();
        let peer = std::thread::spawn(move || {
            let name = ServerName::try_from("a.example").unwrap();
            let mut session = ClientConnection::new(client_config(), name).unwrap();
            session.set_buffer_limit(None);
            let mut noisy = Noisy {
                socket,
                course: round,
                until: 0,
            };
            noisy.until = match round {
                ..UNCHANGED => noisy.random(4800),
                _ => usize::MAX,
            };
            let mut stream = StreamOwned::new(session, noisy);
            let sent = stream.write_all(&bytes);
            stream.conn.send_close_notify();
            let _ = sent.and_then(|()| stream.flush());
            end(&mut stream.sock.socket);
        });
        let received = block_on(async {
            let mut ours = accept(ours).await.map_err(io::Error::other)?;
            read_all(&mut ours, 1000).await
        });
        peer.join().unwrap();
        match received {
            Ok(received) => {
                assert!(received == sent, "round {round}");
                whole += 1;
            }
            Err(error) => assert!(round < UNCHANGED, "round {round}: {error}"),
        }
    }
    // A bit may be one that nobody looks at, such as the version of a record.
    assert!((10..100).contains(&whole), "{whole}");
}
