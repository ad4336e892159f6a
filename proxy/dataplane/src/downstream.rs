//! A client's connection: who is on the other side, and how long it may be silent.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::clock::Timer;
use crate::listen::ListenerProtocol;
use crate::publish::Current;
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

/// Facts of a listener that every connection to it shares.
pub(crate) struct ListenerFacts {
    pub(crate) protocol: ListenerProtocol,
    /// The port, as `X-Forwarded-Port` has it.
    pub(crate) port: Box<str>,
}

/// One client's connection.
pub(crate) struct Downstream {
    pub(crate) worker: Rc<Worker>,
    pub(crate) listener: Rc<ListenerFacts>,
    pub(crate) peer: SocketAddr,
    /// The peer's address, as `X-Forwarded-For` has it.
    pub(crate) address: Box<str>,
    /// The name that the client's handshake was for, in lower case.
    server_name: Option<Box<str>>,
    /// Of the client's silence while no exchange is under way; exchanges have deadlines of their own.
    timer: Timer,
    /// Exchanges that are not over.
    open: Cell<u32>,
}

impl Downstream {
    pub(crate) fn new(
        worker: Rc<Worker>,
        listener: Rc<ListenerFacts>,
        peer: SocketAddr,
        server_name: Option<Box<str>>,
    ) -> Rc<Self> {
        let timer = worker.clock.timer();
        timer.set(worker.timeouts().request_head);
        Rc::new(Self {
            listener,
            peer,
            address: peer.ip().to_canonical().to_string().into(),
            server_name,
            timer,
            open: Cell::new(0),
            worker,
        })
    }

    /// The first bytes of a request are there.
    pub(crate) fn head_begins(&self) {
        self.timer.set(self.worker.timeouts().request_head);
    }

    /// An exchange begins.
    pub(crate) fn begin(&self) {
        self.open.set(self.open.get() + 1);
        self.timer.clear();
    }

    /// An exchange is over.
    pub(crate) fn end(&self) {
        self.open.set(self.open.get().saturating_sub(1));
        if self.open.get() == 0 {
            self.timer.set(self.worker.timeouts().idle);
        }
    }

    pub(crate) fn draining(&self) -> bool {
        self.worker.draining()
    }

    /// Ready when the client has been silent for longer than it may.
    pub(crate) fn poll_expired(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.poll_due(cx)
    }

    /// Whether a request for this host should not have come on this connection (RFC 9110 section 7.4).
    pub(crate) fn is_misdirected(&self, host: &str, current: &Current) -> bool {
        let Some(name) = self.server_name.as_deref() else {
            return false;
        };
        name != host && current.certificates.is_misdirected(Some(name), host)
    }
}
