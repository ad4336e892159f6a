//! TCP sockets that the runtime hears of only when they would block.

use std::io::{self, Read, Write};
use std::mem;
use std::net::{SocketAddr, TcpStream as Unregistered};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use socket2::{Domain, Protocol, SockRef, Type};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream as Registered;
use tokio::task::coop;

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
        let read = |mut stream: &Unregistered| stream.read(buf.initialize_unfilled());
        if let Some(read) = ready!(self.directly(cx, read)) {
            buf.advance(read?);
            return Poll::Ready(Ok(()));
        }
        Pin::new(self.registered()?).poll_read(cx, buf)
    }

    /// Sends what the kernel has room for.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(sent) = ready!(self.directly(cx, |mut stream| stream.write(bytes))) {
            return Poll::Ready(sent);
        }
        Pin::new(self.registered()?).poll_write(cx, bytes)
    }

    /// Sends what the kernel has room for, in one segment with the FIN that is to follow at once.
    pub(super) fn poll_write_last(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let send = |socket: SockRef<'_>| {
            socket.send_with_flags(bytes, libc::MSG_MORE | libc::MSG_NOSIGNAL)
        };
        if let Some(sent) = ready!(self.directly(cx, |stream| send(stream.into()))) {
            return Poll::Ready(sent);
        }
        let stream = self.registered()?;
        loop {
            ready!(stream.poll_write_ready(cx))?;
            match stream.try_io(Interest::WRITABLE, || send((&*stream).into())) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome),
            }
        }
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
