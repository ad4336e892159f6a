//! HTTP/2 towards a client: every stream is an exchange of its own.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use h2::Reason;
use h2::server::Builder;

use super::guard::{Guard, Guarded};
use super::stream::ServerStream;
use super::{CONNECTION_WINDOW, HEAD, SEND_BUFFER, STREAM_WINDOW, STREAMS};
use crate::clock::Timer;
use crate::downstream::{Downstream, End};
use crate::exchange;
use crate::exchange::side::Client;
use crate::fault::Fault;
use crate::message::{Rejection, RequestHead};
use crate::transport::Transport;

/// Streams that we reset for a peer's errors before the connection is ended (CVE-2025-8671).
const FAULTY_STREAMS: usize = 256;
/// Streams that a client may have given up before they were looked at (CVE-2023-44487).
const STILLBORN_STREAMS: usize = 64;
/// Bytes that the heads of a connection's open requests may fill together. Each request may have a large one; all of them
/// having it is what a few bytes can do, since HPACK repeats a field for one (RFC 7541 section 7.3).
const HEADS: usize = 2 * 1024 * 1024;
/// How long the end of a connection that was idle for too long is waited for once it was announced (GOAWAY).
const FAREWELL: Duration = Duration::from_secs(1);

type Connection = h2::server::Connection<Guarded<Transport>, Bytes>;

/// Serves a connection until either side ends it, a deadline comes, or a drain has seen its streams end.
///
/// The streams' exchanges run within this future: they end with the connection, and one wake-up serves both.
pub(crate) async fn serve(downstream: Rc<Downstream>, transport: Transport) -> End {
    let guard = Guard::new();
    let timer = downstream.worker.clock.timer();
    let guarded = Guarded::from_client(transport, guard.clone());
    let connection = match shake_hands(&downstream, guarded, &timer).await {
        Ok(connection) => connection,
        Err(end) => return end,
    };
    let mut session = Session {
        connection,
        downstream: downstream.clone(),
        guard: guard.clone(),
        timer,
        deadline: Deadline::None,
        asked: false,
        leaving: false,
        cut: None,
    };
    let heads = Rc::new(Cell::new(0));
    let mut streams = FuturesUnordered::new();
    std::future::poll_fn(|cx| {
        loop {
            match session.poll_request(cx) {
                Poll::Ready(Ok((head, stream))) => match Held::of(&head, &heads) {
                    Some(held) => streams.push(answer(downstream.clone(), head, stream, held)),
                    None => stream.refuse(),
                },
                Poll::Ready(Err(end)) => return Poll::Ready(end),
                Poll::Pending => break,
            }
        }
        // What they leave to be sent wakes this task again.
        while let Poll::Ready(Some(())) = streams.poll_next_unpin(cx) {}
        session.poll_deadline(streams.is_empty(), cx)
    })
    .await
}

/// Reads the client's preface and sends our settings.
async fn shake_hands(
    downstream: &Downstream,
    guarded: Guarded<Transport>,
    timer: &Timer,
) -> Result<Connection, End> {
    timer.set(downstream.worker.timeouts().request_head);
    let mut handshake = Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD)
        .max_local_error_reset_streams(Some(FAULTY_STREAMS))
        .max_pending_accept_reset_streams(STILLBORN_STREAMS)
        .handshake(guarded);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(shaken) = std::pin::Pin::new(&mut handshake).poll(cx) {
            return Poll::Ready(shaken.map_err(|_| End::Broken));
        }
        let Some(patience) = downstream.last_request() else {
            return timer.poll_due(cx).map(|()| Err(End::TimedOut));
        };
        timer.shorten(patience);
        timer.poll_due(cx).map(|()| Err(End::Closed))
    })
    .await
}

/// Serves one stream.
async fn answer(
    downstream: Rc<Downstream>,
    head: Result<RequestHead, Rejection>,
    mut stream: ServerStream,
    _held: Held,
) {
    let is_gone = |cx: &mut Context<'_>| Poll::Ready(stream.poll_gone(cx).is_ready());
    if std::future::poll_fn(is_gone).await {
        // Given up before it was looked at: no endpoint is asked.
        return;
    }
    let timer = downstream.worker.clock.timer();
    // In boxes, since this future is moved about before it runs.
    match head {
        Ok(head) => {
            let exchange = exchange::exchange(&downstream, head, &mut stream, &timer);
            Box::pin(exchange).await
        }
        Err(rejection) => {
            let fault = Fault::Rejected(rejection);
            Box::pin(exchange::refuse(&downstream, fault, &mut stream, &timer)).await
        }
    };
}

/// What a request's head takes of [`HEADS`].
struct Held {
    bytes: usize,
    all: Rc<Cell<usize>>,
}

