//! Getting an answer from an upstream: an endpoint, a connection, the request, and what may be tried again.

use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tidegate_model::{Policy, Protocol};

use crate::body::{Progress, RequestBody, ResponseBody};
use crate::clock::{Elapsed, Timer, ticks, within};
use crate::downstream::Downstream;
use crate::fault::Fault;
use crate::head::{Fields, RequestHead, ResponseHead, Value, name};
use crate::transport::Transport;
use crate::upstream::{Answered, ConnectError, EndpointState, InFlight, UpstreamState, connect};
use crate::{http1, http2};

/// Endpoints that are tried for one request when they refuse a connection.
const TRIES: usize = 3;

/// A connection that lay idle this long may be closed by the endpoint just as a request is sent on it. Requests that
/// may be sent twice are kept for that case; on a busier connection the copy would cost more than it is worth.
const STALE_AFTER: Duration = Duration::from_millis(500);

/// What a request is forwarded by.
pub(super) struct Forward<'a> {
    pub(super) downstream: &'a Rc<Downstream>,
    pub(super) upstream: &'a UpstreamState,
    pub(super) policy: &'a Policy,
}

/// An endpoint's answer, of which the body is still to come.
pub(super) struct Answer {
    pub(super) head: ResponseHead,
    pub(super) body: ResponseBody,
    pub(super) lease: Option<http1::Lease>,
    pub(super) in_flight: InFlight,
    /// Of the endpoint's silence.
    pub(super) timer: Timer,
}

/// A connection to send on.
enum Connection {
    Http1 {
        connection: http1::Connection,
        idle: Option<u64>,
    },
    Http2 {
        connection: http2::Connection,
        reused: bool,
    },
}

/// Which connections may be taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reuse {
    Allowed,
    /// One was stale: the others may be too.
    Forbidden,
}

impl Forward<'_> {
    /// Sends the request and waits for the head of the response.
    pub(super) async fn send(
        &self,
        mut head: RequestHead,
        mut body: RequestBody,
    ) -> Result<Answer, Fault> {
        let worker = &self.downstream.worker;
        let timer = worker.clock.timer();
        let progress = body.watch();
        let complete = || {
            progress
                .as_ref()
                .is_none_or(|progress| progress.complete.get())
        };
        let mut tried = Vec::new();
        let mut reuse = Reuse::Allowed;
        let mut fault = Fault::NoEndpoint;
        loop {
            let endpoint = worker.upstreams.pick(self.upstream, &tried).ok_or(fault)?;
            let connection = match self.connection(&endpoint, reuse, &timer).await {
                Ok(connection) => connection,
                Err(error) => {
                    tracing::debug!(endpoint = %endpoint.address, %error, "cannot connect");
                    worker.metrics.connect_failures.add(1);
                    fault = match error {
                        ConnectError::TimedOut => Fault::ConnectTimeout,
                        ConnectError::Io(_) => Fault::ConnectFailed,
                    };
                    endpoint.suspect();
                    tried.push(endpoint);
                    if tried.len() == TRIES {
                        return Err(fault);
                    }
                    continue;
                }
            };
            let stale = connection.is_stale();
            let replica = (stale && complete() && head.is_idempotent()).then(|| head.replica());
            let reused = connection.is_reused();
            if head.first(&name::HOST).is_none() && head.authority().is_none() {
                // HTTP/1.0 without Host: the endpoint's own address is the authority that is left.
                let address = Value::from_str(&endpoint.address.to_string());
                address
                    .into_iter()
                    .for_each(|address| head.set(name::HOST, address));
            }
            let in_flight = InFlight::new(endpoint.clone());
            let wait = Wait {
                timer: &timer,
                patience: self.policy.timeouts.response_head,
                progress: progress.as_deref(),
            };
            let (answer, lease) = connection.send(head, body, &endpoint, wait).await;
            let error = match answer {
                Ok(Ok((head, body))) => {
                    return Ok(Answer {
                        head,
                        body,
                        lease,
                        in_flight,
                        timer,
                    });
                }
                Ok(Err(error)) => error,
                Err(Elapsed) if complete() => return Err(Fault::ResponseTimeout),
                Err(Elapsed) => return Err(Fault::RequestTimeout),
            };
            if progress
                .as_ref()
                .is_some_and(|progress| progress.broken.get())
            {
                return Err(Fault::RequestBody);
            }
            tracing::debug!(endpoint = %endpoint.address, error = %error.error, reused, "no answer");
            (head, body) = match (reused, error.unsent, replica) {
                (true, Some(unsent), _) => unsent,
                (true, None, Some(replica)) => (replica, RequestBody::empty()),
                _ => return Err(Fault::InvalidResponse),
            };
            worker.metrics.retries.add(1);
            reuse = Reuse::Forbidden;
        }
    }

    async fn connection(
        &self,
        endpoint: &Rc<EndpointState>,
        reuse: Reuse,
        timer: &Timer,
    ) -> Result<Connection, ConnectError> {
        let shared = self.upstream.protocol() == Protocol::H2c;
        if reuse == Reuse::Allowed {
            if shared {
                if let Some(connection) = endpoint.shared() {
                    return Ok(Connection::Http2 {
                        connection,
                        reused: true,
                    });
                }
            } else if let Some((connection, idle)) = endpoint.take_idle() {
                return Ok(Connection::Http1 {
                    connection,
                    idle: Some(idle),
                });
            }
        }
        timer.set(self.policy.timeouts.connect);
        let worker = &self.downstream.worker;
        let stream: Transport =
            connect(self.upstream, endpoint.address, &worker.upstream_tls, timer).await?;
        worker.metrics.upstream_connections.add(1);
        endpoint.trust();
        let broken = |error: hyper::Error| ConnectError::Io(std::io::Error::other(error));
        if shared {
            let opened = within(timer, http2::Connection::open(stream))
                .await
                .map_err(|Elapsed| ConnectError::TimedOut)?;
            let connection = opened.map_err(broken)?;
            endpoint.share(connection.clone());
            Ok(Connection::Http2 {
                connection,
                reused: false,
            })
        } else {
            let connection = http1::Connection::open(stream).await.map_err(broken)?;
            Ok(Connection::Http1 {
                connection,
                idle: None,
            })
        }
    }
}

