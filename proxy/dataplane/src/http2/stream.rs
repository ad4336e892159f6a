//! One stream: its two directions, and a client's side of an exchange made of them.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;

use super::guard::Guard;
use crate::exchange::side::{BodyError, Client, Part, Sink, Source};
use crate::message::{BodyLength, Fields, Rejection, RequestHead, ResponseHead};

/// Bytes of one DATA frame. With the frame's head they fill a TLS record, and streams take turns frame by frame.
const PIECE: usize = 16 * 1024 - 9;

/// A body that is received.
pub(super) struct Incoming {
    stream: RecvStream,
    /// What is in use; its sender gets room for as much when it is done with.
    lent: Bytes,
    finished: bool,
    guard: Rc<Guard>,
}

impl Incoming {
    pub(super) fn new(stream: RecvStream, guard: Rc<Guard>) -> Self {
        Self {
            finished: stream.is_end_stream(),
            stream,
            lent: Bytes::new(),
            guard,
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    pub(super) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part<'_>, BodyError>> {
        self.give_back();
        match ready!(self.stream.poll_data(cx)) {
            Some(Ok(bytes)) => {
                self.finished = self.stream.is_end_stream();
                self.guard.passed(bytes.len());
                self.lent = bytes;
                Poll::Ready(Ok(Part::Data {
                    bytes: &self.lent,
                    last: self.finished,
                }))
            }
            Some(Err(error)) => Poll::Ready(Err(broken(error))),
            None => self.poll_end(cx),
        }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part<'_>, BodyError>> {
        let trailers = ready!(self.stream.poll_trailers(cx)).map_err(broken)?;
        self.finished = true;
        let trailers = trailers
            .map(|trailers| Fields::from_http2_trailers(&trailers))
            .filter(|trailers| !trailers.is_empty());
        Poll::Ready(Ok(trailers.map_or(Part::End, Part::Trailers)))
    }

    /// What was lent has been passed on: the sender may send as much again.
    fn give_back(&mut self) {
        let lent = std::mem::take(&mut self.lent).len();
        if lent > 0 {
            // Fails only for more than was received.
            let _ = self.stream.flow_control().release_capacity(lent);
        }
    }
}

/// A body that is sent.
///
/// `h2` gets what the peer's windows have room for, so that it holds [`SEND_BUFFER`](super::SEND_BUFFER) at most;
/// the rest of a part is kept here.
pub(super) struct Outgoing {
    stream: SendStream<Bytes>,
    kept: Bytes,
    ending: Ending,
    guard: Rc<Guard>,
}

/// What follows the bytes that are kept.
enum Ending {
    /// More bytes.
    Open,
    /// The end.
    End,
    /// Trailers, and the end.
    Trailers(HeaderMap),
    /// The end is with `h2`.
    Sent,
}

impl Outgoing {
    /// A body after a head that was sent.
    pub(super) fn new(stream: SendStream<Bytes>, length: BodyLength, guard: Rc<Guard>) -> Self {
        let ending = match length {
            BodyLength::Empty => Ending::Sent,
            _ => Ending::Open,
        };
        if length == BodyLength::Empty {
            guard.completed();
        }
        Self {
            stream,
            kept: Bytes::new(),
            ending,
            guard,
        }
    }

    /// Whether the end is on its way, so that the stream can be let go of.
    fn is_ended(&self) -> bool {
        matches!(self.ending, Ending::Sent)
    }

    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        loop {
            self.push()?;
            if self.kept.is_empty() {
                // More would take from the connection's window what other streams could use meanwhile.
                self.stream.reserve_capacity(1);
                if self.stream.capacity() > 0 {
                    return Poll::Ready(Ok(()));
                }
            }
            ready!(self.poll_room(cx))?;
        }
    }

    pub(super) fn send(&mut self, bytes: &[u8], last: bool) -> Result<(), BodyError> {
        self.push()?;
        self.kept = match self.kept.is_empty() {
            true => Bytes::copy_from_slice(bytes),
            false => [&self.kept, bytes].concat().into(),
        };
        if last {
            self.ending = Ending::End;
        }
        self.push()
    }

    pub(super) fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), BodyError> {
        self.ending = match trailers.map(Fields::to_http2_trailers) {
            Some(trailers) if !trailers.is_empty() => Ending::Trailers(trailers),
            _ => Ending::End,
        };
        self.push()
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        loop {
            self.push()?;
            if self.kept.is_empty() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_room(cx))?;
        }
    }

    /// Hands over what there is room for.
    fn push(&mut self) -> Result<(), BodyError> {
        while !self.kept.is_empty() {
            self.stream.reserve_capacity(self.kept.len());
            let count = self.stream.capacity().min(self.kept.len()).min(PIECE);
            if count == 0 {
                return Ok(());
            }
            let piece = self.kept.split_to(count);
            let last = self.kept.is_empty() && matches!(self.ending, Ending::End);
            self.stream.send_data(piece, last)?;
            self.guard.passed(count);
            if last {
                self.end();
            }
        }
        match std::mem::replace(&mut self.ending, Ending::Open) {
            Ending::Open => {}
            Ending::End => {
                self.stream.send_data(Bytes::new(), true)?;
                self.end();
            }
            Ending::Trailers(trailers) => {
                self.stream.send_trailers(trailers)?;
                self.end();
            }
            Ending::Sent => self.ending = Ending::Sent,
        }
        Ok(())
    }

    fn end(&mut self) {
        self.ending = Ending::Sent;
        self.guard.completed();
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        Poll::Ready(match ready!(self.stream.poll_capacity(cx)) {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(broken(error)),
            None => Err(BodyError::Closed),
        })
    }
}

