//! What the engines owe both sides of an exchange beside correct bytes: order, early answers, both
//! directions at once.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use crate::support::*;

pub(crate) const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
pub(crate) const MEGABYTE: usize = 1024 * 1024;

/// Answers one request of each connection with these bytes and closes.
pub(crate) fn answering_once(bytes: impl Into<Vec<u8>>) -> Backend {
    let bytes = bytes.into();
    Backend::raw(move |mut stream, _| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        read_message(&mut reader);
        let _ = stream.write_all(&bytes);
    })
}

/// Reads exactly the head of a request from an endpoint's side, nothing of its body.
pub(crate) fn read_request_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nlink: </s.css>; rel=preload\r\n\r\n";

#[test]
fn early_hints_pass_to_http11_and_not_to_http10() {
    let backend = answering_once(format!("{HINTS}{}", ok("x")));
    let gate = Gate::start(everything_to(backend.address));
    let mut client = gate.client();
    client.send(GET);
    let hints = client.response_without_body();
    assert_eq!(hints.status(), 103);
    assert_eq!(
        hints.field("link").as_deref(),
        Some("</s.css>; rel=preload")
    );
    assert_eq!(client.response().text(), "x");
    let response = gate.ask("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!((response.status(), response.text().as_str()), (200, "x"));
}

#[test]
fn early_hints_come_before_the_answer_is_there() {
    let (release, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let backend = Backend::raw(move |mut stream, _| {
        read_request_head(&mut stream);
        stream.write_all(HINTS.as_bytes()).unwrap();
        held.lock().unwrap().recv().unwrap();
        stream.write_all(ok("x").as_bytes()).unwrap();
    });
    let gate = Gate::start(everything_to(backend.address));
    let mut client = gate.client();
    client.send(GET);
    assert_eq!(client.response_without_body().status(), 103);
    release.send(()).unwrap();
    assert_eq!(client.response().text(), "x");
}

#[test]
fn several_informational_responses_pass_in_their_order() {
    let informational = concat!(
        "HTTP/1.1 102 Processing\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nlink: <1>\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nlink: <2>\r\nconnection: x-hop\r\nx-hop: 1\r\n\r\n",
    );
    let backend = answering_once(format!("{informational}{}", ok("x")));
    let gate = Gate::start(everything_to(backend.address));
    let mut client = gate.client();
    client.send(GET);
    let heads: Vec<_> = (0..3).map(|_| client.response_without_body()).collect();
    let statuses: Vec<_> = heads.iter().map(Response::status).collect();
    assert_eq!(statuses, [102, 103, 103]);
    assert_eq!(heads[2].field("link").as_deref(), Some("<2>"));
    // Fields of the endpoint's connection stay there, also those of an informational response.
    assert_eq!(heads[2].field("connection"), None);
    assert_eq!(heads[2].field("x-hop"), None);
    assert_eq!(client.response().text(), "x");
}

/// Sends each chunk back as it comes.
fn echoing_chunks() -> Backend {
    Backend::raw(|mut stream, _| {
        read_request_head(&mut stream);
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        let mut buffer = vec![0; 64 * 1024];
        let mut seen = Vec::new();
        // The framing goes back with the data: what ends one body ends the other.
        while !seen.ends_with(b"\r\n0\r\n\r\n") {
            let Ok(count @ 1..) = reader.read(&mut buffer) else {
                return;
            };
            seen.extend_from_slice(&buffer[..count]);
            seen.drain(..seen.len().saturating_sub(16));
            if stream.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    })
}

/// Reads one chunk, or the end, which is empty.
pub(crate) fn read_chunk(client: &mut Client) -> Vec<u8> {
    use std::io::BufRead;
    let mut size = String::new();
    client.reader.read_line(&mut size).unwrap();
    let size = usize::from_str_radix(size.trim(), 16).unwrap();
    let mut chunk = vec![0; size + 2];
    client.reader.read_exact(&mut chunk).unwrap();
    chunk.truncate(size);
    chunk
}

#[test]
fn both_bodies_flow_at_once() {
    let backend = echoing_chunks();
    let gate = Gate::start(everything_to(backend.address));
    let mut client = gate.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut begun = false;
    // In lockstep: the next chunk is sent when the last one has come back.
    for number in 0..20 {
        client.send(&format!("2\r\n{number:02}\r\n"));
        if !begun {
            assert_eq!(client.response_without_body().status(), 200);
            begun = true;
        }
        let mut back = Vec::new();
        while back.len() < 2 {
            back.extend(read_chunk(&mut client));
        }
        assert_eq!(back, format!("{number:02}").into_bytes());
    }
    // And more than all buffers on the way can hold.
    let total = 10 * MEGABYTE;
    let mut writer = client.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        let block: Vec<u8> = (0..MEGABYTE).map(|index| (index % 251) as u8).collect();
        for _ in 0..total / MEGABYTE {
            write!(writer, "{MEGABYTE:x}\r\n")?;
            writer.write_all(&block)?;
            writer.write_all(b"\r\n")?;
        }
        writer.write_all(b"0\r\n\r\n")
    });
    let mut read = 0;
    loop {
        let chunk = read_chunk(&mut client);
        if chunk.is_empty() {
            break;
        }
        for (index, byte) in chunk.iter().enumerate() {
            assert_eq!(*byte, ((read + index) % MEGABYTE % 251) as u8);
        }
        read += chunk.len();
    }
    assert_eq!(read, total);
    sending.join().unwrap().unwrap();
}

#[test]
fn trailers_of_a_request_reach_the_endpoint() {
    let (sender, received) = mpsc::channel();
    let backend = Backend::raw(move |mut stream, _| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let _ = sender.send(read_message(&mut reader).unwrap());
        let _ = stream.write_all(ok("x").as_bytes());
    });
    let gate = Gate::start(everything_to(backend.address));
    gate.ask(concat!(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n",
        "3\r\nabc\r\n0\r\nX-Sum: 7\r\nX-More: 8\r\n\r\n"
    ));
    let request = received.recv_timeout(PATIENCE).unwrap();
    assert_eq!(request.text(), "abc");
    assert_eq!(request.trailers.to_lowercase(), "x-sum: 7\r\nx-more: 8\r\n");
    assert_eq!(field(&request.head, "trailer").as_deref(), Some("X-Sum"));
}

