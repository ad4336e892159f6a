//! HTTP/2 with clients that mean well: bodies both ways, their ends, flow control, and the end of connections.

use std::io::{BufReader, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{Request, StatusCode};
use tidegate_model::Protocol;

use crate::support::*;
use crate::tls::http2_stream;

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), test)
            .await
            .expect("in time");
    });
}

/// A client whose connection can take more than one of its streams.
async fn client(gate: &Gate) -> SendRequest<Bytes> {
    let (sender, connection) = h2::client::Builder::new()
        .initial_window_size(256 * 1024)
        .initial_connection_window_size(4 * 1024 * 1024)
        .handshake(http2_stream(gate.https).await)
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("https://a.example{path}"))
        .body(())
        .unwrap()
}

fn post(path: &str) -> Request<()> {
    Request::post(format!("https://a.example{path}"))
        .body(())
        .unwrap()
}

/// Reads a body to its end or to the error that it ends with.
async fn read(body: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut read = Vec::new();
    while let Some(part) = body.data().await {
        let part = part?;
        read.extend_from_slice(&part);
        body.flow_control().release_capacity(part.len()).unwrap();
    }
    Ok(read)
}

async fn ask(sender: &mut SendRequest<Bytes>, request: Request<()>) -> (StatusCode, Vec<u8>) {
    let (response, _) = sender.send_request(request, true).unwrap();
    let (parts, mut body) = response.await.unwrap().into_parts();
    (parts.status, read(&mut body).await.unwrap())
}

/// A backend that sends a body of this size, and counts what it got rid of.
fn pouring(size: usize) -> (Backend, Arc<AtomicUsize>) {
    let poured = Arc::new(AtomicUsize::new(0));
    let count = poured.clone();
    let backend = Backend::raw(move |stream, _| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut writer = stream;
        while let Some(message) = read_message(&mut reader) {
            if message.head.starts_with("GET /small") {
                writer.write_all(ok("small").as_bytes()).unwrap();
                continue;
            }
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n");
            writer.write_all(head.as_bytes()).unwrap();
            let piece = [b'z'; 32 * 1024];
            let mut left = size;
            while left > 0 {
                let Ok(written) = writer.write(&piece[..left.min(piece.len())]) else {
                    return;
                };
                left -= written;
                count.fetch_add(written, Ordering::Relaxed);
            }
        }
    });
    (backend, poured)
}

#[test]
fn bodies_pass_both_ways_at_once() {
    run(async {
        let backend = Backend::http(|_, body| ok(&String::from_utf8_lossy(body)));
        let gate = Gate::start(everything_to(backend.address));
        let mut sender = client(&gate).await;
        let body: Vec<u8> = (0..600_000_u32).map(|at| b'a' + (at % 23) as u8).collect();
        for announced in [true, false] {
            let mut request = post("/echo");
            if announced {
                let length = body.len().into();
                request.headers_mut().insert("content-length", length);
            }
            let (response, mut stream) = sender.send_request(request, false).unwrap();
            let mut rest = Bytes::from(body.clone());
            while !rest.is_empty() {
                stream.reserve_capacity(rest.len());
                let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
                let piece = rest.split_to(room.unwrap().unwrap().min(rest.len()));
                stream.send_data(piece, rest.is_empty()).unwrap();
            }
            let (parts, mut answer) = response.await.unwrap().into_parts();
            assert_eq!(parts.status, 200);
            assert_eq!(parts.headers["content-length"], body.len().to_string());
            assert!(read(&mut answer).await.unwrap() == body, "the same bytes");
        }
    });
}

#[test]
fn responses_without_a_body_end_with_their_head() {
    run(async {
        let backend = Backend::http(|head, _| match head.split(' ').nth(1) {
            Some("/204") => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
            Some("/304") => "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n".to_owned(),
            Some("/head") => "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n".to_owned(),
            _ => ok(""),
        });
        let gate = Gate::start(everything_to(backend.address));
        let mut sender = client(&gate).await;
        for path in ["/204", "/304", "/empty"] {
            let (response, _) = sender.send_request(get(path), true).unwrap();
            assert!(response.await.unwrap().body().is_end_stream(), "{path}");
        }
        let request = Request::head("https://a.example/head").body(()).unwrap();
        let (response, _) = sender.send_request(request, true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.headers()["content-length"], "9");
        assert!(response.body().is_end_stream());
    });
}

