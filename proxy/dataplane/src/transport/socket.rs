//! TCP sockets that the runtime hears of only when they would block.

use std::io;
use std::mem;
use std::net::{SocketAddr, TcpStream as Unregistered};
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};
use socket2::{Domain, Protocol, SockRef, Type};
use tokio::io::{Interest, ReadBuf};
use tokio::net::TcpStream as Registered;
use tokio::task::coop;

use super::Room;

/// A socket that is given to the runtime's poll when something would block, and not before.
///
/// An accepted socket usually has its request waiting; a connection that ends with the response to it never needs the
/// kernel to watch it, which saves a system call at its beginning and some of the kernel's work at its end.
pub(crate) struct Socket(State);

enum State {
    Unregistered(Unregistered),
    Registered(Registered),
    /// Registering it failed.
    Lost,
}

impl Socket {
    /// A socket that was accepted and does not block.
    pub(crate) fn accepted(stream: Unregistered) -> Self {
        Self(State::Unregistered(stream))
    }

    /// Connects without blocking. To an address on this machine (a pod on the same node) the connection mostly stands
    /// when the call returns: it then stays unregistered.
    ///
    /// # Errors
    /// The system's: refused, unreachable, no ports left.
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(
            Domain::for_address(address),
            Type::STREAM.nonblocking(),
            Some(Protocol::TCP),
        )?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&address.into()) {
            Ok(()) => return Ok(Self::accepted(socket.into())),
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        if socket.peer_addr().is_ok() {
            return Ok(Self::accepted(socket.into()));
        }
        let stream = Registered::from_std(socket.into())?;
        stream.writable().await?;
        match stream.take_error()? {
            Some(error) => Err(error),
            None => Ok(Self(State::Registered(stream))),
        }
    }

    /// Whether the runtime knows it.
    pub(crate) fn is_registered(&self) -> bool {
        matches!(self.0, State::Registered(_))
    }

    /// Makes it known to the runtime, which must be running.
    pub(crate) fn register(&mut self) -> io::Result<()> {
        if let State::Unregistered(_) = self.0
            && let State::Unregistered(stream) = mem::replace(&mut self.0, State::Lost)
        {
            self.0 = State::Registered(Registered::from_std(stream)?);
        }
        Ok(())
    }

    fn registered(&mut self) -> io::Result<&mut Registered> {
        self.register()?;
        match &mut self.0 {
            State::Registered(stream) => Ok(stream),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// The outcome of a system call on a socket that is not registered; nothing when it is, or would block.
    fn directly<T>(
        &self,
        cx: &mut Context<'_>,
        mut call: impl FnMut(&Unregistered) -> io::Result<T>,
    ) -> Poll<Option<io::Result<T>>> {
        let State::Unregistered(stream) = &self.0 else {
            return Poll::Ready(None);
        };
        // The runtime is not asked, so a task that never has to wait would never yield.
        let budget = ready!(coop::poll_proceed(cx));
        loop {
            match call(stream) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Poll::Ready(None);
                }
                outcome => {
                    budget.made_progress();
                    return Poll::Ready(Some(outcome));
                }
            }
        }
    }

    /// Reads what is there, up to the room in `buf`. Nothing read: the peer has ended its side.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = ready!(self.poll_read_into(cx, &mut Unfilled(buf)))?;
        buf.advance(count);
        Poll::Ready(Ok(()))
    }

    /// Reads what is there, up to the room that there is, and says how much. 0: the peer has ended its side.
    pub(super) fn poll_read_into(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut impl Room,
    ) -> Poll<io::Result<usize>> {
        if let Some(read) = ready!(self.directly(cx, |stream| receive(stream, into.room()))) {
            return Poll::Ready(read);
        }
        let stream = self.registered()?;
        loop {
            ready!(stream.poll_read_ready(cx))?;
            let room = into.room();
            let size = room.len();
            match attempt(stream, Interest::READABLE, size, || receive(&*stream, room)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
        }
    }

    /// Sends what the kernel has room for.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, bytes, SendFlags::NOSIGNAL)
    }

    /// Sends what the kernel has room for, in one segment with the FIN that is to follow at once.
    pub(super) fn poll_write_last(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, bytes, SendFlags::NOSIGNAL | SendFlags::MORE)
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        flags: SendFlags,
    ) -> Poll<io::Result<usize>> {
        if let Some(sent) = ready!(self.directly(cx, |stream| send(stream, bytes, flags))) {
            return Poll::Ready(sent);
        }
        let stream = self.registered()?;
        loop {
            ready!(stream.poll_write_ready(cx))?;
            let send = || send(&*stream, bytes, flags);
            match attempt(stream, Interest::WRITABLE, bytes.len(), send) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    /// Has it end by a reset instead of a FIN when it is dropped. What has not left by then is lost.
    pub(super) fn reset_when_closed(&self) {
        let at_once = Some(Duration::ZERO);
        // A socket that cannot do so has no peer any more.
        let _ = match &self.0 {
            State::Unregistered(stream) => SockRef::from(stream).set_linger(at_once),
            State::Registered(stream) => SockRef::from(stream).set_linger(at_once),
            State::Lost => Ok(()),
        };
    }

    /// Sends FIN. A peer that is gone already has no use for it, and is no error.
    pub(super) fn shutdown(&self) -> io::Result<()> {
        let ended = match &self.0 {
            State::Unregistered(stream) => stream.shutdown(std::net::Shutdown::Write),
            State::Registered(stream) => SockRef::from(stream).shutdown(std::net::Shutdown::Write),
            State::Lost => Ok(()),
        };
        match ended {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            ended => ended,
        }
    }
}

/// The rest of a buffer.
struct Unfilled<'a, 'b>(&'a mut ReadBuf<'b>);

impl Room for Unfilled<'_, '_> {
    fn room(&mut self) -> &mut [u8] {
        self.0.initialize_unfilled()
    }
}

/// A system call on a socket that the runtime has found ready. One that moves less than was asked for has used the
/// readiness up: the next one waits for the kernel's word instead of asking in vain.
fn attempt(
    stream: &Registered,
    interest: Interest,
    asked: usize,
    mut call: impl FnMut() -> io::Result<usize>,
) -> io::Result<usize> {
    let mut moved = None;
    let outcome = stream.try_io(interest, || match call() {
        Ok(count) if (1..asked).contains(&count) => {
            moved = Some(count);
            Err(io::ErrorKind::WouldBlock.into())
        }
        outcome => outcome,
    });
    moved.map_or(outcome, Ok)
}

// Straight to the kernel: the C library's functions are points where a thread could be cancelled, and pay for it.

fn receive(socket: impl AsFd, room: &mut [u8]) -> io::Result<usize> {
    let (count, _) = rustix::net::recv(socket, room, RecvFlags::empty())?;
    Ok(count)
}

fn send(socket: impl AsFd, bytes: &[u8], flags: SendFlags) -> io::Result<usize> {
    Ok(rustix::net::send(socket, bytes, flags)?)
}
