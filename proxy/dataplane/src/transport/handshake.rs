//! TLS handshakes: so many at a time, and none longer than its deadline.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::{ClientConfig, ServerConfig};
use thiserror::Error;
use tokio::io::ReadBuf;
use tokio::sync::Semaphore;

use super::session::{RECORD, Session, Wire};
use super::{Socket, TlsStream};
use crate::clock::{Clock, Elapsed, within};

/// Handshakes that a worker has begun and not finished, at most. More wait for their turn, in order: in a storm some
/// clients are served in time instead of none, and connections that stand are not held up by all of it at once.
const HANDSHAKES: usize = 256;
/// How long a handshake keeps its turn. One that takes longer waits for its client, which costs nothing: others need
/// not wait for that as well.
const TURN: Duration = Duration::from_millis(500);

/// Why there is no session with a client.
#[derive(Debug, Error)]
pub(crate) enum HandshakeError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no TLS handshake within the time allowed")]
    TimedOut,
}

/// A worker's handshakes with clients.
pub(crate) struct TlsAcceptor {
    config: Arc<ServerConfig>,
    clock: Rc<Clock>,
    turns: Semaphore,
}

impl TlsAcceptor {
    pub(crate) fn new(config: Arc<ServerConfig>, clock: Rc<Clock>) -> Self {
        Self {
            config,
            clock,
            turns: Semaphore::new(HANDSHAKES),
        }
    }

    /// Shakes hands with a client, within `limit` from now, the wait for a turn included.
    ///
    /// # Errors
    /// The client broke TLS (it has then been sent an alert), has nothing in common with us, went away, or was too
    /// slow.
    pub(crate) async fn accept(
        &self,
        socket: Socket,
        limit: Duration,
    ) -> Result<Box<TlsStream>, HandshakeError> {
        let deadline = self.clock.timer();
        deadline.set(limit);
        match within(&deadline, self.shake(socket)).await {
            Ok(shaken) => Ok(shaken?),
            Err(Elapsed) => Err(HandshakeError::TimedOut),
        }
    }

    async fn shake(&self, mut socket: Socket) -> io::Result<Box<TlsStream>> {
        // A client that says nothing takes no turn, and no session's memory.
        let hello = first_record(&mut socket).await?;
        let mut turn = Some(self.turns.acquire().await.map_err(io::Error::other)?);
        let mut stream = self.stream(socket, hello)?;
        let over = self.clock.timer();
        over.set(TURN);
        poll_fn(|cx| Poll::Ready(stream.begin(cx))).await?;
        poll_fn(|cx| {
            if let Poll::Ready(shaken) = stream.poll_handshake(cx) {
                return Poll::Ready(shaken);
            }
            if turn.is_some() && over.poll_due(cx).is_ready() {
                turn = None;
            }
            Poll::Pending
        })
        .await?;
        Ok(stream)
    }

    fn stream(&self, socket: Socket, hello: Vec<u8>) -> io::Result<Box<TlsStream>> {
        let session = UnbufferedServerConnection::new(self.config.clone());
        let session = Session::Server(session.map_err(io::Error::other)?);
        Ok(Box::new(TlsStream::new(socket, session, hello)))
    }
}

/// Reads until a whole record is there, or something that rustls will not take for one.
async fn first_record(socket: &mut Socket) -> io::Result<Vec<u8>> {
    let mut received = Vec::new();
    while !is_whole(&received) {
        poll_fn(|cx| {
            Wire::with(|wire| {
                let room = wire.incoming.get_mut(..RECORD).unwrap_or_default();
                let mut space = ReadBuf::new(room);
                ready!(socket.poll_read(cx, &mut space))?;
                if space.filled().is_empty() {
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof)));
                }
                received.extend_from_slice(space.filled());
                Poll::Ready(Ok(()))
            })
        })
        .await?;
    }
    Ok(received)
}

