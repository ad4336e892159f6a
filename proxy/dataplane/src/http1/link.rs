//! A connection's bytes in both directions: what engines of either side have in common.

use std::io;
use std::task::{Context, Poll, ready};

use crate::buffer::{Input, Last, Output};
use crate::exchange::side::{BodyError, Part};
use crate::message::{Decoder, Fields, encode_chunk, encode_last_chunk};
use crate::transport::Transport;

/// Pieces up to this size are gathered and written with what comes before and after them: copying them is cheaper than
/// a system call.
const GATHERED: usize = 16 * 1024;

/// A stream, what was read from it and not used yet, and what is to be written to it.
pub(crate) struct Link {
    pub(crate) transport: Transport,
    pub(crate) input: Input,
    pub(crate) output: Output,
}

/// How a body is marked off on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// By its length, or by the end of the connection.
    Plain,
    /// In chunks (RFC 9112 section 7.1).
    Chunked,
}

impl Link {
    pub(crate) fn new(transport: Transport) -> Self {
        Self {
            transport,
            input: Input::default(),
            output: Output::default(),
        }
    }

    /// Reads more. 0: the peer has ended its side.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.poll_fill(cx, &mut self.transport)
    }

    /// Ready when everything has left.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>, last: Last) -> Poll<io::Result<()>> {
        ready!(self.output.poll_flush(cx, &mut self.transport, last))?;
        self.transport.poll_flush(cx)
    }

    /// Ready when there is room for one more part.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.output.len() < GATHERED {
            return Poll::Ready(Ok(()));
        }
        self.poll_flush(cx, Last::No)
    }

    /// Sends a part of a body.
    pub(crate) fn send(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        encoding: Encoding,
    ) -> io::Result<()> {
        match encoding {
            Encoding::Chunked if !bytes.is_empty() => {
                encode_chunk(bytes, self.output.writer());
            }
            Encoding::Plain if bytes.len() > GATHERED => return self.pass(cx, bytes),
            _ => self.output.writer().extend_from_slice(bytes),
        }
        Ok(())
    }

    /// Sends a large part: without a copy when what was gathered before has left.
    pub(crate) fn pass(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<()> {
        let gathered = self.output.poll_flush(cx, &mut self.transport, Last::No)?;
        if gathered.is_pending() {
            self.output.writer().extend_from_slice(bytes);
            return Ok(());
        }
        self.output.pass(cx, &mut self.transport, bytes)
    }

    /// Marks the end of a body.
    pub(crate) fn finish(&mut self, encoding: Encoding, trailers: Option<&Fields>) {
        if encoding == Encoding::Chunked {
            encode_last_chunk(trailers, self.output.writer());
        }
    }

    /// The next part of a body that comes in.
    pub(crate) fn poll_part(
        &mut self,
        cx: &mut Context<'_>,
        decoder: &mut Decoder,
    ) -> Poll<Result<Part<'_>, BodyError>> {
        self.input.release();
        loop {
            if decoder.is_done() {
                let end = decoder.take_trailers().filter(|fields| !fields.is_empty());
                return Poll::Ready(Ok(end.map_or(Part::End, Part::Trailers)));
            }
            let step = decoder.decode(self.input.bytes())?;
            self.input.consume(step.framing);
            if step.data > 0 {
                let last = decoder.is_done();
                let bytes = self.input.lend(step.data);
                return Poll::Ready(Ok(Part::Data { bytes, last }));
            }
            if !decoder.is_done() && step.framing == 0 && ready!(self.poll_fill(cx))? == 0 {
                match decoder.end_of_input() {
                    Ok(()) => {}
                    Err(_) => return Poll::Ready(Err(BodyError::Closed)),
                }
            }
        }
    }
}
