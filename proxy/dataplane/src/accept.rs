//! Accepting connections and giving each a task of its own.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};

use crate::clock::within;
use crate::downstream::{Downstream, End, Engine, ListenerFacts};
use crate::listen::ListenerProtocol;
use crate::worker::Worker;
use crate::{http1, http2};

/// Pause after an accept that failed for want of something (file descriptors, memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One listening socket of one worker.
pub(crate) struct Acceptor {
    worker: Rc<Worker>,
    facts: Rc<ListenerFacts>,
    socket: TcpListener,
}

/// Counts a connection for as long as it lives, a panic of its task included.
struct Open(Rc<Worker>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.closed();
    }
}

impl Acceptor {
    pub(crate) fn new(worker: Rc<Worker>, facts: ListenerFacts, socket: TcpListener) -> Self {
        Self {
            worker,
            facts: Rc::new(facts),
            socket,
        }
    }

    /// Accepts until the future is dropped.
    pub(crate) async fn run(&self) {
        loop {
            if self.worker.is_full() {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
            match self.socket.accept().await {
                Ok((stream, peer)) => self.begin(stream, peer),
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
        let socket = SockRef::from(&self.socket);
        while let Ok((stream, peer)) = socket.accept() {
            let ready = stream
                .set_nonblocking(true)
                .and_then(|()| TcpStream::from_std(stream.into()));
            if let (Ok(stream), Some(peer)) = (ready, peer.as_socket()) {
                self.begin(stream, peer);
            }
        }
    }

    fn begin(&self, stream: TcpStream, peer: SocketAddr) {
        self.worker.opened();
        let open = Open(self.worker.clone());
        let facts = self.facts.clone();
        match facts.protocol {
            ListenerProtocol::Http => {
                self.worker.metrics.accepted_http.add(1);
                tokio::task::spawn_local(plain(open, facts, stream, peer));
            }
            ListenerProtocol::Https => {
                self.worker.metrics.accepted_https.add(1);
                tokio::task::spawn_local(encrypted(open, facts, stream, peer));
            }
        }
    }
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

async fn plain(open: Open, facts: Rc<ListenerFacts>, stream: TcpStream, peer: SocketAddr) {
    let downstream = Downstream::new(open.0.clone(), facts, peer, Engine::Http1);
    let end = http1::serve(downstream.clone(), stream).await;
    finish(&downstream, end);
}

async fn encrypted(open: Open, facts: Rc<ListenerFacts>, stream: TcpStream, peer: SocketAddr) {
    let worker = &open.0;
    let shaken = {
        let timer = worker.clock.timer();
        timer.set(worker.timeouts().handshake);
        within(&timer, worker.tls.accept(stream)).await
    };
    let Ok(Ok(stream)) = shaken else {
        worker.metrics.handshakes_failed.add(1);
        return;
    };
    let session = stream.get_ref().1;
    match session.handshake_kind() {
        Some(rustls::HandshakeKind::Resumed) => worker.metrics.handshakes_resumed.add(1),
        _ => worker.metrics.handshakes_full.add(1),
    }
    let engine = match session.alpn_protocol() {
        Some(b"h2") => Engine::Http2,
        _ => Engine::Http1,
    };
    let downstream = Downstream::new(worker.clone(), facts, peer, engine);
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
