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

/// A body in either direction.
pub(crate) struct Body {
    source: Source,
    /// Of a request: tells the exchange how far it is.
    progress: Option<Rc<Progress>>,
    /// Of a response: what has to be done while and after it is relayed.
    relay: Option<Relay>,
}

enum Source {
    Fixed(Option<Bytes>),
    Received(Incoming),
}

/// How far the body of a request is.
pub(crate) struct Progress {
    /// Moved on whenever a part of the body passes.
    pub(crate) timer: Timer,
    /// How far it is moved.
    pub(crate) patience: Duration,
    /// Whether the last byte has passed.
    pub(crate) complete: Cell<bool>,
    /// Whether the client's side broke off.
    pub(crate) broken: Cell<bool>,
}

/// The response's connection and deadline, held until its last byte.
pub(crate) struct Relay {
    /// The connection that the body comes from, where this body has it for itself.
    pub(crate) lease: Option<http1::Lease>,
    /// Set anew with every part.
    pub(crate) progress: Option<Rc<Progress>>,
    /// Longest silence of the endpoint.
    pub(crate) idle: Duration,
    /// Recorded when the body ends or is dropped.
    pub(crate) completion: Option<Completion>,
}

impl Body {
    pub(crate) fn empty() -> Self {
        Self {
            source: Source::Fixed(None),
            progress: None,
            relay: None,
        }
    }

    pub(crate) fn fixed(text: &'static str) -> Self {
        Self {
            source: Source::Fixed(Some(Bytes::from_static(text.as_bytes()))),
            progress: None,
            relay: None,
        }
    }

    pub(crate) fn received(incoming: Incoming) -> Self {
        Self {
            source: Source::Received(incoming),
            progress: None,
            relay: None,
        }
    }

    /// The body of a request whose passing is to be watched.
    pub(crate) fn watched(mut self, progress: Rc<Progress>) -> Self {
        self.progress = Some(progress);
        self
    }

    /// The body of a response with what depends on it.
    pub(crate) fn relayed(mut self, relay: Relay) -> Self {
        self.relay = Some(relay);
        if self.ended() {
            self.finish();
        }
        self
    }

    /// Whether nothing more comes.
    pub(crate) fn ended(&self) -> bool {
        match &self.source {
            Source::Fixed(bytes) => bytes.is_none(),
            Source::Received(incoming) => incoming.is_end_stream(),
        }
    }

    fn poll_source(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.source {
            Source::Fixed(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Received(incoming) => Pin::new(incoming).poll_frame(cx),
        }
    }

    /// The last byte has passed: gives the connection back and records the exchange.
    fn finish(&mut self) {
        if let Some(relay) = self.relay.take() {
            if let Some(lease) = relay.lease {
                lease.give_back();
            }
            if let Some(completion) = relay.completion {
                completion.complete();
            }
        }
    }

    fn note_request_part(&self, polled: &Poll<Option<Result<Frame<Bytes>, hyper::Error>>>) {
        let Some(progress) = &self.progress else {
            return;
        };
        match polled {
            Poll::Pending => return,
            Poll::Ready(Some(Ok(_))) => progress.complete.set(self.ended()),
            Poll::Ready(None) => progress.complete.set(true),
            Poll::Ready(Some(Err(_))) => progress.broken.set(true),
        }
        progress.timer.set(progress.patience);
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let body = &mut *self;
        if let Some(Relay {
            lease: Some(lease), ..
        }) = &mut body.relay
        {
            lease.drive(cx);
        }
        let polled = body.poll_source(cx);
        body.note_request_part(&polled);
        if let Some(relay) = &mut body.relay {
            match &polled {
                Poll::Pending => {
                    if let Some(progress) = &relay.progress
                        && progress.timer.poll_due(cx).is_ready()
                    {
                        return Poll::Ready(Some(Err(BodyError::UpstreamIdle)));
                    }
                }
                Poll::Ready(Some(Ok(frame))) => {
                    if let Some(progress) = &relay.progress {
                        progress.timer.set(relay.idle);
                    }
                    if let (Some(completion), Some(bytes)) =
                        (&mut relay.completion, frame.data_ref())
                    {
                        completion.sent(bytes.len());
                    }
                }
                Poll::Ready(_) => {}
            }
            let over = match &polled {
                Poll::Ready(None) => true,
                Poll::Ready(Some(Ok(_))) => body.ended(),
                _ => false,
            };
            if over {
                body.finish();
            }
        }
        polled.map_err(BodyError::Engine)
    }

    fn is_end_stream(&self) -> bool {
        self.ended()
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
