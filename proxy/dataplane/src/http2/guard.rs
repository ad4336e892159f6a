//! What `h2` leaves unbounded: frames that cost work and bring none (RFC 9113 section 10.5).
//!
//! [`Guarded`] stands between `h2` and the transport and looks at the nine bytes before each frame. Frames that carry no
//! message are paid for from a credit, which grows with time and with messages that pass. A peer that has spent its
//! credit is not read from any more, and its connection is ended.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most that is saved up: what a peer may spend at once.
const CREDIT: u32 = 2_000;
/// What a second adds.
const PER_SECOND: u32 = 100;
/// What a message adds when its end has passed: a client that takes an answer may give up another request.
const PER_MESSAGE: u32 = 20;
/// Bytes of a body that add 1: enough for a receiver that opens its windows every 4 KiB.
const BYTES: usize = 512;

/// Bytes before each frame (RFC 9113 section 4.1).
const FRAME_HEAD: usize = 9;
/// Most bytes of padding with its length (RFC 9113 section 6.1).
const PADDING: u32 = 256;
/// Bytes that a client begins with, before its first frame (RFC 9113 section 3.4).
const PREFACE: usize = 24;
/// Up to this many bytes in several pieces are written as one.
const JOINED: usize = 32 * 1024;

/// What is known of a connection's frames; shared by its transport, its task and its streams.
pub(super) struct Guard {
    credit: Cell<u32>,
    /// When time was last turned into credit.
    refilled: Cell<Instant>,
    spent: Cell<bool>,
    /// Blocks of fields (HEADERS and CONTINUATION) that have begun.
    blocks: Cell<u64>,
    in_block: Cell<bool>,
    going_away: Cell<bool>,
    /// Bytes that answer control frames and have not been written yet.
    owed: Cell<usize>,
    wrote: Cell<bool>,
}

impl Guard {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            credit: Cell::new(CREDIT),
            refilled: Cell::new(Instant::now()),
            spent: Cell::new(false),
            blocks: Cell::new(0),
            in_block: Cell::new(false),
            going_away: Cell::new(false),
            owed: Cell::new(0),
            wrote: Cell::new(false),
        })
    }

    /// Whether the peer has sent more control frames than its messages are worth.
    pub(super) fn is_spent(&self) -> bool {
        self.spent.get()
    }

    /// The block of fields that has begun and not ended, by number.
    pub(super) fn open_block(&self) -> Option<u64> {
        self.in_block.get().then(|| self.blocks.get())
    }

    /// Whether the peer has announced its end (GOAWAY).
    pub(super) fn is_going_away(&self) -> bool {
        self.going_away.get()
    }

    /// Whether something other than answers to control frames was written since this was last asked.
    pub(super) fn take_wrote(&self) -> bool {
        self.wrote.take()
    }

    /// A part of a body passed, in either direction.
    pub(super) fn passed(&self, bytes: usize) {
        self.earn(1 + u32::try_from(bytes / BYTES).unwrap_or(CREDIT));
    }

    /// A message passed to its end.
    pub(super) fn completed(&self) {
        self.earn(PER_MESSAGE);
    }

    /// A request was refused unanswered: the work for it was in vain.
    pub(super) fn refused(&self) {
        self.pay(10);
    }

    fn earn(&self, credit: u32) {
        self.credit
            .set(self.credit.get().saturating_add(credit).min(CREDIT));
    }

    fn pay(&self, cost: u32) {
        if self.credit.get() < cost {
            self.refill();
        }
        match self.credit.get().checked_sub(cost) {
            Some(left) => self.credit.set(left),
            None => self.spent.set(true),
        }
    }

    /// Turns the time that has passed into credit.
    fn refill(&self) {
        let now = Instant::now();
        let passed = now.duration_since(self.refilled.get()).as_millis();
        self.refilled.set(now);
        let earned = passed * u128::from(PER_SECOND) / 1000;
        self.earn(u32::try_from(earned).unwrap_or(CREDIT));
    }

    /// A frame begins.
    fn see(&self, frame: FrameHead) {
        match frame.kind {
            Kind::Data if frame.may_be_empty() => self.pay(1),
            Kind::Data => {}
            Kind::Headers => {
                self.blocks.set(self.blocks.get() + 1);
                self.in_block.set(true);
            }
            Kind::Continuation => {
                self.pay(1);
                self.in_block.set(true);
            }
            // The work for the request was in vain; a hundred pages of a browser left at once are still well.
            Kind::ResetStream => self.pay(10),
            Kind::Settings if frame.flags.acknowledges() => self.pay(1),
            // May change the window of every stream.
            Kind::Settings => {
                self.pay(10);
                self.owe(FRAME_HEAD);
            }
            Kind::Ping if frame.flags.acknowledges() => self.pay(1),
            Kind::Ping => {
                self.pay(1);
                self.owe(FRAME_HEAD + frame.length as usize);
            }
            Kind::WindowUpdate => self.pay(2),
            Kind::GoAway => {
                self.pay(1);
                self.going_away.set(true);
            }
            Kind::Other => self.pay(1),
        }
    }

    #[cfg(fuzzing)]
    pub(super) fn watched(&self) -> super::fuzzing::Watched {
        super::fuzzing::Watched {
            spent: self.is_spent(),
            credit: self.credit.get(),
            blocks: self.blocks.get(),
            open_block: self.open_block(),
            going_away: self.is_going_away(),
            owed: self.owed.get(),
        }
    }

    fn owe(&self, bytes: usize) {
        self.owed.set(self.owed.get().saturating_add(bytes));
    }

    fn note_written(&self, bytes: usize) {
        let answers = self.owed.get().min(bytes);
        self.owed.set(self.owed.get() - answers);
        if bytes > answers {
            self.wrote.set(true);
        }
    }
}

