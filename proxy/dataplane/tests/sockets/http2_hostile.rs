//! HTTP/2 frame by frame: what RFC 9113 forbids is refused, what costs much and brings nothing ends the connection.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};
use tidegate_model::Timeouts;

use crate::support::*;
use crate::tls::http2_bytes;

const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const ENHANCE_YOUR_CALM: u32 = 11;

/// A client that writes frames as they are.
pub(crate) struct Peer(StreamOwned<ClientConnection, TcpStream>);

pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// How the gate took something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The stream was answered, with a response of this status (0: one that this client cannot read).
    Answered(u16),
    Reset(u32),
    /// The connection was ended, with this reason.
    GoneAway(u32),
    Closed,
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A block of fields: literals that are not indexed (RFC 7541 section 6.2.2).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "the length fits its first byte");
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    block
}

const GET: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "https"),
    (":authority", "a.example"),
    (":path", "/"),
];

pub(crate) fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(&GET))
}

/// The head of a request that has a body, with one more field.
fn post(stream: u32, field: &[(&str, &str)]) -> Vec<u8> {
    let mut fields = GET.to_vec();
    fields[0].1 = "POST";
    fields.extend(field);
    frame(HEADERS, END_HEADERS, stream, &block(&fields))
}

impl Peer {
    pub(crate) fn connect(gate: &Gate) -> Self {
        let stream = http2_bytes(gate.https);
        stream
            .sock
            .set_write_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        let mut peer = Self(stream);
        peer.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        peer.send(&frame(SETTINGS, 0, 0, &[]));
        peer.send(&frame(SETTINGS, ACK, 0, &[]));
        peer
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// Whether the other side still took it.
    fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.0
            .write_all(bytes)
            .and_then(|()| self.0.flush())
            .is_ok()
    }

    pub(crate) fn receive(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.0.read_exact(&mut payload).ok()?;
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload,
        })
    }

    /// What becomes of the stream or of the connection.
    fn verdict(&mut self, stream: u32) -> Verdict {
        while let Some(frame) = self.receive() {
            let code = |at: usize| {
                let code = frame.payload.get(at..at + 4);
                u32::from_be_bytes(code.unwrap().try_into().unwrap())
            };
            match frame.kind {
                HEADERS if frame.stream == stream => {
                    return Verdict::Answered(match frame.payload.first() {
                        Some(0x88) => 200,
                        Some(0x8c) => 400,
                        Some(0x8d) => 404,
                        _ => 0,
                    });
                }
                RST_STREAM if frame.stream == stream => return Verdict::Reset(code(0)),
                GOAWAY => return Verdict::GoneAway(code(4)),
                _ => {}
            }
        }
        Verdict::Closed
    }
}

fn gate() -> (Gate, Backend) {
    let backend = Backend::saying("x");
    (Gate::start(everything_to(backend.address)), backend)
}

/// The frame-by-frame client is understood, or the tests here would show nothing.
#[test]
fn a_good_request_is_answered() {
    let (gate, _backend) = gate();
    let mut peer = Peer::connect(&gate);
    for stream in [1, 3, 5] {
        peer.send(&get(stream));
        assert_eq!(peer.verdict(stream), Verdict::Answered(200));
    }
}

