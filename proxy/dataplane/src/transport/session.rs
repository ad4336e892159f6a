//! One side of a TLS session over rustls' unbuffered API: records in, plaintext and records out, without a buffer of
//! its own.

use std::cell::Cell;
use std::io;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{CommonState, ProtocolVersion};
use tokio::io::ReadBuf;

use super::leftover::Leftover;

/// A whole record with its header, protection included (RFC 5246 section 6.2.3, the larger of the two versions).
pub(super) const RECORD: usize = 5 + 16 * 1024 + 2048;
/// The longest handshake message that rustls takes, with its record's remains: what a peer may leave incomplete.
pub(super) const PARTIAL: usize = 64 * 1024 + RECORD;
/// Ciphertext read at once, at most.
pub(super) const READ: usize = 128 * 1024;
/// Plaintext encrypted at once, at most: four full records.
pub(super) const WRITE: usize = 64 * 1024;
/// Room for what [`WRITE`] bytes become. Grows for a long certificate chain, and only for that time.
const OUTGOING: usize = WRITE + 1024;

/// The worker's buffers for ciphertext: each connection uses them within one poll.
pub(super) struct Wire {
    pub(super) incoming: Box<[u8]>,
    pub(super) outgoing: Outgoing,
}

thread_local! {
    static WIRE: Cell<Option<Box<Wire>>> = const { Cell::new(None) };
}

impl Wire {
    /// Lends this thread's buffers, the outgoing one empty.
    pub(super) fn with<T>(work: impl FnOnce(&mut Self) -> T) -> T {
        let mut wire = WIRE.take().unwrap_or_else(|| {
            Box::new(Self {
                incoming: vec![0; PARTIAL + READ].into(),
                outgoing: Outgoing::default(),
            })
        });
        let outcome = work(&mut wire);
        wire.outgoing.clear();
        WIRE.set(Some(wire));
        outcome
    }
}

/// Records that are to be sent.
#[derive(Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    filled: usize,
}

/// Why rustls wrote nothing.
enum Refused {
    /// It wants so many bytes of room.
    Short(usize),
    Failed(io::Error),
}

impl From<EncodeError> for Refused {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::InsufficientSize(short) => Self::Short(short.required_size),
            error @ EncodeError::AlreadyEncoded => Self::Failed(io::Error::other(error)),
        }
    }
}

impl From<EncryptError> for Refused {
    fn from(error: EncryptError) -> Self {
        match error {
            EncryptError::InsufficientSize(short) => Self::Short(short.required_size),
            error @ EncryptError::EncryptExhausted => Self::Failed(io::Error::other(error)),
        }
    }
}

impl Outgoing {
    pub(super) fn filled(&self) -> &[u8] {
        self.bytes.get(..self.filled).unwrap_or_default()
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        let end = self.filled + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end.max(OUTGOING), 0);
        }
        if let Some(room) = self.bytes.get_mut(self.filled..end) {
            room.copy_from_slice(bytes);
            self.filled = end;
        }
    }

    fn fill<E: Into<Refused>>(
        &mut self,
        mut write: impl FnMut(&mut [u8]) -> Result<usize, E>,
    ) -> io::Result<()> {
        loop {
            match write(self.bytes.get_mut(self.filled..).unwrap_or_default()).map_err(Into::into) {
                Ok(written) => {
                    self.filled += written;
                    return Ok(());
                }
                Err(Refused::Short(wanted)) => {
                    let room = self.filled.saturating_add(wanted);
                    self.bytes.resize(room.max(OUTGOING), 0);
                }
                Err(Refused::Failed(error)) => return Err(error),
            }
        }
    }

    fn clear(&mut self) {
        self.filled = 0;
        if self.bytes.len() > 2 * OUTGOING {
            *self = Self::default();
        }
    }
}

/// Where plaintext goes: to the reader, and what it has no room for to be kept.
pub(super) struct Plain<'a, 'b> {
    pub(super) reader: &'a mut ReadBuf<'b>,
    pub(super) excess: &'a mut Leftover,
}

impl Plain<'_, '_> {
    fn take(&mut self, bytes: &[u8]) {
        let fitting = bytes.len().min(self.reader.remaining());
        let (now, later) = bytes.split_at(fitting);
        self.reader.put_slice(now);
        self.excess.append(later);
    }
}

