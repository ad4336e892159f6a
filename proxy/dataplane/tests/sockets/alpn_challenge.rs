//! TLS-ALPN-01 challenges: answered in handshakes for `acme-tls/1`, and never in any other.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, ClientConfig, ProtocolVersion};
use sha2::{Digest, Sha256};
use tidegate_model::{
    CertificateIndex, ChallengeAnswers, HostPattern, Hostname, Policy, Snapshot, TlsPolicy,
    TlsVersion,
};

use crate::handshake::speaking;
use crate::support::*;
use crate::tls::{Seen, certificate, client_config, open};

/// The thumbprint of RFC 7638 section 3.1.
const PRINT: &str = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";

fn answering(mut snapshot: Snapshot, hosts: &[&str]) -> Snapshot {
    let mut answers = ChallengeAnswers::default();
    for host in hosts {
        let host = Hostname::parse(host).unwrap();
        let answer = format!("token.{PRINT}");
        answers.insert_handshake(host, &answer).unwrap();
    }
    snapshot.challenges = Arc::new(answers);
    snapshot
}

fn acme_client(mut config: ClientConfig, seen: Arc<Seen>) -> Arc<ClientConfig> {
    config.dangerous().set_certificate_verifier(seen);
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    Arc::new(config)
}

/// DER of the extension `acmeIdentifier`, critical, for the answer: what RFC 8737 section 3 says it is.
fn acme_identifier() -> Vec<u8> {
    let oid = [6, 8, 0x2b, 6, 1, 5, 5, 7, 1, 31];
    let critical = [1, 1, 0xff];
    let hash = Sha256::digest(format!("token.{PRINT}"));
    [&oid[..], &critical, &[4, 34, 4, 32], &hash].concat()
}

/// DER of `subjectAltName` for one host, and nothing else.
fn only_name(host: &str) -> Vec<u8> {
    let length = host.len() as u8;
    let front = [4, length + 4, 0x30, length + 2, 0x82, length];
    [&[6, 3, 0x55, 0x1d, 0x11][..], &front, host.as_bytes()].concat()
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|part| part == needle)
}

#[test]
fn a_handshake_for_a_challenge_is_answered_and_ended() {
    let backend = Backend::saying("app");
    let gate = Gate::start(answering(everything_to(backend.address), &["a.example"]));
    for (version, name) in [(&TLS13, "a.example"), (&TLS12, "A.Example")] {
        let seen = Arc::new(Seen::default());
        let config = acme_client(speaking(version), seen.clone());
        let mut stream = open(gate.https, name, &config);
        stream.conn.complete_io(&mut stream.sock).unwrap();
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"acme-tls/1"[..]));
        let shown = seen.certificates()[0].to_vec();
        assert!(holds(&shown, &acme_identifier()), "{shown:x?}");
        assert!(holds(&shown, &only_name("a.example")), "{shown:x?}");
        // A request on it gets no answer: the session is ended in good order.
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.is_empty(), "{answer:?}");
    }
    assert_eq!(backend.opened(), 0);
    eventually("they are counted", || {
        let metrics = gate.metrics();
        metrics.contains("tls_handshakes_total{outcome=\"challenge\"} 2")
            && metrics.contains("tls_handshakes_total{outcome=\"failed\"} 0")
    });
}

#[test]
fn without_an_answer_the_protocol_is_refused() {
    let backend = Backend::saying("app");
    let snapshot = || everything_to(backend.address);
    for snapshot in [snapshot(), answering(snapshot(), &["a.example"])] {
        let gate = Gate::start(snapshot);
        for version in [&TLS13, &TLS12] {
            let config = acme_client(speaking(version), Arc::default());
            let mut stream = open(gate.https, "b.example", &config);
            let error = stream.read_to_end(&mut Vec::new()).unwrap_err();
            let error = error.downcast::<rustls::Error>().unwrap();
            let wanted = rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol);
            assert_eq!(error, wanted);
        }
    }
}

