//! A stream under TLS, towards a client or an endpoint.

use std::io;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;

use super::Socket;
use super::handshake::take_server_name;
use super::leftover::Leftover;
use super::session::{Message, PARTIAL, Plain, READ, RECORD, Reached, Session, WRITE, Wire};

/// A TLS stream that works in its thread's buffers and keeps only what is incomplete.
pub(crate) struct TlsStream {
    socket: Socket,
    session: Session,
    /// Ciphertext of a record, or records of a handshake message, whose rest has not come.
    partial: Vec<u8>,
    /// Plaintext that the reader had no room for.
    plain: Leftover,
    /// Ciphertext that is still to be sent.
    unsent: Leftover,
    unsent_for: Unsent,
    receiving: Receiving,
    sending: Sending,
    /// As the client asked for it, in lower case.
    server_name: Option<Box<str>>,
}

/// Why ciphertext has not been sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unsent {
    /// The kernel had no room for it.
    Blocked,
    /// The peer does not wait for it: it leaves with what is written next, or when the reader has to wait.
    HeldBack,
}

/// Our side of the stream as a sink.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sending {
    Open,
    /// `close_notify` has been written.
    Closed,
}

/// Our side of the stream as a source.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Receiving {
    Open,
    /// The peer has sent `close_notify`.
    Ended,
    /// The session has failed: nothing can be read or written any more.
    Failed,
}

impl TlsStream {
    /// A session before its first message. `received` has come from the peer already.
    pub(super) fn new(socket: Socket, session: Session, received: Vec<u8>) -> Self {
        Self {
            socket,
            session,
            partial: received,
            plain: Leftover::default(),
            unsent: Leftover::default(),
            unsent_for: Unsent::Blocked,
            receiving: Receiving::Open,
            sending: Sending::Open,
            server_name: None,
        }
    }

    /// The protocol agreed on by ALPN (RFC 7301).
    pub(crate) fn alpn_protocol(&self) -> Option<&[u8]> {
        self.session.alpn_protocol()
    }

    /// Whether the session was resumed.
    pub(crate) fn handshake_kind(&self) -> Option<rustls::HandshakeKind> {
        self.session.handshake_kind()
    }

    /// The host that a client asked for (SNI, RFC 6066 section 3), in lower case and without a last dot.
    pub(crate) fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    pub(super) fn is_registered(&self) -> bool {
        self.socket.is_registered()
    }

    /// Begins the handshake with what has been received, or with a client's first message.
    pub(super) fn begin(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        Wire::with(|wire| {
            let received = std::mem::take(&mut self.partial);
            let front = wire.incoming.get_mut(..received.len());
            front.ok_or_else(too_long)?.copy_from_slice(&received);
            self.take_in(cx, wire, received.len(), &mut ReadBuf::new(&mut []))
        })
    }

