//! TLS handshakes: so many at a time, and none longer than its deadline.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::{ClientConfig, ServerConfig};
use thiserror::Error;
use tokio::io::ReadBuf;
use tokio::sync::Semaphore;

use super::demand::Demand;
use super::hello;
use super::session::{RECORD, Session, Wire};
use super::terms::{Course, Terms};
use super::{Socket, TlsStream};
use crate::clock::{Clock, Elapsed, Timer, within};
use crate::publish::Current;
use crate::tls::Resolver;

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
    terms: RefCell<Terms>,
    clock: Rc<Clock>,
    turns: Semaphore,
    demand: Option<Demand>,
}

/// When a handshake has to be done.
struct Deadline {
    timer: Timer,
    limit: Duration,
}

impl Deadline {
    fn new(clock: &Rc<Clock>, limit: Duration) -> Self {
        let timer = clock.timer();
        timer.set(limit);
        Self { timer, limit }
    }

    /// Begins anew, `later` from now.
    fn put_off(&self, later: Duration) {
        self.timer.set(later.saturating_add(self.limit));
    }
}

impl TlsAcceptor {
    pub(crate) fn new(config: Arc<ServerConfig>, clock: Rc<Clock>, demand: Option<Demand>) -> Self {
        Self {
            terms: RefCell::new(Terms::new(config)),
            clock,
            turns: Semaphore::new(HANDSHAKES),
            demand,
        }
    }

    /// Has the handshakes that begin from now on go by this, those included that wait for a certificate. The resolver
    /// follows it already.
    pub(crate) fn follow(&self, current: &Arc<Current>, resolver: &Arc<Resolver>) {
        self.terms.borrow_mut().follow(current, resolver);
        if let Some(demand) = &self.demand {
            demand.published();
        }
    }

    /// Shakes hands with a client, within `limit` from now, the wait for a turn included. A wait for a certificate comes
    /// on top of that.
    ///
    /// # Errors
    /// The client broke TLS (it has then been sent an alert), has nothing in common with us, went away, or was too
    /// slow.
    pub(crate) async fn accept(
        &self,
        socket: Socket,
        limit: Duration,
    ) -> Result<Box<TlsStream>, HandshakeError> {
        let deadline = Deadline::new(&self.clock, limit);
        match within(&deadline.timer, self.shake(socket, &deadline)).await {
            Ok(shaken) => Ok(shaken?),
            Err(Elapsed) => Err(HandshakeError::TimedOut),
        }
    }

    async fn shake(&self, mut socket: Socket, deadline: &Deadline) -> io::Result<Box<TlsStream>> {
        // A client that says nothing takes no turn, and no session's memory.
        let mut hello = first_record(&mut socket).await?;
        let mut answer = None;
        if self.looks_at_hellos() {
            answer = self.prepare(&mut socket, &mut hello, deadline).await?;
        }
        let mut turn = Some(self.turns.acquire().await.map_err(io::Error::other)?);
        let mut stream = self.stream(answer, socket, hello)?;
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

    /// Whether it depends on a hello what becomes of its handshake.
    fn looks_at_hellos(&self) -> bool {
        let terms = self.terms.borrow();
        terms.answers_challenges() || self.demand.is_some() && terms.serves_on_demand()
    }

    /// Finds what an ACME server is answered by, or waits for a certificate. Boxed: it is rare, and would make every
    /// handshake's future larger.
    fn prepare<'a>(
        &'a self,
        socket: &'a mut Socket,
        received: &'a mut Vec<u8>,
        deadline: &'a Deadline,
    ) -> LocalBoxFuture<'a, io::Result<Option<Arc<ServerConfig>>>> {
        Box::pin(async move {
            let hello = hello::read(socket, received).await?;
            let course = self.terms.borrow().course(hello);
            match (course, &self.demand) {
                (Course::Answer(config), _) => return Ok(Some(config)),
                (Course::Wait(name, wait), Some(demand)) => {
                    deadline.put_off(wait);
                    let is_held = || self.terms.borrow().holds(&name);
                    demand.wait(&name, wait, is_held, socket, received).await?;
                    deadline.put_off(Duration::ZERO);
                }
                _ => {}
            }
            Ok(None)
        })
    }

    fn stream(
        &self,
        answer: Option<Arc<ServerConfig>>,
        socket: Socket,
        hello: Vec<u8>,
    ) -> io::Result<Box<TlsStream>> {
        let config = answer.unwrap_or_else(|| self.terms.borrow().config.clone());
        let session = UnbufferedServerConnection::new(config);
        let session = Session::Server(session.map_err(io::Error::other)?);
        Ok(Box::new(TlsStream::new(socket, session, hello)))
    }
}

/// Reads until a whole record is there, or something that rustls will not take for one.
async fn first_record(socket: &mut Socket) -> io::Result<Vec<u8>> {
    let mut received = Vec::new();
    while !is_whole(&received) {
        read_more(socket, &mut received).await?;
    }
    Ok(received)
}

/// Reads what comes next.
pub(super) async fn read_more(socket: &mut Socket, received: &mut Vec<u8>) -> io::Result<()> {
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
    .await
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
            ..TlsAcceptor::new(server_config(), clock.clone(), None)
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
            let never = Deadline::new(&clock, TURN * 100);
            let mut stalled = pin!(acceptor.shake(ours, &never));
            let mut served = pin!(acceptor.shake(second, &never));
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
