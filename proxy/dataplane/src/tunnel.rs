//! Bytes both ways after a switch of protocols (WebSocket, RFC 6455; RFC 9110 section 7.8).

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::buffer::Last;
use crate::downstream::{Downstream, End};
use crate::exchange::Switched;
use crate::http1::Link;

/// Reads of one direction before other tasks of the worker get their turn.
const TURN: usize = 8;

/// Joins a client's connection with an endpoint's until both sides have ended, one breaks, both are silent for too long,
/// or a drain is over.
pub(crate) async fn run(downstream: &Rc<Downstream>, mut client: Link, switched: Switched) -> End {
    let Switched {
        link: mut endpoint,
        mut completion,
        ..
    } = switched;
    let timer = downstream.worker.clock.timer();
    let idle = downstream.worker.timeouts().idle;
    timer.set(idle);
    let (mut up, mut down) = (Direction::default(), Direction::default());
    let end = std::future::poll_fn(|cx| {
        let before = up.passed + down.passed;
        let polled = (
            up.poll(&mut client, &mut endpoint, cx),
            down.poll(&mut endpoint, &mut client, cx),
        );
        if up.passed + down.passed > before {
            timer.set(idle);
        }
        match polled {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => Poll::Ready(End::Broken),
            // An endpoint that has ended has said all there is to say.
            (_, Poll::Ready(Ok(()))) => Poll::Ready(End::Closed),
            _ => timer.poll_due(cx).map(|()| End::TimedOut),
        }
    })
    .await;
    completion.sent(down.passed);
    if end == End::Closed {
        completion.complete();
    }
    end
}

/// One direction of a tunnel.
#[derive(Default)]
struct Direction {
    passed: u64,
    /// Whether the source has ended.
    ended: bool,
}

impl Direction {
    /// Ready when the source has ended, everything has left, and the other side has been told.
    fn poll(
        &mut self,
        from: &mut Link,
        to: &mut Link,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        for _ in 0..TURN {
            ready!(to.poll_flush(cx, Last::No))?;
            if self.ended {
                return to.transport.poll_shutdown(cx);
            }
            if from.input.is_empty() && ready!(from.poll_fill(cx))? == 0 {
                self.ended = true;
                continue;
            }
            let length = from.input.len();
            to.pass(cx, from.input.bytes())?;
            from.input.consume(length);
            self.passed += length as u64;
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
