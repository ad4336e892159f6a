//! Load: new connections at a fixed rate whatever becomes of them, connections that are kept, and WebSockets.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use tidegate::demo::client::{echo_text, websocket};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;

use super::client::{Failure, Next, Target};
use super::process::Process;
use super::report::{Death, Life, Report, Tally};
use super::site::LIVE;

/// Between two bursts of new connections.
const TICK: Duration = Duration::from_millis(2);
/// Between two requests of a connection that is kept.
const PAUSE: Duration = Duration::from_millis(10);
/// How long the machine's capacity is measured, and by how many clients.
const MEASURING: Duration = Duration::from_secs(1);
const CLIENTS: usize = 16;
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

#[derive(Default)]
struct State {
    ended: AtomicBool,
    in_flight: AtomicUsize,
    report: Mutex<Report>,
}

/// New connections a second that the machine bears just now, each client opening one after the other, over all targets.
pub(crate) async fn capacity(targets: &[Target]) -> u32 {
    let until = Instant::now() + MEASURING;
    let clients = (0..CLIENTS).zip(targets.iter().cycle().cloned());
    let mut counts = JoinSet::new();
    for (_, target) in clients {
        counts.spawn(async move {
            let mut count = 0;
            while Instant::now() < until {
                target.once().await.unwrap();
                count += 1;
            }
            count
        });
    }
    let connections: u32 = counts.join_all().await.into_iter().sum();
    (f64::from(connections) / MEASURING.as_secs_f64()) as u32
}

/// A load that is being sent, by a thread of its own.
pub(crate) struct Load {
    state: Arc<State>,
    /// New connections a second.
    rate: usize,
    kept: usize,
    thread: Option<JoinHandle<()>>,
    started: Instant,
}

impl Load {
    pub(crate) fn start(traffic: Traffic) -> Self {
        let rates = traffic.new.iter().map(|(_, rate)| *rate as usize);
        let (rate, kept) = (
            rates.sum(),
            traffic.kept.iter().map(|(_, count)| *count).sum(),
        );
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
            rate,
            kept,
            thread: Some(thread.spawn(run).unwrap()),
            started: Instant::now(),
        }
    }

    /// Kills the process that new connections go to.
    pub(crate) fn kill(&self, process: &mut Process) -> Death {
        let in_flight = self.state.in_flight.load(Ordering::SeqCst);
        let at = Instant::now();
        process.kill();
        // Those that began while it was being killed count as well.
        let begun = (self.rate as f64 * at.elapsed().as_secs_f64()).ceil() as usize;
        Death {
            at,
            open: in_flight + begun + self.kept,
        }
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
            let begun = SystemTime::now();
            match websocket(to, LIVE, "/").await {
                Ok(mut socket) => {
                    let life = self.one_life(begun, &mut socket).await;
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

    async fn one_life(&self, begun: SystemTime, socket: &mut WebSocketStream<TcpStream>) -> Life {
        let mut echoes = 0;
        let mut cut = None;
        while self.goes_on() && cut.is_none() {
            let text = format!("message {echoes}");
            match echo_text(socket, &text).await {
                Ok(echo) => {
                    assert_eq!(echo, text, "another message came back");
                    echoes += 1;
                    tokio::time::sleep(ECHO).await;
                }
                Err(error) => cut = Some(format!("{error:#}")),
            }
        }
        Life {
            begun,
            ended: SystemTime::now(),
            echoes,
            cut,
        }
    }
}
