//! Bytes both ways after a switch of protocols (WebSocket, RFC 6455; RFC 9110 section 7.8).

use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::downstream::{Downstream, End, Switched};

/// Joins a client's stream with an endpoint's until one side ends, both are silent for too long, or a drain is over.
/// `early` is what the client had sent of the new protocol already.
pub(crate) async fn run<T>(
    downstream: &Rc<Downstream>,
    mut client: T,
    early: Bytes,
    upstream: Switched,
) -> End
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let Switched {
        stream: mut endpoint,
        read: answered,
        mut completion,
    } = upstream;
    downstream.begin_tunnel();
    let joined = async {
        endpoint.write_all(&early).await?;
        client.write_all(&answered).await?;
        client.flush().await?;
        tokio::io::copy_bidirectional(&mut client, &mut endpoint).await
    };
    let mut joined = std::pin::pin!(joined);
    let end = std::future::poll_fn(|cx| match joined.as_mut().poll(cx) {
        Poll::Ready(Ok((_, down))) => {
            completion.sent(usize::try_from(down).unwrap_or(usize::MAX));
            Poll::Ready(End::Closed)
        }
        Poll::Ready(Err(_)) => Poll::Ready(End::Broken),
        Poll::Pending => downstream.poll_expired(cx).map(|()| End::TimedOut),
    })
    .await;
    if end == End::Closed {
        completion.complete();
    }
    end
}
