//! Listening: addresses that are taken, and what to do when one cannot be had.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener};

use anyhow::{Context, anyhow};
use socket2::{Domain, Protocol, Socket, Type};
use tidegate_dataplane::ListenAddress;
use tokio::net::TcpListener;

/// Fails for the first address on which another process listens. The workers' own sockets share their ports
/// (`SO_REUSEPORT`), so binding them would succeed beside an instance that was forgotten, and connections would go to
/// either of them by chance.
pub(crate) fn refuse_taken<'a>(
    addresses: impl IntoIterator<Item = &'a ListenAddress>,
) -> anyhow::Result<()> {
    for address in addresses {
        // What else may be wrong with an address, binding it tells.
        if let Err(error) = bind_alone(*address)
            && error.kind() == io::ErrorKind::AddrInUse
        {
            return Err(failed(address, &error));
        }
    }
    Ok(())
}

/// Whether an address, or every address that a port alone means, is one of these, which another process has.
pub(crate) fn is_among(address: ListenAddress, taken: &[SocketAddr]) -> bool {
    taken.iter().any(|other| match address {
        ListenAddress::Port(port) => other.port() == port,
        ListenAddress::Socket(address) => *other == address,
    })
}

/// Binds the admin listener, which does not listen yet. Processes of one user may share its port, as those of an instance
/// do for a moment while one takes over from the other.
pub(crate) fn bind(address: ListenAddress) -> anyhow::Result<Socket> {
    bind_by(bind_shared, address)
        .map_err(|error| failed(format!("{address} for the admin pages"), &error))
}

fn bind_shared(address: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Connections that may wait for the admin pages.
const ADMIN_BACKLOG: i32 = 128;

/// Makes a bound socket listen.
pub(crate) fn listen(socket: Socket) -> anyhow::Result<TcpListener> {
    socket.listen(ADMIN_BACKLOG).context("admin listener")?;
    TcpListener::from_std(socket.into()).context("admin listener")
}

/// Binds an address that is shared with nobody.
fn bind_alone(address: ListenAddress) -> io::Result<StdListener> {
    bind_by(StdListener::bind, address)
}

/// Binds an address in one way or another. A port alone means every address, IPv6 and IPv4 in one socket.
fn bind_by<T>(bind: fn(SocketAddr) -> io::Result<T>, address: ListenAddress) -> io::Result<T> {
    match address {
        ListenAddress::Socket(address) => bind(address),
        ListenAddress::Port(port) => {
            bind((Ipv6Addr::UNSPECIFIED, port).into()).or_else(|error| match error.kind() {
                io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(error),
                // A machine without IPv6.
                _ => bind((Ipv4Addr::UNSPECIFIED, port).into()),
            })
        }
    }
}

/// What failed and what to do about it.
pub(crate) fn failed(address: impl fmt::Display, error: &io::Error) -> anyhow::Error {
    anyhow!(
        "cannot listen on {address}: {error}; {}",
        remedy(error.kind())
    )
}

fn remedy(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::AddrInUse => {
            "another process listens there: stop it (`ss -ltnp` names it) or choose another port"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need root or the capability NET_BIND_SERVICE: grant it or choose a port from 1024 on"
        }
        io::ErrorKind::AddrNotAvailable => {
            "the machine has no such address: write one of its own (`ip addr` lists them) or the port alone"
        }
        _ => "choose another address",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_address_is_refused_by_name() {
        let taken = StdListener::bind("127.0.0.1:0").unwrap();
        let address = ListenAddress::Socket(taken.local_addr().unwrap());
        let error = refuse_taken([&address]).unwrap_err().to_string();
        assert!(error.contains(&address.to_string()), "{error}");
        assert!(error.contains("another process"), "{error}");
        drop(taken);
        assert!(refuse_taken([&address]).is_ok());
    }
}
