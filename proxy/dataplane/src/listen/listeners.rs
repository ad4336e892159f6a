//! Bound sockets on their way to the workers: they listen first, so that connections queue until they are taken.

use std::io;
use std::net::TcpListener;

use socket2::SockRef;

use super::{AcceptMode, BindError, BoundAddress, Listener, defer};

/// Connections that may wait to be accepted, per socket.
const BACKLOG: i32 = 4096;

/// The sockets of every listener, before the workers have them. Dropping it closes them.
#[derive(Debug)]
pub struct Listeners {
    listeners: Vec<Listener>,
    mode: AcceptMode,
}

impl Listeners {
    pub(crate) fn new(listeners: Vec<Listener>, mode: AcceptMode) -> Self {
        Self { listeners, mode }
    }

    /// Has every socket listen: from here on connections queue in the kernel.
    ///
    /// # Errors
    /// The first address on which the system refuses it. Those before it listen; dropping this closes them.
    pub fn listen(&mut self) -> Result<(), BindError> {
        for Listener { bound, sockets } in &self.listeners {
            for socket in sockets {
                listen(socket, self.mode).map_err(|source| BindError {
                    address: bound.address,
                    source,
                })?;
            }
        }
        Ok(())
    }

    /// The sockets of each address, one for each worker by its index, in the order of
    /// [`Bound::addresses`](crate::Bound::addresses).
    pub fn sockets(&self) -> impl Iterator<Item = (BoundAddress, &[TcpListener])> {
        let listeners = self.listeners.iter();
        listeners.map(|listener| (listener.bound, listener.sockets.as_slice()))
    }

    /// The sockets of each of so many workers, by its index.
    pub(crate) fn into_workers(self, workers: usize) -> Vec<Vec<(BoundAddress, TcpListener)>> {
        let mut shares: Vec<Vec<_>> = std::iter::repeat_with(Vec::new).take(workers).collect();
        for Listener { bound, sockets } in self.listeners {
            for (share, socket) in shares.iter_mut().zip(sockets) {
                share.push((bound, socket));
            }
        }
        shares
    }
}

fn listen(socket: &TcpListener, mode: AcceptMode) -> io::Result<()> {
    // Before it listens, so that it holds for the first connection.
    if mode == AcceptMode::OnData {
        defer::until_data(socket)?;
    }
    SockRef::from(socket).listen(BACKLOG)
}
