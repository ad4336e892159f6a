//! HTTP/1.1 towards an endpoint: one exchange at a time, then back to the pool.
//!
//! The connection is driven by the task whose exchange it carries: no wake-up crosses tasks.

use std::task::{Context, Poll, Waker, ready};

use super::link::{Encoding, Link};
use super::search::Search;
use crate::buffer::{self, Last};
use crate::exchange::side::{BodyError, Part, Sink, Source};
use crate::message::{BodyLength, Decoder, Fields, RequestHead, RequestKind, ResponseHead};
use crate::transport::Transport;
use crate::upstream::UpstreamError;

/// An open connection.
pub(crate) struct Connection {
    link: Link,
    kind: RequestKind,
    /// How the body of the request is sent.
    encoding: Encoding,
    /// Whether the last byte of the request is with the link.
    requested: bool,
    /// Whether a byte of the response has come.
    answered: bool,
    search: Search,
    /// The body of the response, once its head is there.
    response: Option<Decoder>,
    /// Whether the last response leaves the connection open (RFC 9112 section 9.3).
    persistent: bool,
}

impl Connection {
    /// Speaks HTTP/1.1 on a fresh stream.
    pub(crate) fn new(transport: Transport) -> Self {
        Self {
            link: Link::new(transport),
            kind: RequestKind::Other,
            encoding: Encoding::Plain,
            requested: true,
            answered: false,
            search: Search::default(),
            response: None,
            persistent: true,
        }
    }

    /// Whether another request can be sent. Takes no system call unless the endpoint has sent or closed something.
    pub(crate) fn is_idle(&mut self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        self.link.input.is_empty() && self.link.poll_fill(&mut nobody).is_pending()
    }

    /// Ends the exchange. Whether it has left the connection in a state that another can begin in.
    pub(crate) fn end(&mut self) -> bool {
        self.link.input.release();
        self.persistent
            && self.requested
            && self.response.as_ref().is_some_and(Decoder::is_done)
            && self.link.input.is_empty()
            && self.link.output.is_empty()
    }

    /// Begins an exchange: the head goes out with the first part of the body, or at a flush.
    pub(crate) fn begin(&mut self, head: &RequestHead, length: BodyLength) {
        self.kind = head.kind();
        self.requested = length == BodyLength::Empty;
        self.answered = false;
        self.search = Search::default();
        self.response = None;
        let out = self.link.output.writer();
        head.write_http1(out);
        self.encoding = match length {
            BodyLength::Chunked | BodyLength::UntilClose => {
                out.extend_from_slice(b"transfer-encoding: chunked\r\n");
                Encoding::Chunked
            }
            BodyLength::Empty | BodyLength::Known(_) => Encoding::Plain,
        };
        out.extend_from_slice(b"\r\n");
    }

    /// Whether the endpoint has begun to answer.
    pub(crate) fn is_answered(&self) -> bool {
        self.answered
    }

    /// The next head of the response: those of class 1xx one by one, then the final one.
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<ResponseHead, UpstreamError>> {
        loop {
            self.answered |= !self.link.input.is_empty();
            if self.search.is_worth_parsing(self.link.input.bytes()) {
                match ResponseHead::parse(self.link.input.bytes(), self.kind)? {
                    Some((head, length)) => {
                        self.search = Search::default();
                        self.link.input.consume(length);
                        return Poll::Ready(self.accept(head));
                    }
                    None if self.link.input.len() >= buffer::SIZE => {
                        return Poll::Ready(Err(UpstreamError::HeadTooLarge));
                    }
                    None => {}
                }
            }
            if ready!(self.link.poll_fill(cx)).map_err(UpstreamError::Io)? == 0 {
                return Poll::Ready(Err(UpstreamError::Closed));
            }
        }
    }

    fn accept(&mut self, head: ResponseHead) -> Result<ResponseHead, UpstreamError> {
        if head.is_informational() {
            return Ok(head);
        }
        let length = head.body_length();
        let fits = match length {
            BodyLength::Empty => head.status() == 101 || self.link.input.is_empty(),
            BodyLength::Known(length) => self.link.input.len() as u64 <= length,
            BodyLength::Chunked | BodyLength::UntilClose => true,
        };
        if !fits {
            return Err(UpstreamError::Excess);
        }
        self.persistent = head.persists() && length != BodyLength::UntilClose;
        self.response = Some(Decoder::new(length));
        Ok(head)
    }

    /// The stream after a switch of protocols, with what was read of the new one already.
    pub(crate) fn into_link(self) -> Link {
        self.link
    }
}

impl Source for Connection {
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part<'_>, BodyError>> {
        match &mut self.response {
            Some(response) => self.link.poll_part(cx, response),
            None => Poll::Ready(Err(BodyError::Closed)),
        }
    }

    fn release(&mut self) {
        self.link.input.release();
    }

    fn is_finished(&self) -> bool {
        self.response.as_ref().is_some_and(Decoder::is_done)
    }
}

impl Sink for Connection {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        self.link.poll_ready(cx).map_err(BodyError::Io)
    }

    fn send(&mut self, cx: &mut Context<'_>, bytes: &[u8], last: bool) -> Result<(), BodyError> {
        self.link.send(cx, bytes, self.encoding)?;
        if last {
            self.finish(cx, None)?;
        }
        Ok(())
    }

    fn finish(
        &mut self,
        _cx: &mut Context<'_>,
        trailers: Option<&Fields>,
    ) -> Result<(), BodyError> {
        self.requested = true;
        self.link.finish(self.encoding, trailers);
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        self.link.poll_flush(cx, Last::No).map_err(BodyError::Io)
    }
}