/// The fixed part of a frame (RFC 9113 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FrameHead {
    /// Of the payload, in bytes.
    length: u32,
    kind: Kind,
    flags: Flags,
}

/// Types of frames that are told apart (RFC 9113 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Data,
    Headers,
    ResetStream,
    Settings,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    /// PRIORITY, PUSH_PROMISE, and what is unknown.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flags(u8);

impl Flags {
    fn end_stream(self) -> bool {
        self.0 & 0x1 != 0
    }

    fn acknowledges(self) -> bool {
        self.0 & 0x1 != 0
    }

    fn end_headers(self) -> bool {
        self.0 & 0x4 != 0
    }

    fn padded(self) -> bool {
        self.0 & 0x8 != 0
    }
}

impl FrameHead {
    fn read(bytes: [u8; FRAME_HEAD]) -> Self {
        let [l0, l1, l2, kind, flags, ..] = bytes;
        Self {
            length: u32::from_be_bytes([0, l0, l1, l2]),
            kind: match kind {
                0 => Kind::Data,
                1 => Kind::Headers,
                3 => Kind::ResetStream,
                4 => Kind::Settings,
                6 => Kind::Ping,
                7 => Kind::GoAway,
                8 => Kind::WindowUpdate,
                9 => Kind::Continuation,
                _ => Kind::Other,
            },
            flags: Flags(flags),
        }
    }

    /// Whether a DATA frame may bring no data and no end: padding and its length are all there is to a short one then.
    /// One that brings data after all earns what it costs when it passes.
    fn may_be_empty(self) -> bool {
        let shortest = if self.flags.padded() { PADDING + 1 } else { 1 };
        self.length < shortest && !self.flags.end_stream()
    }

    fn ends_block(self) -> bool {
        matches!(self.kind, Kind::Headers | Kind::Continuation) && self.flags.end_headers()
    }
}

/// Follows a stream of frames, however its bytes are split.
struct Frames {
    head: [u8; FRAME_HEAD],
    /// Bytes of the head that are there.
    have: usize,
    /// Bytes of the payload that are still to come.
    left: usize,
    /// Whether a block of fields ends with the payload.
    ends_block: bool,
}

impl Frames {
    fn after(preface: usize) -> Self {
        Self {
            head: [0; FRAME_HEAD],
            have: 0,
            left: preface,
            ends_block: false,
        }
    }

    fn follow(&mut self, mut bytes: &[u8], guard: &Guard) {
        loop {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            if self.left > 0 {
                return;
            }
            if std::mem::take(&mut self.ends_block) {
                guard.in_block.set(false);
            }
            let taken = (FRAME_HEAD - self.have).min(bytes.len());
            let (head, rest) = bytes.split_at(taken);
            self.head[self.have..self.have + taken].copy_from_slice(head);
            self.have += taken;
            if self.have < FRAME_HEAD {
                return;
            }
            bytes = rest;
            let frame = FrameHead::read(self.head);
            self.have = 0;
            self.left = frame.length as usize;
            self.ends_block = frame.ends_block();
            guard.see(frame);
        }
    }
}

/// A transport whose frames are watched.
pub(super) struct Guarded<T> {
    transport: T,
    frames: Frames,
    guard: Rc<Guard>,
}

impl<T> Guarded<T> {
    /// Of a client's connection.
    pub(super) fn from_client(transport: T, guard: Rc<Guard>) -> Self {
        Self {
            transport,
            frames: Frames::after(PREFACE),
            guard,
        }
    }

