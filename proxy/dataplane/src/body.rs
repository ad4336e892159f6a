//! Bodies on their way through: what the engines read from one side and write to the other.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use thiserror::Error;

use crate::clock::Timer;
use crate::exchange::Completion;
use crate::http1;

/// Why a body ends before its end.
#[derive(Debug, Error)]
pub(crate) enum BodyError {
    #[error("{0}")]
    Engine(#[from] hyper::Error),
    #[error("the endpoint was silent for too long within a body")]
    UpstreamIdle,
}

/// A part of a body, the end, or the error that took its place.
type Part = Option<Result<Frame<Bytes>, hyper::Error>>;

/// The body of a request, on its way to an endpoint.
pub(crate) struct RequestBody {
    /// `None` when there is nothing to send.
    incoming: Option<Incoming>,
    progress: Option<Rc<Progress>>,
}

/// How far the body of a request is.
#[derive(Default)]
pub(crate) struct Progress {
    /// Whether a part has passed since this was last looked at.
    pub(crate) moved: Cell<bool>,
    /// Whether the last byte has passed.
    pub(crate) complete: Cell<bool>,
    /// Whether the client's side broke off.
    pub(crate) broken: Cell<bool>,
}

impl RequestBody {
    pub(crate) fn received(incoming: Incoming) -> Self {
        let incoming = (!incoming.is_end_stream()).then_some(incoming);
        Self {
            incoming,
            progress: None,
        }
    }

    pub(crate) fn empty() -> Self {
        Self {
            incoming: None,
            progress: None,
        }
    }

    /// Where its passing can be watched; `None` when there is nothing to pass.
    pub(crate) fn watch(&mut self) -> Option<Rc<Progress>> {
        self.incoming.as_ref()?;
        Some(self.progress.insert(Rc::default()).clone())
    }

    fn note(&self, part: &Part) {
        let Some(progress) = &self.progress else {
            return;
        };
        progress.moved.set(true);
        match part {
            Some(Ok(_)) => progress.complete.set(self.is_end_stream()),
            None => progress.complete.set(true),
            Some(Err(_)) => progress.broken.set(true),
        }
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Part> {
        let Some(incoming) = &mut self.incoming else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(incoming).poll_frame(cx);
        if let Poll::Ready(part) = &polled {
            self.note(part);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming
            .as_ref()
            .map_or(SizeHint::with_exact(0), Incoming::size_hint)
    }
}

/// The body of a response, on its way to the client.
pub(crate) struct ResponseBody {
    source: Source,
    relay: Option<Box<Relay>>,
}

enum Source {
    Fixed(Option<Bytes>),
    Received(Incoming),
}

/// What a response's body holds until its last byte.
pub(crate) struct Relay {
    /// The connection that the body comes from, where this body has it for itself.
    pub(crate) lease: Option<http1::Lease>,
    /// Set anew with every part.
    pub(crate) timer: Option<Timer>,
    /// Longest silence of the endpoint.
    pub(crate) idle: Duration,
    /// Recorded when the body ends or is dropped.
    pub(crate) completion: Completion,
}

impl ResponseBody {
    pub(crate) fn empty() -> Self {
        Self {
            source: Source::Fixed(None),
            relay: None,
        }
    }

    pub(crate) fn fixed(text: &'static str) -> Self {
        Self {
            source: Source::Fixed(Some(Bytes::from_static(text.as_bytes()))),
            relay: None,
        }
    }

    pub(crate) fn received(incoming: Incoming) -> Self {
        Self {
            source: Source::Received(incoming),
            relay: None,
        }
    }

    /// The body with what depends on it.
    pub(crate) fn relayed(mut self, relay: Relay) -> Self {
        if self.is_end_stream() {
            relay.finish();
        } else {
            self.relay = Some(Box::new(relay));
        }
        self
    }
}

impl Relay {
    /// The last byte has passed: gives the connection back and records the exchange.
    fn finish(self) {
        if let Some(lease) = self.lease {
            lease.give_back();
        }
        self.completion.complete();
    }

    /// Whether the endpoint has been silent for too long.
    fn poll_silence(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.timer
            .as_ref()
            .map_or(Poll::Pending, |timer| timer.poll_due(cx))
    }

    fn note(&mut self, frame: &Frame<Bytes>) {
        if let Some(timer) = &self.timer {
            timer.set(self.idle);
        }
        self.completion.sent(frame.data_ref().map_or(0, Bytes::len));
    }
}

/// What has been read already, else what driving the connection brings.
fn poll_leased(
    incoming: &mut Incoming,
    lease: &mut http1::Lease,
    cx: &mut Context<'_>,
) -> Poll<Part> {
    let read = Pin::new(&mut *incoming).poll_frame(&mut http1::nobody());
    if read.is_ready() {
        return read;
    }
    lease.drive(cx);
    Pin::new(incoming).poll_frame(&mut http1::nobody())
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let body = &mut *self;
        let lease = body.relay.as_mut().and_then(|relay| relay.lease.as_mut());
        let polled = match (&mut body.source, lease) {
            (Source::Fixed(bytes), _) => {
                Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))))
            }
            (Source::Received(incoming), None) => Pin::new(incoming).poll_frame(cx),
            (Source::Received(incoming), Some(lease)) => poll_leased(incoming, lease, cx),
        };
        match (&polled, &mut body.relay) {
            (Poll::Pending, Some(relay)) => {
                return relay
                    .poll_silence(cx)
                    .map(|()| Some(Err(BodyError::UpstreamIdle)));
            }
            (Poll::Ready(Some(Ok(frame))), Some(relay)) => relay.note(frame),
            _ => {}
        }
        let over = match &polled {
            Poll::Ready(None) => true,
            Poll::Ready(Some(Ok(_))) => body.is_end_stream(),
            _ => false,
        };
        if over && let Some(relay) = body.relay.take() {
            relay.finish();
        }
        polled.map_err(BodyError::Engine)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Fixed(bytes) => bytes.is_none(),
            Source::Received(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Fixed(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Source::Received(incoming) => incoming.size_hint(),
        }
    }
}