#[test]
fn trailers_of_chunked_bodies_pass() {
    run(async {
        let backend = Backend::http(|_, _| {
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n"
                .to_owned()
        });
        let gate = Gate::start(everything_to(backend.address));
        let mut sender = client(&gate).await;
        let (response, _) = sender.send_request(get("/"), true).unwrap();
        let mut body = response.await.unwrap().into_body();
        assert_eq!(read(&mut body).await.unwrap(), b"abc");
        let trailers = body.trailers().await.unwrap().unwrap();
        assert_eq!(trailers["x-sum"], "7");
    });
}

#[test]
fn a_client_that_waits_for_it_is_told_to_go_on_and_gets_early_hints() {
    run(async {
        let backend = Backend::raw(|stream, _| {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut writer = stream;
            while read_message(&mut reader).is_some() {
                let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
                writer.write_all(hints.as_bytes()).unwrap();
                writer.write_all(ok("done").as_bytes()).unwrap();
            }
        });
        let gate = Gate::start(everything_to(backend.address));
        let mut sender = client(&gate).await;
        let mut request = post("/");
        let fields = request.headers_mut();
        fields.insert("expect", "100-continue".parse().unwrap());
        fields.insert("content-length", "4".parse().unwrap());
        let (mut response, mut stream) = sender.send_request(request, false).unwrap();
        let interim = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
        assert_eq!(interim.unwrap().unwrap().status(), 100);
        stream.send_data(Bytes::from_static(b"body"), true).unwrap();
        let interim = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
        let interim = interim.unwrap().unwrap();
        assert_eq!(interim.status(), 103);
        assert_eq!(interim.headers()["link"], "</a>");
        assert_eq!(
            read(&mut response.await.unwrap().into_body())
                .await
                .unwrap(),
            b"done"
        );
    });
}

#[test]
fn heads_beyond_the_limits_are_refused_by_status() {
    run(async {
        let backend = Backend::saying("x");
        let gate = Gate::start(everything_to(backend.address));
        let mut sender = client(&gate).await;
        let mut large = get("/");
        large
            .headers_mut()
            .insert("x", "v".repeat(70_000).parse().unwrap());
        assert_eq!(ask(&mut sender, large).await.0, 431);
        let mut many = get("/");
        for number in 0..200 {
            let name: http::HeaderName = format!("x-{number}").parse().unwrap();
            many.headers_mut().insert(name, "1".parse().unwrap());
        }
        assert_eq!(ask(&mut sender, many).await.0, 431);
        let long = get(&format!("/{}", "p".repeat(20_000)));
        assert_eq!(ask(&mut sender, long).await.0, 414);
        assert_eq!(ask(&mut sender, get("/")).await.0, 200);
    });
}

#[test]
fn a_response_that_breaks_off_does_not_look_whole() {
    run(async {
        let backend = Backend::raw(|mut stream, _| {
            let mut head = [0; 1024];
            let _ = stream.read(&mut head);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345");
            std::thread::sleep(Duration::from_millis(100));
        });
        let gate = Gate::start(everything_to(backend.address));
        let mut sender = client(&gate).await;
        let (response, _) = sender.send_request(get("/"), true).unwrap();
        let mut body = response.await.unwrap().into_body();
        let error = read(&mut body).await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
    });
}

#[test]
fn an_answer_before_the_end_of_the_request_is_whole() {
    run(async {
        let backend = Backend::raw(|mut stream, _| {
            let mut head = [0; 1024];
            let _ = stream.read(&mut head);
            let _ = stream.write_all(ok("no need to go on").as_bytes());
            std::thread::sleep(Duration::from_secs(1));
        });
        let gate = Gate::start(everything_to(backend.address));
        let mut sender = client(&gate).await;
        let (response, mut stream) = sender.send_request(post("/"), false).unwrap();
        let mut body = response.await.unwrap().into_body();
        assert_eq!(read(&mut body).await.unwrap(), b"no need to go on");
        // The rest of the request is not wanted, which is no error (RFC 9113 section 8.1).
        let reason = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
        assert_eq!(reason.unwrap(), Reason::NO_ERROR);
        let (status, _) = ask(&mut sender, get("/")).await;
        assert_eq!(status, 200);
    });
}