#[test]
fn malformed_requests_are_refused() {
    let (gate, backend) = gate();
    let without = |name: &str| {
        let kept = GET.iter().filter(|(found, _)| *found != name);
        kept.copied().collect::<Vec<_>>()
    };
    let with = |name, value| [&GET[..], &[(name, value)]].concat();
    let before = |name, value| [&[(name, value)], &GET[..]].concat();
    let cases = [
        ("no :method", without(":method")),
        ("no :scheme", without(":scheme")),
        ("no :path", without(":path")),
        ("no authority", without(":authority")),
        ("two :method", before(":method", "GET")),
        ("two :scheme", before(":scheme", "https")),
        ("two :path", before(":path", "/")),
        ("two :authority", before(":authority", "a.example")),
        ("unknown pseudo-field", before(":tide", "1")),
        (":status in a request", before(":status", "200")),
        (
            "pseudo-field after a field",
            [&[("x", "1")], &GET[..]].concat(),
        ),
        (
            "empty :path",
            [&without(":path")[..], &[(":path", "")]].concat(),
        ),
        (
            "a :path that is no path",
            [&without(":path")[..], &[(":path", "a/b")]].concat(),
        ),
        (
            "a blank in :path",
            [&without(":path")[..], &[(":path", "/a b")]].concat(),
        ),
        (
            "user information in :authority",
            [&without(":authority")[..], &[(":authority", "u@a.example")]].concat(),
        ),
        ("host against :authority", with("host", "b.example")),
        ("connection", with("connection", "close")),
        ("keep-alive", with("keep-alive", "1")),
        ("proxy-connection", with("proxy-connection", "close")),
        ("transfer-encoding", with("transfer-encoding", "chunked")),
        ("upgrade", with("upgrade", "websocket")),
        ("te", with("te", "gzip")),
        ("upper case", with("X-Upper", "1")),
        ("a blank in a name", with("x y", "1")),
        ("an empty name", with("", "1")),
        ("NUL in a value", with("x", "a\0b")),
        ("CR in a value", with("x", "a\rb")),
        ("LF in a value", with("x", "a\nb")),
        ("length without a body", with("content-length", "5")),
        ("signed length", with("content-length", "+0")),
        (
            "two lengths",
            [&with("content-length", "0")[..], &[("content-length", "1")]].concat(),
        ),
        (
            "extended CONNECT, which is off",
            [&[(":method", "CONNECT"), (":protocol", "x")], &GET[1..]].concat(),
        ),
    ];
    let mut peer = Peer::connect(&gate);
    let mut stream = 1;
    for (what, fields) in &cases {
        peer.send(&frame(
            HEADERS,
            END_STREAM | END_HEADERS,
            stream,
            &block(fields),
        ));
        stream += 2;
        match peer.verdict(stream - 2) {
            Verdict::Reset(PROTOCOL_ERROR) | Verdict::Answered(400) => {}
            // Names and values that no field can have are found before the stream is known.
            Verdict::GoneAway(PROTOCOL_ERROR) => {
                peer = Peer::connect(&gate);
                stream = 1;
            }
            verdict => panic!("{what}: {verdict:?}"),
        }
    }
    peer.send(&get(stream));
    assert_eq!(peer.verdict(stream), Verdict::Answered(200));
    assert_eq!(backend.heads.lock().unwrap().len(), 1, "only the good one");
}

#[test]
fn bodies_that_are_not_as_announced_reset_their_stream() {
    let (gate, _backend) = gate();
    const FIVE: &[(&str, &str)] = &[("content-length", "5")];
    let cases = [
        (
            "more than announced",
            FIVE,
            vec![frame(DATA, END_STREAM, 1, b"123456")],
        ),
        (
            "less than announced",
            FIVE,
            vec![frame(DATA, END_STREAM, 1, b"1234")],
        ),
        (
            "less, in two parts",
            FIVE,
            vec![frame(DATA, 0, 1, b"12"), frame(DATA, END_STREAM, 1, b"34")],
        ),
        (
            "less, then trailers",
            FIVE,
            vec![
                frame(DATA, 0, 1, b"1234"),
                frame(
                    HEADERS,
                    END_STREAM | END_HEADERS,
                    1,
                    &block(&[("x-sum", "1")]),
                ),
            ],
        ),
        (
            "trailers that do not end the stream",
            &[],
            vec![
                frame(DATA, 0, 1, b"12345"),
                frame(HEADERS, END_HEADERS, 1, &block(&[("x-sum", "1")])),
            ],
        ),
    ];
    for (what, fields, frames) in cases {
        let mut peer = Peer::connect(&gate);
        peer.send(&post(1, fields));
        frames.iter().for_each(|frame| peer.send(frame));
        assert_eq!(peer.verdict(1), Verdict::Reset(PROTOCOL_ERROR), "{what}");
        peer.send(&get(3));
        assert_eq!(peer.verdict(3), Verdict::Answered(200), "after {what}");
    }
}

