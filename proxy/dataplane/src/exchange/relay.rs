//! Passing an answer on: its head, then the bodies in both directions until the response has ended.

use std::task::Poll;

use super::Outcome;
use super::completion::Completion;
use super::forward::Answer;
use super::pump::{Pump, PumpError};
use super::side::{Client, Source};
use crate::clock::Timer;
use crate::downstream::End;
use crate::message::BodyLength;

/// What stopped a relay.
enum Stop {
    /// The response has ended and left.
    Finished,
    /// The client is gone.
    Client,
    /// The endpoint broke off within the response.
    Endpoint,
    /// Nothing moved for too long.
    Silence,
}

/// Relays an answer whose head is ready to be sent.
pub(super) async fn relay<C: Client>(
    mut answer: Answer,
    client: &mut C,
    mut completion: Completion,
    timer: &Timer,
) -> Outcome {
    let idle = completion.downstream.worker.timeouts().idle;
    let length = answer.head.body_length();
    if client.send_head(&mut answer.head, length).is_err() {
        return Outcome::Cut(End::Broken);
    }
    // Of a response without a body the client would take what follows for its next one: an endpoint over HTTP/2 can send
    // DATA behind a 204.
    let mut download = match length == BodyLength::Empty || answer.from.is_finished() {
        true => Pump::finished(),
        false => Pump::default(),
    };
    timer.set(idle);
    let Answer {
        mut from,
        mut upload,
        in_flight,
        ..
    } = answer;
    let stop = std::future::poll_fn(|cx| {
        let Ok(uploaded) = upload.poll(client, &mut from, cx) else {
            return Poll::Ready(Stop::Client);
        };
        match download.poll(&mut from, client, cx) {
            Poll::Ready(Ok(())) => return Poll::Ready(Stop::Finished),
            Poll::Ready(Err(PumpError::Source(error))) => {
                tracing::debug!(%error, "the endpoint broke off within a body");
                return Poll::Ready(Stop::Endpoint);
            }
            Poll::Ready(Err(PumpError::Sink(error))) => {
                tracing::debug!(%error, "the client broke off within a body");
                return Poll::Ready(Stop::Client);
            }
            Poll::Pending => {}
        }
        if uploaded || std::mem::take(&mut download.moved) {
            timer.set(idle);
        }
        if client.poll_gone(cx).is_ready() {
            return Poll::Ready(Stop::Client);
        }
        timer.poll_due(cx).map(|()| Stop::Silence)
    })
    .await;
    completion.sent(download.passed);
    match stop {
        Stop::Finished => {
            from.end(in_flight.endpoint());
            completion.complete();
            Outcome::Complete
        }
        Stop::Client | Stop::Endpoint => Outcome::Cut(End::Broken),
        Stop::Silence => Outcome::Cut(End::TimedOut),
    }
}
