//! Endpoints that speak something other than HTTP/1.1 in plain text.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tidegate_model::Protocol;

use crate::support::*;
use crate::tls::http2_client;

/// An HTTP/2 endpoint in plain text that answers as gRPC does: a message, then trailers.
async fn grpc_endpoint() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(builder.serve_connection(
                TokioIo::new(stream),
                hyper::service::service_fn(grpc_answer),
            ));
        }
    });
    address
}

async fn grpc_answer(
    request: Request<Incoming>,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let authority = request.uri().authority().unwrap().to_string();
    let te = request.headers().get("te").cloned().unwrap();
    let sent = request.into_body().collect().await.unwrap().to_bytes();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    let body = Full::new(sent).with_trailers(async move { Some(Ok(trailers)) });
    Ok(Response::builder()
        .header("x-authority", authority)
        .header("x-te", te)
        .body(body)
        .unwrap())
}

#[test]
fn grpc_passes_from_http2_to_http2_with_its_trailers() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let endpoint = grpc_endpoint().await;
        let gate = Gate::start(snapshot(
            &[rule("", "/", "u")],
            &[upstream("u", Protocol::H2c, &[endpoint])],
        ));
        let mut sender = http2_client(gate.https).await;
        for number in 0..5 {
            let request = Request::post("https://a.example/pkg.Service/Call")
                .header("te", "trailers")
                .body(Full::new(Bytes::from(format!("message {number}"))))
                .unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.headers()["x-authority"], "a.example");
            assert_eq!(response.headers()["x-te"], "trailers");
            let collected = response.into_body().collect().await.unwrap();
            assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
            assert_eq!(collected.to_bytes(), format!("message {number}"));
        }
        // One connection carries them all.
        assert!(
            gate.metrics()
                .contains("tidegate_upstream_connections_total 1\n")
        );
    });
}

#[test]
fn large_heads_of_one_http2_connection_are_bounded_together() {
    const REQUESTS: usize = 60;
    // As many as fit 2 MiB.
    const SERVED: usize = 34;
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let backend = Backend::raw(move |mut stream, _| {
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        while read_message(&mut reader).is_some() {
            // Waits until the sender is gone.
            let _ = released.lock().unwrap().recv();
            let _ = stream.write_all(ok("x").as_bytes());
        }
    });
    let gate = Gate::start(everything_to(backend.address));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut sender = http2_client(gate.https).await;
        let request = || {
            Request::get("https://a.example/")
                .header("x-large", "a".repeat(60_000))
                .body(Full::default())
                .unwrap()
        };
        let (sent, mut answers) = tokio::sync::mpsc::unbounded_channel();
        for _ in 0..REQUESTS {
            let (answer, sent) = (sender.send_request(request()), sent.clone());
            tokio::spawn(async move {
                let status = answer.await.map(|response| response.status());
                let _ = sent.send(status);
            });
        }
        // Those that find no room are refused at once, in a way that says that they were not served.
        for _ in SERVED..REQUESTS {
            let error = answers.recv().await.unwrap().unwrap_err();
            let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref());
            let reason = cause.and_then(h2::Error::reason);
            assert_eq!(reason, Some(h2::Reason::REFUSED_STREAM));
        }
        drop(release);
        for _ in 0..SERVED {
            assert_eq!(answers.recv().await.unwrap().unwrap(), 200);
        }
        let answer = sender.send_request(request()).await.unwrap();
        assert_eq!(answer.status(), 200);
    });
}

#[test]
fn https_endpoints_get_tls() {
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
    let backend = Backend::raw(move |stream, _| {
        let connection = rustls::ServerConnection::new(config.clone()).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, stream);
        let mut seen = [0; 4];
        while stream.read_exact(&mut seen).is_ok() {
            assert_eq!(&seen, b"GET ");
            let mut reader = std::io::BufReader::with_capacity(1, &mut stream);
            read_message(&mut reader);
            let _ = stream.write_all(ok("encrypted").as_bytes());
        }
    });
    let gate = Gate::start(snapshot(
        &[rule("", "/", "u")],
        &[upstream("u", Protocol::Https, &[backend.address])],
    ));
    for _ in 0..3 {
        assert_eq!(
            gate.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").text(),
            "encrypted"
        );
    }
    assert_eq!(backend.opened(), 1);
}

#[test]
fn what_an_endpoint_sends_behind_a_204_over_http2_is_not_passed_on() {
    let backend = Backend::raw(|mut stream, _| {
        let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
            let length = u8::try_from(payload.len()).unwrap();
            [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
        };
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).unwrap();
        stream.write_all(&frame(4, 0, 0, &[])).unwrap();
        let mut head = [0; 9];
        while stream.read_exact(&mut head).is_ok() {
            let [_, high, low, kind, _, _, _, _, id] = head;
            let mut payload = vec![0; usize::from(u16::from_be_bytes([high, low]))];
            stream.read_exact(&mut payload).unwrap();
            if kind == 1 {
                // HPACK's ninth entry is `:status: 204`.
                let answer = frame(1, 4, id, &[0x89]);
                let more = frame(0, 1, id, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                let _ = stream.write_all(&[answer, more].concat());
            }
        }
    });
    let gate = Gate::start(snapshot(
        &[rule("", "/", "u")],
        &[upstream("u", Protocol::H2c, &[backend.address])],
    ));
    let mut client = gate.client();
    for _ in 0..3 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().status(), 204);
    }
}
