//! One request and its response: match, filter, forward, filter, relay, record.

mod challenge;
mod completion;
mod forward;
mod pump;
mod relay;
pub(crate) mod side;

use std::borrow::Cow;
use std::rc::Rc;
use std::task::Poll;

use tidegate_model::{Protocol, Target};

pub(crate) use completion::Completion;

use crate::clock::{Timer, within};
use crate::downstream::{Downstream, End};
use crate::fault::Fault;
use crate::filter::{forwarded, hop, redirect};
use crate::http1::Link;
use crate::listen::ListenerProtocol;
use crate::message::{BodyLength, Name, RequestHead, RequestKind, ResponseHead, members};
use crate::upstream::InFlight;
use forward::{Answer, Forward};
use side::{BodyError, Client};

/// What an exchange leaves behind.
pub(crate) enum Outcome {
    /// The response has ended and left. The request's body may not have been read to its end.
    Complete,
    /// The response was cut short: the client must not take it for whole.
    Cut(End),
    /// Both sides go on with another protocol.
    Switched(Box<Switched>),
}

/// An endpoint's side of a switch of protocols.
pub(crate) struct Switched {
    pub(crate) link: Link,
    /// Recorded when the tunnel ends.
    pub(crate) completion: Completion,
    _in_flight: InFlight,
}

/// Serves a request. There is always a response: what fails becomes one by the table of [`Fault`]. The timer is the
/// exchange's until it is over.
pub(crate) async fn exchange<C: Client>(
    downstream: &Rc<Downstream>,
    head: RequestHead,
    client: &mut C,
    timer: &Timer,
) -> Outcome {
    let mut completion = Completion::begin(downstream, head);
    match serve(downstream, client, &mut completion, timer).await {
        Ok(Served::Relayed(answer)) => relay(answer, client, completion, timer).await,
        Ok(Served::Switched(answer)) => switch(answer, client, completion, timer).await,
        Ok(Served::Local(head, text)) => local(head, text, client, completion, timer).await,
        Err(Fault::ClientGone) => Outcome::Cut(End::Broken),
        Err(fault) => answer_fault(fault, client, completion, timer).await,
    }
}

/// Answers a client that has sent no request, or not all of its head.
pub(crate) async fn refuse<C: Client>(
    downstream: &Rc<Downstream>,
    fault: Fault,
    client: &mut C,
    timer: &Timer,
) -> Outcome {
    let completion = Completion::begin(downstream, RequestHead::unreadable());
    answer_fault(fault, client, completion, timer).await
}

