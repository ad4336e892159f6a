//! Getting an answer from an upstream: an endpoint, a connection, the request, and what may be tried again.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tidegate_model::Policy;

use super::pump::{Pump, PumpError};
use super::side::{BodyError, Client};
use crate::clock::{Elapsed, Timer};
use crate::downstream::Downstream;
use crate::fault::Fault;
use crate::filter::hop;
use crate::message::{BodyLength, Name, RequestHead, ResponseHead};
use crate::upstream::{
    ConnectError, EndpointState, InFlight, Reuse, UpstreamConnection, UpstreamError,
    UpstreamExchange, UpstreamState,
};

/// Endpoints that are tried for one request when they refuse a connection.
const TRIES: usize = 3;
/// Heads of class 1xx that an endpoint may send before its final one. The client may be slow to take them.
const INFORMATIONAL: usize = 64;

/// How long a client waits for an answer before it is watched for having given up.
const UNWATCHED: Duration = Duration::from_millis(200);

/// What a request is forwarded by.
pub(super) struct Forward<'a> {
    pub(super) downstream: &'a Rc<Downstream>,
    pub(super) upstream: &'a UpstreamState,
    pub(super) policy: &'a Policy,
    pub(super) timer: &'a Timer,
}

/// An endpoint's answer, of which the body is still to come.
pub(super) struct Answer {
    pub(super) head: ResponseHead,
    pub(super) from: UpstreamExchange,
    pub(super) in_flight: InFlight,
    /// The request's body, which may still be on its way.
    pub(super) upload: Upload,
}

/// The body of the request on its way.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) pump: Pump,
    /// The endpoint takes no more of it.
    pub(super) refused: bool,
}

/// Why an endpoint did not answer.
enum Failure {
    Upstream(UpstreamError),
    /// The client's body broke off.
    Client(BodyError),
    /// The client has given up.
    Gone,
    Late(Elapsed),
}

