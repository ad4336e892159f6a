//! Moving a body from where it comes from to where it goes.

use std::task::{Context, Poll};

use super::side::{BodyError, Part, Sink, Source};

/// Parts that pass before other tasks of the worker get their turn.
const TURN: usize = 8;

/// One body on its way.
#[derive(Debug, Default)]
pub(super) struct Pump {
    /// Bytes that have passed.
    pub(super) passed: u64,
    /// Whether a part has passed since this was last cleared.
    pub(super) moved: bool,
    /// Whether a part was ever taken from the source.
    pub(super) begun: bool,
    finished: bool,
}

/// Which side a body broke on.
#[derive(Debug)]
pub(super) enum PumpError {
    Source(BodyError),
    Sink(BodyError),
}

impl Pump {
    /// A body that has nothing to move.
    pub(super) fn finished() -> Self {
        Self {
            finished: true,
            ..Self::default()
        }
    }

    pub(super) fn for_source(source: &impl Source) -> Self {
        Self {
            finished: source.is_finished(),
            ..Self::default()
        }
    }

    /// Whether the end has passed; some of it may still have to leave.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Moves what can be moved. Ready when the end has passed and everything has left.
    pub(super) fn poll(
        &mut self,
        source: &mut impl Source,
        sink: &mut impl Sink,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), PumpError>> {
        let mut turns = 0;
        while !self.finished {
            match sink.poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(PumpError::Sink(error))),
                Poll::Pending => return Poll::Pending,
            }
            if turns == TURN {
                cx.waker().wake_by_ref();
                break;
            }
            turns += 1;
            match source.poll_part(cx) {
                Poll::Ready(Ok(part)) => {
                    self.pass(part, sink, cx).map_err(PumpError::Sink)?;
                    source.release();
                }
                Poll::Ready(Err(error)) => {
                    // What came before the break is the receiver's.
                    let _ = sink.poll_flush(cx);
                    return Poll::Ready(Err(PumpError::Source(error)));
                }
                Poll::Pending => break,
            }
        }
        match sink.poll_flush(cx) {
            Poll::Ready(Ok(())) if self.finished => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(PumpError::Sink(error))),
            _ => Poll::Pending,
        }
    }

    fn pass(
        &mut self,
        part: Part<'_>,
        sink: &mut impl Sink,
        cx: &mut Context<'_>,
    ) -> Result<(), BodyError> {
        self.moved = true;
        self.begun = true;
        match part {
            Part::Data { bytes, last } => {
                self.passed += bytes.len() as u64;
                self.finished = last;
                sink.send(cx, bytes, last)
            }
            Part::Trailers(trailers) => {
                self.finished = true;
                sink.finish(cx, Some(&trailers))
            }
            Part::End => {
                self.finished = true;
                sink.finish(cx, None)
            }
        }
    }
}
