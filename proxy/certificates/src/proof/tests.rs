//! Looks at nodes that answer, answer wrongly and do not answer.

use std::net::Ipv4Addr;
use std::sync::Arc;

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::ServerConfig;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

const PATIENCE: Patience = Patience {
    nodes: Duration::from_millis(400),
    pause: Duration::from_millis(50),
    public: Duration::ZERO,
};

fn host(name: &str) -> Hostname {
    Hostname::parse(name).unwrap()
}

fn page() -> Answer {
    Answer::Page {
        host: host("a.test"),
        token: "token".to_owned(),
        authorization: "token.print".to_owned(),
    }
}

fn handshake() -> Answer {
    Answer::Handshake {
        host: host("a.test"),
        authorization: "token.print".to_owned(),
    }
}

fn node(address: SocketAddr) -> Node {
    Node {
        name: "n1".to_owned(),
        addresses: [address.ip()].into(),
    }
}

fn ports(address: SocketAddr) -> Ports {
    Ports {
        http: Some(address.port()),
        https: Some(address.port()),
    }
}

/// A server that gives these answers, one a connection, the last one again and again.
async fn pages(answers: &'static [&'static str]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 2048];
            let read = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            assert!(
                request.starts_with("GET /.well-known/acme-challenge/token HTTP/1.1\r\n")
                    && request.to_lowercase().contains("host: a.test\r\n"),
                "{request}"
            );
            let answer = answers[number.min(answers.len() - 1)];
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    address
}

async fn seen(address: SocketAddr, answer: Answer) -> Result<(), NotProven> {
    let nodes = [node(address)];
    prove(&nodes, ports(address), &[answer], PATIENCE).await.0
}

const RIGHT: &str = "HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\ntoken.print\n";
const REDIRECT: &str =
    "HTTP/1.1 308 Moved\r\nlocation: https://a.test/\r\ncontent-length: 0\r\n\r\n";

#[tokio::test]
async fn an_answer_that_comes_late_is_seen() {
    let missing = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
    let answers: &[&str] = Box::leak(Box::new([missing, missing, RIGHT]));
    let address = pages(answers).await;
    assert_eq!(seen(address, page()).await, Ok(()));
}

#[tokio::test]
async fn whatever_else_is_seen_is_told_with_node_and_address() {
    for (answer, wanted) in [
        (
            REDIRECT,
            "it answers 308 Permanent Redirect to https://a.test/",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nother",
            "it answers something else: 'other'",
        ),
        ("SSH-2.0-x\r\n", "no answer: "),
    ] {
        let address = pages(Box::leak(Box::new([answer]))).await;
        let error = seen(address, page()).await.unwrap_err().to_string();
        let start = format!("node n1 does not give the answer for a.test (http-01): {address}: ");
        assert!(
            error.starts_with(&start) && error.contains(wanted),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_closed_port_a_node_without_addresses_and_no_node_are_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = seen(address, page()).await.unwrap_err().to_string();
    assert!(error.contains("refused"), "{error}");

    let lost = Node {
        name: "lost".to_owned(),
        addresses: BTreeSet::new(),
    };
    let (outcome, _) = prove(&[lost], ports(address), &[page()], PATIENCE).await;
    let error = outcome.unwrap_err().to_string();
    assert!(
        error.contains("node lost") && error.contains("no address"),
        "{error}"
    );

    let (outcome, _) = prove(&[], ports(address), &[page()], PATIENCE).await;
    assert_eq!(outcome, Err(NotProven::NoNode));
    let closed = Ports {
        http: None,
        https: None,
    };
    let (outcome, _) = prove(&[node(address)], closed, &[page()], PATIENCE).await;
    assert_eq!(outcome, Err(NotProven::NoPort("plain HTTP")));
}

#[tokio::test]
async fn one_of_a_nodes_addresses_is_enough() {
    let address = pages(Box::leak(Box::new([RIGHT]))).await;
    let both = Node {
        name: "n1".to_owned(),
        addresses: [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 99)]
            .map(IpAddr::from)
            .into(),
    };
    let (outcome, _) = prove(&[both], ports(address), &[page()], PATIENCE).await;
    assert_eq!(outcome, Ok(()));
}

#[tokio::test]
async fn a_message_names_five_nodes_and_counts_the_others() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let nodes: Vec<_> = (0..7)
        .map(|number| Node {
            name: format!("n{number}"),
            ..node(address)
        })
        .collect();
    let (outcome, _) = prove(&nodes, ports(address), &[page()], PATIENCE).await;
    let error = outcome.unwrap_err().to_string();
    assert!(
        error.contains("node n4 ") && !error.contains("node n5 ") && error.contains("; and 2 more"),
        "{error}"
    );
}

/// A server of handshakes with this certificate.
async fn handshakes(params: CertificateParams, protocol: &[u8]) -> SocketAddr {
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    // Not by the builder, which refuses the extension that this is about.
    let shown = CertifiedKey::new(
        vec![certificate.der().clone()],
        provider.key_provider.load_private_key(key).unwrap(),
    );
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
    config.alpn_protocols = vec![protocol.to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // A client that closes early is no matter.
            let _ = acceptor.accept(stream).await;
        }
    });
    address
}

fn answering(name: &str, authorization: &str) -> CertificateParams {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, authorization.as_bytes());
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest.as_ref())];
    params
}

#[tokio::test]
async fn a_handshake_is_seen_when_its_certificate_is_the_answer() {
    let right = handshakes(answering("a.test", "token.print"), b"acme-tls/1").await;
    assert_eq!(seen(right, handshake()).await, Ok(()));
    for (params, protocol, wanted) in [
        (
            answering("b.test", "token.print"),
            &b"acme-tls/1"[..],
            "not for a.test alone",
        ),
        (
            answering("a.test", "other.print"),
            b"acme-tls/1",
            "answers another challenge",
        ),
        (
            CertificateParams::new(["a.test".to_owned()]).unwrap(),
            b"acme-tls/1",
            "answers no challenge",
        ),
        (answering("a.test", "token.print"), b"h2", "no handshake"),
    ] {
        let address = handshakes(params, protocol).await;
        let error = seen(address, handshake()).await.unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}
