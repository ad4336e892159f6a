//! HTTP/2 towards an endpoint, in plain text with prior knowledge: one connection carries many exchanges.

use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::TokioIo;

use super::{CONNECTION_WINDOW, HEAD, LocalExecutor, STREAM_WINDOW};
use crate::body::RequestBody;
use crate::head::RequestHead;
use crate::transport::Transport;
use crate::upstream::{Answered, answered};

/// An open connection; a clone speaks on the same one.
#[derive(Clone)]
pub(crate) struct Connection {
    sender: SendRequest<RequestBody>,
}

impl Connection {
    /// Speaks HTTP/2 on a fresh stream. The connection is driven by a task of its own, since no exchange has it alone.
    pub(crate) async fn open(stream: Transport) -> hyper::Result<Self> {
        let mut builder = Builder::new(LocalExecutor);
        builder
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEAD);
        let (sender, driver) = builder.handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "upstream HTTP/2 connection ended");
            }
        });
        Ok(Self { sender })
    }

    /// Whether another request can be sent.
    pub(crate) fn is_usable(&self) -> bool {
        self.sender.is_ready()
    }

    /// Sends a request and waits for the head of the response.
    pub(crate) async fn send(&mut self, head: RequestHead, body: RequestBody) -> Answered {
        let request = http::Request::from_parts(head.into_parts(), body);
        answered(self.sender.try_send_request(request).await)
    }
}