    /// Of a connection to an endpoint.
    pub(super) fn from_endpoint(transport: T, guard: Rc<Guard>) -> Self {
        Self {
            transport,
            frames: Frames::after(0),
            guard,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Guarded<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let guarded = &mut *self;
        if guarded.guard.is_spent() {
            // The connection's task looks at this after every turn: nothing needs to wake it.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut guarded.transport).poll_read(cx, buf))?;
        let read = buf.filled().get(before..).unwrap_or_default();
        guarded.frames.follow(read, &guarded.guard);
        Poll::Ready(Ok(()))
    }
}

thread_local! {
    /// Where pieces are joined, within one call.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Guarded<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.transport).poll_write(cx, bytes))?;
        self.guard.note_written(written);
        Poll::Ready(Ok(written))
    }

    /// Joins a frame's head and its payload: copying costs less than another record and another call of the kernel.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut filled = pieces.iter().filter(|piece| !piece.is_empty());
        if let (Some(only), None) = (filled.next(), filled.next()) {
            return self.poll_write(cx, only);
        }
        SCRATCH.with_borrow_mut(|joined| {
            joined.clear();
            for piece in pieces {
                let room = JOINED - joined.len();
                joined.extend_from_slice(piece.get(..room).unwrap_or(piece));
            }
            self.poll_write(cx, joined)
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn frames_are_found_however_they_are_split() {
        let mut bytes = vec![b'x'; PREFACE];
        for _ in 0..3 {
            bytes.extend(frame(4, 0, &[0; 12]));
            bytes.extend(frame(0, 0, &[3; 300]));
            bytes.extend(frame(3, 0, &[0; 4]));
        }
        for size in 1..60 {
            let guard = Guard::new();
            let mut frames = Frames::after(PREFACE);
            bytes
                .chunks(size)
                .for_each(|chunk| frames.follow(chunk, &guard));
            assert_eq!(guard.credit.get(), CREDIT - 3 * 20, "pieces of {size}");
            assert_eq!(guard.owed.get(), 3 * FRAME_HEAD);
        }
    }

    #[test]
    fn a_flood_of_any_control_frame_spends_the_credit() {
        let floods = [
            ("empty DATA", frame(0, 0, &[])),
            ("padded empty DATA", frame(0, 8, &[0])),
            ("DATA of padding", frame(0, 8, &[255; 256])),
            ("PRIORITY", frame(2, 0, &[0; 5])),
            ("RST_STREAM", frame(3, 0, &[0; 4])),
            ("SETTINGS", frame(4, 0, &[])),
            ("SETTINGS acknowledged", frame(4, 1, &[])),
            ("PING", frame(6, 0, &[0; 8])),
            ("PING acknowledged", frame(6, 1, &[0; 8])),
            ("WINDOW_UPDATE", frame(8, 0, &[0, 0, 0, 1])),
            ("CONTINUATION", frame(9, 0, &[])),
            ("unknown", frame(200, 0, &[0; 3])),
        ];
        for (what, frame) in floods {
            let guard = Guard::new();
            let mut frames = Frames::after(0);
            for _ in 0..100 {
                frames.follow(&frame, &guard);
            }
            assert!(!guard.is_spent(), "{what} a hundred times");
            for _ in 0..CREDIT * 2 {
                frames.follow(&frame, &guard);
            }
            assert!(guard.is_spent(), "{what}");
        }
    }

    #[test]
    fn what_passes_pays_for_the_frames_that_go_with_it() {
        let guard = Guard::new();
        let mut frames = Frames::after(0);
        for _ in 0..10 * CREDIT {
            // A client that opens both windows every 4 KiB, and gives every other request up.
            guard.passed(16 * 1024);
            for _ in 0..8 {
                frames.follow(&frame(8, 0, &[0; 4]), &guard);
            }
            guard.completed();
            frames.follow(&frame(3, 0, &[0; 4]), &guard);
        }
        assert!(!guard.is_spent());
    }

    #[test]
    fn a_block_of_fields_is_open_until_its_last_byte() {
        let guard = Guard::new();
        let mut frames = Frames::after(0);
        frames.follow(&frame(1, 0, &[0; 10]), &guard);
        let open = guard.open_block();
        assert!(open.is_some());
        let last = frame(9, 4, &[0; 10]);
        let (most, end) = last.split_at(last.len() - 1);
        frames.follow(most, &guard);
        assert_eq!(guard.open_block(), open);
        frames.follow(end, &guard);
        assert_eq!(guard.open_block(), None);
        frames.follow(&frame(1, 0x4, &[0; 10]), &guard);
        assert_eq!(guard.open_block(), None);
    }

    #[test]
    fn answers_to_control_frames_are_no_progress() {
        let guard = Guard::new();
        let mut frames = Frames::after(0);
        frames.follow(&frame(6, 0, &[0; 8]), &guard);
        guard.note_written(17);
        assert!(!guard.take_wrote());
        guard.note_written(1);
        assert!(guard.take_wrote());
        assert!(!guard.take_wrote());
    }
}
