//! A client's connection: who is on the other side, and where it came in.

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

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
    /// The peer's address and port, as the access log has it; made when it is first asked for.
    client: OnceCell<Box<str>>,
    /// The name that the client's handshake was for, in lower case.
    server_name: Option<Box<str>>,
}

impl Downstream {
    pub(crate) fn new(
        worker: Rc<Worker>,
        listener: Rc<ListenerFacts>,
        peer: SocketAddr,
        server_name: Option<Box<str>>,
    ) -> Rc<Self> {
        Rc::new(Self {
            listener,
            peer,
            address: peer.ip().to_canonical().to_string().into(),
            client: OnceCell::new(),
            server_name,
            worker,
        })
    }

    /// The peer's address and port, as the access log has it.
    pub(crate) fn client(&self) -> &str {
        self.client.get_or_init(|| self.peer.to_string().into())
    }

    /// Whether the connection is to end.
    pub(crate) fn draining(&self) -> bool {
        self.last_request().is_some()
    }

    /// While the connection is to end: how long it may be idle before it does, for a request that is on its way.
    pub(crate) fn last_request(&self) -> Option<Duration> {
        self.worker.last_request()
    }

    /// Whether a request for this host should not have come on this connection (RFC 9110 section 7.4).
    pub(crate) fn is_misdirected(&self, host: &str, current: &Current) -> bool {
        let Some(name) = self.server_name.as_deref() else {
            return false;
        };
        name != host && current.certificates.is_misdirected(Some(name), host)
    }
}