fn broken(error: h2::Error) -> BodyError {
    if error.is_reset() {
        return BodyError::Closed;
    }
    if error.is_io() {
        return error.into_io().map_or(BodyError::Closed, BodyError::Io);
    }
    BodyError::Http2(error)
}

/// A client's side of one exchange.
pub(super) struct ServerStream {
    incoming: Incoming,
    response: Response,
    expectation: Expectation,
    guard: Rc<Guard>,
}

enum Response {
    /// Its head has not been sent.
    Awaited(SendResponse<Bytes>),
    Begun(Outgoing),
}

/// A client's wish to hear whether its body is wanted (RFC 9110 section 10.1.1).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expectation {
    None,
    Waiting,
}

impl ServerStream {
    /// A request that has come, and the stream that it came on.
    pub(super) fn accept(
        request: http::Request<RecvStream>,
        respond: SendResponse<Bytes>,
        guard: Rc<Guard>,
    ) -> (Result<RequestHead, Rejection>, Self) {
        let (parts, body) = request.into_parts();
        let incoming = Incoming::new(body, guard.clone());
        let head = RequestHead::from_http2(&parts, incoming.is_finished());
        let waits = head.as_ref().is_ok_and(RequestHead::expects_continue);
        let stream = Self {
            expectation: match waits && !incoming.is_finished() {
                true => Expectation::Waiting,
                false => Expectation::None,
            },
            incoming,
            response: Response::Awaited(respond),
            guard,
        };
        (head, stream)
    }

    /// Leaves the request unanswered: the client may send it again (RFC 9113 section 8.7).
    pub(super) fn refuse(mut self) {
        if let Response::Awaited(respond) = &mut self.response {
            respond.send_reset(Reason::REFUSED_STREAM);
            self.guard.refused();
        }
    }
}

impl Source for ServerStream {
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part<'_>, BodyError>> {
        self.incoming.poll_part(cx)
    }

    fn is_finished(&self) -> bool {
        self.incoming.is_finished()
    }
}

impl Sink for ServerStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        match &mut self.response {
            Response::Awaited(_) => Poll::Ready(Ok(())),
            Response::Begun(outgoing) => outgoing.poll_ready(cx),
        }
    }

    fn send(&mut self, _cx: &mut Context<'_>, bytes: &[u8], last: bool) -> Result<(), BodyError> {
        match &mut self.response {
            Response::Awaited(_) => Err(BodyError::Closed),
            Response::Begun(outgoing) => outgoing.send(bytes, last),
        }
    }

    fn finish(
        &mut self,
        _cx: &mut Context<'_>,
        trailers: Option<&Fields>,
    ) -> Result<(), BodyError> {
        match &mut self.response {
            Response::Awaited(_) => Err(BodyError::Closed),
            Response::Begun(outgoing) => outgoing.finish(trailers),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        match &mut self.response {
            Response::Awaited(_) => Poll::Ready(Ok(())),
            Response::Begun(outgoing) => outgoing.poll_flush(cx),
        }
    }
}

impl Client for ServerStream {
    fn send_informational(&mut self, head: &ResponseHead) {
        // 100 is Tidegate's own to send, and 101 is not in HTTP/2 (RFC 9113 section 8.6).
        if let Response::Awaited(respond) = &mut self.response
            && !matches!(head.status(), 100 | 101)
        {
            // A stream that is gone is noticed when the answer takes it.
            let _ = respond.send_informational(head.to_http2());
        }
    }

    fn send_continue(&mut self) {
        if self.expectation == Expectation::Waiting
            && let Response::Awaited(respond) = &mut self.response
        {
            self.expectation = Expectation::None;
            let mut go_on = http::Response::new(());
            *go_on.status_mut() = http::StatusCode::CONTINUE;
            let _ = respond.send_informational(go_on);
        }
    }

    fn refuse_body(&mut self) {
        // The stream is reset without an error once the response has ended (RFC 9113 section 8.1).
    }

    fn send_head(&mut self, head: &mut ResponseHead, length: BodyLength) -> Result<(), BodyError> {
        let Response::Awaited(respond) = &mut self.response else {
            return Err(BodyError::Closed);
        };
        let stream = respond.send_response(head.to_http2(), length == BodyLength::Empty)?;
        self.response = Response::Begun(Outgoing::new(stream, length, self.guard.clone()));
        Ok(())
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let reset = match &mut self.response {
            Response::Awaited(respond) => respond.poll_reset(cx),
            Response::Begun(outgoing) => outgoing.stream.poll_reset(cx),
        };
        reset.map(|_| ())
    }
}

impl Drop for ServerStream {
    /// A response that was cut short must not look whole. A stream that has ended or was reset stays as it is.
    fn drop(&mut self) {
        match &mut self.response {
            Response::Awaited(respond) => respond.send_reset(Reason::INTERNAL_ERROR),
            Response::Begun(outgoing) if !outgoing.is_ended() => {
                outgoing.stream.send_reset(Reason::INTERNAL_ERROR);
            }
            Response::Begun(_) => {}
        }
    }
}
