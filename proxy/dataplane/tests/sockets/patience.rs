//! Peers that stop, break off, or send what nobody wants: nobody waits for them with more than a little memory, and nobody
//! takes a part for the whole.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use tidegate_model::Protocol;

use crate::exchanges::{GET, MEGABYTE, answering_once, read_chunk, read_request_head};
use crate::support::*;
use crate::tls::{client_config, open};

/// Everything under `/x`, so that all else is answered 404 by Tidegate itself.
fn only_x_to(backend: &Backend) -> Gate {
    Gate::start(snapshot(
        &[rule("", "/x", "u")],
        &[upstream("u", Protocol::Http, &[backend.address])],
    ))
}

/// Goes away as a client does whose machine has crashed: by a reset.
fn reset(client: Client) {
    let Client { stream, reader } = client;
    drop(reader);
    let socket = socket2::Socket::from(stream);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
fn an_answer_before_the_body_was_read_arrives_whole() {
    let answer = "a".repeat(MEGABYTE);
    let sent = ok(&answer);
    let backend = Backend::raw(move |mut stream, _| {
        read_request_head(&mut stream);
        stream.write_all(sent.as_bytes()).unwrap();
        // It reads nothing more, and stays.
        std::thread::sleep(PATIENCE);
    });
    let gate = Gate::start(everything_to(backend.address));
    let mut client = gate.client();
    let mut writer = client.stream.try_clone().unwrap();
    let length = 64 * MEGABYTE;
    let sending = std::thread::spawn(move || {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        let block = vec![b'u'; MEGABYTE];
        writer.write_all(head.as_bytes())?;
        (0..length / MEGABYTE).try_for_each(|_| writer.write_all(&block))
    });
    let response = client.response();
    assert_eq!(response.status(), 200);
    assert!(response.text() == answer);
    // The rest of the body has nowhere to go, so the connection ends, whether the client sends on or not.
    assert!(client.is_closed());
    drop(client);
    let _ = sending.join().unwrap();
}

#[test]
fn a_small_body_that_nobody_wants_keeps_the_connection() {
    let backend = Backend::saying("x");
    let gate = only_x_to(&backend);
    let mut client = gate.client();
    for _ in 0..3 {
        client.send("POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n");
        let response = client.response();
        assert_eq!(response.status(), 404);
        assert_eq!(response.field("connection"), None);
        client.send(&"u".repeat(1000));
    }
    client.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().text(), "x");
}

#[test]
fn what_is_within_an_unwanted_body_is_no_request() {
    let backend = Backend::saying("x");
    let gate = only_x_to(&backend);
    let hidden = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut client = gate.client();
    client.send(&format!(
        "POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{hidden}{hidden}",
        hidden.len()
    ));
    assert_eq!(client.response().status(), 404);
    assert_eq!(client.response().text(), "x");
    assert_eq!(backend.heads.lock().unwrap().len(), 1);
}

#[test]
fn a_body_that_breaks_after_the_answer_began_cuts_both() {
    let (sender, ended) = mpsc::channel();
    let backend = Backend::raw(move |mut stream, _| {
        read_request_head(&mut stream);
        let _ =
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n");
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        let _ = stream.write_all(b"0\r\n\r\n");
        let _ = sender.send(rest);
    });
    let gate = Gate::start(everything_to(backend.address));
    let mut client = gate.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    assert_eq!(client.response_without_body().status(), 200);
    assert_eq!(read_chunk(&mut client), b"a");
    client.send("zz\r\n0\r\n\r\n");
    assert_eq!(client.rest(), "");
    let rest = ended.recv_timeout(PATIENCE).unwrap();
    assert_eq!(String::from_utf8_lossy(&rest), "3\r\nabc\r\n");
}

