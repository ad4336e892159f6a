//! A small HTTP/1.1 client: one request after the other on a connection that stays open.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use socket2::{Domain, Socket, Type};

/// How long one read or write may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(15);

/// A connection that waits for its next request.
#[derive(Debug)]
pub(super) struct Client<S> {
    stream: S,
    /// Bytes of the answer, or of as much as has come.
    received: Vec<u8>,
    /// How many of them are its head.
    head: usize,
}

/// An answer that was read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Bytes of the body.
    pub(super) length: usize,
}

/// A client in plain text.
pub(super) fn plain(stream: TcpStream) -> Client<TcpStream> {
    Client::new(stream)
}

/// A connection from one of this machine's own addresses: each has ephemeral ports of its own.
pub(super) fn connect(server: SocketAddr, source: Ipv4Addr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect_timeout(&server.into(), PATIENCE)?;
    socket.set_tcp_nodelay(true)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Whether Tidegate's admin page says that it is ready.
pub(super) fn is_ready(admin: SocketAddr) -> bool {
    let asked = TcpStream::connect(admin).and_then(|stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        plain(stream).get("localhost", "/readyz")
    });
    asked.is_ok_and(|answer| answer.status == 200)
}

/// Tidegate's metrics, as text.
pub(super) fn metrics(admin: SocketAddr) -> Result<String> {
    let mut client = plain(connect(admin, Ipv4Addr::LOCALHOST)?);
    let answer = client.get("localhost", "/metrics")?;
    ensure!(answer.status == 200, "/metrics is {}", answer.status);
    Ok(String::from_utf8_lossy(client.body()).into_owned())
}

/// A counter or gauge without labels from Tidegate's metrics.
pub(super) fn metric(admin: SocketAddr, name: &str) -> Result<u64> {
    let text = metrics(admin)?;
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let (_, value) = lines
        .find(|(metric, _)| *metric == name)
        .with_context(|| format!("/metrics has no {name}"))?;
    Ok(value.parse::<u64>()?)
}

/// What TLS clients of the servers with these certificates share. Every handshake is a full one.
pub(super) fn tls_settings(certificates: &[u8]) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(certificates) {
        roots.add(certificate?)?;
    }
    let mut settings = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    settings.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(settings))
}

/// A client of `localhost` over TLS; the handshake comes with the first request.
pub(super) fn tls(
    stream: TcpStream,
    settings: Arc<ClientConfig>,
) -> Result<Client<StreamOwned<ClientConnection, TcpStream>>> {
    tls_for("localhost", stream, settings)
}

/// The same for another host.
pub(super) fn tls_for(
    host: impl Into<String>,
    stream: TcpStream,
    settings: Arc<ClientConfig>,
) -> Result<Client<StreamOwned<ClientConnection, TcpStream>>> {
    let host = host.into();
    let name = ServerName::try_from(host.clone()).with_context(|| format!("{host} is no name"))?;
    let connection = ClientConnection::new(settings, name)?;
    Ok(Client::new(StreamOwned::new(connection, stream)))
}

impl<S> Client<S> {
    fn new(stream: S) -> Self {
        Self {
            stream,
            received: Vec::new(),
            head: 0,
        }
    }

    /// The connection without the client.
    pub(super) fn into_stream(self) -> S {
        self.stream
    }
}

impl<S: Read + Write> Client<S> {
    /// Asks for a target and reads the answer to its end.
    ///
    /// # Errors
    /// When the connection breaks or is silent for too long, and for answers without a `Content-Length`.
    pub(super) fn get(&mut self, host: &str, target: &str) -> io::Result<Answer> {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        self.stream.write_all(request.as_bytes())?;
        self.stream.flush()?;
        self.answer()
    }

    fn answer(&mut self) -> io::Result<Answer> {
        let invalid = |what| io::Error::new(ErrorKind::InvalidData, what);
        self.received.clear();
        self.head = loop {
            self.receive()?;
            if let Some(length) = head_length(&self.received) {
                break length;
            }
        };
        let head = self.received.get(..self.head).unwrap_or_default();
        let answer = understand(head).ok_or_else(|| invalid("an answer without a length"))?;
        while self.body().len() < answer.length {
            self.receive()?;
        }
        if self.body().len() > answer.length {
            return Err(invalid("more than an answer"));
        }
        Ok(answer)
    }

    /// The body of the last answer.
    pub(super) fn body(&self) -> &[u8] {
        self.received.get(self.head..).unwrap_or_default()
    }

    /// Reads once, behind what is there already.
    fn receive(&mut self) -> io::Result<()> {
        let mut bytes = [0; 16 * 1024];
        let count = self.stream.read(&mut bytes)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.received
            .extend_from_slice(bytes.get(..count).unwrap_or_default());
        Ok(())
    }
}

/// How long the head is, once it is there to its end.
pub(super) fn head_length(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some(end + 4)
}

/// What the head of an answer says; `None` for one without a length.
pub(super) fn understand(head: &[u8]) -> Option<Answer> {
    let text = std::str::from_utf8(head).ok()?;
    let mut lines = text.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?;
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    Some(Answer {
        status: status.parse().ok()?,
        length: length?.1.trim().parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives out what a server would send, a piece for each read, and drops what is written.
    struct Script(Vec<&'static [u8]>);

    impl Read for Script {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            let piece = if self.0.is_empty() {
                &b""[..]
            } else {
                self.0.remove(0)
            };
            bytes[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn ask(pieces: &[&'static [u8]]) -> io::Result<Answer> {
        Client::new(Script(pieces.to_vec())).get("a", "/")
    }

    #[test]
    fn an_answer_may_come_in_pieces() {
        let answer = ask(&[
            b"HTTP/1.1 404 Not Found\r\ncontent-",
            b"LENGTH: 5\r\n\r\nab",
            b"cde",
        ]);
        let expected = Answer {
            status: 404,
            length: 5,
        };
        assert_eq!(answer.unwrap(), expected);
    }

    #[test]
    fn broken_answers_are_errors() {
        let kind = |pieces: &[&'static [u8]]| ask(pieces).unwrap_err().kind();
        assert_eq!(kind(&[]), ErrorKind::UnexpectedEof);
        assert_eq!(kind(&[b"HTTP/1.1 200"]), ErrorKind::UnexpectedEof);
        let without_length: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";
        assert_eq!(kind(&[without_length]), ErrorKind::InvalidData);
        let short: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc";
        assert_eq!(kind(&[short]), ErrorKind::UnexpectedEof);
        let long: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabc";
        assert_eq!(kind(&[long]), ErrorKind::InvalidData);
    }
}
