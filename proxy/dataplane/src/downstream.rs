//! A client's connection: who is on the other side, what it is doing now, and how long it may.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::clock::Timer;
use crate::exchange::Completion;
use crate::head::Value;
use crate::listen::ListenerProtocol;
use crate::transport::Transport;
use crate::worker::Worker;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By either side, in good order.
    Closed,
    /// By an error of the network or of the protocol.
    Broken,
    /// By a deadline.
    TimedOut,
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Http1,
    Http2,
}

/// What a connection is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The first byte of a request.
    Idle,
    /// The rest of a request's head.
    Head,
    /// An endpoint; the exchange has its own deadlines.
    Waiting,
    /// Bytes of bodies, in either direction.
    Relaying,
}

/// Facts of a listener that every connection to it shares.
pub(crate) struct ListenerFacts {
    pub(crate) protocol: ListenerProtocol,
    /// The port, as `X-Forwarded-Port` has it.
    pub(crate) port: Value,
}

/// An endpoint's side of a switch of protocols.
pub(crate) struct Switched {
    pub(crate) stream: Transport,
    /// What was read of the new protocol already.
    pub(crate) read: Bytes,
    /// Recorded when the tunnel ends.
    pub(crate) completion: Completion,
}

/// Up to this many bytes in several pieces are written as one.
const JOINED: usize = 4096;

/// One client's connection.
pub(crate) struct Downstream {
    pub(crate) worker: Rc<Worker>,
    pub(crate) listener: Rc<ListenerFacts>,
    pub(crate) peer: SocketAddr,
    /// The peer's address, as `X-Forwarded-For` has it.
    pub(crate) address: Value,
    engine: Engine,
    timer: Timer,
    phase: Cell<Phase>,
    /// Exchanges that wait for an endpoint.
    waiting: Cell<u32>,
    /// Exchanges whose response has not ended.
    open: Cell<u32>,
    tunnel: RefCell<Option<Switched>>,
}

impl Downstream {
    pub(crate) fn new(
        worker: Rc<Worker>,
        listener: Rc<ListenerFacts>,
        peer: SocketAddr,
        engine: Engine,
    ) -> Rc<Self> {
        let timer = worker.clock.timer();
        timer.set(match engine {
            Engine::Http1 => worker.timeouts().request_head,
            Engine::Http2 => worker.timeouts().idle,
        });
        let address = Value::from_str(&peer.ip().to_canonical().to_string());
        Rc::new(Self {
            listener,
            peer,
            address: address.unwrap_or(Value::from_static("unknown")),
            engine,
            timer,
            phase: Cell::new(Phase::Idle),
            waiting: Cell::new(0),
            open: Cell::new(0),
            tunnel: RefCell::default(),
            worker,
        })
    }

    /// A request's head is complete.
    pub(crate) fn begin(&self) {
        self.waiting.set(self.waiting.get() + 1);
        self.open.set(self.open.get() + 1);
        self.settle();
    }

    /// A response's head is there.
    pub(crate) fn answer(&self) {
        self.waiting.set(self.waiting.get().saturating_sub(1));
        self.settle();
    }

    /// An exchange that had a response is over.
    pub(crate) fn end(&self) {
        self.open.set(self.open.get().saturating_sub(1));
        self.settle();
    }

    /// An exchange is over before it had a response.
    pub(crate) fn give_up(&self) {
        self.waiting.set(self.waiting.get().saturating_sub(1));
        self.end();
    }

    /// Phase and deadline follow from what is open.
    fn settle(&self) {
        if self.waiting.get() > 0 {
            self.phase.set(Phase::Waiting);
            return self.timer.clear();
        }
        self.phase.set(if self.open.get() > 0 {
            Phase::Relaying
        } else {
            Phase::Idle
        });
        self.touch();
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    pub(crate) fn has_streams(&self) -> bool {
        self.open.get() > 0
    }

    pub(crate) fn draining(&self) -> bool {
        self.worker.draining()
    }

    /// A short while for a GOAWAY to be written and answered.
    pub(crate) fn allow_farewell(&self) {
        self.timer.set(std::time::Duration::from_secs(1));
    }

    /// Ready when the client has been silent for longer than its phase allows.
    pub(crate) fn poll_expired(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.poll_due(cx)
    }

    /// From here on bytes pass without being requests.
    pub(crate) fn begin_tunnel(&self) {
        self.phase.set(Phase::Relaying);
        self.touch();
    }

    fn touch(&self) {
        self.timer.set(self.worker.timeouts().idle);
    }

    /// Leaves a stream to be joined with this connection once the response has been written.
    pub(crate) fn leave_tunnel(&self, switched: Switched) {
        *self.tunnel.borrow_mut() = Some(switched);
    }

    pub(crate) fn take_tunnel(&self) -> Option<Switched> {
        self.tunnel.borrow_mut().take()
    }

    fn read_some(&self) {
        match self.phase.get() {
            // HTTP/2 has frames of its own between requests: they neither begin one nor keep the connection.
            Phase::Idle if self.engine == Engine::Http2 => {}
            Phase::Idle => {
                self.phase.set(Phase::Head);
                self.timer.set(self.worker.timeouts().request_head);
            }
            Phase::Relaying => self.touch(),
            Phase::Head | Phase::Waiting => {}
        }
    }

    fn wrote_some(&self) {
        match (self.engine, self.phase.get()) {
            // After its last part a response may take a slow client long to read.
            (_, Phase::Relaying) | (Engine::Http1, Phase::Idle) => self.touch(),
            _ => {}
        }
    }
}

/// A stream whose traffic moves the connection's deadline.
pub(crate) struct Watched<T> {
    stream: T,
    downstream: Rc<Downstream>,
}

impl<T> Watched<T> {
    pub(crate) fn new(stream: T, downstream: Rc<Downstream>) -> Self {
        Self { stream, downstream }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.downstream.read_some();
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(1..)) = polled {
            self.downstream.wrote_some();
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let watched = &mut *self;
        let stream = Pin::new(&mut watched.stream);
        let polled = if bufs.iter().map(|buf| buf.len()).sum::<usize>() <= JOINED {
            // Copying a little is cheaper than what the kernel does to look at several buffers.
            let mut joined = watched.downstream.worker.scratch.borrow_mut();
            joined.clear();
            bufs.iter().for_each(|buf| joined.extend_from_slice(buf));
            stream.poll_write(cx, &joined)
        } else {
            stream.poll_write_vectored(cx, bufs)
        };
        if let Poll::Ready(Ok(1..)) = polled {
            watched.downstream.wrote_some();
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
