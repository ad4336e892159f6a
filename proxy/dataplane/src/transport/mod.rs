//! The streams under the engines: TCP sockets, plain or under TLS, towards clients and towards endpoints.

mod demand;
mod handshake;
mod hello;
mod leftover;
mod session;
mod socket;
mod terms;
mod tls;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(crate) use demand::Demand;
pub(crate) use handshake::{TlsAcceptor, connect_tls, note_server_name};
pub(crate) use socket::Socket;
pub(crate) use tls::TlsStream;

/// Where bytes are read into.
pub(crate) trait Room {
    /// What there is room for now.
    fn room(&mut self) -> &mut [u8];
}

/// A stream of bytes, both ways.
///
/// What one task polls is woken by that task's waker only: reading and writing of one stream belong to one task.
pub(crate) enum Transport {
    Plain(Socket),
    /// Boxed: a session is large, and most transports of a pool are plain.
    Tls(Box<TlsStream>),
}

impl Transport {
    /// Reads into `buf` and says how much; 0 when the peer has ended its side (or `buf` is empty).
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when a TLS peer closes TCP without having said so under TLS: what it sent may
    /// have been cut short by anyone (RFC 8446 section 6.1). A body that lasts until close is then incomplete; between
    /// messages, where many clients go away like that, it means no more than a close.
    /// [`io::ErrorKind::InvalidData`] when it breaks TLS.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        ready!(self.poll_read_buf(cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().len()))
    }

    fn poll_read_buf(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => socket.poll_read(cx, buf),
            Self::Tls(stream) => stream.poll_read(cx, buf),
        }
    }

    /// Like [`Self::poll_read`], into room that is asked for only when there is something to read.
    pub(crate) fn poll_read_into(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut impl Room,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => socket.poll_read_into(cx, into),
            Self::Tls(_) => self.poll_read(cx, into.room()),
        }
    }

    /// Takes bytes for sending and says how many. TLS takes them encrypted: what the kernel has no room for is kept and
    /// leaves with the next call or with [`Self::poll_flush`], which the caller owes before it waits for an answer.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => socket.poll_write(cx, bytes),
            Self::Tls(stream) => stream.poll_write(cx, bytes),
        }
    }

    /// Like [`Self::poll_write`], for the last bytes before [`Self::poll_shutdown`]: they leave together with
    /// `close_notify` and FIN. What was not taken is given again, to this method. Without a shutdown or a close the
    /// kernel may hold the bytes for 200 ms.
    pub(crate) fn poll_write_last(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => socket.poll_write_last(cx, bytes),
            Self::Tls(stream) => stream.poll_write_last(cx, bytes),
        }
    }

    /// Ready when nothing is kept back any more.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => stream.poll_flush(cx),
        }
    }

    /// Ends our sending side, after what is kept back: `close_notify`, then FIN. Again: nothing.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => Poll::Ready(socket.shutdown()),
            Self::Tls(stream) => stream.poll_shutdown(cx),
        }
    }

    /// Has the peer see, once this is dropped, that what it got is not whole: by a reset, or with TLS by the
    /// `close_notify` that is missing.
    pub(crate) fn break_off(&self) {
        if let Self::Plain(socket) = self {
            socket.reset_when_closed();
        }
    }

    /// Whether the runtime knows the socket: see [`Socket`].
    pub(crate) fn is_registered(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_registered(),
            Self::Tls(stream) => stream.is_registered(),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_read_buf(cx, buf)
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Self::poll_write(&mut self, cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_flush(&mut self, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_shutdown(&mut self, cx)
    }
}

#[cfg(test)]
mod tests;
