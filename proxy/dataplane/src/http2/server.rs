//! HTTP/2 towards a client: every stream is an exchange of its own.

use std::convert::Infallible;
use std::rc::Rc;
use std::task::Poll;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{CONNECTION_WINDOW, HEAD, LocalExecutor, STREAM_WINDOW, STREAMS};
use crate::body::RequestBody;
use crate::downstream::{Downstream, End, Watched};
use crate::exchange::exchange;
use crate::head::RequestHead;

/// Serves a connection until either side ends it, a deadline comes, or a drain has seen its streams end.
pub(crate) async fn serve<T>(downstream: Rc<Downstream>, stream: T) -> End
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let watched = Watched::new(stream, downstream.clone());
    let mut builder = Builder::new(LocalExecutor);
    builder
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD);
    let shared = downstream.clone();
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let downstream = shared.clone();
        async move {
            let (parts, incoming) = request.into_parts();
            let (mut head, body) = exchange(
                &downstream,
                RequestHead::new(parts),
                RequestBody::received(incoming),
            )
            .await;
            head.forget_version();
            Ok::<_, Infallible>(Response::from_parts(head.into_parts(), body))
        }
    });
    let mut connection = Box::pin(builder.serve_connection(TokioIo::new(watched), service));
    let mut draining = false;
    let mut expired = false;
    std::future::poll_fn(|cx| {
        if downstream.draining() && !draining {
            draining = true;
            connection.as_mut().graceful_shutdown();
        }
        if let Poll::Ready(served) = connection.as_mut().poll(cx) {
            return Poll::Ready(served.map_or(End::Broken, |()| End::Closed));
        }
        match downstream.poll_expired(cx) {
            Poll::Pending => Poll::Pending,
            // GOAWAY first; when that has no answer either, the connection goes.
            Poll::Ready(()) if expired || downstream.has_streams() => Poll::Ready(End::TimedOut),
            Poll::Ready(()) => {
                expired = true;
                connection.as_mut().graceful_shutdown();
                downstream.allow_farewell();
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    })
    .await
}