impl Forward<'_> {
    /// Sends the request and waits for the head of the response.
    pub(super) async fn send<C: Client>(
        &self,
        head: &mut RequestHead,
        client: &mut C,
    ) -> Result<Answer, Fault> {
        let worker = &self.downstream.worker;
        let mut tried = Vec::new();
        let mut reuse = Reuse::Allowed;
        let mut fault = Fault::NoEndpoint;
        let mut length = head.body_length();
        if client.is_finished() {
            length = BodyLength::Empty;
        }
        loop {
            let endpoint = worker.upstreams.pick(self.upstream, &tried).ok_or(fault)?;
            let connected = self.connect(&endpoint, reuse).await;
            let (connection, reused) = match connected {
                Ok(connected) => connected,
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
            if !head.fields().has(Name::Host) {
                // HTTP/1.0 without Host: the endpoint's own address is the authority that is left.
                let address = endpoint.address.to_string();
                head.fields_mut().set(Name::Host, address.as_bytes());
            }
            let in_flight = InFlight::new(endpoint.clone());
            let mut upload = Upload {
                pump: Pump::for_source(client),
                refused: false,
            };
            let mut answered = false;
            let failure = match connection.begin(head, length) {
                Ok(mut to) => match self.answer(&mut to, client, &mut upload).await {
                    Ok(head) => {
                        return Ok(Answer {
                            head,
                            from: to,
                            in_flight,
                            upload,
                        });
                    }
                    Err(failure) => {
                        answered = to.is_answered();
                        failure
                    }
                },
                Err(error) => Failure::Upstream(error),
            };
            let error = match failure {
                Failure::Upstream(error) => error,
                Failure::Client(error) => {
                    tracing::debug!(%error, "the request's body broke off");
                    return Err(Fault::RequestBody);
                }
                Failure::Gone => return Err(Fault::ClientGone),
                Failure::Late(Elapsed) if upload.pump.is_finished() => {
                    return Err(Fault::ResponseTimeout);
                }
                Failure::Late(Elapsed) => return Err(Fault::RequestTimeout),
            };
            tracing::debug!(endpoint = %endpoint.address, %error, reused, "no answer");
            let again = reused
                && !upload.pump.begun
                && !answered
                && (error.is_unsent() || head.is_idempotent());
            if !again {
                return Err(error.fault());
            }
            worker.metrics.retries.add(1);
            // One was stale: the others may be too.
            reuse = Reuse::Forbidden;
        }
    }

    /// A connection to the endpoint, and whether it has carried requests before.
    async fn connect(
        &self,
        endpoint: &Rc<EndpointState>,
        reuse: Reuse,
    ) -> Result<(UpstreamConnection, bool), ConnectError> {
        if reuse == Reuse::Allowed
            && let Some(kept) = UpstreamConnection::reuse(self.upstream.protocol(), endpoint)
        {
            return Ok((kept, true));
        }
        self.timer.set(self.policy.timeouts.connect);
        let worker = &self.downstream.worker;
        // A future of its own: most requests find a connection, and theirs stays small.
        let opening =
            UpstreamConnection::open(self.upstream, endpoint, &worker.upstream_tls, self.timer);
        let opened = Box::pin(opening).await?;
        worker.metrics.upstream_connections.add(1);
        endpoint.trust();
        Ok((opened, false))
    }

    /// Moves the request's body and waits for the final head of the response.
    async fn answer<C: Client>(
        &self,
        to: &mut UpstreamExchange,
        client: &mut C,
        upload: &mut Upload,
    ) -> Result<ResponseHead, Failure> {
        let patience = self.policy.timeouts.response_head;
        // Most answers come at once: only a client that waits for longer is watched meanwhile.
        let (mut is_watched, left) = (false, patience.saturating_sub(UNWATCHED));
        self.timer.set(patience.min(UNWATCHED));
        if !client.is_finished() {
            client.send_continue();
        }
        let mut informational = 0;
        std::future::poll_fn(|cx| {
            let mut moved = upload.poll(client, to, cx).map_err(Failure::Client)?;
            while let Poll::Ready(head) = to.poll_head(cx) {
                let mut head = head.map_err(Failure::Upstream)?;
                if !head.is_informational() {
                    return Poll::Ready(Ok(head));
                }
                informational += 1;
                if informational > INFORMATIONAL {
                    return Poll::Ready(Err(Failure::Upstream(UpstreamError::Informational)));
                }
                hop::response(&mut head);
                client.send_informational(&head);
                moved = true;
            }
            if moved {
                is_watched = true;
                self.timer.set(patience);
            }
            // A broken way to the client is noticed when the answer takes it.
            let _ = client.poll_flush(cx);
            loop {
                if is_watched && client.poll_gone(cx).is_ready() {
                    return Poll::Ready(Err(Failure::Gone));
                }
                if self.timer.poll_due(cx).is_pending() {
                    return Poll::Pending;
                }
                if is_watched {
                    return Poll::Ready(Err(Failure::Late(Elapsed)));
                }
                is_watched = true;
                self.timer.set(left);
            }
        })
        .await
    }
}

impl Upload {
    /// Moves what can be moved; whether anything was.
    ///
    /// # Errors
    /// The client's side broke.
    pub(super) fn poll<C: Client>(
        &mut self,
        client: &mut C,
        to: &mut UpstreamExchange,
        cx: &mut Context<'_>,
    ) -> Result<bool, BodyError> {
        if self.refused {
            return Ok(false);
        }
        match self.pump.poll(client, to, cx) {
            Poll::Ready(Err(PumpError::Source(error))) => return Err(error),
            // An endpoint may answer without reading to the end; its answer is still to be had.
            Poll::Ready(Err(PumpError::Sink(_))) => self.refused = true,
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        Ok(std::mem::take(&mut self.pump.moved))
    }
}
