//! One DNS message to one server, and its answer: by UDP, and by TCP where that is too small or stays silent.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// How long each attempt by UDP waits.
const DATAGRAMS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];
/// How long the attempt by TCP may take.
const STREAM: Duration = Duration::from_secs(3);
/// The largest datagram that is taken; queries ask for less (RFC 9715).
const LARGEST_DATAGRAM: usize = 4096;

/// Why there is no answer.
#[derive(Debug, Error)]
pub(super) enum ExchangeError {
    /// The machine has no address or route of that family.
    #[error("this node has no route to it")]
    NoRoute,
    /// Nothing came back in time.
    #[error("it does not answer")]
    Silent,
    /// The connection failed.
    #[error("{0}")]
    Connection(io::Error),
    /// The message cannot be written, or what came back cannot be read.
    #[error("{0}")]
    Garbled(String),
}

impl From<io::Error> for ExchangeError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::Unsupported => Self::NoRoute,
            _ => Self::Connection(error),
        }
    }
}

/// An answer, and the bytes that it came in, which a signature is about.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) message: Message,
    pub(super) bytes: Vec<u8>,
}

/// Sends a message and waits for the answer to it.
///
/// # Errors
/// The server cannot be reached, stays silent, or answers what is no DNS message.
pub(super) async fn exchange(
    server: SocketAddr,
    message: &Message,
) -> Result<Answer, ExchangeError> {
    let bytes = message
        .to_vec()
        .map_err(|error| ExchangeError::Garbled(error.to_string()))?;
    for patience in DATAGRAMS {
        match timeout(patience, by_datagram(server, message, &bytes)).await {
            Ok(Ok(answer)) if answer.message.truncation => break,
            Ok(outcome) => return outcome,
            Err(_) => {}
        }
    }
    match timeout(STREAM, by_stream(server, message, &bytes)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ExchangeError::Silent),
    }
}

async fn by_datagram(
    server: SocketAddr,
    asked: &Message,
    bytes: &[u8],
) -> Result<Answer, ExchangeError> {
    let local: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(local).await?;
    // Connected, so that only this server's datagrams come in, and a closed port is told at once.
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut datagram = vec![0; LARGEST_DATAGRAM];
    loop {
        let length = socket.recv(&mut datagram).await?;
        let received = datagram.get(..length).unwrap_or_default();
        // Anything else on this port is none of ours, so it is waited on.
        if let Ok(answer) = answer_to(asked, received.to_vec()) {
            return Ok(answer);
        }
    }
}

async fn by_stream(
    server: SocketAddr,
    asked: &Message,
    bytes: &[u8],
) -> Result<Answer, ExchangeError> {
    let length = u16::try_from(bytes.len())
        .map_err(|_| ExchangeError::Garbled("the message is too long".to_owned()))?;
    let mut stream = TcpStream::connect(server).await?;
    let framed = [&length.to_be_bytes(), bytes].concat();
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut received = vec![0; usize::from(length)];
    stream.read_exact(&mut received).await?;
    answer_to(asked, received)
}

fn answer_to(asked: &Message, bytes: Vec<u8>) -> Result<Answer, ExchangeError> {
    let message = Message::from_vec(&bytes)
        .map_err(|error| ExchangeError::Garbled(format!("its answer cannot be read: {error}")))?;
    // Servers may leave the question out of answers that are errors.
    let is_ours = message.id == asked.id
        && message.message_type == MessageType::Response
        && (message.queries.is_empty() || message.queries == asked.queries);
    match is_ours {
        true => Ok(Answer { message, bytes }),
        false => Err(ExchangeError::Garbled(
            "it answers another question".to_owned(),
        )),
    }
}
