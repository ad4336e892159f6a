//! Buffers of a worker, lent to a connection only while it has bytes to hold.
//!
//! A worker is a thread, so its buffers are the thread's. In steady state a request is read into a lent buffer, its
//! answer is gathered in another, and both are back before the task waits: a connection that is idle holds none.

use std::cell::RefCell;
use std::io;
use std::task::{Context, Poll};

use crate::transport::{Room, Transport};

/// Bytes of one buffer: the longest head, and a good piece of a large body.
pub(crate) const SIZE: usize = 64 * 1024;
/// Free buffers that a worker keeps of each kind.
const KEPT: usize = 16;

thread_local! {
    static FREE: RefCell<Free> = const { RefCell::new(Free { input: Vec::new(), output: Vec::new() }) };
}

struct Free {
    input: Vec<Box<[u8]>>,
    output: Vec<Vec<u8>>,
}

fn lend_input() -> Box<[u8]> {
    let free = FREE.with_borrow_mut(|free| free.input.pop());
    free.unwrap_or_else(|| vec![0; SIZE].into_boxed_slice())
}

fn lend_output() -> Vec<u8> {
    let free = FREE.with_borrow_mut(|free| free.output.pop());
    free.unwrap_or_else(|| Vec::with_capacity(SIZE))
}

fn return_input(buffer: Box<[u8]>) {
    if buffer.len() == SIZE {
        FREE.with_borrow_mut(|free| {
            if free.input.len() < KEPT {
                free.input.push(buffer);
            }
        });
    }
}

fn return_output(mut buffer: Vec<u8>) {
    // A buffer that had to grow goes, so that one large head does not stay for ever.
    if (SIZE..=2 * SIZE).contains(&buffer.capacity()) {
        buffer.clear();
        FREE.with_borrow_mut(|free| {
            if free.output.len() < KEPT {
                free.output.push(buffer);
            }
        });
    }
}

/// Bytes that were read from a peer and not used yet; at most [`SIZE`].
#[derive(Default)]
pub(crate) struct Input {
    /// One of the worker's, one of just the bytes that are there, or none.
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Bytes at the front that are in use until [`release`](Self::release).
    lent: usize,
}

impl Input {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Takes bytes from the front.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.end);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            return_input(std::mem::take(&mut self.buffer));
        }
    }

    /// Lends bytes from the front; [`release`](Self::release) consumes them.
    pub(crate) fn lend(&mut self, count: usize) -> &[u8] {
        self.lent = count.min(self.len());
        &self.buffer[self.start..self.start + self.lent]
    }

    /// Consumes what was lent.
    pub(crate) fn release(&mut self) {
        let lent = std::mem::take(&mut self.lent);
        if lent > 0 {
            self.consume(lent);
        }
    }

    /// Reads more bytes behind those that are there. 0: the peer has ended its side, or there is no room.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut Transport,
    ) -> Poll<io::Result<usize>> {
        let polled = transport.poll_read_into(cx, self);
        match &polled {
            Poll::Ready(Ok(count)) => self.end += *count,
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.park(),
        }
        polled
    }

    /// Gives the worker's buffer back while the task waits; what is in it is kept in one of its own size.
    fn park(&mut self) {
        if self.buffer.len() == SIZE {
            let held: Box<[u8]> = self.bytes().into();
            (self.start, self.end) = (0, held.len());
            return_input(std::mem::replace(&mut self.buffer, held));
        }
    }
}

impl Room for Input {
    /// The rest of one of the worker's buffers, behind what is there.
    fn room(&mut self) -> &mut [u8] {
        if self.buffer.len() < SIZE {
            let mut buffer = lend_input();
            let held = self.bytes();
            let length = held.len();
            buffer[..length].copy_from_slice(held);
            (self.buffer, self.start, self.end) = (buffer, 0, length);
        } else if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.len());
        }
        &mut self.buffer[self.end..]
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        return_input(std::mem::take(&mut self.buffer));
    }
}

/// Bytes that are to be written to a peer.
#[derive(Default)]
pub(crate) struct Output {
    bytes: Vec<u8>,
    /// How many of them have been written.
    start: usize,
}

impl Output {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where bytes are added.
    pub(crate) fn writer(&mut self) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = lend_output();
        }
        &mut self.bytes
    }

    /// Writes until nothing is left. `last` says whether the connection's sending side ends behind it.
    pub(crate) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut Transport,
        last: Last,
    ) -> Poll<io::Result<()>> {
        while self.start < self.bytes.len() {
            let rest = &self.bytes[self.start..];
            let polled = match last {
                Last::No => transport.poll_write(cx, rest),
                Last::Yes => transport.poll_write_last(cx, rest),
            };
            match polled {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => self.start += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.park();
                    return Poll::Pending;
                }
            }
        }
        if self.bytes.capacity() > 0 {
            self.start = 0;
            return_output(std::mem::take(&mut self.bytes));
        }
        Poll::Ready(Ok(()))
    }

    /// Gives the worker's buffer back while the task waits.
    fn park(&mut self) {
        if self.bytes.capacity() >= SIZE {
            let rest = self.bytes[self.start..].to_vec();
            self.start = 0;
            return_output(std::mem::replace(&mut self.bytes, rest));
        }
    }

    /// Writes a large piece that need not be copied as long as nothing is waiting; what does not leave is kept.
    pub(crate) fn pass(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut Transport,
        mut piece: &[u8],
    ) -> io::Result<()> {
        while !piece.is_empty() {
            match transport.poll_write(cx, piece) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => piece = piece.get(count..).unwrap_or_default(),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    self.bytes.extend_from_slice(piece);
                    break;
                }
            }
        }
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        return_output(std::mem::take(&mut self.bytes));
    }
}

/// Whether a connection's sending side ends behind some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    No,
    Yes,
}
