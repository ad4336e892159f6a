//! Accepting connections and giving each a task of its own.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Duration;

use rustix::net::SocketFlags;
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, ReadBuf};

use crate::clock::{Clock, within};
use crate::downstream::{Downstream, End, ListenerFacts};
use crate::listen::ListenerProtocol;
use crate::tls::ACME_TLS;
use crate::transport::{Socket, TlsStream, Transport};
use crate::worker::Worker;
use crate::{http1, http2};

/// Pause after an accept that failed for want of something (file descriptors, memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One listening socket of one worker.
pub(crate) struct Acceptor {
    worker: Rc<Worker>,
    facts: Rc<ListenerFacts>,
    socket: AsyncFd<TcpListener>,
}

/// Counts a connection for as long as it lives, a panic of its task included.
struct Open(Rc<Worker>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.closed();
    }
}

/// Counts a TLS handshake from the accept to its end.
struct Handshake(Rc<Worker>);

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.handshake_ended();
    }
}

impl Acceptor {
    /// # Errors
    /// The runtime does not take the socket.
    #[expect(
        deprecated,
        reason = "its replacement is unsafe for the sake of types whose descriptor changes; a listener's does not"
    )]
    pub(crate) fn new(
        worker: Rc<Worker>,
        facts: ListenerFacts,
        socket: TcpListener,
    ) -> io::Result<Self> {
        Ok(Self {
            worker,
            facts: Rc::new(facts),
            socket: AsyncFd::new(socket)?,
        })
    }

    /// Accepts until the future is dropped.
    pub(crate) async fn run(&self) {
        loop {
            if self.worker.is_full() {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
            match self.accept().await {
                Ok((socket, peer)) => self.begin(socket, peer),
                Err(error) => {
                    self.worker.metrics.accept_failures.add(1);
                    if !is_of_one_connection(&error) {
                        tracing::warn!(%error, "cannot accept connections");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }

    /// The next connection, which the runtime does not know yet.
    async fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        let take = |listener: &TcpListener| self.take(listener);
        self.socket.async_io(Interest::READABLE, take).await
    }

    fn take(&self, listener: &TcpListener) -> io::Result<(Socket, SocketAddr)> {
        let accepted = accept(listener);
        if let Err(error) = &accepted
            && error.kind() == io::ErrorKind::WouldBlock
        {
            self.worker.caught_up();
        }
        accepted
    }

    /// Accepts what is waiting already, then closes the socket: whoever was let into the queue is served.
    pub(crate) fn finish(&self) {
        loop {
            match self.take(self.socket.get_ref()) {
                Ok((socket, peer)) => self.begin(socket, peer),
                Err(error) if is_of_one_connection(&error) => {
                    self.worker.metrics.accept_failures.add(1);
                }
                Err(_) => return,
            }
        }
    }

    fn begin(&self, socket: Socket, peer: SocketAddr) {
        let facts = self.facts.clone();
        self.worker.opened(facts.protocol);
        let open = Open(self.worker.clone());
        match facts.protocol {
            ListenerProtocol::Http => {
                self.worker.metrics.accepted_http.add(1);
                tokio::task::spawn_local(plain(open, facts, socket, peer));
            }
            ListenerProtocol::Https => {
                self.worker.metrics.accepted_https.add(1);
                let handshake = Handshake(self.worker.clone());
                tokio::task::spawn_local(encrypted(open, handshake, facts, socket, peer));
            }
        }
    }
}

fn accept(listener: &TcpListener) -> io::Result<(Socket, SocketAddr)> {
    // One system call gives a socket that does not block.
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (socket, peer) = rustix::net::acceptfrom_with(listener, flags)?;
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
    let peer = peer.ok_or(io::Error::from(io::ErrorKind::ConnectionAborted))?;
    Ok((Socket::accepted(TcpStream::from(socket)), peer))
}

/// Errors of a connection that was gone before it was accepted; the next one may be well.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, TimedOut,
    };
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | TimedOut
    )
}

async fn plain(open: Open, facts: Rc<ListenerFacts>, socket: Socket, peer: SocketAddr) {
    let downstream = Downstream::new(open.0.clone(), facts, peer, None);
    let end = http1::serve(downstream.clone(), Transport::Plain(socket)).await;
    finish(&downstream, end);
}

async fn encrypted(
    open: Open,
    handshake: Handshake,
    facts: Rc<ListenerFacts>,
    socket: Socket,
    peer: SocketAddr,
) {
    let worker = &open.0;
    let limit = worker.timeouts().handshake;
    let shaken = Box::pin(worker.tls.accept(socket, limit)).await;
    drop(handshake);
    let stream = match shaken {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%peer, %error, "no TLS session");
            return worker.metrics.handshakes_failed.add(1);
        }
    };
    if stream.alpn_protocol() == Some(ACME_TLS) {
        worker.metrics.handshakes_challenge.add(1);
        return Box::pin(say_goodbye(stream, &worker.clock)).await;
    }
    match stream.handshake_kind() {
        Some(rustls::HandshakeKind::Resumed) => worker.metrics.handshakes_resumed.add(1),
        _ => worker.metrics.handshakes_full.add(1),
    }
    let http2 = stream.alpn_protocol() == Some(b"h2");
    let downstream = Downstream::new(
        worker.clone(),
        facts,
        peer,
        stream.server_name().map(Box::from),
    );
    let transport = Transport::Tls(stream);
    let end = if http2 {
        http2::serve(downstream.clone(), transport).await
    } else {
        http1::serve(downstream.clone(), transport).await
    };
    finish(&downstream, end);
}

/// How long a client that has nothing more to expect is given to end its side.
const GOODBYE: Duration = Duration::from_secs(2);

/// Ends a session that was for its handshake alone, and waits until the client has taken note: closing on bytes that
/// nobody read would reset the connection.
async fn say_goodbye(mut stream: Box<TlsStream>, clock: &Rc<Clock>) {
    let end = clock.timer();
    end.set(GOODBYE);
    let ending = poll_fn(|cx| {
        ready!(stream.poll_shutdown(cx))?;
        let mut thrown_away = [0; 256];
        loop {
            let mut room = ReadBuf::new(&mut thrown_away);
            ready!(stream.poll_read(cx, &mut room))?;
            if room.filled().is_empty() {
                return Poll::Ready(io::Result::Ok(()));
            }
        }
    });
    // The handshake is what counts; how the client leaves is its own affair.
    let _ = within(&end, ending).await;
}

fn finish(downstream: &Downstream, end: End) {
    if end == End::TimedOut {
        downstream.worker.metrics.timed_out.add(1);
    }
}
