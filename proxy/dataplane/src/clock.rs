//! Deadlines of a worker: set and moved for the price of a store, checked ten times a second.
//!
//! Every connection and every exchange has deadlines, and almost none of them ever comes. A timer of the runtime for
//! each would cost more than parsing the request; here a deadline is a number in a slab, and one pass per
//! [`TICK`] wakes the tasks whose number has come. A deadline is met at most two ticks late and never early.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

/// How often deadlines are looked at.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// The deadlines of one worker.
pub(crate) struct Clock {
    started: Instant,
    /// Ticks since the start.
    now: Cell<u64>,
    entries: RefCell<Slab<Entry>>,
    /// The date as HTTP has it, and the tick up to which it holds.
    date: Cell<([u8; DATE], u64)>,
}

/// Length of a date in HTTP (RFC 9110 section 5.6.7).
const DATE: usize = 29;

/// A tick that never comes.
const NEVER: u64 = u64::MAX;

struct Entry {
    due: u64,
    waker: Option<Waker>,
}

impl Clock {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            started: Instant::now(),
            now: Cell::new(0),
            entries: RefCell::default(),
            date: Cell::new((date_now(), 0)),
        })
    }

    /// Ticks since the worker's start, as of the last pass.
    pub(crate) fn now(&self) -> u64 {
        self.now.get()
    }

    /// The date for a `Date` field, at most a second old.
    pub(crate) fn date(&self) -> [u8; DATE] {
        let (date, until) = self.date.get();
        if self.now.get() < until {
            return date;
        }
        let date = date_now();
        self.date.set((date, self.now.get() + 5));
        date
    }

    /// Looks at every deadline and wakes the tasks of those that have come.
    pub(crate) fn tick(&self) {
        let now = ticks(self.started.elapsed());
        self.now.set(now);
        self.wake(|entry| entry.due <= now);
    }

    /// Wakes every task that waits on a deadline, so that it notices a drain, or that there is none any more.
    pub(crate) fn wake_all(&self) {
        self.wake(|_| true);
    }

    fn wake(&self, which: impl Fn(&Entry) -> bool) {
        let due: Vec<Waker> = {
            let mut entries = self.entries.borrow_mut();
            entries
                .iter_mut()
                .filter(|(_, entry)| which(entry))
                .filter_map(|(_, entry)| entry.waker.take())
                .collect()
        };
        due.into_iter().for_each(Waker::wake);
    }

    /// A deadline that is not set yet.
    pub(crate) fn timer(self: &Rc<Self>) -> Timer {
        let key = self.entries.borrow_mut().insert(Entry {
            due: NEVER,
            waker: None,
        });
        Timer {
            clock: self.clone(),
            key,
        }
    }
}

fn date_now() -> [u8; DATE] {
    let text = httpdate::fmt_http_date(std::time::SystemTime::now());
    let mut date = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    if text.len() == DATE {
        date.copy_from_slice(text.as_bytes());
    }
    date
}

/// Whole ticks in a duration.
pub(crate) fn ticks(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis() / TICK.as_millis()).unwrap_or(NEVER - 2)
}

/// One deadline.
pub(crate) struct Timer {
    clock: Rc<Clock>,
    key: usize,
}

impl Timer {
    /// Sets or moves the deadline to `after` from now.
    pub(crate) fn set(&self, after: Duration) {
        let due = self.tick_after(after);
        self.clock.entries.borrow_mut()[self.key].due = due;
    }

    /// Moves the deadline to `after` from now if it is later than that.
    pub(crate) fn shorten(&self, after: Duration) {
        let due = self.tick_after(after);
        let entry = &mut self.clock.entries.borrow_mut()[self.key];
        entry.due = entry.due.min(due);
    }

    fn tick_after(&self, after: Duration) -> u64 {
        let now = self.clock.now();
        now.saturating_add(ticks(after)).saturating_add(1)
    }

    /// Takes the deadline away.
    pub(crate) fn clear(&self) {
        self.clock.entries.borrow_mut()[self.key].due = NEVER;
    }

    /// Ready when the deadline has come; else the task is woken when it does, or at a drain.
    pub(crate) fn poll_due(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut entries = self.clock.entries.borrow_mut();
        let entry = &mut entries[self.key];
        if entry.due <= self.clock.now() {
            return Poll::Ready(());
        }
        match &mut entry.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => entry.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.clock.entries.borrow_mut().remove(self.key);
    }
}

/// A wait was longer than its deadline.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Elapsed;

/// Runs a future until it is ready or the timer is due.
pub(crate) async fn within<F: Future>(timer: &Timer, future: F) -> Result<F::Output, Elapsed> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => timer.poll_due(cx).map(|()| Err(Elapsed)),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_comes_after_its_time_and_can_be_moved() {
        let clock = Clock::new();
        let timer = clock.timer();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(timer.poll_due(&mut cx).is_pending());
        timer.set(Duration::ZERO);
        assert!(timer.poll_due(&mut cx).is_pending(), "never early");
        clock.now.set(1);
        assert!(timer.poll_due(&mut cx).is_ready());
        timer.set(Duration::from_secs(1));
        assert!(timer.poll_due(&mut cx).is_pending());
        clock.now.set(12);
        assert!(timer.poll_due(&mut cx).is_ready());
        timer.clear();
        assert!(timer.poll_due(&mut cx).is_pending());
    }

    #[test]
    fn a_deadline_is_shortened_and_never_lengthened() {
        let clock = Clock::new();
        let timer = clock.timer();
        let mut cx = Context::from_waker(Waker::noop());
        timer.shorten(Duration::from_secs(1));
        timer.shorten(Duration::from_secs(2));
        clock.now.set(10);
        timer.shorten(Duration::from_secs(1));
        assert!(timer.poll_due(&mut cx).is_pending());
        clock.now.set(11);
        assert!(timer.poll_due(&mut cx).is_ready());
    }

    #[test]
    fn a_dropped_timer_leaves_nothing_behind() {
        let clock = Clock::new();
        drop(clock.timer());
        assert!(clock.entries.borrow().is_empty());
    }
}
