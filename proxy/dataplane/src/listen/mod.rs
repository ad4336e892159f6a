//! Listening sockets: one per worker and address, sharing the port (SO_REUSEPORT).

mod defer;
mod listeners;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::num::NonZeroUsize;
use std::str::FromStr;

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

pub use listeners::Listeners;

/// Where to listen. Parsed from `PORT` (every address, IPv4 and IPv6) or `HOST:PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// Every address of the machine. 0 lets the system choose a port.
    Port(u16),
    /// One address.
    Socket(SocketAddr),
}

/// The text is neither a port nor a host and a port.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "{text:?} is no address to listen on: write PORT, HOST:PORT or [IPV6]:PORT, such as 8080 or 127.0.0.1:8080"
)]
pub struct ListenAddressError {
    text: String,
}

impl FromStr for ListenAddress {
    type Err = ListenAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(port) = text.parse() {
            return Ok(Self::Port(port));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Socket(address));
        }
        let resolved = text
            .to_socket_addrs()
            .ok()
            .and_then(|mut found| found.next());
        resolved
            .map(Self::Socket)
            .ok_or_else(|| ListenAddressError {
                text: text.to_owned(),
            })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, "{port}"),
            Self::Socket(address) => write!(f, "{address}"),
        }
    }
}

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListenerProtocol {
    /// HTTP in plain text.
    Http,
    /// HTTP over TLS.
    Https,
}

impl ListenerProtocol {
    /// The word for it in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl fmt::Display for ListenerProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// When a worker takes a new connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AcceptMode {
    /// With the client's first bytes, or a second after it connected. A connection that carries one request costs less,
    /// and clients that only connect take nothing but a place in the kernel's queue.
    #[default]
    OnData,
    /// As soon as it is connected.
    OnConnect,
}

/// A bound listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoundAddress {
    /// What is spoken.
    pub protocol: ListenerProtocol,
    /// With the port that the system chose where port 0 was asked for.
    pub address: SocketAddr,
}

/// Why listening failed.
#[derive(Debug, Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    /// What was to be bound.
    pub address: SocketAddr,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// One address, bound once for every worker; it does not listen yet.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) bound: BoundAddress,
    /// One for each worker, by its index.
    pub(crate) sockets: Vec<TcpListener>,
}

/// Binds an address for every worker. `PORT` gives one listener for IPv4 and one for IPv6, where the machine has it.
pub(crate) fn bind(
    protocol: ListenerProtocol,
    address: ListenAddress,
    workers: NonZeroUsize,
) -> Result<Vec<Listener>, BindError> {
    match address {
        ListenAddress::Socket(address) => Ok(vec![bind_one(protocol, address, workers)?]),
        ListenAddress::Port(port) => {
            let v4 = bind_one(protocol, (Ipv4Addr::UNSPECIFIED, port).into(), workers)?;
            let port = v4.bound.address.port();
            let v6 = bind_one(protocol, (Ipv6Addr::UNSPECIFIED, port).into(), workers);
            match v6 {
                Ok(v6) => Ok(vec![v4, v6]),
                Err(error) if lacks_ipv6(&error.source) => Ok(vec![v4]),
                Err(error) => Err(error),
            }
        }
    }
}

fn lacks_ipv6(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}

fn bind_one(
    protocol: ListenerProtocol,
    address: SocketAddr,
    workers: NonZeroUsize,
) -> Result<Listener, BindError> {
    let fail = |source| BindError { address, source };
    let first = socket(address).map_err(fail)?;
    let bound = first.local_addr().map_err(fail)?;
    let mut sockets = vec![first];
    for _ in 1..workers.get() {
        sockets.push(socket(bound).map_err(fail)?);
    }
    Ok(Listener {
        bound: BoundAddress {
            protocol,
            address: bound,
        },
        sockets,
    })
}

fn socket(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit it: one system call less for each.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_ports_or_hosts_with_ports() {
        assert_eq!("8080".parse(), Ok(ListenAddress::Port(8080)));
        assert_eq!(
            "127.0.0.1:0".parse(),
            Ok(ListenAddress::Socket(([127, 0, 0, 1], 0).into()))
        );
        assert_eq!(
            "[::1]:80".parse(),
            Ok(ListenAddress::Socket((Ipv6Addr::LOCALHOST, 80).into()))
        );
        for text in ["", "65536", "127.0.0.1", "a b:80"] {
            assert!(text.parse::<ListenAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_worker_has_a_socket_on_one_port() -> Result<(), BindError> {
        let workers = NonZeroUsize::new(3).unwrap();
        let listeners = bind(ListenerProtocol::Http, ListenAddress::Port(0), workers)?;
        let port = listeners[0].bound.address.port();
        assert_ne!(port, 0);
        for listener in &listeners {
            assert_eq!(listener.sockets.len(), 3);
            assert!(
                listener
                    .sockets
                    .iter()
                    .all(|socket| socket.local_addr().unwrap().port() == port)
            );
        }
        Ok(())
    }
}