/// How a request was served.
enum Served {
    /// By Tidegate itself, with this body.
    Local(ResponseHead, Cow<'static, str>),
    /// By an endpoint.
    Relayed(Answer),
    /// By an endpoint that switches protocols.
    Switched(Answer),
}

async fn serve<C: Client>(
    downstream: &Rc<Downstream>,
    client: &mut C,
    completion: &mut Completion,
    timer: &Timer,
) -> Result<Served, Fault> {
    if completion.head.is_connect() {
        return Err(Fault::Connect);
    }
    let worker = &downstream.worker;
    let current = worker.current();
    let snapshot = &current.snapshot;
    if downstream.listener.protocol == ListenerProtocol::Http
        && let Some(answer) = challenge::answer(&completion.head, &snapshot.challenges)
    {
        return Ok(answer);
    }
    let trust = forwarded::trust(downstream, &snapshot.policy);
    let host = completion.head.host();
    if downstream.is_misdirected(&host, &current) {
        return Err(Fault::Misdirected);
    }
    let lookup = snapshot.routes.find(&host, completion.head.path());
    drop(host);
    if let Some(route) = lookup.route {
        completion.route(&route.labels);
    }
    let head = &mut completion.head;
    if !is_secure(downstream, head, trust) && snapshot.redirects(lookup) {
        let redirect = redirect::to_https(head, &snapshot.policy.redirect);
        let redirect = redirect.ok_or(Fault::NoHost)?;
        return Ok(Served::Local(redirect, Cow::Borrowed("")));
    }
    let route = lookup.route.ok_or(Fault::NoRoute)?;
    let Target::Upstream(id) = &route.target else {
        return Err(Fault::BackendUnusable);
    };
    let upstream = worker
        .upstreams
        .find(id, snapshot)
        .ok_or(Fault::NoEndpoint)?;
    let upgrade = hop::request(head).filter(|_| upstream.protocol() != Protocol::H2c);
    forwarded::apply(head, downstream, trust);
    if let Some(protocol) = &upgrade {
        head.fields_mut().append(Name::Connection, b"upgrade");
        head.fields_mut().append(Name::Upgrade, protocol);
    }
    let forward = Forward {
        downstream,
        upstream: &upstream,
        policy: &snapshot.policy,
        timer,
    };
    let mut answer = forward.send(head, client).await?;
    completion.endpoint(answer.in_flight.endpoint());
    if answer.head.status() == 101 {
        let asked = upgrade.ok_or(Fault::InvalidResponse)?;
        agree(&mut answer.head, &asked)?;
        return Ok(Served::Switched(answer));
    }
    Ok(Served::Relayed(answer))
}

/// Readies the head of a switch: an endpoint switches only to what it was asked for (RFC 9110 section 7.8).
fn agree(head: &mut ResponseHead, asked: &[u8]) -> Result<(), Fault> {
    let agreed = head.fields().first(Name::Upgrade).map(<[u8]>::to_vec);
    let agreed = agreed.unwrap_or_else(|| asked.to_vec());
    let was_asked =
        |protocol: &[u8]| members(asked).any(|asked| asked.eq_ignore_ascii_case(protocol));
    if !members(&agreed).all(was_asked) {
        return Err(Fault::InvalidResponse);
    }
    hop::response(head);
    head.fields_mut().append(Name::Connection, b"upgrade");
    head.fields_mut().append(Name::Upgrade, &agreed);
    Ok(())
}

/// Passes an endpoint's answer on.
async fn relay<C: Client>(
    mut answer: Answer,
    client: &mut C,
    mut completion: Completion,
    timer: &Timer,
) -> Outcome {
    hop::response(&mut answer.head);
    identify(&mut answer.head, &completion.downstream);
    completion.answered(answer.head.status());
    relay::relay(answer, client, completion, timer).await
}

/// An endpoint's agreement to another protocol, which the connection goes on with.
async fn switch<C: Client>(
    mut answer: Answer,
    client: &mut C,
    mut completion: Completion,
    timer: &Timer,
) -> Outcome {
    completion.answered(101);
    let Some(link) = answer.from.into_link() else {
        return Outcome::Cut(End::Broken);
    };
    let sent = client.send_head(&mut answer.head, BodyLength::Empty);
    if sent.is_err() || flush(client, &completion, timer).await.is_err() {
        return Outcome::Cut(End::Broken);
    }
    Outcome::Switched(Box::new(Switched {
        link,
        completion,
        _in_flight: answer.in_flight,
    }))
}

/// Answers by the table of faults.
async fn answer_fault<C: Client>(
    fault: Fault,
    client: &mut C,
    mut completion: Completion,
    timer: &Timer,
) -> Outcome {
    completion.fault(fault);
    let (head, text) = fault.response();
    local(head, text, client, completion, timer).await
}

/// An answer of Tidegate's own.
async fn local<C: Client>(
    mut head: ResponseHead,
    text: Cow<'static, str>,
    client: &mut C,
    mut completion: Completion,
    timer: &Timer,
) -> Outcome {
    let body = match completion.head.kind() {
        RequestKind::Head => "",
        RequestKind::Other => &*text,
    };
    identify(&mut head, &completion.downstream);
    let length = text.len().to_string();
    head.fields_mut()
        .set(Name::ContentLength, length.as_bytes());
    completion.answered(head.status());
    client.refuse_body();
    let length = match body.len() as u64 {
        0 => BodyLength::Empty,
        length => BodyLength::Known(length),
    };
    let sent = client.send_head(&mut head, length);
    let sent = match sent {
        Ok(()) => send_text(body, client, &completion, timer).await,
        Err(error) => Err(error),
    };
    match sent {
        Ok(()) => {
            completion.sent(body.len() as u64);
            completion.complete();
            Outcome::Complete
        }
        Err(_) => Outcome::Cut(End::Broken),
    }
}

async fn send_text<C: Client>(
    text: &str,
    client: &mut C,
    completion: &Completion,
    timer: &Timer,
) -> Result<(), BodyError> {
    if !text.is_empty() {
        std::future::poll_fn(|cx| match client.poll_ready(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(client.send(cx, text.as_bytes(), true)),
            other => other,
        })
        .await?;
    }
    flush(client, completion, timer).await
}

/// Waits until everything for the client has left, or for too long.
async fn flush<C: Client>(
    client: &mut C,
    completion: &Completion,
    timer: &Timer,
) -> Result<(), BodyError> {
    timer.set(completion.downstream.worker.timeouts().idle);
    let flushed = within(timer, std::future::poll_fn(|cx| client.poll_flush(cx)));
    flushed.await.unwrap_or(Err(BodyError::Closed))
}

/// Whether the client's own connection is encrypted, by our listener or, as a trusted proxy says, by it.
fn is_secure(downstream: &Downstream, head: &RequestHead, trust: forwarded::Trust) -> bool {
    match (downstream.listener.protocol, trust) {
        (ListenerProtocol::Https, _) => true,
        (ListenerProtocol::Http, forwarded::Trust::Believed) => head
            .fields()
            .first(Name::XForwardedProto)
            .is_some_and(|proto| proto.eq_ignore_ascii_case(b"https")),
        (ListenerProtocol::Http, forwarded::Trust::Replaced) => false,
    }
}

/// Says who answers and when, unless the endpoint has (RFC 9110 sections 6.6.1 and 10.2.4).
fn identify(head: &mut ResponseHead, downstream: &Downstream) {
    let fields = head.fields_mut();
    if !fields.has(Name::Server) {
        fields.append(Name::Server, b"tidegate");
    }
    if !fields.has(Name::Date) {
        fields.append(Name::Date, &downstream.worker.clock.date());
    }
}
