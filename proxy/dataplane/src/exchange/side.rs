//! How an exchange and the engines on both of its sides meet: bodies pass in parts, from a source to a sink.

use std::io;
use std::task::{Context, Poll};

use thiserror::Error;

use crate::message::{BodyLength, Fields, FramingError, ResponseHead};

/// A part of a body.
pub(crate) enum Part<'a> {
    /// Some bytes, lent until the source is asked again.
    Data {
        bytes: &'a [u8],
        /// Nothing follows, not even trailers.
        last: bool,
    },
    /// Fields after the body, and with them its end.
    Trailers(Fields),
    /// The end.
    End,
}

/// Why a body ends before its end.
#[derive(Debug, Error)]
pub(crate) enum BodyError {
    #[error("the peer closed within the body")]
    Closed,
    #[error("malformed body: {0}")]
    Malformed(#[from] FramingError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Http2(#[from] h2::Error),
}

/// Where a body comes from. Not asked again after its end.
pub(crate) trait Source {
    /// The next part. What was lent before is done with: only now does its sender get room for more.
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part<'_>, BodyError>>;

    /// What was lent has been passed on: its memory is not needed any more.
    fn release(&mut self) {}

    /// Whether the end has been told.
    fn is_finished(&self) -> bool;
}

/// Where a body goes.
pub(crate) trait Sink {
    /// Ready when there is room for one more part.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>>;

    /// Takes all of a part. What cannot leave now is kept.
    fn send(&mut self, cx: &mut Context<'_>, bytes: &[u8], last: bool) -> Result<(), BodyError>;

    /// The end, unless a part was said to be the last.
    fn finish(&mut self, cx: &mut Context<'_>, trailers: Option<&Fields>) -> Result<(), BodyError>;

    /// Ready when everything that was kept has left.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>>;
}

/// A client's side of one exchange: the body of its request, and the response.
pub(crate) trait Client: Source + Sink {
    /// Passes a response of class 1xx on, where the client's protocol has them.
    fn send_informational(&mut self, head: &ResponseHead);

    /// Tells a client that waits for it that its body is wanted.
    fn send_continue(&mut self);

    /// The rest of the request's body will not be read.
    fn refuse_body(&mut self);

    /// The head of the response; `length` is of the body that will be sent, and empty also ends the response. It may be
    /// kept until the first part, or until a flush.
    fn send_head(&mut self, head: &mut ResponseHead, length: BodyLength) -> Result<(), BodyError>;

    /// Ready when the client has given its request up. A client that has only ended its sending side has not.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}
