//! A look at a client's hello before its handshake, for what has to be known by then.

use std::io;

use rustls::server::{Accepted, Acceptor};
use tidegate_model::Hostname;

use super::Socket;
use super::handshake::read_more;
use super::session::RECORD;
use crate::tls::{ACME_TLS, without_dot};

/// Reads behind the first record, at most, for a hello that is not whole with it: post-quantum key shares make a hello
/// long, but no client spreads it over many records.
const MORE_READS: usize = 8;

/// What a hello says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hello {
    /// The host that is asked for (SNI).
    pub(super) name: Option<Hostname>,
    pub(super) offered: Offered,
}

/// The protocols that a client offers (ALPN).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offered {
    /// Exactly `acme-tls/1`, as an ACME server does.
    AcmeTls,
    Others,
}

enum Looked {
    Hello(Hello),
    Incomplete,
    Broken,
}

/// Looks at a hello whose first record has been received, and reads the rest of it if there is one. `None` for what is no
/// hello, or one in too many pieces: the handshake tells.
///
/// # Errors
/// The client went away.
pub(super) async fn read(socket: &mut Socket, received: &mut Vec<u8>) -> io::Result<Option<Hello>> {
    for _ in 0..MORE_READS {
        match look(received) {
            Looked::Hello(hello) => return Ok(Some(hello)),
            Looked::Broken => return Ok(None),
            Looked::Incomplete if received.len() > RECORD => return Ok(None),
            Looked::Incomplete => read_more(socket, received).await?,
        }
    }
    Ok(None)
}

fn look(mut received: &[u8]) -> Looked {
    let mut acceptor = Acceptor::default();
    loop {
        match acceptor.accept() {
            Ok(Some(accepted)) => return Looked::Hello(Hello::of(&accepted)),
            Ok(None) if received.is_empty() => return Looked::Incomplete,
            Ok(None) => {}
            Err(_) => return Looked::Broken,
        }
        if !matches!(acceptor.read_tls(&mut received), Ok(1..)) {
            return Looked::Broken;
        }
    }
}

impl Hello {
    fn of(accepted: &Accepted) -> Self {
        let hello = accepted.client_hello();
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let is_acme = hello.alpn().is_some_and(|offered| offered.eq([ACME_TLS]));
        Self {
            name: name.and_then(|name| Hostname::parse(without_dot(&name)).ok()),
            offered: if is_acme {
                Offered::AcmeTls
            } else {
                Offered::Others
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::tests::{client_config, hello};
    use super::*;

    fn hello_offering(protocols: &[&[u8]]) -> Vec<u8> {
        let mut config = Arc::unwrap_or_clone(client_config());
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        hello(&Arc::new(config))
    }

    #[test]
    fn a_hello_tells_name_and_protocols() {
        let cases: [(&[&[u8]], Offered); 5] = [
            (&[], Offered::Others),
            (&[b"h2", b"http/1.1"], Offered::Others),
            (&[b"acme-tls/1"], Offered::AcmeTls),
            (&[b"acme-tls/1", b"h2"], Offered::Others),
            (&[b"acme-tls/1", b"acme-tls/1"], Offered::Others),
        ];
        for (protocols, wanted) in cases {
            let Looked::Hello(hello) = look(&hello_offering(protocols)) else {
                panic!("not read: {protocols:?}");
            };
            assert_eq!(hello.offered, wanted, "{protocols:?}");
            let name = hello.name.map(|name| name.to_string());
            assert_eq!(name.as_deref(), Some("a.example"));
        }
    }

    #[test]
    fn what_is_no_hello_or_not_all_of_it_is_told_apart() {
        let hello = hello_offering(&[]);
        assert!(matches!(look(&[]), Looked::Incomplete));
        assert!(matches!(
            look(&hello[..hello.len() - 1]),
            Looked::Incomplete
        ));
        assert!(matches!(look(b"GET / HTTP/1.1\r\n\r\n"), Looked::Broken));
        let mut broken = hello.clone();
        broken[9..].fill(0xff);
        assert!(matches!(look(&broken), Looked::Broken));
        // In two records.
        let (first, second) = hello[5..].split_at(100);
        let record = |part: &[u8]| {
            let length = u16::try_from(part.len()).unwrap().to_be_bytes();
            [&[22, 3, 1][..], &length, part].concat()
        };
        let pieces = [record(first), record(second)];
        assert!(matches!(look(&pieces[0]), Looked::Incomplete));
        assert!(matches!(look(&pieces.concat()), Looked::Hello(_)));
    }
}