impl Held {
    /// `None` when there is too little left.
    fn of(head: &Result<RequestHead, Rejection>, all: &Rc<Cell<usize>>) -> Option<Self> {
        let bytes = head.as_ref().map_or(0, RequestHead::size);
        let together = all.get().saturating_add(bytes);
        if together > HEADS {
            return None;
        }
        all.set(together);
        let all = all.clone();
        Some(Self { bytes, all })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.set(self.all.get().saturating_sub(self.bytes));
    }
}

/// A client's connection.
struct Session {
    connection: Connection,
    downstream: Rc<Downstream>,
    guard: Rc<Guard>,
    timer: Timer,
    deadline: Deadline,
    /// Whether a request has come.
    asked: bool,
    /// Whether its end was announced.
    leaving: bool,
    /// How it ends once the reason has been sent.
    cut: Option<End>,
}

/// What the client is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deadline {
    /// Nothing: exchanges have deadlines of their own.
    None,
    /// The rest of a block of fields, by its number.
    Head(u64),
    /// A request, or that it takes what is left of responses.
    Idle,
    /// That it closes, since there is nothing more to come.
    Farewell,
    /// That it takes the reason for the end.
    Cut(End),
}

impl Session {
    /// The next request; or how the connection ended.
    #[expect(
        clippy::type_complexity,
        reason = "a request that may be refused, or an end"
    )]
    fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(Result<RequestHead, Rejection>, ServerStream), End>> {
        // The first request is waited for: its client may not know yet how to ask elsewhere for one that was refused.
        if self.asked && self.downstream.draining() {
            self.leave();
        }
        loop {
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.asked = true;
                    let guard = self.guard.clone();
                    return Poll::Ready(Ok(ServerStream::accept(request, respond, guard)));
                }
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(peer = %self.downstream.peer, %error, "an HTTP/2 connection broke");
                    return Poll::Ready(Err(self.cut.unwrap_or(End::Broken)));
                }
                Poll::Ready(None) => return Poll::Ready(Err(self.cut.unwrap_or(End::Closed))),
                Poll::Pending if self.guard.is_spent() && self.cut.is_none() => {
                    tracing::debug!(peer = %self.downstream.peer, "an HTTP/2 connection was flooded");
                    self.cut(End::Broken);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Announces the end: requests that are on their way are still served, up to the answer to a PING that goes with the
    /// announcement (RFC 9113 section 6.8).
    fn leave(&mut self) {
        if !self.leaving {
            self.leaving = true;
            self.connection.graceful_shutdown();
        }
    }

    /// Ends the connection, streams and all.
    fn cut(&mut self, end: End) {
        self.cut = Some(end);
        self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
    }

    fn poll_deadline(&mut self, no_streams: bool, cx: &mut Context<'_>) -> Poll<End> {
        let deadline = self.due(no_streams);
        // A response that is complete may take a slow client long to read.
        let slow = deadline == Deadline::Idle && self.guard.take_wrote();
        if slow || deadline != self.deadline {
            self.deadline = deadline;
            self.set_timer();
        }
        if deadline == Deadline::Idle
            && !self.leaving
            && let Some(patience) = self.downstream.last_request()
        {
            self.timer.shorten(patience);
        }
        if self.timer.poll_due(cx).is_pending() {
            return Poll::Pending;
        }
        match deadline {
            Deadline::None => return Poll::Pending,
            Deadline::Head(_) => self.cut(End::TimedOut),
            Deadline::Idle if self.connection.has_streams() => {
                return Poll::Ready(End::TimedOut);
            }
            Deadline::Idle => self.leave(),
            Deadline::Farewell => return Poll::Ready(End::Closed),
            Deadline::Cut(end) => return Poll::Ready(end),
        }
        // So that it is sent.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn due(&self, no_streams: bool) -> Deadline {
        if let Some(end) = self.cut {
            return Deadline::Cut(end);
        }
        if let Some(block) = self.guard.open_block() {
            return Deadline::Head(block);
        }
        if !no_streams {
            return Deadline::None;
        }
        if self.leaving && !self.connection.has_streams() {
            return Deadline::Farewell;
        }
        Deadline::Idle
    }

    fn set_timer(&self) {
        let timeouts = self.downstream.worker.timeouts();
        match self.deadline {
            Deadline::None => self.timer.clear(),
            Deadline::Head(_) => self.timer.set(timeouts.request_head),
            Deadline::Idle => self.timer.set(timeouts.idle),
            // Until the client has answered the PING, a request may still be on its way.
            Deadline::Farewell => self
                .timer
                .set(self.downstream.last_request().unwrap_or(FAREWELL)),
            Deadline::Cut(_) => self.timer.set(FAREWELL),
        }
    }
}
