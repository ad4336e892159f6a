//! HTTP/1.1 towards an endpoint: one exchange at a time, then back to the pool.
//!
//! The connection is driven by the task whose exchange it carries, not by one of its own: no wake-up crosses tasks.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};

use bytes::Bytes;
use hyper::client::conn::http1::{Builder, Connection as Driver, SendRequest};
use hyper_util::rt::TokioIo;

use super::{BUFFER, FIELDS};
use crate::body::RequestBody;
use crate::head::{Fields, RequestHead, name};
use crate::transport::Transport;
use crate::upstream::{Answered, EndpointState, answered};

/// An open connection.
pub(crate) struct Connection {
    sender: SendRequest<RequestBody>,
    driver: Box<Driver<TokioIo<Transport>, RequestBody>>,
    /// The driver has run to its end and must not be polled again.
    over: bool,
    /// Whether the last response leaves the connection open (RFC 9112 section 9.3).
    persistent: bool,
}

impl Connection {
    /// Speaks HTTP/1.1 on a fresh stream.
    pub(crate) async fn open(stream: Transport) -> hyper::Result<Self> {
        let mut builder = Builder::new();
        builder
            .writev(false)
            .max_headers(FIELDS)
            .max_buf_size(BUFFER * 4);
        let (sender, driver) = builder.handshake(TokioIo::new(stream)).await?;
        Ok(Self {
            sender,
            driver: Box::new(driver),
            over: false,
            persistent: true,
        })
    }

    /// Moves bytes. After the end of the connection it does nothing.
    fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.over && Pin::new(&mut *self.driver).poll(cx).is_ready() {
            self.over = true;
        }
    }

    /// Whether another request can be sent. Takes no system call unless the endpoint has sent or closed something.
    pub(crate) fn is_idle(&mut self) -> bool {
        self.drive(&mut nobody());
        !self.over && self.sender.is_ready()
    }

    /// Sends a request and waits for the head of the response. The body comes while the connection is driven, which
    /// a [`Lease`] does.
    pub(crate) async fn send(&mut self, head: RequestHead, body: RequestBody) -> Answered {
        let request = http::Request::from_parts(head.into_parts(), body);
        // Freed of the runtime's budget, since a wake-up when that is used up would reach nobody.
        let sent = tokio::task::unconstrained(self.sender.try_send_request(request));
        let mut sent = std::pin::pin!(sent);
        let outcome = std::future::poll_fn(|cx| {
            if !self.over && Pin::new(&mut *self.driver).poll(cx).is_ready() {
                self.over = true;
            }
            sent.as_mut().poll(&mut nobody())
        })
        .await;
        let (head, body) = answered(outcome)?;
        self.persistent = head.is_http11() && !head.lists(&name::CONNECTION, "close");
        Ok((head, body))
    }

    /// The stream after a switch of protocols, and what was read of the new one already.
    pub(crate) fn into_stream(self) -> (Transport, Bytes) {
        let parts = self.driver.into_parts();
        (parts.io.into_inner(), parts.read_buf)
    }
}

/// For what only the driver moves: whoever drives looks at it in the same breath, so waking the task once more for it
/// would be work for nothing.
pub(crate) fn nobody() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// A connection that is busy with the body of a response.
pub(crate) struct Lease {
    pub(crate) connection: Connection,
    pub(crate) endpoint: Rc<EndpointState>,
}

impl Lease {
    /// Moves bytes.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        self.connection.drive(cx);
    }

    /// The body has ended: the connection goes to the pool, unless it is known to be at its end. Whether it can really
    /// carry another request is seen when it is taken out again.
    pub(crate) fn give_back(self) {
        if self.connection.persistent && !self.connection.over {
            self.endpoint.put_idle(self.connection);
        }
    }
}
