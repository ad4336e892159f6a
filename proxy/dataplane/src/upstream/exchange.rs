//! An endpoint's side of one exchange, whichever engine carries it.

use std::rc::Rc;
use std::task::{Context, Poll};

use thiserror::Error;
use tidegate_model::Protocol;

use super::{ConnectError, EndpointState, UpstreamState, UpstreamTls, connect};
use crate::clock::{Elapsed, Timer, within};
use crate::exchange::side::{BodyError, Part, Sink, Source};
use crate::fault::Fault;
use crate::http1::{ClientConnection, Link};
use crate::http2::{ClientStream, Connection};
use crate::message::{BodyLength, Fields, Rejection, RequestHead, ResponseHead};

/// Why a request got no answer.
#[derive(Debug, Error)]
pub(crate) enum UpstreamError {
    /// The endpoint will not have worked on it.
    #[error("the endpoint did not take the request")]
    Unsent,
    #[error("the endpoint closed the connection")]
    Closed,
    #[error("{0}")]
    Io(std::io::Error),
    #[error("the endpoint's answer is no HTTP: {}", .0.reason)]
    Malformed(Rejection),
    #[error("the head of the endpoint's answer is larger than 64 KiB")]
    HeadTooLarge,
    #[error("the endpoint sent more than it announced")]
    Excess,
    #[error("the endpoint sends one informational response after the other")]
    Informational,
    #[error("{0}")]
    Http2(#[from] h2::Error),
}

impl UpstreamError {
    /// Whether the request can be sent again whatever it does.
    pub(crate) fn is_unsent(&self) -> bool {
        matches!(self, Self::Unsent)
    }

    /// What the client gets.
    pub(crate) fn fault(&self) -> Fault {
        Fault::InvalidResponse
    }
}

impl From<Rejection> for UpstreamError {
    fn from(rejection: Rejection) -> Self {
        Self::Malformed(rejection)
    }
}

/// Which connections may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    Allowed,
    Forbidden,
}

/// A connection that a request can be sent on.
pub(crate) enum UpstreamConnection {
    Http1(Box<ClientConnection>),
    Http2(Connection),
}

impl UpstreamConnection {
    /// One that is open already.
    pub(crate) fn reuse(protocol: Protocol, endpoint: &EndpointState) -> Option<Self> {
        match protocol {
            Protocol::H2c => endpoint.shared().map(Self::Http2),
            Protocol::Http | Protocol::Https => endpoint.take_idle().map(Self::Http1),
        }
    }

    /// A new one.
    pub(crate) async fn open(
        upstream: &UpstreamState,
        endpoint: &Rc<EndpointState>,
        tls: &UpstreamTls,
        timer: &Timer,
    ) -> Result<Self, ConnectError> {
        let transport = connect(upstream, endpoint.address, tls, timer).await?;
        if upstream.protocol() != Protocol::H2c {
            return Ok(Self::Http1(Box::new(ClientConnection::new(transport))));
        }
        let opened = within(timer, Connection::open(transport)).await;
        let connection = opened
            .map_err(|Elapsed| ConnectError::TimedOut)?
            .map_err(|error| ConnectError::Io(std::io::Error::other(error)))?;
        endpoint.share(connection.clone());
        Ok(Self::Http2(connection))
    }

    /// Begins an exchange with the head of the request and the length of its body.
    pub(crate) fn begin(
        self,
        head: &RequestHead,
        length: BodyLength,
    ) -> Result<UpstreamExchange, UpstreamError> {
        match self {
            Self::Http1(mut connection) => {
                connection.begin(head, length);
                Ok(UpstreamExchange::Http1(connection))
            }
            Self::Http2(mut connection) => {
                let stream = connection.send(head, length)?;
                Ok(UpstreamExchange::Http2(Box::new(stream)))
            }
        }
    }
}

/// One request on a connection to an endpoint, and the answer to it.
pub(crate) enum UpstreamExchange {
    Http1(Box<ClientConnection>),
    Http2(Box<ClientStream>),
}

/// Calls the same function of whichever engine it is.
macro_rules! either {
    ($exchange:expr, $side:ident => $call:expr) => {
        match $exchange {
            UpstreamExchange::Http1($side) => $call,
            UpstreamExchange::Http2($side) => $call,
        }
    };
}

impl UpstreamExchange {
    /// The next head of the response: those of class 1xx one by one, then the final one.
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<ResponseHead, UpstreamError>> {
        either!(self, side => side.poll_head(cx))
    }

    /// Whether a byte of the response has come.
    pub(crate) fn is_answered(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_answered(),
            // Frames tell what an endpoint has not worked on: see `UpstreamError::Unsent`.
            Self::Http2(_) => false,
        }
    }

    /// The exchange has ended well: a connection that can carry another goes to the pool.
    pub(crate) fn end(self, endpoint: &EndpointState) {
        if let Self::Http1(mut connection) = self
            && connection.end()
        {
            endpoint.put_idle(connection);
        }
    }

    /// The stream after a switch of protocols; HTTP/2 has no such.
    pub(crate) fn into_link(self) -> Option<Link> {
        match self {
            Self::Http1(connection) => Some(connection.into_link()),
            Self::Http2(_) => None,
        }
    }
}

impl Source for UpstreamExchange {
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part<'_>, BodyError>> {
        either!(self, side => side.poll_part(cx))
    }

    fn release(&mut self) {
        either!(self, side => side.release());
    }

    fn is_finished(&self) -> bool {
        either!(self, side => side.is_finished())
    }
}

impl Sink for UpstreamExchange {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        either!(self, side => side.poll_ready(cx))
    }

    fn send(&mut self, cx: &mut Context<'_>, bytes: &[u8], last: bool) -> Result<(), BodyError> {
        either!(self, side => side.send(cx, bytes, last))
    }

    fn finish(&mut self, cx: &mut Context<'_>, trailers: Option<&Fields>) -> Result<(), BodyError> {
        either!(self, side => side.finish(cx, trailers))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        either!(self, side => side.poll_flush(cx))
    }
}
