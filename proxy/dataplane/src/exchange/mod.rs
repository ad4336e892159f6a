//! One request and its response: match, filter, forward, filter, record.

mod completion;
mod forward;

use std::rc::Rc;

use tidegate_model::{Protocol, Target};

pub(crate) use completion::Completion;

use crate::body::{Relay, RequestBody, ResponseBody};
use crate::downstream::{Downstream, Switched};
use crate::fault::Fault;
use crate::filter::{forwarded, hop, redirect};
use crate::head::{Fields, RequestHead, ResponseHead, Value, name};
use crate::listen::ListenerProtocol;
use forward::{Answer, Forward};

/// Serves a request. The response is always there: what fails becomes one by the table of [`Fault`].
pub(crate) async fn exchange(
    downstream: &Rc<Downstream>,
    head: RequestHead,
    body: RequestBody,
) -> (ResponseHead, ResponseBody) {
    let mut completion = Completion::begin(downstream, &head);
    match serve(downstream, head, body, &mut completion).await {
        Ok(Served::Relayed(answer)) => relay(downstream, answer, completion),
        Ok(Served::Switched(head, answer)) => switch(downstream, head, answer, completion),
        Ok(Served::Local(head)) => local(downstream, head, ResponseBody::empty(), completion),
        Err(fault) => {
            completion.fault(fault);
            let (head, body) = fault.response();
            local(downstream, head, body, completion)
        }
    }
}

/// An endpoint's answer, on its way to the client.
fn relay(
    downstream: &Downstream,
    answer: Answer,
    mut completion: Completion,
) -> (ResponseHead, ResponseBody) {
    let Answer {
        mut head,
        body,
        lease,
        in_flight,
        timer,
    } = answer;
    hop::response(&mut head);
    identify(&mut head);
    completion.answered(head.status());
    completion.hold(in_flight);
    let idle = downstream.worker.timeouts().idle;
    timer.set(idle);
    (
        head,
        body.relayed(Relay {
            lease,
            timer: Some(timer),
            idle,
            completion,
        }),
    )
}

/// An answer of Tidegate's own.
fn local(
    downstream: &Downstream,
    mut head: ResponseHead,
    body: ResponseBody,
    mut completion: Completion,
) -> (ResponseHead, ResponseBody) {
    identify(&mut head);
    completion.answered(head.status());
    let idle = downstream.worker.timeouts().idle;
    (
        head,
        body.relayed(Relay {
            lease: None,
            timer: None,
            idle,
            completion,
        }),
    )
}

/// An endpoint's agreement to another protocol, which the connection goes on with.
fn switch(
    downstream: &Downstream,
    head: ResponseHead,
    answer: Answer,
    mut completion: Completion,
) -> (ResponseHead, ResponseBody) {
    completion.answered(head.status());
    if let Some(lease) = answer.lease {
        let (stream, read) = lease.connection.into_stream();
        completion.hold(answer.in_flight);
        downstream.leave_tunnel(Switched {
            stream,
            read,
            completion,
        });
    }
    (head, ResponseBody::empty())
}

/// How a request was served.
enum Served {
    /// By Tidegate itself, without a body.
    Local(ResponseHead),
    /// By an endpoint.
    Relayed(Answer),
    /// By an endpoint that switches protocols.
    Switched(ResponseHead, Answer),
}

async fn serve(
    downstream: &Rc<Downstream>,
    mut head: RequestHead,
    body: RequestBody,
    completion: &mut Completion,
) -> Result<Served, Fault> {
    if head.is_connect() {
        return Err(Fault::Connect);
    }
    head.unify_authority().map_err(|_| Fault::InvalidHost)?;
    let worker = &downstream.worker;
    let current = worker.current();
    let snapshot = &current.snapshot;
    let trust = forwarded::trust(downstream, &snapshot.policy);
    let lookup = snapshot.routes.find(&head.host(), head.path());
    if let Some(route) = lookup.route {
        completion.route(&route.labels);
    }
    if !is_secure(downstream, &head, trust) && snapshot.redirects(lookup) {
        return Ok(Served::Local(
            redirect::to_https(&head, &snapshot.policy.redirect).ok_or(Fault::InvalidHost)?,
        ));
    }
    let route = lookup.route.ok_or(Fault::NoRoute)?;
    let Target::Upstream(id) = &route.target else {
        return Err(Fault::BackendUnusable);
    };
    let upstream = worker
        .upstreams
        .find(id, snapshot)
        .ok_or(Fault::NoEndpoint)?;
    let upgrade = hop::request(&mut head).filter(|_| upstream.protocol() != Protocol::H2c);
    forwarded::apply(&mut head, downstream, trust);
    if let Some(protocol) = &upgrade {
        head.set(name::CONNECTION, Value::from_static("upgrade"));
        head.set(name::UPGRADE, protocol.clone());
    }
    let forward = Forward {
        downstream,
        upstream: &upstream,
        policy: &snapshot.policy,
    };
    let mut answer = forward.send(head, body).await?;
    completion.endpoint(answer.in_flight.address());
    if answer.head.status() != 101 {
        return Ok(Served::Relayed(answer));
    }
    let Some(protocol) = upgrade else {
        return Err(Fault::InvalidResponse);
    };
    let protocol = answer
        .head
        .first(&name::UPGRADE)
        .cloned()
        .unwrap_or(protocol);
    hop::response(&mut answer.head);
    let mut head = std::mem::replace(&mut answer.head, ResponseHead::with_status(101));
    head.set(name::CONNECTION, Value::from_static("upgrade"));
    head.set(name::UPGRADE, protocol);
    Ok(Served::Switched(head, answer))
}

/// Whether the client's own connection is encrypted, by our listener or, as a trusted proxy says, by it.
fn is_secure(downstream: &Downstream, head: &RequestHead, trust: forwarded::Trust) -> bool {
    match (downstream.listener.protocol, trust) {
        (ListenerProtocol::Https, _) => true,
        (ListenerProtocol::Http, forwarded::Trust::Believed) => head
            .first(&name::X_FORWARDED_PROTO)
            .is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https")),
        (ListenerProtocol::Http, forwarded::Trust::Replaced) => false,
    }
}

/// Says who answers, unless the endpoint has.
fn identify(head: &mut ResponseHead) {
    if head.first(&name::SERVER).is_none() {
        head.set(name::SERVER, Value::from_static("tidegate"));
    }
}
