//! Certificates on demand: a name that a client asks for and that has none is passed on, and the handshake waits a while.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashSet;
use tidegate_model::Hostname;
use tokio::sync::{Notify, mpsc};

use super::Socket;
use super::handshake::read_more;
use super::session::RECORD;
use crate::clock::{Clock, ticks};
use crate::metrics::WorkerMetrics;

/// Handshakes of one worker that wait at once. More go on without a wait.
const WAITING: usize = 128;
/// A name is passed on once in so long by one worker, however many clients ask for it.
const ASKED_AGAIN: Duration = Duration::from_secs(10);
/// Names of one worker that are remembered as passed on. While there are so many, no more are passed on.
const ASKED: usize = 1024;

/// A worker's names without a certificate, and the handshakes that wait for one.
pub(crate) struct Demand {
    asking: mpsc::Sender<Hostname>,
    asked: RefCell<Asked>,
    waiting: Cell<usize>,
    published: Notify,
    clock: Rc<Clock>,
    metrics: Arc<WorkerMetrics>,
}

impl Demand {
    pub(crate) fn new(
        asking: mpsc::Sender<Hostname>,
        clock: Rc<Clock>,
        metrics: Arc<WorkerMetrics>,
    ) -> Self {
        Self {
            asking,
            asked: RefCell::default(),
            waiting: Cell::new(0),
            published: Notify::new(),
            clock,
            metrics,
        }
    }

    /// A snapshot has come into force: it may hold what handshakes wait for.
    pub(super) fn published(&self) {
        self.published.notify_waiters();
    }

    /// Passes a name on and waits until its certificate is held, for `limit` at most. What the client sends meanwhile is
    /// added to what was received from it.
    ///
    /// # Errors
    /// The client went away.
    pub(super) async fn wait(
        &self,
        name: &Hostname,
        limit: Duration,
        is_held: impl Fn() -> bool,
        socket: &mut Socket,
        received: &mut Vec<u8>,
    ) -> io::Result<()> {
        let asked = self.ask(name);
        let place = Place::take(self);
        let (true, Some(_place)) = (asked, place) else {
            self.metrics.demand_crowded.add(1);
            return Ok(());
        };
        let over = self.clock.timer();
        over.set(limit);
        loop {
            let published = self.published.notified();
            if is_held() {
                self.metrics.demand_served.add(1);
                return Ok(());
            }
            tokio::select! {
                () = published => {}
                () = std::future::poll_fn(|cx| over.poll_due(cx)) => {
                    self.metrics.demand_timed_out.add(1);
                    return Ok(());
                }
                // A client has nothing to say before it is answered; one that says much is left alone.
                more = read_more(socket, received), if received.len() <= RECORD => {
                    more.inspect_err(|_| self.metrics.demand_left.add(1))?;
                }
            }
        }
    }

    /// Whether the name has been passed on, now or lately.
    fn ask(&self, name: &Hostname) -> bool {
        let mut asked = self.asked.borrow_mut();
        match asked.look_up(name, self.clock.now()) {
            Seen::Lately => true,
            Seen::TooMany => false,
            Seen::Not => {
                let sent = self.asking.try_send(name.clone()).is_ok();
                if sent {
                    asked.add(name.clone(), self.clock.now());
                    self.metrics.demand_names.add(1);
                }
                sent
            }
        }
    }
}

/// A handshake's place among those that wait.
struct Place<'a>(&'a Cell<usize>);

impl<'a> Place<'a> {
    fn take(demand: &'a Demand) -> Option<Self> {
        let waiting = &demand.waiting;
        (waiting.get() < WAITING).then(|| {
            waiting.set(waiting.get() + 1);
            Self(waiting)
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// Names that were passed on lately.
#[derive(Default)]
struct Asked {
    names: HashSet<Hostname>,
    /// With the tick up to which each is remembered: the first goes first.
    ends: VecDeque<(u64, Hostname)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Lately,
    Not,
    TooMany,
}

impl Asked {
    fn look_up(&mut self, name: &Hostname, now: u64) -> Seen {
        while let Some((_, ended)) = self.ends.pop_front_if(|(end, _)| *end <= now) {
            self.names.remove(&ended);
        }
        match self.names.contains(name) {
            true => Seen::Lately,
            false if self.names.len() >= ASKED => Seen::TooMany,
            false => Seen::Not,
        }
    }

    fn add(&mut self, name: Hostname, now: u64) {
        let end = now.saturating_add(ticks(ASKED_AGAIN));
        self.names.insert(name.clone());
        self.ends.push_back((end, name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> Hostname {
        Hostname::parse(&format!("n{number}.example")).unwrap()
    }

    #[test]
    fn a_name_is_passed_on_once_in_a_while_and_no_more_than_there_is_room_for() {
        let mut asked = Asked::default();
        let again = ticks(ASKED_AGAIN);
        for number in 0..ASKED {
            assert_eq!(asked.look_up(&name(number), 5), Seen::Not);
            asked.add(name(number), 5);
        }
        assert_eq!(asked.look_up(&name(0), 4 + again), Seen::Lately);
        assert_eq!(asked.look_up(&name(ASKED), 4 + again), Seen::TooMany);
        assert_eq!(asked.look_up(&name(ASKED), 5 + again), Seen::Not);
        assert!(asked.names.is_empty() && asked.ends.is_empty());
    }

    #[test]
    fn a_name_that_nobody_takes_is_not_remembered() {
        let metrics = Arc::new(WorkerMetrics::default());
        let (asking, mut taken) = mpsc::channel(1);
        let demand = Demand::new(asking, Clock::new(), metrics.clone());
        assert!(demand.ask(&name(1)));
        assert!(demand.ask(&name(1)), "lately");
        assert!(!demand.ask(&name(2)), "there is no room for it");
        assert_eq!(taken.try_recv().ok(), Some(name(1)));
        assert!(demand.ask(&name(2)));
        assert_eq!(taken.try_recv().ok(), Some(name(2)));
        drop(taken);
        assert!(!demand.ask(&name(3)), "nobody is there");
        assert_eq!(metrics.demand_names.read(), 2);
    }

    #[test]
    fn places_are_given_back() {
        let (asking, _taken) = mpsc::channel(1);
        let demand = Demand::new(asking, Clock::new(), Arc::default());
        let places: Vec<_> = (0..WAITING)
            .map(|_| Place::take(&demand).unwrap())
            .collect();
        assert!(Place::take(&demand).is_none());
        drop(places);
        assert_eq!(demand.waiting.get(), 0);
    }
}
