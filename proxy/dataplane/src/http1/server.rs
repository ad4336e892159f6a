//! HTTP/1.x towards a client: requests one after the other, each an exchange.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::link::{Encoding, Link};
use super::search::Search;
use crate::buffer::{self, Last};
use crate::clock::{Timer, within};
use crate::downstream::{Downstream, End};
use crate::exchange::side::{BodyError, Client, Part, Sink, Source};
use crate::exchange::{self, Outcome};
use crate::fault::Fault;
use crate::message::{
    BodyLength, Decoder, Fields, HttpVersion, Name, Rejection, RejectionKind, RequestHead,
    ResponseHead,
};
use crate::transport::Transport;
use crate::tunnel;

/// What is still read of a body that nobody wants, so that the connection can go on. With more to come it is cheaper to
/// close.
const UNWANTED: u64 = 64 * 1024;
/// How long a connection that ended before its client did is kept while the client is silent (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(2);
/// How long it is kept for a client that goes on sending; closing takes from it what it has not read of the answer.
const LINGER_AT_MOST: Duration = Duration::from_secs(30);
/// What is read and thrown away meanwhile before other tasks get their turn, in bytes.
const THROWN_AWAY: usize = 1024 * 1024;

/// Serves a connection until either side ends it, a deadline comes, or a drain has waited long enough for a last request.
///
/// What is rare or short stands in boxes of its own, so that an idle connection is small.
pub(crate) async fn serve(downstream: Rc<Downstream>, transport: Transport) -> End {
    let timer = downstream.worker.clock.timer();
    timer.set(downstream.worker.timeouts().request_head);
    let mut connection = Connection::new(downstream.clone(), transport);
    loop {
        let head = match connection.next_head(&timer).await {
            Next::Request(head) => head,
            Next::Refused(rejection) => {
                Box::pin(connection.refuse(Fault::Rejected(rejection), &timer)).await;
                return End::Closed;
            }
            Next::TimedOut => {
                Box::pin(connection.refuse(Fault::RequestTimeout, &timer)).await;
                return End::TimedOut;
            }
            Next::Ended(end) => return end,
        };
        connection.begin(&head);
        let exchange = exchange::exchange(&downstream, head, &mut connection, &timer);
        match Box::pin(exchange).await {
            Outcome::Complete => {}
            Outcome::Cut(end) => {
                connection.cut();
                return end;
            }
            Outcome::Switched(switched) => {
                return Box::pin(tunnel::run(&downstream, connection.link, *switched)).await;
            }
        }
        timer.set(downstream.worker.timeouts().idle);
        if connection.has_unwanted_body() {
            connection.persistent = Box::pin(connection.skip_body(&timer)).await;
        }
        if !connection.persistent {
            Box::pin(connection.close()).await;
            return End::Closed;
        }
    }
}

/// What comes next on a connection.
enum Next {
    Request(RequestHead),
    /// Bytes that are no request.
    Refused(Rejection),
    /// A head that took too long.
    TimedOut,
    /// Nothing.
    Ended(End),
}

/// A client's connection, and its side of the exchange that is under way.
struct Connection {
    downstream: Rc<Downstream>,
    link: Link,
    version: HttpVersion,
    /// Whether another request may follow.
    persistent: bool,
    /// Whether the wait for the next request is cut short by a drain.
    hurried: bool,
    /// Whether the client has ended its sending side.
    half_closed: bool,
    expectation: Expectation,
    /// The body of the request.
    request: Decoder,
    /// How the body of the response is sent.
    encoding: Encoding,
    /// Whether the last byte of the response is with the link.
    responded: bool,
}

/// A client's wish to hear whether its body is wanted before it sends it (RFC 9110 section 10.1.1).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expectation {
    None,
    Waiting,
}

impl Connection {
    fn new(downstream: Rc<Downstream>, transport: Transport) -> Self {
        Self {
            downstream,
            link: Link::new(transport),
            version: HttpVersion::Http11,
            persistent: true,
            hurried: false,
            half_closed: false,
            expectation: Expectation::None,
            request: Decoder::new(BodyLength::Empty),
            encoding: Encoding::Plain,
            responded: false,
        }
    }

