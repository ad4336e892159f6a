//! HTTP/2 towards an endpoint, in plain text with prior knowledge: one connection carries many exchanges.

use std::cell::Cell;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::Reason;
use h2::client::{Builder, ResponseFuture, SendRequest};
use http::uri::Scheme;
use tokio::io::{AsyncRead, AsyncWrite};

use super::guard::{Guard, Guarded};
use super::stream::{Incoming, Outgoing};
use super::{CONNECTION_WINDOW, HEAD, SEND_BUFFER, STREAM_WINDOW};
use crate::exchange::side::{BodyError, Part, Sink, Source};
use crate::message::{
    BodyLength, Fields, Name, Rejection, RejectionKind, RequestHead, RequestKind, ResponseHead,
};
use crate::upstream::UpstreamError;

/// An open connection; a clone speaks on the same one.
#[derive(Clone)]
pub(crate) struct Connection {
    sender: SendRequest<Bytes>,
    state: Rc<State>,
}

/// What the users of a connection share.
struct State {
    /// Streams that are open.
    streams: Cell<usize>,
    ended: Cell<bool>,
    guard: Rc<Guard>,
}

impl Connection {
    /// Speaks HTTP/2 on a fresh transport. The connection is driven by a task of its own, since no exchange has it alone.
    pub(crate) async fn open<T>(transport: T) -> Result<Self, h2::Error>
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let guard = Guard::new();
        let guarded = Guarded::from_endpoint(transport, guard.clone());
        let (sender, connection) = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(HEAD)
            .enable_push(false)
            .handshake(guarded)
            .await?;
        let state = Rc::new(State {
            streams: Cell::new(0),
            ended: Cell::new(false),
            guard,
        });
        tokio::task::spawn_local(drive(connection, state.clone()));
        Ok(Self { sender, state })
    }

    /// Whether another request can be sent at once. When the endpoint allows no more streams, another connection is the
    /// way: waiting here would put one request behind another's slow answer.
    pub(crate) fn is_usable(&self) -> bool {
        !self.state.ended.get()
            && !self.state.guard.is_going_away()
            && self.state.streams.get() < self.sender.current_max_send_streams()
    }

    /// Whether it carries nothing now.
    pub(crate) fn is_quiet(&self) -> bool {
        self.state.streams.get() == 0
    }

    /// Sends the head of a request.
    ///
    /// # Errors
    /// [`UpstreamError::Unsent`] when the connection takes no more.
    pub(crate) fn send(
        &mut self,
        head: &RequestHead,
        length: BodyLength,
    ) -> Result<ClientStream, UpstreamError> {
        let request = head.to_http2(Scheme::HTTP).ok_or(INEXPRESSIBLE)?;
        let ended = length == BodyLength::Empty;
        let sent = self.sender.send_request(request, ended);
        let (response, stream) = sent.map_err(|error| {
            tracing::debug!(%error, "an HTTP/2 connection takes no more requests");
            UpstreamError::Unsent
        })?;
        Ok(ClientStream {
            response,
            kind: head.kind(),
            incoming: None,
            outgoing: Outgoing::new(stream, length, self.state.guard.clone()),
            open: OpenStream::new(self.state.clone()),
        })
    }
}

/// A head that HTTP/1.1 can carry and HTTP/2 cannot.
const INEXPRESSIBLE: Rejection = Rejection {
    kind: RejectionKind::Malformed,
    reason: "the request cannot be sent over HTTP/2",
};

/// Drives a connection until it ends.
async fn drive(connection: impl Future<Output = Result<(), h2::Error>>, state: Rc<State>) {
    let mut connection = pin!(connection);
    let ended = std::future::poll_fn(|cx| match connection.as_mut().poll(cx) {
        Poll::Pending if state.guard.is_spent() => Poll::Ready(None),
        polled => polled.map(Some),
    });
    match ended.await {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::debug!(%error, "an HTTP/2 connection to an endpoint ended"),
        None => tracing::debug!("an endpoint floods its HTTP/2 connection"),
    }
    state.ended.set(true);
}