/// How long a response may be waited for.
struct Wait<'a> {
    timer: &'a Timer,
    patience: Duration,
    /// Of the request's body: while it moves, the endpoint is not late.
    progress: Option<&'a Progress>,
}

impl Wait<'_> {
    async fn on<F: Future>(&self, future: F) -> Result<F::Output, Elapsed> {
        self.timer.set(self.patience);
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            while self.timer.poll_due(cx).is_ready() {
                if !self.progress.is_some_and(|progress| progress.moved.take()) {
                    return Poll::Ready(Err(Elapsed));
                }
                self.timer.set(self.patience);
            }
            Poll::Pending
        })
        .await
    }
}

type Sent = Result<Answered, Elapsed>;

impl Connection {
    fn is_reused(&self) -> bool {
        match self {
            Self::Http1 { idle, .. } => idle.is_some(),
            Self::Http2 { reused, .. } => *reused,
        }
    }

    fn is_stale(&self) -> bool {
        match self {
            Self::Http1 { idle, .. } => idle.is_some_and(|idle| idle >= ticks(STALE_AFTER)),
            Self::Http2 { reused, .. } => *reused,
        }
    }

    async fn send(
        self,
        mut head: RequestHead,
        body: RequestBody,
        endpoint: &Rc<EndpointState>,
        wait: Wait<'_>,
    ) -> (Sent, Option<http1::Lease>) {
        match self {
            Self::Http1 { mut connection, .. } => {
                head.target_http1();
                let sent = wait.on(connection.send(head, body)).await;
                (
                    sent,
                    Some(http1::Lease {
                        connection,
                        endpoint: endpoint.clone(),
                    }),
                )
            }
            Self::Http2 { mut connection, .. } => {
                head.target_http2(http::uri::Scheme::HTTP);
                (wait.on(connection.send(head, body)).await, None)
            }
        }
    }
}