    /// Waits for a request's head.
    async fn next_head(&mut self, timer: &Timer) -> Next {
        let mut search = Search::default();
        std::future::poll_fn(|cx| self.poll_head(cx, &mut search, timer)).await
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        search: &mut Search,
        timer: &Timer,
    ) -> Poll<Next> {
        loop {
            if search.is_worth_parsing(self.link.input.bytes()) {
                match RequestHead::parse(self.link.input.bytes()) {
                    Ok(Some((head, length))) => {
                        self.link.input.consume(length);
                        return Poll::Ready(Next::Request(head));
                    }
                    Ok(None) if self.link.input.len() >= buffer::SIZE => {
                        return Poll::Ready(Next::Refused(Rejection {
                            kind: RejectionKind::HeadTooLarge,
                            reason: "the head is larger than 64 KiB",
                        }));
                    }
                    Ok(None) => {}
                    Err(rejection) => return Poll::Ready(Next::Refused(rejection)),
                }
            }
            let begun = !self.link.input.is_empty();
            match self.link.poll_fill(cx) {
                Poll::Ready(Ok(0)) if begun => return Poll::Ready(Next::Ended(End::Broken)),
                Poll::Ready(Ok(0)) => return Poll::Ready(Next::Ended(End::Closed)),
                Poll::Ready(Ok(_)) => {
                    if !begun {
                        timer.set(self.downstream.worker.timeouts().request_head);
                    }
                    continue;
                }
                // A client that goes away between requests does so as it likes.
                Poll::Ready(Err(_)) if !begun => return Poll::Ready(Next::Ended(End::Closed)),
                Poll::Ready(Err(_)) => return Poll::Ready(Next::Ended(End::Broken)),
                Poll::Pending => {}
            }
            if !begun {
                self.hurry(timer);
            }
            return timer.poll_due(cx).map(|()| match begun {
                true => Next::TimedOut,
                false if self.hurried => Next::Ended(End::Closed),
                false => Next::Ended(End::TimedOut),
            });
        }
    }

    /// Waits less long for the next request during a drain, and as long as ever once that was taken back.
    fn hurry(&mut self, timer: &Timer) {
        match self.downstream.last_request() {
            Some(patience) => {
                self.hurried = true;
                timer.shorten(patience);
            }
            None if self.hurried => {
                self.hurried = false;
                timer.set(self.downstream.worker.timeouts().idle);
            }
            None => {}
        }
    }

    /// A request's head is there: what follows is its body, what goes out is its response.
    fn begin(&mut self, head: &RequestHead) {
        self.version = head.version();
        // What follows CONNECT are a tunnel's bytes to its client, and no requests.
        self.persistent = head.persists() && !head.is_connect();
        self.request = Decoder::new(head.body_length());
        self.expectation = match head.expects_continue() && !self.request.is_done() {
            true => Expectation::Waiting,
            false => Expectation::None,
        };
        self.encoding = Encoding::Plain;
        self.responded = false;
    }

    /// Answers a client that has sent no request, or not all of its head, and ends the connection.
    async fn refuse(&mut self, fault: Fault, timer: &Timer) {
        self.persistent = false;
        let downstream = self.downstream.clone();
        exchange::refuse(&downstream, fault, self, timer).await;
        self.linger().await;
    }

    /// Whether the connection can go on only behind a body that nobody has read.
    fn has_unwanted_body(&self) -> bool {
        self.persistent && !self.request.is_done()
    }

    /// Reads the rest of a small body that nobody wanted. Whether its end was reached.
    async fn skip_body(&mut self, timer: &Timer) -> bool {
        let mut left = UNWANTED;
        let Self { link, request, .. } = self;
        std::future::poll_fn(|cx| {
            loop {
                match link.poll_part(cx, request) {
                    Poll::Ready(Ok(Part::Data { bytes, .. })) if (bytes.len() as u64) < left => {
                        left -= bytes.len() as u64;
                    }
                    Poll::Ready(Ok(Part::End | Part::Trailers(_))) => return Poll::Ready(true),
                    Poll::Ready(_) => return Poll::Ready(false),
                    Poll::Pending => return timer.poll_due(cx).map(|()| false),
                }
                if request.is_done() {
                    link.input.release();
                    return Poll::Ready(true);
                }
            }
        })
        .await
    }

    /// Ends the connection in good order.
    async fn close(&mut self) {
        if !self.request.is_done() || !self.link.input.is_empty() {
            self.linger().await;
        } else if let Transport::Tls(_) = self.link.transport {
            self.shut_down().await;
        }
        // Without TLS the last bytes take the end with them when the socket is closed.
    }

    /// Ends the connection within a response. To HTTP/1.0 the end of the connection may be the end of the body, so it
    /// has to be another one.
    fn cut(&self) {
        if self.version == HttpVersion::Http10 {
            self.link.transport.break_off();
        }
    }

    async fn shut_down(&mut self) {
        let timer = self.downstream.worker.clock.timer();
        timer.set(LINGER);
        let transport = &mut self.link.transport;
        let _ = within(
            &timer,
            std::future::poll_fn(|cx| transport.poll_shutdown(cx)),
        )
        .await;
    }