#[test]
fn a_client_that_asks_without_reading_is_held_back() {
    let answer = "x".repeat(64 * 1024);
    let expected = answer.clone();
    let backend = Backend::http(move |_, _| ok(&answer));
    let gate = Gate::start(everything_to(backend.address));
    let client = gate.client();
    let mut writer = client.stream.try_clone().unwrap();
    let written = Arc::new(AtomicU64::new(0));
    let counter = written.clone();
    let block = GET.repeat(1000);
    let sending = std::thread::spawn(move || {
        while writer.write_all(block.as_bytes()).is_ok() {
            counter.fetch_add(block.len() as u64, Ordering::SeqCst);
        }
    });
    let held = standstill(&written);
    assert!(held < ON_THE_WAY, "{held} bytes");
    assert!(gate.ask(GET).text() == expected);
    client.stream.shutdown(Shutdown::Both).unwrap();
    sending.join().unwrap();
}

#[test]
fn a_large_body_that_nobody_wants_ends_the_connection_in_good_order() {
    let backend = Backend::saying("x");
    let gate = only_x_to(&backend);
    let length = 50 * MEGABYTE;
    for framing in [
        format!("Content-Length: {length}\r\n\r\n"),
        format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n"),
    ] {
        let mut client = gate.client();
        let mut writer = client.stream.try_clone().unwrap();
        let sending = std::thread::spawn(move || {
            write!(writer, "POST /none HTTP/1.1\r\nHost: a\r\n{framing}")?;
            let block = vec![b'u'; MEGABYTE];
            (0..length / MEGABYTE).try_for_each(|_| writer.write_all(&block))
        });
        // The client reads late, when everything that it can send is under way.
        std::thread::sleep(Duration::from_millis(200));
        let response = client.response();
        assert_eq!(response.status(), 404);
        assert_eq!(response.field("connection").as_deref(), Some("close"));
        assert_eq!(client.reader.read(&mut [0; 10]).unwrap(), 0);
        drop(client);
        let _ = sending.join().unwrap();
    }
}