/// Whether the bytes hold a handshake record (RFC 8446 section 5.1) or can no longer become one.
fn is_whole(bytes: &[u8]) -> bool {
    const HANDSHAKE: u8 = 22;
    match bytes {
        [] | [HANDSHAKE] | [HANDSHAKE, 3] | [HANDSHAKE, 3, _] | [HANDSHAKE, 3, _, _] => false,
        [HANDSHAKE, 3, _, high, low, body @ ..] => {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            length > RECORD || body.len() >= length
        }
        _ => true,
    }
}

/// Shakes hands with an endpoint. The last message of the handshake may be held back until something is written or
/// read.
///
/// # Errors
/// The endpoint broke TLS, refused, or went away.
pub(crate) async fn connect_tls(
    socket: Socket,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> io::Result<Box<TlsStream>> {
    let mut stream = client_stream(socket, config, name)?;
    poll_fn(|cx| Poll::Ready(stream.begin(cx))).await?;
    poll_fn(|cx| stream.poll_handshake(cx)).await?;
    Ok(stream)
}

fn client_stream(
    socket: Socket,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> io::Result<Box<TlsStream>> {
    let session = UnbufferedClientConnection::new(config, name).map_err(io::Error::other)?;
    let session = Session::Client(session);
    Ok(Box::new(TlsStream::new(socket, session, Vec::new())))
}

thread_local! {
    /// The name in the hello that this thread has looked at last.
    static SERVER_NAME: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}

/// Remembers the name that a hello asks for (lower case). rustls tells it to the resolver of certificates only, which
/// runs within the step of the handshake that reads the hello: the stream takes the name from here right after it.
pub(crate) fn note_server_name(name: Option<&str>) {
    SERVER_NAME.set(name.map(Box::from));
}

pub(super) fn take_server_name() -> Option<Box<str>> {
    SERVER_NAME.take()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::super::tests::{block_on, client, client_config, hello, server_config, sockets};
    use super::*;

    #[test]
    fn a_turn_is_taken_for_a_whole_record_or_for_no_record_at_all() {
        assert!(!is_whole(b""));
        assert!(!is_whole(&[22, 3, 1, 0]));
        assert!(!is_whole(&[22, 3, 1, 0, 2, 1]));
        assert!(is_whole(&[22, 3, 1, 0, 2, 1, 0]));
        assert!(is_whole(&[22, 3, 1, 0, 0]));
        assert!(is_whole(&[22, 3, 1, 0xff, 0xff]), "longer than any record");
        assert!(is_whole(b"G"));
        assert!(is_whole(&[22, b'!']));
    }

    #[test]
    fn who_waits_for_its_client_loses_its_turn_but_not_its_handshake() {
        let clock = Clock::new();
        let acceptor = TlsAcceptor {
            turns: Semaphore::new(1),
            ..TlsAcceptor::new(server_config(), clock.clone())
        };
        let towards = client_config();
        block_on(async {
            let (ours, mut first) = sockets();
            first.write_all(&hello(&towards)).unwrap();
            let (second, peer) = sockets();
            let peer = client(peer, |mut stream| {
                stream.write_all(b"x").unwrap();
                stream
            });
            let mut stalled = pin!(acceptor.shake(ours));
            let mut served = pin!(acceptor.shake(second));
            let mut cx = Context::from_waker(Waker::noop());
            assert!(stalled.as_mut().poll(&mut cx).is_pending());
            assert_eq!(acceptor.turns.available_permits(), 0);
            let waiting = tokio::time::timeout(TURN / 2, served.as_mut());
            assert!(waiting.await.is_err(), "the first has the turn");
            let ticking = async {
                loop {
                    tokio::time::sleep(crate::clock::TICK).await;
                    clock.tick();
                }
            };
            tokio::select! {
                _ = stalled => panic!("its client has said nothing more"),
                served = served => assert!(served.is_ok()),
                () = ticking => {}
            }
            drop(peer.join().unwrap());
        });
        assert_eq!(acceptor.turns.available_permits(), 1);
    }
}
