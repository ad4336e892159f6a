//! Load: new connections at a fixed rate whatever becomes of them, connections that are kept, and WebSockets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tidegate::demo::client::{echo_text, websocket};
use tokio::task::JoinSet;

use super::client::{Failure, Kind, Next, Target};
use super::site::LIVE;

/// Between two bursts of new connections.
const TICK: Duration = Duration::from_millis(2);
/// Between two requests of a connection that is kept.
const PAUSE: Duration = Duration::from_millis(10);
/// Between two messages of a WebSocket.
const ECHO: Duration = Duration::from_millis(100);

/// What is sent.
#[derive(Default)]
pub(crate) struct Traffic {
    /// Targets, each with its new connections a second.
    pub(crate) new: Vec<(Target, u32)>,
    /// Targets, each with its connections that are kept.
    pub(crate) kept: Vec<(Target, usize)>,
    /// Where WebSockets are opened, and how many.
    pub(crate) websockets: Option<(SocketAddr, usize)>,
}

/// Requests of one kind and what became of them.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) answered: u64,
    pub(crate) failures: Vec<Failure>,
    /// Of the requests that were answered.
    latencies: Vec<Duration>,
}

/// A WebSocket that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) opened: Instant,
    /// The last echo.
    pub(crate) ended: Instant,
    pub(crate) echoes: u64,
    /// Why it ended; `None` when the load did.
    pub(crate) cut: Option<String>,
}

/// What a load came to.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) new: Tally,
    pub(crate) kept: Tally,
    pub(crate) websockets: Vec<Life>,
    /// WebSockets that could not be opened.
    pub(crate) unopened: Vec<String>,
    pub(crate) seconds: f64,
}

#[derive(Default)]
struct State {
    ended: AtomicBool,
    in_flight: AtomicUsize,
    report: Mutex<Report>,
}

/// A load that is being sent, by a thread of its own.
pub(crate) struct Load {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
    started: Instant,
}

impl Load {
    pub(crate) fn start(traffic: Traffic) -> Self {
        let state = Arc::new(State::default());
        let sending = state.clone();
        let thread = std::thread::Builder::new().name("load".to_owned());
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(sending.send(traffic));
        };
        Self {
            state,
            thread: Some(thread.spawn(run).unwrap()),
            started: Instant::now(),
        }
    }

    /// Connections with a request that has no answer yet.
    pub(crate) fn in_flight(&self) -> usize {
        self.state.in_flight.load(Ordering::SeqCst)
    }

    /// Requests that were answered so far.
    pub(crate) fn answered(&self) -> u64 {
        let report = self.state.report.lock().unwrap();
        report.new.answered + report.kept.answered
    }

    /// Ends it and waits for what is in flight.
    pub(crate) async fn end(mut self) -> Report {
        self.state.ended.store(true, Ordering::SeqCst);
        let thread = self.thread.take().unwrap();
        // This thread goes on meanwhile, for the backends.
        tokio::task::spawn_blocking(|| thread.join())
            .await
            .unwrap()
            .unwrap();
        let mut report = std::mem::take(&mut *self.state.report.lock().unwrap());
        report.seconds = self.started.elapsed().as_secs_f64();
        report
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
    }
}

impl State {
    fn goes_on(&self) -> bool {
        !self.ended.load(Ordering::SeqCst)
    }

    async fn send(self: Arc<Self>, traffic: Traffic) {
        let mut clients = JoinSet::new();
        for (target, per_second) in traffic.new {
            clients.spawn(self.clone().open_loop(target, per_second));
        }
        for (target, connections) in traffic.kept {
            for _ in 0..connections {
                clients.spawn(self.clone().keep_alive(target.clone()));
            }
        }
        if let Some((to, count)) = traffic.websockets {
            for _ in 0..count {
                clients.spawn(self.clone().talk(to));
            }
        }
        while let Some(client) = clients.join_next().await {
            client.unwrap();
        }
    }

    /// New connections at a rate that does not depend on their answers.
    async fn open_loop(self: Arc<Self>, target: Target, per_second: u32) {
        let mut requests = JoinSet::new();
        let started = Instant::now();
        let mut sent = 0;
        while self.goes_on() {
            let due = (started.elapsed().as_secs_f64() * f64::from(per_second)) as u64;
            for _ in sent..due {
                let (state, target) = (self.clone(), target.clone());
                requests.spawn(async move {
                    let begun = Instant::now();
                    let outcome = state.flying(target.once()).await;
                    state.count(begun, outcome, |report| &mut report.new);
                });
            }
            sent = sent.max(due);
            while requests.try_join_next().is_some() {}
            tokio::time::sleep(TICK).await;
        }
        while requests.join_next().await.is_some() {}
    }

    async fn flying<T>(&self, exchange: impl Future<Output = T>) -> T {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let outcome = exchange.await;
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        outcome
    }

