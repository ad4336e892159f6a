//! HTTP/1.x towards a client.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{BUFFER, FIELDS};
use crate::body::RequestBody;
use crate::downstream::{Downstream, End, Phase, Watched};
use crate::exchange::exchange;
use crate::head::RequestHead;
use crate::tunnel;

/// Serves a connection until either side ends it, a deadline comes, or a drain finds it idle.
pub(crate) async fn serve<T>(downstream: Rc<Downstream>, stream: T) -> End
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let watched = Watched::new(stream, downstream.clone());
    let mut builder = Builder::new();
    builder
        .half_close(true)
        .max_headers(FIELDS)
        .max_header_size(BUFFER)
        .max_buf_size(BUFFER);
    let shared = downstream.clone();
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let downstream = shared.clone();
        async move {
            let (parts, incoming) = request.into_parts();
            let (head, body) = exchange(
                &downstream,
                RequestHead::new(parts),
                RequestBody::received(incoming),
            )
            .await;
            Ok::<_, Infallible>(Response::from_parts(head.into_parts(), body))
        }
    });
    let mut connection = Box::pin(builder.serve_connection(TokioIo::new(watched), service));
    let mut draining = false;
    let end = std::future::poll_fn(|cx| {
        loop {
            if let Poll::Ready(served) = connection.as_mut().poll(cx) {
                return Poll::Ready(served.map_or(End::Broken, |()| End::Closed));
            }
            if draining || !downstream.draining() {
                return downstream.poll_expired(cx).map(|()| End::TimedOut);
            }
            // A request that had arrived has just been read: it is answered before the connection closes.
            draining = true;
            connection.as_mut().graceful_shutdown();
        }
    })
    .await;
    if end == End::Closed
        && let Some(upstream) = downstream.take_tunnel()
    {
        let parts = Pin::into_inner(connection).into_parts();
        return tunnel::run(&downstream, parts.io.into_inner(), parts.read_buf, upstream).await;
    }
    if end == End::TimedOut && downstream.phase() == Phase::Head {
        let mut io = Pin::into_inner(connection).into_parts().io.into_inner();
        // A courtesy: whoever sends a head this slowly may not read either.
        let _ = std::future::poll_fn(|cx| Pin::new(&mut io).poll_write(cx, TIMEOUT)).await;
        let _ = tokio::time::timeout(crate::clock::TICK, io.shutdown()).await;
    }
    end
}

const TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