    /// Ends the sending side and reads what the client still sends: closing on unread bytes would take the answer from
    /// it.
    async fn linger(&mut self) {
        let clock = &self.downstream.worker.clock;
        let (silence, end) = (clock.timer(), clock.timer());
        silence.set(LINGER);
        end.set(LINGER_AT_MOST);
        let link = &mut self.link;
        let lingering = std::future::poll_fn(|cx| {
            ready!(link.transport.poll_shutdown(cx))?;
            let mut left = THROWN_AWAY;
            while left > 0 {
                link.input.consume(usize::MAX);
                match link.poll_fill(cx)? {
                    Poll::Ready(0) => return Poll::Ready(io::Result::Ok(())),
                    Poll::Ready(count) => {
                        silence.set(LINGER);
                        left = left.saturating_sub(count);
                    }
                    Poll::Pending => return silence.poll_due(cx).map(Ok),
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        });
        let _ = within(&end, lingering).await;
    }

    /// Whether the connection's sending side ends behind what is with the link.
    fn last(&self) -> Last {
        if self.responded && !self.persistent && self.request.is_done() {
            Last::Yes
        } else {
            Last::No
        }
    }
}

impl Source for Connection {
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part<'_>, BodyError>> {
        let polled = self.link.poll_part(cx, &mut self.request);
        if let Poll::Ready(Err(_)) = &polled {
            // Where the next request would begin is unknown.
            self.persistent = false;
        }
        polled
    }

    fn release(&mut self) {
        self.link.input.release();
    }

    fn is_finished(&self) -> bool {
        self.request.is_done()
    }
}

impl Sink for Connection {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        self.link.poll_ready(cx).map_err(BodyError::Io)
    }

    fn send(&mut self, cx: &mut Context<'_>, bytes: &[u8], last: bool) -> Result<(), BodyError> {
        self.link.send(cx, bytes, self.encoding)?;
        if last {
            self.finish(cx, None)?;
        }
        Ok(())
    }

    fn finish(
        &mut self,
        _cx: &mut Context<'_>,
        trailers: Option<&Fields>,
    ) -> Result<(), BodyError> {
        self.responded = true;
        self.link.finish(self.encoding, trailers);
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let last = self.last();
        self.link.poll_flush(cx, last).map_err(BodyError::Io)
    }
}

impl Client for Connection {
    fn send_informational(&mut self, head: &ResponseHead) {
        // 100 is Tidegate's own to send, and HTTP/1.0 has none of them (RFC 9110 section 15.2).
        if self.version == HttpVersion::Http11 && head.status() != 100 {
            let out = self.link.output.writer();
            head.write_http1(out);
            out.extend_from_slice(b"\r\n");
        }
    }

    fn send_continue(&mut self) {
        if self.expectation == Expectation::Waiting {
            self.expectation = Expectation::None;
            if self.link.input.is_empty() {
                let out = self.link.output.writer();
                out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
        }
    }

    fn refuse_body(&mut self) {
        // A client that was not told to go on may send its body or not: what comes next would be a guess.
        let small = self
            .request
            .remaining()
            .is_some_and(|left| left <= UNWANTED);
        if !self.request.is_done() && (self.expectation == Expectation::Waiting || !small) {
            self.persistent = false;
        }
    }

    fn send_head(&mut self, head: &mut ResponseHead, length: BodyLength) -> Result<(), BodyError> {
        if head.status() != 101 {
            self.persistent &= !self.downstream.draining();
        }
        self.encoding = match (length, self.version) {
            (BodyLength::Chunked | BodyLength::UntilClose, HttpVersion::Http10) => {
                self.persistent = false;
                Encoding::Plain
            }
            (BodyLength::Chunked | BodyLength::UntilClose, _) => {
                head.fields_mut().append(Name::TransferEncoding, b"chunked");
                Encoding::Chunked
            }
            (BodyLength::Empty | BodyLength::Known(_), _) => Encoding::Plain,
        };
        if head.status() != 101 {
            match (self.persistent, self.version) {
                (false, _) => head.fields_mut().append(Name::Connection, b"close"),
                (true, HttpVersion::Http10) => {
                    head.fields_mut().append(Name::Connection, b"keep-alive");
                }
                (true, _) => {}
            }
        }
        let out = self.link.output.writer();
        head.write_http1(out);
        out.extend_from_slice(b"\r\n");
        self.responded = length == BodyLength::Empty;
        Ok(())
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A connection that ends with this response is not worth the system calls that watching it would begin with.
        let watched = self.request.is_done()
            && !self.half_closed
            && (self.persistent || self.link.transport.is_registered())
            && self.link.input.is_empty();
        if !watched {
            return Poll::Pending;
        }
        match self.link.poll_fill(cx) {
            Poll::Ready(Ok(0)) => {
                self.half_closed = true;
                Poll::Pending
            }
            Poll::Ready(Ok(_)) | Poll::Pending => Poll::Pending,
            Poll::Ready(Err(_)) => Poll::Ready(()),
        }
    }
}