#[test]
fn frames_that_break_the_protocol_end_the_connection_or_the_stream() {
    let (gate, _backend) = gate();
    let connection = |code| [Verdict::GoneAway(code), Verdict::Closed];
    let stream = |code| [Verdict::Reset(code), Verdict::GoneAway(code)];
    let partial = frame(HEADERS, END_STREAM, 1, &block(&GET));
    let cases = [
        ("an even stream", get(2), connection(PROTOCOL_ERROR)),
        (
            "a stream that goes back",
            [get(5), get(3)].concat(),
            connection(PROTOCOL_ERROR),
        ),
        (
            "DATA on an idle stream",
            frame(DATA, 0, 1, b"x"),
            connection(PROTOCOL_ERROR),
        ),
        (
            "DATA on stream 0",
            frame(DATA, 0, 0, b"x"),
            connection(PROTOCOL_ERROR),
        ),
        ("HEADERS on stream 0", get(0), connection(PROTOCOL_ERROR)),
        (
            "RST_STREAM on an idle stream",
            frame(RST_STREAM, 0, 1, &[0; 4]),
            connection(PROTOCOL_ERROR),
        ),
        (
            "WINDOW_UPDATE on an idle stream",
            frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
            connection(PROTOCOL_ERROR),
        ),
        (
            "WINDOW_UPDATE by nothing",
            frame(WINDOW_UPDATE, 0, 0, &[0; 4]),
            connection(PROTOCOL_ERROR),
        ),
        (
            "WINDOW_UPDATE beyond the largest window",
            frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
            connection(FLOW_CONTROL_ERROR),
        ),
        (
            "SETTINGS of 5 bytes",
            frame(SETTINGS, 0, 0, &[0; 5]),
            connection(FRAME_SIZE_ERROR),
        ),
        (
            "SETTINGS on a stream",
            frame(SETTINGS, 0, 1, &[]),
            connection(PROTOCOL_ERROR),
        ),
        (
            "SETTINGS acknowledged that were not sent",
            frame(SETTINGS, ACK, 0, &[]),
            connection(PROTOCOL_ERROR),
        ),
        (
            "PING of 7 bytes",
            frame(PING, 0, 0, &[0; 7]),
            connection(FRAME_SIZE_ERROR),
        ),
        (
            "PING on a stream",
            frame(PING, 0, 1, &[0; 8]),
            connection(PROTOCOL_ERROR),
        ),
        (
            "GOAWAY on a stream",
            frame(GOAWAY, 0, 1, &[0; 8]),
            connection(PROTOCOL_ERROR),
        ),
        (
            "CONTINUATION of nothing",
            frame(CONTINUATION, END_HEADERS, 1, &[]),
            connection(PROTOCOL_ERROR),
        ),
        (
            "another frame within a block of fields",
            [partial.clone(), frame(PING, 0, 0, &[0; 8])].concat(),
            connection(PROTOCOL_ERROR),
        ),
        (
            "CONTINUATION of another stream",
            [partial, frame(CONTINUATION, END_HEADERS, 3, &[])].concat(),
            connection(PROTOCOL_ERROR),
        ),
        (
            "PUSH_PROMISE by a client",
            frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]),
            connection(PROTOCOL_ERROR),
        ),
        (
            "a frame larger than allowed",
            frame(DATA, 0, 1, &[0; 16_385]),
            connection(FRAME_SIZE_ERROR),
        ),
        (
            "more padding than payload",
            [post(1, &[]), frame(DATA, PADDED, 1, &[9, 1, 2])].concat(),
            connection(PROTOCOL_ERROR),
        ),
        (
            "fields that cannot be decompressed",
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0xff, 0xff, 0xff]),
            connection(9),
        ),
        (
            "DATA after the end of a stream",
            [
                post(1, &[]),
                frame(DATA, END_STREAM, 1, b"x"),
                frame(DATA, 0, 1, b"x"),
            ]
            .concat(),
            stream(STREAM_CLOSED),
        ),
    ];
    for (what, bytes, allowed) in cases {
        let mut peer = Peer::connect(&gate);
        let _ = peer.try_send(&bytes);
        let mut verdict = peer.verdict(1);
        while let Verdict::Answered(_) = verdict {
            verdict = peer.verdict(1);
        }
        // The specification names the error; a more general one is as good a refusal.
        let general = [
            Verdict::GoneAway(PROTOCOL_ERROR),
            Verdict::Reset(PROTOCOL_ERROR),
        ];
        assert!(
            allowed.contains(&verdict) || general.contains(&verdict),
            "{what}: {verdict:?}"
        );
    }
    assert_eq!(gate.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").text(), "x");
}