#[test]
fn a_request_that_is_given_up_is_given_up_at_the_endpoint() {
    run(async {
        let left = Arc::new(AtomicUsize::new(0));
        let seen = left.clone();
        let backend = Backend::raw(move |stream, _| {
            let mut reader = BufReader::new(stream);
            let request = read_message(&mut reader).unwrap();
            assert!(request.head.starts_with("GET /slow"));
            let mut rest = Vec::new();
            let _ = reader.read_to_end(&mut rest);
            seen.fetch_add(1, Ordering::SeqCst);
        });
        let gate = Gate::start(everything_to(backend.address));
        let mut sender = client(&gate).await;
        let (response, mut stream) = sender.send_request(get("/slow"), true).unwrap();
        while backend.opened() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stream.send_reset(Reason::CANCEL);
        drop(response);
        let started = Instant::now();
        while left.load(Ordering::SeqCst) == 0 {
            assert!(started.elapsed() < PATIENCE, "the endpoint never learnt");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn small_answers_pass_a_large_one_that_is_read_slowly() {
    run(async {
        let (backend, _) = pouring(50 << 20);
        let gate = Gate::start(everything_to(backend.address));
        let mut sender = client(&gate).await;
        let (response, _) = sender.send_request(get("/large"), true).unwrap();
        let mut large = response.await.unwrap().into_body();
        let slow = tokio::spawn(async move {
            let mut got = 0;
            while let Some(Ok(part)) = large.data().await {
                got += part.len();
                large.flow_control().release_capacity(part.len()).unwrap();
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            got
        });
        let mut slowest = Duration::ZERO;
        for _ in 0..100 {
            let started = Instant::now();
            assert_eq!(ask(&mut sender, get("/small")).await.1, b"small");
            slowest = slowest.max(started.elapsed());
        }
        assert!(slowest < Duration::from_secs(1), "one took {slowest:?}");
        assert!(!slow.is_finished());
        slow.abort();
    });
}

#[test]
fn a_reader_that_stalls_stops_the_endpoint_and_nobody_else() {
    run(async {
        let (backend, poured) = pouring(200 << 20);
        let gate = Gate::start(everything_to(backend.address));
        let mut sender = client(&gate).await;
        let (response, _) = sender.send_request(get("/large"), true).unwrap();
        let large = response.await.unwrap().into_body();
        let mut before = usize::MAX;
        while poured.load(Ordering::Relaxed) != before {
            before = poured.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        // What the sockets' buffers in the kernel hold, and a little of ours.
        assert!(before < 32 << 20, "{before} bytes were taken from it");
        assert_eq!(ask(&mut sender, get("/small")).await.1, b"small");
        drop(large);
    });
}

#[test]
fn a_drain_announces_itself_and_lets_requests_finish() {
    let backend = Backend::http(|_, _| {
        std::thread::sleep(Duration::from_millis(500));
        ok("late")
    });
    let gate = Gate::start(everything_to(backend.address));
    let seen = backend.heads.clone();
    let (begun, begin) = std::sync::mpsc::channel();
    let address = gate.https;
    let asking = std::thread::spawn(move || {
        run(async move {
            let (mut sender, connection) = h2::client::handshake(http2_stream(address).await)
                .await
                .unwrap();
            let connection = tokio::spawn(connection);
            let (response, _) = sender.send_request(get("/"), true).unwrap();
            begun.send(()).unwrap();
            let mut body = response.await.unwrap().into_body();
            assert_eq!(read(&mut body).await.unwrap(), b"late");
            drop(body);
            assert!(
                std::future::poll_fn(|cx| sender.poll_ready(cx))
                    .await
                    .is_err(),
                "it was told"
            );
            drop(sender);
            connection.await.unwrap().unwrap();
        });
    });
    begin.recv().unwrap();
    eventually("the request is under way", || {
        seen.lock().unwrap().len() == 1
    });
    let report = gate.drain(PATIENCE);
    assert_eq!((report.finished, report.cut), (1, 0));
    asking.join().unwrap();
}

/// An HTTP/2 endpoint that does with each connection what it is told.
async fn endpoint<F, S>(serve: F) -> std::net::SocketAddr
where
    F: Fn(tokio::net::TcpStream, usize) -> S + Send + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream, number));
        }
    });
    address
}