    /// Ready when the handshake is done.
    pub(super) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Wire::with(|wire| {
            while self.session.is_handshaking() {
                ready!(self.receive(cx, wire, &mut ReadBuf::new(&mut [])))?;
            }
            Poll::Ready(Ok(()))
        })
    }

    /// See [`super::Transport::poll_read`].
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.plain.is_empty() {
            let rest = self.plain.rest();
            let part = rest.get(..buf.remaining()).unwrap_or(rest);
            let count = part.len();
            buf.put_slice(part);
            self.plain.take(count);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        Wire::with(|wire| {
            while self.receiving != Receiving::Ended
                && buf.remaining() > 0
                && buf.filled().len() == before
            {
                ready!(self.receive(cx, wire, buf))?;
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Reads from the socket once and takes in what has come.
    fn receive(
        &mut self,
        cx: &mut Context<'_>,
        wire: &mut Wire,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.receiving == Receiving::Failed {
            return Poll::Ready(Err(failed()));
        }
        let held = self.partial.len();
        if held > PARTIAL {
            return Poll::Ready(Err(too_long()));
        }
        // Not much more than the reader has room for: the rest would have to be kept.
        let window = buf.remaining().clamp(RECORD, READ);
        let (front, room) = wire.incoming.split_at_mut(held);
        let mut space = ReadBuf::new(room.get_mut(..window).unwrap_or_default());
        if self.socket.poll_read(cx, &mut space)?.is_pending() {
            // Whether this succeeds is told to whoever writes next.
            let _ = self.poll_flush(cx);
            return Poll::Pending;
        }
        let read = space.filled().len();
        if read == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        front.copy_from_slice(&self.partial);
        self.partial = Vec::new();
        Poll::Ready(self.take_in(cx, wire, held + read, buf))
    }

    /// Takes in the first `filled` bytes of the worker's buffer, keeps what is incomplete, and sends what the session
    /// has to say.
    fn take_in(
        &mut self,
        cx: &mut Context<'_>,
        wire: &mut Wire,
        filled: usize,
        buf: &mut ReadBuf<'_>,
    ) -> io::Result<()> {
        let handshaking = self.session.is_handshaking();
        let records = wire.incoming.get_mut(..filled).unwrap_or_default();
        let mut plain = Plain {
            reader: buf,
            excess: &mut self.plain,
        };
        let out = &mut wire.outgoing;
        let advanced = self
            .session
            .advance(records, Message::Nothing, &mut plain, out);
        if handshaking && matches!(self.session, Session::Server(_)) {
            self.server_name = take_server_name().or_else(|| self.server_name.take());
        }
        match advanced {
            // What follows `close_notify` is ignored (RFC 8446 section 6.1).
            Ok((_, Reached::PeerClosed)) => self.receiving = Receiving::Ended,
            Ok((done, _)) => self.partial = records.get(done..).unwrap_or_default().to_vec(),
            Err(error) => {
                self.receiving = Receiving::Failed;
                // The peer may be gone; the error that counts is the one that came first.
                let _ = self.send(cx, wire.outgoing.filled(), Flight::More);
                return Err(error);
            }
        }
        let out = wire.outgoing.filled();
        if out.is_empty() {
            return Ok(());
        }
        if self.session.may_hold_back() {
            if self.unsent.is_empty() {
                self.unsent_for = Unsent::HeldBack;
            }
            self.unsent.append(out);
            return Ok(());
        }
        self.send(cx, out, Flight::More)
    }

    /// See [`super::Transport::poll_write`].
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let part = bytes.get(..WRITE).unwrap_or(bytes);
        ready!(self.poll_encrypt(cx, Message::Data(part), Flight::More))?;
        Poll::Ready(Ok(part.len()))
    }

    /// See [`super::Transport::poll_write_last`].
    pub(super) fn poll_write_last(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.len() > WRITE {
            return self.poll_write(cx, bytes);
        }
        ready!(self.poll_encrypt(cx, Message::Last(bytes), Flight::Last))?;
        self.sending = Sending::Closed;
        Poll::Ready(Ok(bytes.len()))
    }

    /// Encrypts a message and sends it, with what was held back in front of it.
    fn poll_encrypt(
        &mut self,
        cx: &mut Context<'_>,
        message: Message<'_>,
        flight: Flight,
    ) -> Poll<io::Result<()>> {
        if self.sending == Sending::Closed || self.receiving == Receiving::Failed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.unsent_for == Unsent::Blocked {
            ready!(self.poll_flush(cx))?;
        }
        Poll::Ready(Wire::with(|wire| {
            wire.outgoing.append(self.unsent.rest());
            self.unsent = Leftover::default();
            self.encrypt(message, wire)?;
            self.send(cx, wire.outgoing.filled(), flight)
        }))
    }

    fn encrypt(&mut self, message: Message<'_>, wire: &mut Wire) -> io::Result<()> {
        let mut plain = Plain {
            reader: &mut ReadBuf::new(&mut []),
            excess: &mut self.plain,
        };
        let out = &mut wire.outgoing;
        let advanced = self
            .session
            .advance(&mut self.partial, message, &mut plain, out);
        match advanced {
            Ok((done, Reached::Written)) => {
                self.partial.drain(..done.min(self.partial.len()));
                Ok(())
            }
            Ok(_) => Err(io::ErrorKind::NotConnected.into()),
            Err(error) => {
                self.receiving = Receiving::Failed;
                Err(error)
            }
        }
    }

    /// Sends records; what the kernel has no room for is kept.
    fn send(&mut self, cx: &mut Context<'_>, records: &[u8], flight: Flight) -> io::Result<()> {
        let mut rest = records;
        while self.unsent.is_empty() && !rest.is_empty() {
            let polled = match flight {
                Flight::More => self.socket.poll_write(cx, rest),
                Flight::Last => self.socket.poll_write_last(cx, rest),
            };
            let Poll::Ready(sent) = polled else {
                break;
            };
            rest = rest.get(sent?..).unwrap_or_default();
        }
        if !rest.is_empty() {
            self.unsent_for = Unsent::Blocked;
            self.unsent.append(rest);
        }
        Ok(())
    }

    /// See [`super::Transport::poll_flush`].
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            match ready!(self.socket.poll_write(cx, self.unsent.rest())) {
                Ok(sent) => self.unsent.take(sent),
                Err(error) => {
                    self.unsent = Leftover::default();
                    return Poll::Ready(Err(error));
                }
            }
        }
        self.unsent_for = Unsent::Blocked;
        Poll::Ready(Ok(()))
    }

    /// See [`super::Transport::poll_shutdown`].
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let may_write = !self.session.is_handshaking() && self.receiving != Receiving::Failed;
        if may_write && self.sending == Sending::Open {
            ready!(self.poll_encrypt(cx, Message::Last(&[]), Flight::Last))?;
            self.sending = Sending::Closed;
        }
        ready!(self.poll_flush(cx))?;
        Poll::Ready(self.socket.shutdown())
    }
}

/// Whether more will be sent.
#[derive(Clone, Copy)]
enum Flight {
    More,
    Last,
}

fn failed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the TLS session has failed")
}

fn too_long() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "a TLS handshake message that is too long",
    )
}