/// Sends pieces until the gate has had enough, and says how many it took.
fn flood(peer: &mut Peer, mut piece: impl FnMut(u32) -> Vec<u8>) -> usize {
    let mut taken = 0;
    for round in 0..1_000_u32 {
        let pieces: Vec<u8> = (0..100).flat_map(|at| piece(round * 100 + at)).collect();
        if !peer.try_send(&pieces) {
            break;
        }
        taken += 100;
    }
    taken
}

#[test]
fn floods_end_their_connection() {
    let (gate, backend) = gate();
    type Flood = fn(u32) -> Vec<u8>;
    let floods: [(&str, Vec<u8>, Flood); 12] = [
        ("PING", vec![], |_| frame(PING, 0, 0, &[7; 8])),
        ("PING acknowledged", vec![], |_| {
            frame(PING, ACK, 0, &[7; 8])
        }),
        ("SETTINGS", vec![], |_| frame(SETTINGS, 0, 0, &[])),
        ("windows that change", vec![], |at| {
            let window = (at % 2 * 1000).to_be_bytes();
            frame(SETTINGS, 0, 0, &[&[0, 4], &window[..]].concat())
        }),
        ("PRIORITY", vec![], |_| {
            frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1])
        }),
        ("WINDOW_UPDATE", vec![], |_| {
            frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])
        }),
        ("unknown frames", vec![], |_| frame(0xfa, 0, 0, &[0; 100])),
        ("empty DATA", post(1, &[]), |_| frame(DATA, 0, 1, &[])),
        ("padding alone", post(1, &[]), |_| {
            frame(DATA, PADDED, 1, &[1, 0])
        }),
        (
            "CONTINUATION",
            frame(HEADERS, END_STREAM, 1, &block(&GET)),
            |_| frame(CONTINUATION, 0, 1, &[]),
        ),
        ("rapid reset", vec![], |at| {
            let stream = 2 * at + 1;
            [get(stream), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
        }),
        ("streams made to be reset", vec![], |at| {
            let stream = 2 * at + 1;
            [get(stream), frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat()
        }),
    ];
    for (what, begin, piece) in floods {
        let mut peer = Peer::connect(&gate);
        peer.send(&begin);
        let taken = flood(&mut peer, piece);
        assert!(taken < 50_000, "{what}: {taken} were taken");
        let _ = peer.0.sock.shutdown(Shutdown::Write);
        let mut verdict = peer.verdict(u32::MAX);
        while let Verdict::Answered(_) | Verdict::Reset(_) = verdict {
            verdict = peer.verdict(u32::MAX);
        }
        assert!(
            matches!(
                verdict,
                Verdict::Closed | Verdict::GoneAway(ENHANCE_YOUR_CALM | PROTOCOL_ERROR)
            ),
            "{what}: {verdict:?}"
        );
        let mut other = Peer::connect(&gate);
        other.send(&get(1));
        assert_eq!(other.verdict(1), Verdict::Answered(200), "after {what}");
    }
    let forwarded = backend.heads.lock().unwrap().len();
    assert!(forwarded < 3_000, "{forwarded} requests were forwarded");
}