fn to_http2(endpoint: std::net::SocketAddr) -> Gate {
    Gate::start(snapshot(
        &[rule("", "/", "u")],
        &[upstream("u", Protocol::H2c, &[endpoint])],
    ))
}

/// Asks over HTTP/1.1, beside the runtime that drives the endpoint.
async fn plainly<T: Send + 'static>(
    gate: &Gate,
    read: impl FnOnce(&mut Client) -> T + Send + 'static,
) -> T {
    let mut client = gate.client();
    let asked = tokio::task::spawn_blocking(move || {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        read(&mut client)
    });
    asked.await.unwrap()
}

#[test]
fn an_answer_without_a_body_ends_over_http1_too() {
    run(async {
        let address = endpoint(|stream, _| async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                respond
                    .send_response(http::Response::new(()), true)
                    .unwrap();
            }
        })
        .await;
        let gate = to_http2(address);
        let response = plainly(&gate, Client::response).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.field("content-length").as_deref(), Some("0"));
    });
}

#[test]
fn a_request_that_an_endpoint_refuses_unread_is_sent_again() {
    run(async {
        let address = endpoint(|stream, number| async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let mut served = 0;
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                if number == 0 && served == 1 {
                    respond.send_reset(Reason::REFUSED_STREAM);
                    continue;
                }
                served += 1;
                respond
                    .send_response(http::Response::new(()), true)
                    .unwrap();
            }
        })
        .await;
        let gate = to_http2(address);
        let mut sender = client(&gate).await;
        for _ in 0..3 {
            let (response, _) = sender.send_request(post("/"), true).unwrap();
            assert_eq!(response.await.unwrap().status(), 200);
        }
        assert!(gate.metrics().contains("tidegate_upstream_retries_total 1"));
    });
}

#[test]
fn an_endpoint_that_allows_few_streams_gets_more_connections() {
    run(async {
        let opened = Arc::new(AtomicUsize::new(0));
        let count = opened.clone();
        let address = endpoint(move |stream, _| {
            count.fetch_add(1, Ordering::SeqCst);
            async move {
                let mut connection = h2::server::Builder::new()
                    .max_concurrent_streams(2)
                    .handshake::<_, Bytes>(stream)
                    .await
                    .unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_millis(300)).await;
                        let _ = respond.send_response(http::Response::new(()), true);
                    });
                }
            }
        })
        .await;
        let gate = to_http2(address);
        let mut sender = client(&gate).await;
        // So that the endpoint's settings are known.
        assert_eq!(ask(&mut sender, get("/")).await.0, 200);
        let mut responses = Vec::new();
        for _ in 0..6 {
            responses.push(sender.send_request(get("/"), true).unwrap().0);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for response in responses {
            assert_eq!(response.await.unwrap().status(), 200);
        }
        assert!(opened.load(Ordering::SeqCst) >= 3);
    });
}

#[test]
fn an_endpoint_that_resets_within_a_body_does_not_end_it() {
    run(async {
        let address = endpoint(|stream, _| async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let mut body = respond
                    .send_response(http::Response::new(()), false)
                    .unwrap();
                body.send_data(Bytes::from_static(b"half"), false).unwrap();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    body.send_reset(Reason::INTERNAL_ERROR);
                });
            }
        })
        .await;
        let gate = to_http2(address);
        let mut sender = client(&gate).await;
        let (response, _) = sender.send_request(get("/"), true).unwrap();
        let mut body = response.await.unwrap().into_body();
        let error = read(&mut body).await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
        // Over HTTP/1.1 the connection ends before the body does.
        let rest = plainly(&gate, |client| client.rest()).await;
        assert!(
            rest.contains("half") && !rest.contains("\r\n0\r\n"),
            "{rest}"
        );
    });
}
