//! TLS towards clients, and HTTP/2 over it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use sha2::{Digest, Sha256};
use tidegate_model::{
    Certificate, CertificateIndex, Fingerprint, HostPattern, NamespacedName, PrivateKey, Protocol,
};

use crate::support::*;

pub(crate) fn certificate(name: &str) -> Arc<Certificate> {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let der = made.cert.der().clone();
    Arc::new(Certificate {
        secret: NamespacedName::new("default", name),
        names: vec![HostPattern::parse(name).unwrap()],
        not_before: tidegate_model::UnixTime(0),
        not_after: tidegate_model::UnixTime(i64::MAX),
        fingerprint: Fingerprint(Sha256::digest(&der).into()),
        chain: vec![der],
        key: PrivateKey::new(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(
            made.signing_key.serialize_der(),
        ))),
    })
}

/// Notes which certificate it was shown.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<Vec<CertificateDer<'static>>>);

impl Seen {
    pub(crate) fn certificates(&self) -> Vec<CertificateDer<'static>> {
        self.0.lock().unwrap().clone()
    }
}

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.0.lock().unwrap().push(end_entity.clone().into_owned());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

pub(crate) fn client_config(seen: Arc<Seen>, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(seen)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

/// A client's stream to an HTTP/2 connection, agreed on by ALPN.
pub(crate) async fn http2_stream(
    address: SocketAddr,
) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    let connector = tokio_rustls::TlsConnector::from(client_config(Arc::default(), &[b"h2"]));
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("a.example").unwrap();
    let stream = connector.connect(name, stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    stream
}

/// The same, for a client that reads and writes frames by itself.
pub(crate) fn http2_bytes(address: SocketAddr) -> StreamOwned<ClientConnection, TcpStream> {
    open(
        address,
        "a.example",
        &client_config(Arc::default(), &[b"h2"]),
    )
}

/// A client's end of an HTTP/2 connection.
pub(crate) async fn http2_client(
    address: SocketAddr,
) -> hyper::client::conn::http2::SendRequest<http_body_util::Full<bytes::Bytes>> {
    let stream = http2_stream(address).await;
    let builder = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
    let (sender, driver) = builder
        .handshake(hyper_util::rt::TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(driver);
    sender
}

pub(crate) fn open(
    address: SocketAddr,
    name: &str,
    config: &Arc<ClientConfig>,
) -> StreamOwned<ClientConnection, TcpStream> {
    let connection = ClientConnection::new(
        config.clone(),
        ServerName::try_from(name.to_owned()).unwrap(),
    )
    .unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    StreamOwned::new(connection, stream)
}

pub(crate) fn get(
    address: SocketAddr,
    name: &str,
    config: &Arc<ClientConfig>,
) -> (String, Option<rustls::HandshakeKind>) {
    let mut stream = open(address, name, config);
    write!(
        stream,
        "GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer, stream.conn.handshake_kind())
}

#[test]
fn the_certificate_is_chosen_by_name() {
    let backend = Backend::saying("secret");
    let (exact, wild, default) = (
        certificate("a.example"),
        certificate("*.example"),
        certificate("default"),
    );
    let index = CertificateIndex::new([
        (
            HostPattern::parse("a.example").unwrap(),
            vec![exact.clone()],
        ),
        (HostPattern::parse("*.example").unwrap(), vec![wild.clone()]),
        (HostPattern::Any, vec![default.clone()]),
    ]);
    let mut snapshot = everything_to(backend.address);
    snapshot.certificates = Arc::new(index);
    let gate = Gate::start(snapshot);
    for (name, wanted) in [
        ("a.example", &exact),
        ("b.example", &wild),
        ("c.d.example", &default),
        ("A.EXAMPLE", &exact),
    ] {
        let seen = Arc::new(Seen::default());
        let (answer, _) = get(gate.https, name, &client_config(seen.clone(), &[]));
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("secret"),
            "{answer}"
        );
        assert_eq!(seen.0.lock().unwrap()[0], wanted.chain[0], "{name}");
    }
    assert_eq!(
        field(&backend.last_head(), "x-forwarded-proto").as_deref(),
        Some("https")
    );
}

#[test]
fn without_any_certificate_a_self_signed_one_answers() {
    let backend = Backend::saying("x");
    let gate = Gate::start(everything_to(backend.address));
    let seen = Arc::new(Seen::default());
    let (answer, _) = get(gate.https, "a.example", &client_config(seen.clone(), &[]));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(seen.0.lock().unwrap().len(), 1);
}

#[test]
fn a_new_certificate_is_served_without_a_restart() {
    let backend = Backend::saying("x");
    let gate = Gate::start(everything_to(backend.address));
    let renewed = certificate("a.example");
    let mut snapshot = everything_to(backend.address);
    snapshot.certificates = Arc::new(CertificateIndex::new([(
        HostPattern::Any,
        vec![renewed.clone()],
    )]));
    gate.publish(snapshot);
    eventually("the new certificate is served", || {
        let seen = Arc::new(Seen::default());
        get(gate.https, "a.example", &client_config(seen.clone(), &[]));
        seen.0.lock().unwrap()[0] == renewed.chain[0]
    });
}

#[test]
fn a_session_is_resumed_on_whichever_worker() {
    let backend = Backend::saying("x");
    let gate = Gate::start_empty(2);
    gate.publish(everything_to(backend.address));
    let config = client_config(Arc::default(), &[]);
    let kinds: Vec<_> = (0..10)
        .map(|_| get(gate.https, "a.example", &config).1)
        .collect();
    assert_eq!(kinds[0], Some(rustls::HandshakeKind::Full));
    assert!(
        kinds[1..]
            .iter()
            .all(|kind| *kind == Some(rustls::HandshakeKind::Resumed)),
        "{kinds:?}"
    );
    eventually("handshakes are counted", || {
        gate.metrics()
            .contains("tls_handshakes_total{outcome=\"resumed\"} 9")
    });
}

#[test]
fn plain_text_on_the_tls_port_is_closed_and_counted() {
    let gate = Gate::start(snapshot(&[], &[]));
    let mut client = Client::connect(gate.https);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.rest();
    eventually("it is counted", || {
        gate.metrics()
            .contains("tls_handshakes_total{outcome=\"failed\"} 1")
    });
}

#[test]
fn http2_requests_reach_an_http1_endpoint() {
    let backend = Backend::http(|head, body| {
        ok(&format!(
            "{} {}",
            head.split(' ').nth(1).unwrap(),
            String::from_utf8_lossy(body)
        ))
    });
    let gate = Gate::start(snapshot(
        &[rule("a.example", "/", "u")],
        &[upstream("u", Protocol::Http, &[backend.address])],
    ));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let answers = runtime.block_on(async {
        let sender = http2_client(gate.https).await;
        let mut answers = Vec::new();
        for number in 0..3 {
            let mut sender = sender.clone();
            answers.push(tokio::spawn(async move {
                let request = http::Request::post(format!("https://a.example/{number}"))
                    .header("cookie", "a=1")
                    .header("cookie", "b=2")
                    .body(http_body_util::Full::new(bytes::Bytes::from("body")))
                    .unwrap();
                let response = sender.send_request(request).await.unwrap();
                assert_eq!(response.status(), 200);
                http_body_util::BodyExt::collect(response.into_body())
                    .await
                    .unwrap()
                    .to_bytes()
            }));
        }
        let mut texts = Vec::new();
        for answer in answers {
            texts.push(String::from_utf8(answer.await.unwrap().to_vec()).unwrap());
        }
        texts
    });
    assert_eq!(answers, ["/0 body", "/1 body", "/2 body"]);
    let head = backend.last_head();
    assert_eq!(field(&head, "host").as_deref(), Some("a.example"));
    assert_eq!(field(&head, "cookie").as_deref(), Some("a=1; b=2"));
}