/// What is to be encrypted once the records at hand have been taken in.
#[derive(Clone, Copy)]
pub(super) enum Message<'a> {
    /// Nothing: records are only taken in.
    Nothing,
    Data(&'a [u8]),
    /// The last of our side: data (which may be empty) and `close_notify`.
    Last(&'a [u8]),
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// It has taken in what there was and wants more records.
    Wanting,
    /// The peer has ended its side: no more plaintext will come.
    PeerClosed,
    /// The message has been encrypted.
    Written,
}

/// One side of a session.
pub(super) enum Session {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

impl Session {
    fn state(&self) -> &CommonState {
        match self {
            Self::Server(server) => server,
            Self::Client(client) => client,
        }
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.state().is_handshaking()
    }

    /// Whether the peer waits for nothing that the handshake's end has left to send: session tickets, or a client's
    /// last message, which may as well leave with what the stream carries first.
    pub(super) fn may_hold_back(&self) -> bool {
        let state = self.state();
        !state.is_handshaking()
            && (matches!(self, Self::Client(_))
                || state.protocol_version() == Some(ProtocolVersion::TLSv1_3))
    }

    pub(super) fn alpn_protocol(&self) -> Option<&[u8]> {
        self.state().alpn_protocol()
    }

    pub(super) fn handshake_kind(&self) -> Option<rustls::HandshakeKind> {
        self.state().handshake_kind()
    }

    /// Takes in records, decrypting them where they lie, then encrypts the message. Says how many bytes are done
    /// with: the others, as they are now, must come first in the next call, whatever it is for.
    ///
    /// # Errors
    /// The peer broke the protocol, or sent a fatal alert. `out` then holds the alert that tells it so.
    pub(super) fn advance(
        &mut self,
        records: &mut [u8],
        message: Message<'_>,
        plain: &mut Plain<'_, '_>,
        out: &mut Outgoing,
    ) -> io::Result<(usize, Reached)> {
        let mut done = 0;
        loop {
            let rest = records.get_mut(done..).unwrap_or_default();
            let (discard, step) = match self {
                Self::Server(server) => {
                    let status = server.process_tls_records(rest);
                    (status.discard, step(status, message, plain, out))
                }
                Self::Client(client) => {
                    let status = client.process_tls_records(rest);
                    (status.discard, step(status, message, plain, out))
                }
            };
            done += discard;
            match step {
                Ok(None) => {}
                Ok(Some(reached)) => return Ok((done, reached)),
                Err(error) => {
                    self.take_alerts(plain, out);
                    return Err(error);
                }
            }
        }
    }

    /// After an error: what is still to be sent. Records are not looked at again.
    fn take_alerts(&mut self, plain: &mut Plain<'_, '_>, out: &mut Outgoing) {
        while self.state().wants_write() {
            let nothing = Message::Nothing;
            let step = match self {
                Self::Server(server) => {
                    step(server.process_tls_records(&mut []), nothing, plain, out)
                }
                Self::Client(client) => {
                    step(client.process_tls_records(&mut []), nothing, plain, out)
                }
            };
            if !matches!(step, Ok(None)) {
                return;
            }
        }
    }
}

/// Does what one state of the session asks for. Nothing reached: there is a next one.
fn step<Side>(
    status: UnbufferedStatus<'_, '_, Side>,
    message: Message<'_>,
    plain: &mut Plain<'_, '_>,
    out: &mut Outgoing,
) -> io::Result<Option<Reached>> {
    match status.state.map_err(broken)? {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                plain.take(record.map_err(broken)?.payload);
            }
            Ok(None)
        }
        ConnectionState::EncodeTlsData(mut data) => {
            out.fill(|room| data.encode(room))?;
            Ok(None)
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Ok(None)
        }
        ConnectionState::WriteTraffic(mut traffic) => match message {
            Message::Nothing => Ok(Some(Reached::Wanting)),
            Message::Data(bytes) => {
                out.fill(|room| traffic.encrypt(bytes, room))?;
                Ok(Some(Reached::Written))
            }
            Message::Last(bytes) => {
                out.fill(|room| traffic.encrypt(bytes, room))?;
                out.fill(|room| traffic.queue_close_notify(room))?;
                Ok(Some(Reached::Written))
            }
        },
        ConnectionState::BlockedHandshake => Ok(Some(Reached::Wanting)),
        ConnectionState::PeerClosed | ConnectionState::Closed => Ok(Some(Reached::PeerClosed)),
        // Early data is enabled on neither side, and no other state is known.
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