#[test]
fn ordinary_handshakes_are_as_ever_while_challenges_are_answered() {
    let backend = Backend::saying("app");
    let ours = certificate("a.example");
    let mut snapshot = answering(everything_to(backend.address), &["a.example"]);
    let host = HostPattern::parse("a.example").unwrap();
    snapshot.certificates = Arc::new(CertificateIndex::new([(host, vec![ours.clone()])]));
    let gate = Gate::start(snapshot);
    for (offered, agreed) in [
        (&[][..], None),
        (&["http/1.1"], Some("http/1.1")),
        (&["acme-tls/1", "http/1.1"], Some("http/1.1")),
        (&["acme-tls/1", "h2"], Some("h2")),
    ] {
        let offered: Vec<&[u8]> = offered.iter().map(|name| name.as_bytes()).collect();
        let agreed = agreed.map(str::as_bytes);
        let seen = Arc::new(Seen::default());
        let mut stream = open(
            gate.https,
            "a.example",
            &client_config(seen.clone(), &offered),
        );
        stream.conn.complete_io(&mut stream.sock).unwrap();
        assert_eq!(stream.conn.alpn_protocol(), agreed, "{offered:?}");
        assert_eq!(seen.certificates()[0], ours.chain[0]);
    }
    let config = client_config(Arc::default(), &[b"acme-tls/1", b"foo"]);
    let mut stream = open(gate.https, "a.example", &config);
    assert!(stream.conn.complete_io(&mut stream.sock).is_err());
}

#[test]
fn answers_come_and_go_with_the_snapshot_and_whatever_the_policy() {
    let gate = Gate::start(Snapshot::default());
    let agrees = |version| {
        let config = acme_client(speaking(version), Arc::default());
        let mut stream = open(gate.https, "a.example", &config);
        stream.conn.complete_io(&mut stream.sock).is_ok()
    };
    assert!(!agrees(&TLS12));
    let mut strict = answering(Snapshot::default(), &["a.example"]);
    strict.policy = Arc::new(Policy {
        tls: TlsPolicy {
            min_version: TlsVersion::Tls13,
            cipher_suites: Vec::new(),
        },
        ..Policy::default()
    });
    gate.publish(strict);
    eventually("it is answered", || agrees(&TLS12) && agrees(&TLS13));
    gate.publish(Snapshot::default());
    eventually("it is not answered any more", || !agrees(&TLS12));
}

#[test]
fn a_hello_in_pieces_is_read_to_its_end() {
    let gate = Gate::start(answering(Snapshot::default(), &["a.example"]));
    let config = acme_client(speaking(&TLS13), Arc::default());
    let mut fragmented = Arc::unwrap_or_clone(config);
    fragmented.max_fragment_size = Some(100);
    let mut stream = open(gate.https, "a.example", &Arc::new(fragmented));
    stream.conn.complete_io(&mut stream.sock).unwrap();
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"acme-tls/1"[..]));
    assert_eq!(
        stream.conn.protocol_version(),
        Some(ProtocolVersion::TLSv1_3)
    );
}

#[test]
fn openssl_sees_the_answer() {
    let gate = Gate::start(answering(Snapshot::default(), &["a.example"]));
    let shown = Command::new("openssl")
        .args([
            "s_client",
            "-alpn",
            "acme-tls/1",
            "-servername",
            "a.example",
        ])
        .args(["-connect", &gate.https.to_string()])
        .stdin(Stdio::null())
        .output()
        .expect("openssl (the program of that name) is needed");
    let session = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(session.contains("ALPN protocol: acme-tls/1"), "{session}");
    let mut reader = Command::new("openssl")
        .args(["x509", "-noout", "-text"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = reader.stdin.take().unwrap();
    input.write_all(session.as_bytes()).unwrap();
    drop(input);
    let text = reader.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    // OpenSSL has a name for the extension from version 3.1 on.
    let named = ["1.3.6.1.5.5.7.1.31: critical", "ACME Identifier: critical"];
    assert!(
        named.iter().any(|name| text.contains(name)) || text.contains("acmeIdentifier: critical"),
        "{text}"
    );
    assert!(text.contains("DNS:a.example"), "{text}");
}
