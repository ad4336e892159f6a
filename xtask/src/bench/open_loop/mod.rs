//! Clients that keep to a schedule, whatever the server does, and cost little.
//!
//! A request's latency counts from the time that it was due: a server that stands still for a second has made all
//! requests of that second late, and not just the one that it was at. A thread is bound to each of two CPUs, so that
//! connections come from both, as from a network card with two queues.

mod connection;
mod record;
mod schedule;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use connection::{After, Connection, Progress};
use record::Failure;
#[cfg(test)]
use record::Record;
pub(super) use record::{Percentiles, Seen};
pub(super) use schedule::Rate;
use schedule::{Arrival, Schedule};

/// After this long without an answer a request has failed.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often requests are looked through for those, and how soon a thread sees that it is over.
const SWEEP: Duration = Duration::from_millis(50);
/// Above what else runs: clients that wait for a CPU would measure themselves. It needs root, and is left out without.
const PRIORITY: i32 = -10;
/// Source addresses of a thread, 127.X.0.1 and following, each with ephemeral ports of its own.
const SOURCES: u8 = 64;
/// What the timer's events are known by; connections have the numbers below.
const TIMER: u64 = u64::MAX;

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A new connection in plain text, with one request.
    Plain,
    /// A new connection over TLS with one request, after a full handshake.
    Tls,
    /// The same with a host whose certificate takes the server long to sign with.
    LongHandshake,
    /// A request on a connection that is kept, in plain text.
    Kept,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "new, plain",
            Self::Tls => "new, TLS",
            Self::LongHandshake => "new, TLS with a long handshake",
            Self::Kept => "kept, plain",
        }
    }
}

/// Where the clients go.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) http: SocketAddr,
    pub(super) https: SocketAddr,
    pub(super) plain_host: &'static str,
    pub(super) tls_host: &'static str,
    pub(super) long_host: &'static str,
    pub(super) tls: Arc<ClientConfig>,
    /// Connections that are kept, by every thread.
    pub(super) kept: usize,
}

/// Clients at work.
#[derive(Debug)]
pub(super) struct Clients {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<Seen>>>,
}

impl Clients {
    /// Starts a thread on each of two CPUs, with half of the rates each.
    pub(super) fn start(target: &Target, rates: &[Rate], seed: u64) -> Result<Self> {
        let cpus = two_cpus()?;
        let over = Arc::new(AtomicBool::new(false));
        let share: Vec<_> = rates
            .iter()
            .map(|rate| Rate {
                per_second: rate.per_second / cpus.len() as f64,
                ..*rate
            })
            .collect();
        let threads = cpus.into_iter().zip(1_u8..).map(|(cpu, number)| {
            let (target, over) = (target.clone(), over.clone());
            let schedule = Schedule::new(&share, 2 * seed + u64::from(number));
            thread::spawn(move || {
                bind_to(cpu)?;
                Engine::new(target, number)?.run(schedule, &over)
            })
        });
        Ok(Self {
            threads: threads.collect(),
            over,
        })
    }

    /// Lets no more requests begin, waits for those under way, and sums up.
    pub(super) fn stop(self) -> Result<Seen> {
        self.over.store(true, Ordering::Relaxed);
        let mut sum = Seen::default();
        for thread in self.threads {
            let seen = thread.join().map_err(|_| anyhow!("a client panicked"))?;
            sum.add(seen?);
        }
        Ok(sum)
    }
}

/// The first two CPUs that this process may use, or the one.
pub(super) fn two_cpus() -> Result<Vec<usize>> {
    let allowed = sched_getaffinity(None).context("cannot tell the CPUs of this process")?;
    let cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    Ok(cpus.take(2).collect())
}

/// Binds this thread to a CPU, and has it go before others.
pub(super) fn bind_to(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("cannot use CPU {cpu}"))?;
    _ = rustix::process::setpriority_process(None, PRIORITY);
    Ok(())
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
struct Request {
    kind: Kind,
    due: Instant,
}

#[derive(Debug)]
struct Slot {
    connection: Connection,
    /// `None` while a kept connection has nothing to do.
    request: Option<Request>,
    /// Whether it has had an answer before.
    used: bool,
}