#[test]
fn a_client_that_ends_its_half_gets_all_its_answers() {
    let backend = Backend::http(|head, _| {
        std::thread::sleep(Duration::from_millis(50));
        ok(head.split(' ').nth(1).unwrap())
    });
    let gate = Gate::start(everything_to(backend.address));
    let mut client = gate.client();
    client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab");
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.response().text(), "/1");
    assert_eq!(client.response().text(), "/2");
    assert!(client.is_closed());
}

#[test]
fn a_hundred_requests_in_one_write_are_answered_in_order() {
    let backend = Backend::http(|head, body| {
        let target = head.split(' ').nth(1).unwrap();
        ok(&format!("{target} {}", String::from_utf8_lossy(body)))
    });
    let gate = Gate::start(everything_to(backend.address));
    let request = |number: usize| match number % 3 {
        0 => format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n"),
        1 => format!("POST /{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
        _ => format!(
            "POST /{number} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n1\r\nf\r\n0\r\n\r\n"
        ),
    };
    let mut client = gate.client();
    client.send(&(0..100).map(request).collect::<String>());
    for number in 0..100 {
        let body = ["", "abc", "def"][number % 3];
        assert_eq!(client.response().text(), format!("/{number} {body}"));
    }
    assert_eq!(backend.opened(), 1);
}

#[test]
fn heads_among_pipelined_requests_have_no_bodies() {
    let backend = Backend::http(|head, _| match head.split(' ').next() {
        Some("HEAD") => "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n".to_owned(),
        _ => ok("x"),
    });
    let gate = Gate::start(everything_to(backend.address));
    let mut client = gate.client();
    let pair = format!("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n{GET}");
    client.send(&pair.repeat(10));
    for _ in 0..10 {
        let head = client.response_without_body();
        assert_eq!(head.field("content-length").as_deref(), Some("1000"));
        assert_eq!(client.response().text(), "x");
    }
}

#[test]
fn a_response_until_close_is_chunked_for_http11_and_keeps_the_connection() {
    let backend = answering_once("HTTP/1.0 200 OK\r\n\r\nuntil the end");
    let gate = Gate::start(everything_to(backend.address));
    let mut client = gate.client();
    for _ in 0..3 {
        client.send(GET);
        let response = client.response();
        assert_eq!(
            response.field("transfer-encoding").as_deref(),
            Some("chunked")
        );
        assert_eq!(response.field("connection"), None);
        assert_eq!(response.text(), "until the end");
    }
    let mut old = gate.client();
    old.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
    let response = old.response();
    assert_eq!(response.field("transfer-encoding"), None);
    assert_eq!(response.text(), "until the end");
}

#[test]
fn a_switch_to_another_protocol_than_was_asked_for_is_no_answer() {
    let backend = Backend::http(|_, _| {
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n"
            .to_owned()
    });
    let gate = Gate::start(everything_to(backend.address));
    let asked = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(gate.ask(asked).status(), 502);
}
