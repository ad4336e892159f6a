//! One client's connection, which never blocks.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::Result;
use rustix::io::Errno;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use socket2::{Domain, Socket, Type};

use super::super::client;
use super::record::Failure;

/// A connection with a request under way, or between two.
#[derive(Debug)]
pub(super) struct Connection {
    transport: Transport,
    request: Vec<u8>,
    /// How much of the request is written.
    written: usize,
    received: Vec<u8>,
}

#[derive(Debug)]
enum Transport {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It waits for the peer.
    Waiting,
    /// The answer is there to its end.
    Answered(After),
}

/// What the server means to do with the connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Keep,
    Close,
}

impl Connection {
    /// Begins to connect, in plain text.
    pub(super) fn plain(server: SocketAddr, source: Ipv4Addr, request: &str) -> io::Result<Self> {
        let stream = begin(server, source)?;
        Ok(Self::new(Transport::Plain(stream), request))
    }

    /// Begins to connect, for TLS.
    pub(super) fn tls(
        server: SocketAddr,
        source: Ipv4Addr,
        request: &str,
        name: ServerName<'static>,
        settings: &Arc<ClientConfig>,
    ) -> io::Result<Self> {
        let stream = begin(server, source)?;
        let session = ClientConnection::new(settings.clone(), name).map_err(io::Error::other)?;
        let transport = Transport::Tls(Box::new(StreamOwned::new(session, stream)));
        Ok(Self::new(transport, request))
    }

    fn new(transport: Transport, request: &str) -> Self {
        Self {
            transport,
            request: request.as_bytes().to_vec(),
            written: 0,
            received: Vec::new(),
        }
    }

    pub(super) fn socket(&self) -> &TcpStream {
        match &self.transport {
            Transport::Plain(stream) => stream,
            Transport::Tls(stream) => &stream.sock,
        }
    }

    /// Begins the same request again, after an answer.
    pub(super) fn repeat(&mut self) {
        self.written = 0;
        self.received.clear();
    }

    /// Whether a byte of the answer is there.
    pub(super) fn has_begun_to_answer(&self) -> bool {
        !self.received.is_empty()
    }

    /// Goes on until the peer has to do something.
    pub(super) fn advance(&mut self) -> Result<Progress, Failure> {
        match self.proceed() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Progress::Waiting),
            Err(error) => Err(error.into()),
            Ok((status, _)) if status != 200 => Err(Failure::Other(format!("status {status}"))),
            Ok((_, after)) => Ok(Progress::Answered(after)),
        }
    }

    fn proceed(&mut self) -> io::Result<(u16, After)> {
        while let Some(rest) = self
            .request
            .get(self.written..)
            .filter(|rest| !rest.is_empty())
        {
            self.written += match &mut self.transport {
                Transport::Plain(stream) => stream.write(rest)?,
                Transport::Tls(stream) => stream.write(rest)?,
            };
        }
        loop {
            if let Some(answer) = understand(&self.received)? {
                return Ok(answer);
            }
            self.receive()?;
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut bytes = [0; 4096];
        let count = match &mut self.transport {
            Transport::Plain(stream) => stream.read(&mut bytes)?,
            Transport::Tls(stream) => stream.read(&mut bytes)?,
        };
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.received
            .extend_from_slice(bytes.get(..count).unwrap_or_default());
        Ok(())
    }
}

/// Begins to connect from one of this machine's own addresses, each of which has ephemeral ports of its own.
fn begin(server: SocketAddr, source: Ipv4Addr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    match socket.connect(&server.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(error),
        _ => Ok(socket.into()),
    }
}

/// Status and future of a connection, once the answer is there to its end.
fn understand(received: &[u8]) -> io::Result<Option<(u16, After)>> {
    let Some(length) = client::head_length(received) else {
        return Ok(None);
    };
    let (head, body) = received.split_at(length.min(received.len()));
    let answer = client::understand(head)
        .ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "an answer without a length"))?;
    let after = if says_close(head) {
        After::Close
    } else {
        After::Keep
    };
    Ok((body.len() >= answer.length).then_some((answer.status, after)))
}

fn says_close(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head);
    let mut fields = text.split("\r\n").filter_map(|line| line.split_once(':'));
    fields.any(|(name, value)| {
        name.eq_ignore_ascii_case("connection") && value.trim().eq_ignore_ascii_case("close")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_there_with_its_last_byte() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: Close\r\n\r\n";
        let whole = [&head[..], b"ab"].concat();
        for length in 0..whole.len() {
            assert_eq!(understand(&whole[..length]).unwrap(), None, "{length}");
        }
        assert_eq!(understand(&whole).unwrap(), Some((200, After::Close)));
        let kept = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(understand(kept).unwrap(), Some((404, After::Keep)));
        assert!(understand(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn a_port_without_a_listener_refuses() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = free.local_addr().unwrap();
        drop(free);
        let begun = Connection::plain(server, Ipv4Addr::LOCALHOST, "GET / HTTP/1.1\r\n\r\n");
        let failure = match begun {
            Err(error) => error.into(),
            Ok(mut connection) => loop {
                match connection.advance() {
                    Ok(_) => std::thread::yield_now(),
                    Err(failure) => break failure,
                }
            },
        };
        assert_eq!(failure, Failure::Refused);
    }
}