/// One thread's connections.
#[derive(Debug)]
struct Engine {
    target: Target,
    names: [ServerName<'static>; 2],
    epoll: OwnedFd,
    timer: OwnedFd,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    /// Kept connections with nothing to do, the one that waits longest first.
    idle: VecDeque<usize>,
    /// Kept connections in all.
    kept: usize,
    /// The second part of the thread's source addresses, and the number of the last one used.
    network: u8,
    source: u8,
    seen: Seen,
}

impl Engine {
    fn new(target: Target, network: u8) -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
        let edges = EventFlags::IN | EventFlags::ET;
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), edges)?;
        Ok(Self {
            names: [
                ServerName::try_from(target.tls_host)?,
                ServerName::try_from(target.long_host)?,
            ],
            target,
            epoll,
            timer,
            slots: Vec::new(),
            free: Vec::new(),
            idle: VecDeque::new(),
            kept: 0,
            network,
            source: 0,
            seen: Seen::default(),
        })
    }

    fn run(mut self, schedule: Schedule, over: &AtomicBool) -> Result<Seen> {
        let begun = Instant::now();
        let mut schedule = schedule.peekable();
        let mut sweep = begun;
        let mut events = Vec::with_capacity(256);
        loop {
            let ending = over.load(Ordering::Relaxed);
            while let Some(arrival) =
                schedule.next_if(|next| !ending && begun + next.at <= Instant::now())
            {
                self.arrive(begun, arrival);
            }
            let now = Instant::now();
            if now >= sweep {
                self.give_up(now);
                sweep = now + SWEEP;
            }
            if ending
                && self
                    .slots
                    .iter()
                    .flatten()
                    .all(|slot| slot.request.is_none())
            {
                return Ok(self.seen);
            }
            let next = schedule.peek().filter(|_| !ending);
            let wake = next.map_or(sweep, |next| sweep.min(begun + next.at));
            self.wait(wake, &mut events)?;
            for event in events.drain(..) {
                let epoll::Event { data, .. } = event;
                if let Ok(index) = usize::try_from(data.u64()) {
                    self.advance(index);
                }
            }
        }
    }

    /// Waits for connections, until then at most.
    fn wait(&self, until: Instant, events: &mut Vec<epoll::Event>) -> Result<()> {
        // A timer of its own, because the time-out of the call itself is in whole milliseconds. Zero would stop it.
        let pause = until.saturating_duration_since(Instant::now());
        let pause = pause.max(Duration::from_nanos(1));
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec::try_from(pause)?,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), None) {
            Err(rustix::io::Errno::INTR) | Ok(_) => Ok(()),
            Err(error) => Err(error).context("cannot wait for connections"),
        }
    }

    fn arrive(&mut self, begun: Instant, arrival: Arrival) {
        let request = Request {
            kind: arrival.kind,
            due: begun + arrival.at,
        };
        let full = self.kept >= self.target.kept;
        if request.kind == Kind::Kept
            && full
            && let Some(index) = self.idle.pop_front()
            && let Some(Some(slot)) = self.slots.get_mut(index)
        {
            slot.connection.repeat();
            slot.request = Some(request);
            self.advance(index);
            return;
        }
        self.open(request);
    }

    /// Begins a request on a new connection.
    fn open(&mut self, request: Request) {
        let opened = self.connect(request.kind).and_then(|connection| {
            let index = self.free.pop().unwrap_or_else(|| {
                self.slots.push(None);
                self.slots.len() - 1
            });
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            let name = EventData::new_u64(index as u64);
            epoll::add(&self.epoll, connection.socket(), name, flags)?;
            Ok((index, connection))
        });
        match opened {
            Err(error) => self.seen.of(request.kind).fail(&error.into()),
            Ok((index, connection)) => {
                self.kept += usize::from(request.kind == Kind::Kept);
                if let Some(slot) = self.slots.get_mut(index) {
                    *slot = Some(Slot {
                        connection,
                        request: Some(request),
                        used: false,
                    });
                }
            }
        }
    }

    fn connect(&mut self, kind: Kind) -> std::io::Result<Connection> {
        self.source = self.source % SOURCES + 1;
        let source = Ipv4Addr::new(127, self.network, 0, self.source);
        let Target {
            http, https, tls, ..
        } = &self.target;
        let [light, long] = &self.names;
        let request = |host| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        match kind {
            Kind::Plain | Kind::Kept => {
                Connection::plain(*http, source, &request(self.target.plain_host))
            }
            Kind::Tls => {
                let request = request(self.target.tls_host);
                Connection::tls(*https, source, &request, light.clone(), tls)
            }
            Kind::LongHandshake => {
                let request = request(self.target.long_host);
                Connection::tls(*https, source, &request, long.clone(), tls)
            }
        }
    }

    /// Goes on with a connection of which the kernel has news.
    fn advance(&mut self, index: usize) {
        let Some(Some(slot)) = self.slots.get_mut(index) else {
            return;
        };
        let Some(request) = slot.request else {
            // The server has nothing to say between two requests but that it closes.
            if !matches!(slot.connection.socket().peek(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
            {
                self.idle.retain(|other| *other != index);
                self.close(index);
            }
            return;
        };
        let again = slot.used && !slot.connection.has_begun_to_answer();
        match slot.connection.advance() {
            Ok(Progress::Waiting) => {}
            Ok(Progress::Answered(after)) => {
                let micros = request.due.elapsed().as_micros();
                self.seen.of(request.kind).answer(micros);
                if request.kind == Kind::Kept && after == After::Keep {
                    (slot.request, slot.used) = (None, true);
                    self.idle.push_back(index);
                } else {
                    self.close(index);
                }
            }
            Err(Failure::Reset | Failure::Other(_)) if again => {
                self.seen.of(request.kind).sent_again += 1;
                self.close(index);
                self.open(request);
            }
            Err(failure) => {
                self.seen.of(request.kind).fail(&failure);
                self.close(index);
            }
        }
    }

    fn close(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index).and_then(Option::take) else {
            return;
        };
        self.free.push(index);
        // Idle connections are kept ones, too.
        if slot
            .request
            .is_none_or(|request| request.kind == Kind::Kept)
        {
            self.kept -= 1;
        }
    }

    /// Ends requests that have waited too long.
    fn give_up(&mut self, now: Instant) {
        let late = self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let request = slot.as_ref()?.request?;
            let waited = now.saturating_duration_since(request.due);
            (waited > PATIENCE).then_some((index, request.kind, waited))
        });
        for (index, kind, waited) in late.collect::<Vec<_>>() {
            self.seen.of(kind).give_up(waited.as_micros());
            self.close(index);
        }
    }
}

#[cfg(test)]
mod tests;