#[test]
fn a_large_body_that_nobody_wants_ends_a_tls_connection_in_good_order() {
    let backend = Backend::saying("x");
    let gate = only_x_to(&backend);
    let config = client_config(Arc::default(), &[b"http/1.1"]);
    let mut stream = open(gate.https, "a.example", &config);
    let length = 8 * MEGABYTE;
    write!(
        stream,
        "POST /none HTTP/1.1\r\nHost: a.example\r\nContent-Length: {length}\r\n\r\n"
    )
    .unwrap();
    // This client reads nothing before it has sent everything.
    stream.write_all(&vec![b'u'; length]).unwrap();
    let mut answer = String::new();
    // Fails without `close_notify`.
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[test]
fn who_waits_for_leave_gets_the_final_answer_instead() {
    let backend = Backend::saying("x");
    let gate = only_x_to(&backend);
    let mut client = gate.client();
    client.send(
        "POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n",
    );
    let response = client.response();
    assert_eq!(response.status(), 404);
    // Whether the body will come now is unknown, so nothing else can be read from the connection.
    assert_eq!(response.field("connection").as_deref(), Some("close"));
    assert!(client.is_closed());
}

#[test]
fn a_client_that_is_gone_frees_the_endpoints_connection() {
    let (sender, ended) = mpsc::channel();
    let asked = Arc::new(AtomicU64::new(0));
    let seen = asked.clone();
    let backend = Backend::raw(move |mut stream, _| {
        read_request_head(&mut stream);
        seen.fetch_add(1, Ordering::SeqCst);
        // No answer: the next thing to read is the end.
        let _ = sender.send(stream.read(&mut [0; 1]).ok());
    });
    let gate = Gate::start(everything_to(backend.address));
    for request in [
        GET,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n",
    ] {
        let before = asked.load(Ordering::SeqCst);
        let mut client = gate.client();
        client.send(request);
        eventually("the endpoint is asked", || {
            asked.load(Ordering::SeqCst) > before
        });
        reset(client);
        let end = ended.recv_timeout(PATIENCE / 2);
        assert!(matches!(end, Ok(Some(0) | None)), "{end:?}");
    }
}

#[test]
fn a_client_that_is_gone_within_an_answer_frees_the_endpoints_connection() {
    let (sender, ended) = mpsc::channel();
    let backend = Backend::raw(move |mut stream, _| {
        read_request_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nsome");
        let _ = sender.send(stream.read(&mut [0; 1]).ok());
    });
    let gate = Gate::start(everything_to(backend.address));
    let mut client = gate.client();
    client.send(GET);
    client.response_without_body();
    reset(client);
    let end = ended.recv_timeout(PATIENCE / 2);
    assert!(matches!(end, Ok(Some(0) | None)), "{end:?}");
}

/// Waits until a count has stood still for a while and returns it.
fn standstill(count: &AtomicU64) -> u64 {
    let limit = std::time::Instant::now() + PATIENCE;
    let mut last = count.load(Ordering::SeqCst);
    loop {
        std::thread::sleep(Duration::from_millis(500));
        let now = count.load(Ordering::SeqCst);
        if now == last && now > 0 {
            return now;
        }
        assert!(std::time::Instant::now() < limit, "never stands still");
        last = now;
    }
}

/// What the kernel may hold on the way (four buffers of some megabytes that it sizes itself), and little of ours.
const ON_THE_WAY: u64 = 24 * MEGABYTE as u64;

#[test]
fn a_reader_that_stalls_holds_the_endpoint_back() {
    let total = 100 * MEGABYTE;
    let written = Arc::new(AtomicU64::new(0));
    let counter = written.clone();
    let backend = Backend::raw(move |mut stream, _| {
        read_request_head(&mut stream);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {total}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let block = vec![b'd'; 64 * 1024];
        for _ in 0..total / block.len() {
            if stream.write_all(&block).is_err() {
                return;
            }
            counter.fetch_add(block.len() as u64, Ordering::SeqCst);
        }
    });
    let gate = Gate::start(everything_to(backend.address));
    let mut client = gate.client();
    client.send(GET);
    let held = standstill(&written);
    assert!(held < ON_THE_WAY, "{held} bytes");
    // Others are served meanwhile, and the rest comes when it is read.
    assert_eq!(client.response().body.len(), total);
}

#[test]
fn an_endpoint_that_stalls_holds_the_client_back() {
    let (release, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let total = 100 * MEGABYTE;
    let backend = Backend::raw(move |mut stream, _| {
        read_request_head(&mut stream);
        held.lock().unwrap().recv().unwrap();
        let mut read = 0;
        let mut buffer = vec![0; 64 * 1024];
        while read < total {
            match stream.read(&mut buffer) {
                Ok(count @ 1..) => read += count,
                _ => return,
            }
        }
        let _ = stream.write_all(ok(&read.to_string()).as_bytes());
    });
    let gate = Gate::start(everything_to(backend.address));
    let mut client = gate.client();
    let mut writer = client.stream.try_clone().unwrap();
    let written = Arc::new(AtomicU64::new(0));
    let counter = written.clone();
    let sending = std::thread::spawn(move || {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {total}\r\n\r\n");
        writer.write_all(head.as_bytes())?;
        let block = vec![b'u'; 64 * 1024];
        (0..total / block.len()).try_for_each(|_| {
            counter.fetch_add(block.len() as u64, Ordering::SeqCst);
            writer.write_all(&block)
        })
    });
    let sent = standstill(&written);
    assert!(sent < ON_THE_WAY, "{sent} bytes");
    release.send(()).unwrap();
    assert_eq!(client.response().text(), total.to_string());
    sending.join().unwrap().unwrap();
}

#[test]
fn an_answer_that_breaks_off_never_looks_whole() {
    for (answer, got) in [
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            "4\r\nhalf\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n8\r\nhalf",
            "4\r\nhalf\r\n",
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", "half"),
    ] {
        let backend = answering_once(answer);
        let gate = Gate::start(everything_to(backend.address));
        let mut client = gate.client();
        client.send(GET);
        assert_eq!(client.response_without_body().status(), 200);
        assert_eq!(client.rest(), got, "{answer:?}");
    }
}

#[test]
fn an_answer_that_breaks_off_ends_in_a_reset_where_its_end_is_the_connections() {
    let backend =
        answering_once("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n");
    let gate = Gate::start(everything_to(backend.address));
    let mut client = gate.client();
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!(client.response_without_body().status(), 200);
    let mut body = Vec::new();
    let end = client
        .reader
        .read_to_end(&mut body)
        .map_err(|error| error.kind());
    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));
    assert_eq!(body, b"half");
}
