//! Accepting connections and giving each a task of its own.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::downstream::{Downstream, End, Engine, ListenerFacts};
use crate::listen::ListenerProtocol;
use crate::transport::{Socket, Transport};
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

impl Acceptor {
    pub(crate) fn new(
        worker: Rc<Worker>,
        facts: ListenerFacts,
        socket: TcpListener,
    ) -> io::Result<Self> {
        #[expect(
            deprecated,
            reason = "unsound for descriptors that are not owned, which std's listener is; what replaces it is unsafe"
        )]
        let socket = AsyncFd::with_interest(socket, Interest::READABLE)?;
        Ok(Self {
            worker,
            facts: Rc::new(facts),
            socket,
        })
    }

    /// Accepts until the future is dropped.
    pub(crate) async fn run(&self) {
        loop {
            if self.worker.is_full() {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
            match self.socket.async_io(Interest::READABLE, accept).await {
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

    /// Accepts what is waiting already, then closes the socket: whoever was let into the queue is served.
    pub(crate) fn finish(&self) {
        while let Ok((socket, peer)) = accept(self.socket.get_ref()) {
            self.begin(socket, peer);
        }
    }

    fn begin(&self, socket: Socket, peer: SocketAddr) {
        self.worker.opened();
        let open = Open(self.worker.clone());
        let facts = self.facts.clone();
        match facts.protocol {
            ListenerProtocol::Http => {
                self.worker.metrics.accepted_http.add(1);
                tokio::task::spawn_local(plain(open, facts, socket, peer));
            }
            ListenerProtocol::Https => {
                self.worker.metrics.accepted_https.add(1);
                tokio::task::spawn_local(encrypted(open, facts, socket, peer));
            }
        }
    }
}

/// Accepts what is waiting. The socket is not made known to the runtime.
fn accept(listener: &TcpListener) -> io::Result<(Socket, SocketAddr)> {
    let (stream, peer): (TcpStream, _) = listener.accept()?;
    stream.set_nonblocking(true)?;
    Ok((Socket::accepted(stream), peer))
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
    let downstream = Downstream::new(open.0.clone(), facts, peer, Engine::Http1);
    let end = http1::serve(downstream.clone(), Transport::Plain(socket)).await;
    finish(&downstream, end);
}

async fn encrypted(open: Open, facts: Rc<ListenerFacts>, socket: Socket, peer: SocketAddr) {
    let worker = &open.0;
    let stream = match worker.tls.accept(socket, worker.timeouts().handshake).await {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%peer, %error, "TLS handshake failed");
            worker.metrics.handshakes_failed.add(1);
            return;
        }
    };
    match stream.handshake_kind() {
        Some(rustls::HandshakeKind::Resumed) => worker.metrics.handshakes_resumed.add(1),
        _ => worker.metrics.handshakes_full.add(1),
    }
    let engine = match stream.alpn_protocol() {
        Some(b"h2") => Engine::Http2,
        _ => Engine::Http1,
    };
    let downstream = Downstream::new(worker.clone(), facts, peer, engine);
    let stream = Transport::Tls(stream);
    let end = match engine {
        Engine::Http1 => http1::serve(downstream.clone(), stream).await,
        Engine::Http2 => http2::serve(downstream.clone(), stream).await,
    };
    finish(&downstream, end);
}

fn finish(downstream: &Downstream, end: End) {
    if end == End::TimedOut {
        downstream.worker.metrics.timed_out.add(1);
    }
    // A tunnel that was never begun holds its own connection: let go of it.
    drop(downstream.take_tunnel());
}