#[test]
fn a_bomb_of_compressed_fields_costs_no_memory() {
    let (gate, backend) = gate();
    let mut peer = Peer::connect(&gate);
    // A field of 4000 bytes goes into the table once and is named by one byte each time after.
    let mut bomb = block(&GET);
    bomb.extend([0x40, 1, b'x', 0x7f, 0x80 | (3873_u16 % 128) as u8]);
    bomb.push((3873_u16 / 128) as u8);
    bomb.extend([b'b'; 4000]);
    bomb.extend([0xbe; 8_000]);
    peer.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &bomb));
    let verdict = peer.verdict(1);
    assert!(
        matches!(
            verdict,
            Verdict::GoneAway(ENHANCE_YOUR_CALM) | Verdict::Answered(0)
        ),
        "{verdict:?}"
    );
    assert_eq!(backend.heads.lock().unwrap().len(), 0);
}

fn hurried() -> (Gate, Backend) {
    let backend = Backend::saying("x");
    let timeouts = Timeouts {
        request_head: Duration::from_millis(500),
        idle: Duration::from_millis(500),
        ..Timeouts::default()
    };
    let gate = Gate::start(with_timeouts(everything_to(backend.address), timeouts));
    (gate, backend)
}

#[test]
fn a_head_that_drips_is_not_waited_for() {
    let (gate, _backend) = hurried();
    let mut peer = Peer::connect(&gate);
    peer.send(&frame(HEADERS, END_STREAM, 1, &block(&GET)));
    let started = Instant::now();
    let mut sent = 0;
    while peer.try_send(&frame(CONTINUATION, 0, 1, &[])) && sent < 4 {
        sent += 1;
        std::thread::sleep(Duration::from_millis(150));
    }
    assert_eq!(peer.verdict(1), Verdict::GoneAway(ENHANCE_YOUR_CALM));
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_client_that_never_says_what_it_speaks_is_let_go() {
    let (gate, _backend) = hurried();
    let mut stream = http2_bytes(gate.https);
    let started = Instant::now();
    let mut rest = Vec::new();
    stream.write_all(b"PRI * HT").unwrap();
    let _ = stream.read_to_end(&mut rest);
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[test]
fn pings_do_not_keep_an_idle_connection() {
    let (gate, _backend) = hurried();
    let mut peer = Peer::connect(&gate);
    let started = Instant::now();
    while peer.try_send(&frame(PING, 0, 0, &[1; 8])) {
        assert!(started.elapsed() < Duration::from_secs(5), "kept by pings");
        std::thread::sleep(Duration::from_millis(50));
    }
    let verdict = peer.verdict(1);
    assert!(
        matches!(verdict, Verdict::GoneAway(0) | Verdict::Closed),
        "{verdict:?}"
    );
}

#[test]
fn a_client_without_a_window_is_not_waited_for() {
    let backend = Backend::http(|_, _| ok(&"y".repeat(100_000)));
    let timeouts = Timeouts {
        idle: Duration::from_millis(500),
        ..Timeouts::default()
    };
    let gate = Gate::start(with_timeouts(everything_to(backend.address), timeouts));
    let mut peer = Peer::connect(&gate);
    // No window for any stream (RFC 9113 section 6.5.2), and pings that say: I am here.
    peer.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]));
    peer.send(&get(1));
    assert_eq!(peer.verdict(1), Verdict::Answered(200));
    let started = Instant::now();
    while peer.try_send(&frame(PING, 0, 0, &[1; 8])) {
        let Some(answer) = peer.receive() else {
            break;
        };
        if matches!(answer.kind, RST_STREAM | GOAWAY) {
            break;
        }
        assert!(answer.flags & END_STREAM == 0 || answer.kind == PING);
        assert!(started.elapsed() < Duration::from_secs(5), "kept by pings");
        std::thread::sleep(Duration::from_millis(50));
    }
}
