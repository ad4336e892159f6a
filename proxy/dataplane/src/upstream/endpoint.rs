//! What a worker remembers of one endpoint: its load, its open connections, its last failure.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use crate::clock::{Clock, ticks};
use crate::http1::ClientConnection;
use crate::http2;

/// Idle connections kept per endpoint and worker.
const IDLE: usize = 512;
/// How long an endpoint that refused a connection is passed over while there are others.
const SUSPECT: std::time::Duration = std::time::Duration::from_secs(2);

/// One endpoint, as seen by one worker.
pub(crate) struct EndpointState {
    pub(crate) address: SocketAddr,
    /// The address, as the access log has it.
    pub(crate) name: Rc<str>,
    clock: Rc<Clock>,
    in_flight: Cell<u32>,
    suspect_until: Cell<u64>,
    /// Set when the endpoint has left the snapshot: its connections are not kept.
    removed: Cell<bool>,
    idle: RefCell<Vec<Idle>>,
    shared: RefCell<Option<http2::Connection>>,
    /// When it was last used.
    shared_at: Cell<u64>,
}

struct Idle {
    connection: Box<ClientConnection>,
    since: u64,
}

impl EndpointState {
    pub(crate) fn new(address: SocketAddr, clock: Rc<Clock>) -> Rc<Self> {
        Rc::new(Self {
            address,
            name: address.to_string().into(),
            clock,
            in_flight: Cell::new(0),
            suspect_until: Cell::new(0),
            removed: Cell::new(false),
            idle: RefCell::default(),
            shared: RefCell::default(),
            shared_at: Cell::new(0),
        })
    }

    /// Requests that it is working on for this worker.
    pub(crate) fn load(&self) -> u32 {
        self.in_flight.get()
    }

    /// Whether it refused a connection lately.
    pub(crate) fn is_suspect(&self) -> bool {
        self.suspect_until.get() > self.clock.now()
    }

    /// It refused a connection.
    pub(crate) fn suspect(&self) {
        self.suspect_until.set(self.clock.now() + ticks(SUSPECT));
    }

    /// It accepted one.
    pub(crate) fn trust(&self) {
        self.suspect_until.set(0);
    }

    /// A usable connection. The newest is taken, so that a surplus grows old.
    pub(crate) fn take_idle(&self) -> Option<Box<ClientConnection>> {
        loop {
            let mut idle = self.idle.borrow_mut().pop()?;
            if idle.connection.is_idle() {
                return Some(idle.connection);
            }
        }
    }

    /// Keeps a connection for the next request.
    pub(crate) fn put_idle(&self, connection: Box<ClientConnection>) {
        let mut idle = self.idle.borrow_mut();
        if !self.removed.get() && idle.len() < IDLE {
            idle.push(Idle {
                connection,
                since: self.clock.now(),
            });
        }
    }

    /// The connection that HTTP/2 requests share, if it can take one more.
    pub(crate) fn shared(&self) -> Option<http2::Connection> {
        let shared = self.shared.borrow();
        let usable = shared.as_ref().filter(|shared| shared.is_usable())?;
        self.shared_at.set(self.clock.now());
        Some(usable.clone())
    }

    /// Lets later requests share a connection.
    pub(crate) fn share(&self, connection: http2::Connection) {
        if !self.removed.get() {
            self.shared_at.set(self.clock.now());
            *self.shared.borrow_mut() = Some(connection);
        }
    }

    /// Closes connections that lay idle for longer than `limit` ticks, or that the endpoint has closed.
    pub(crate) fn sweep(&self, limit: u64) {
        let oldest = self.clock.now().saturating_sub(limit);
        self.idle
            .borrow_mut()
            .retain_mut(|idle| idle.since >= oldest && idle.connection.is_idle());
        let mut shared = self.shared.borrow_mut();
        if let Some(connection) = &*shared {
            let unused = self.shared_at.get() < oldest && connection.is_quiet();
            if unused || !connection.is_usable() {
                *shared = None;
            }
        }
    }

    /// The endpoint has left the snapshot: requests in flight finish, nothing is kept.
    pub(crate) fn remove(&self) {
        self.removed.set(true);
        self.idle.borrow_mut().clear();
        *self.shared.borrow_mut() = None;
    }

    /// Connections kept for later.
    pub(crate) fn idle_connections(&self) -> usize {
        self.idle.borrow().len()
    }
}

/// Counts one request for as long as it lives.
pub(crate) struct InFlight(Rc<EndpointState>);

impl InFlight {
    pub(crate) fn new(endpoint: Rc<EndpointState>) -> Self {
        endpoint.in_flight.set(endpoint.in_flight.get() + 1);
        Self(endpoint)
    }

    pub(crate) fn endpoint(&self) -> &EndpointState {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0
            .in_flight
            .set(self.0.in_flight.get().saturating_sub(1));
    }
}
