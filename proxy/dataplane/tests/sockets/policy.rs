//! Versions and suites that clients are offered, by the policy of the moment.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, ProtocolVersion, SupportedProtocolVersion};
use tidegate_model::{CipherSuite, Policy, Snapshot, TlsPolicy, TlsVersion};

use crate::handshake::speaking;
use crate::support::*;
use crate::tls::open;

fn with_policy(min_version: TlsVersion, cipher_suites: &[CipherSuite]) -> Snapshot {
    let tls = TlsPolicy {
        min_version,
        cipher_suites: cipher_suites.to_vec(),
    };
    Snapshot {
        policy: Arc::new(Policy {
            tls,
            ..Policy::default()
        }),
        ..Snapshot::default()
    }
}

/// The number of the suite that is agreed on, or the alert that there is none.
fn agreed(
    address: SocketAddr,
    version: &'static SupportedProtocolVersion,
) -> Result<u16, AlertDescription> {
    let mut stream = open(address, "a.example", &Arc::new(speaking(version)));
    if stream.conn.complete_io(&mut stream.sock).is_ok() {
        let suite = stream.conn.negotiated_cipher_suite().unwrap();
        return Ok(u16::from(suite.suite()));
    }
    let error = stream.read(&mut [0]).unwrap_err();
    match error.downcast::<rustls::Error>() {
        Ok(rustls::Error::AlertReceived(alert)) => Err(alert),
        other => panic!("no alert: {other:?}"),
    }
}

#[test]
fn a_policy_is_in_force_from_the_next_handshake_on() {
    use CipherSuite as Suite;
    let gate = Gate::start(Snapshot::default());
    let tls12 = Suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384;
    let tls13 = Suite::TLS_CHACHA20_POLY1305_SHA256;
    let other = Suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384;
    let is = |version, suite: Suite| agreed(gate.https, version) == Ok(suite.code());
    let is_refused = |version, alert| agreed(gate.https, version) == Err(alert);
    let by_default = [&TLS13, &TLS12].map(|version| agreed(gate.https, version));
    assert!(by_default.iter().all(Result::is_ok), "{by_default:?}");

    // A connection that stands is not touched by what follows.
    let mut standing = open(gate.https, "a.example", &Arc::new(speaking(&TLS12)));
    standing.conn.complete_io(&mut standing.sock).unwrap();

    gate.publish(with_policy(TlsVersion::Tls13, &[]));
    eventually("TLS 1.2 is refused", || {
        is_refused(&TLS12, AlertDescription::ProtocolVersion)
    });
    assert_eq!(agreed(gate.https, &TLS13), by_default[0]);

    gate.publish(with_policy(TlsVersion::Tls12, &[tls12, tls13]));
    eventually("the suites are those", || {
        is(&TLS12, tls12) && is(&TLS13, tls13)
    });

    // The self-signed certificate has an ECDSA key.
    gate.publish(with_policy(TlsVersion::Tls12, &[other]));
    eventually("nothing in common is left", || {
        is_refused(&TLS12, AlertDescription::HandshakeFailure)
    });
    assert_eq!(agreed(gate.https, &TLS13), by_default[0]);

    gate.publish(with_policy(TlsVersion::Tls12, &[tls13]));
    eventually("there is no TLS 1.2 without a suite of it", || {
        is_refused(&TLS12, AlertDescription::ProtocolVersion)
    });

    gate.publish(Snapshot::default());
    eventually("all is as before", || {
        [&TLS13, &TLS12].map(|version| agreed(gate.https, version)) == by_default
    });
    let request = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    std::io::Write::write_all(&mut standing, request).unwrap();
    let mut answer = String::new();
    standing.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert_eq!(
        standing.conn.protocol_version(),
        Some(ProtocolVersion::TLSv1_2)
    );
}