/// Counts a stream for as long as it lives.
struct OpenStream(Rc<State>);

impl OpenStream {
    fn new(state: Rc<State>) -> Self {
        state.streams.set(state.streams.get() + 1);
        Self(state)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get().saturating_sub(1));
    }
}

/// One request, and the response to it. Dropped before both have ended, it resets the stream.
pub(crate) struct ClientStream {
    response: ResponseFuture,
    kind: RequestKind,
    /// The body of the response, once its head is there.
    incoming: Option<Incoming>,
    outgoing: Outgoing,
    open: OpenStream,
}

impl ClientStream {
    /// The next head of the response: those of class 1xx one by one, then the final one.
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<ResponseHead, UpstreamError>> {
        if let Some(interim) = ready!(self.response.poll_informational(cx)) {
            let (parts, ()) = interim.map_err(failed)?.into_parts();
            return Poll::Ready(head(parts, self.kind, BodyEnd::Unknown));
        }
        let response = ready!(Pin::new(&mut self.response).poll(cx)).map_err(failed)?;
        let (parts, body) = response.into_parts();
        let incoming = Incoming::new(body, self.open.0.guard.clone());
        let end = match incoming.is_finished() {
            true => BodyEnd::Here,
            false => BodyEnd::Unknown,
        };
        self.incoming = Some(incoming);
        Poll::Ready(head(parts, self.kind, end))
    }
}

/// What a head says about the end of its stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BodyEnd {
    Here,
    Unknown,
}

fn head(
    parts: http::response::Parts,
    kind: RequestKind,
    end: BodyEnd,
) -> Result<ResponseHead, UpstreamError> {
    if parts.status == http::StatusCode::SWITCHING_PROTOCOLS {
        return Err(UpstreamError::Malformed(Rejection {
            kind: RejectionKind::Malformed,
            reason: "status 101 is not in HTTP/2",
        }));
    }
    let mut head = ResponseHead::from_http2(parts, kind, end == BodyEnd::Here)?;
    // HTTP/1.1 needs to be told (RFC 9110 section 8.6); of a HEAD's response nothing is known.
    let empty = end == BodyEnd::Here && kind == RequestKind::Other;
    if empty && !matches!(head.status(), 204 | 304) && !head.fields().has(Name::ContentLength) {
        head.fields_mut().append(Name::ContentLength, b"0");
    }
    Ok(head)
}

/// Whether the endpoint will have worked on the request (RFC 9113 section 8.7): not if it refused the stream, nor if
/// it announced its end and did not count the stream among those it answers.
fn failed(error: h2::Error) -> UpstreamError {
    let refused = error.reason() == Some(Reason::REFUSED_STREAM);
    if error.is_remote() && (error.is_go_away() || refused) {
        return UpstreamError::Unsent;
    }
    UpstreamError::Http2(error)
}

impl Source for ClientStream {
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part<'_>, BodyError>> {
        match &mut self.incoming {
            Some(incoming) => incoming.poll_part(cx),
            None => Poll::Ready(Err(BodyError::Closed)),
        }
    }

    fn is_finished(&self) -> bool {
        self.incoming.as_ref().is_some_and(Incoming::is_finished)
    }
}

impl Sink for ClientStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        self.outgoing.poll_ready(cx)
    }

    fn send(&mut self, _cx: &mut Context<'_>, bytes: &[u8], last: bool) -> Result<(), BodyError> {
        self.outgoing.send(bytes, last)
    }

    fn finish(
        &mut self,
        _cx: &mut Context<'_>,
        trailers: Option<&Fields>,
    ) -> Result<(), BodyError> {
        self.outgoing.finish(trailers)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        self.outgoing.poll_flush(cx)
    }
}