    fn count<T>(
        &self,
        begun: Instant,
        outcome: Result<T, Failure>,
        tally: impl Fn(&mut Report) -> &mut Tally,
    ) {
        let mut report = self.report.lock().unwrap();
        let tally = tally(&mut report);
        match outcome {
            Ok(_) => {
                tally.answered += 1;
                tally.latencies.push(begun.elapsed());
            }
            Err(failure) => tally.failures.push(failure),
        }
    }

    /// Requests one after the other, on one connection for as long as the server keeps it.
    async fn keep_alive(self: Arc<Self>, target: Target) {
        while self.goes_on() {
            let begun = Instant::now();
            match self.flying(target.open()).await {
                Err(failure) => self.count::<()>(begun, Err(failure), |report| &mut report.kept),
                Ok(mut connection) => {
                    self.count(begun, Ok(()), |report| &mut report.kept);
                    while self.goes_on() {
                        tokio::time::sleep(PAUSE).await;
                        // A server may close what is idle.
                        if connection.is_closed() {
                            break;
                        }
                        let begun = Instant::now();
                        let outcome = self.flying(connection.request()).await;
                        let is_last = !matches!(outcome, Ok(Next::Possible));
                        self.count(begun, outcome, |report| &mut report.kept);
                        if is_last {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// Messages through one WebSocket after the other.
    async fn talk(self: Arc<Self>, to: SocketAddr) {
        while self.goes_on() {
            match websocket(to, LIVE, "/").await {
                Ok(mut socket) => {
                    let life = self.one_life(&mut socket).await;
                    self.report.lock().unwrap().websockets.push(life);
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    self.report.lock().unwrap().unopened.push(error);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn one_life(
        &self,
        socket: &mut tokio_tungstenite::WebSocketStream<tokio::net::TcpStream>,
    ) -> Life {
        let opened = Instant::now();
        let mut life = Life {
            opened,
            ended: opened,
            echoes: 0,
            cut: None,
        };
        while self.goes_on() {
            let text = format!("message {}", life.echoes);
            match echo_text(socket, &text).await {
                Ok(echo) => assert_eq!(echo, text, "another message came back"),
                Err(error) => {
                    life.cut = Some(format!("{error:#}"));
                    return life;
                }
            }
            life.echoes += 1;
            life.ended = Instant::now();
            tokio::time::sleep(ECHO).await;
        }
        life
    }
}

impl Tally {
    /// How many failed so.
    pub(crate) fn failed(&self, kind: Kind) -> usize {
        let failures = self.failures.iter();
        failures.filter(|failure| failure.kind == kind).count()
    }

    /// A time that the fraction `part` of the answers came within.
    pub(crate) fn latency(&self, part: f64) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let index = (sorted.len() as f64 * part) as usize;
        let last = sorted.len().saturating_sub(1);
        sorted.get(index.min(last)).copied().unwrap_or_default()
    }

    /// Failures by what they were, for people.
    pub(crate) fn kinds(&self) -> String {
        let mut kinds = BTreeMap::<_, u64>::new();
        for failure in &self.failures {
            *kinds.entry((failure.kind, &failure.what)).or_default() += 1;
        }
        format!("{kinds:?}")
    }
}

impl Report {
    /// Requests of new and kept connections that failed so.
    pub(crate) fn failed(&self, kind: Kind) -> usize {
        self.new.failed(kind) + self.kept.failed(kind)
    }

    /// Prints what it came to as figures of `name`.
    pub(crate) fn print(&self, name: &str) {
        let rate = self.new.answered as f64 / self.seconds;
        println!(
            "figure: {name}, new connections = {} connections",
            self.new.answered
        );
        println!("figure: {name}, new connections a second = {rate:.0} connections/s");
        println!(
            "figure: {name}, p99 of new connections = {:.1} ms",
            milliseconds(self.new.latency(0.99))
        );
        println!(
            "figure: {name}, requests on kept connections = {} requests",
            self.kept.answered
        );
        for (kind, word) in [
            (Kind::Refused, "refused"),
            (Kind::Reset, "reset"),
            (Kind::Other, "failed otherwise"),
        ] {
            println!("figure: {name}, {word} = {} requests", self.failed(kind));
        }
        let echoes: u64 = self.websockets.iter().map(|life| life.echoes).sum();
        println!("figure: {name}, WebSocket echoes = {echoes} messages");
    }

    /// Fails unless every request was answered.
    pub(crate) fn assert_nothing_failed(&self) {
        assert!(
            self.new.failures.is_empty() && self.kept.failures.is_empty(),
            "new connections: {}\nkept connections: {}",
            self.new.kinds(),
            self.kept.kinds()
        );
        assert!(self.unopened.is_empty(), "WebSockets: {:?}", self.unopened);
    }
}

/// For figures.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
