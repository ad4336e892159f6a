//! `tidegate serve`: an instance from its start to its drain.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tidegate_dataplane::Queued;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::app::{self, Event, Running};
use crate::cli::ServeFlags;
use crate::hand_over::Standing;
use crate::logging::LogFilter;
use crate::settings::{AfterHandOver, Settings, live};
use crate::{Failure, limits, logging, output};

/// How often a process that another one took over from looks whether its last connection has ended.
const LOOK: Duration = Duration::from_millis(20);

/// How long the sockets of a retired process stay open at least: as long as a client may be silent before it is accepted, and
/// some more. So connections that were half open at the hand-over end up here, and little is left for the kernel to move.
const SETTLE: Duration = Duration::from_millis(1500);

/// Time between the close of the listening sockets and the end at the deadline, for what was accepted last.
const LAST_MOMENT: Duration = Duration::from_millis(250);

/// Serves until a signal ends it, or another process takes over.
pub(crate) fn run(flags: &ServeFlags) -> Result<ExitCode, Failure> {
    let settings = Settings::for_serving(flags).map_err(Failure::usage)?;
    if flags.print_config {
        output::print(&settings.printed())?;
        return Ok(ExitCode::SUCCESS);
    }
    let log = logging::start(&settings.log)?;
    limits::raise_open_files();
    let code = runtime()?.block_on(serve(flags, settings, log))?;
    Ok(code)
}

/// The runtime of the main thread: signals, admin pages, hand-over, drain. Requests have their own.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the main runtime")
}

async fn serve(
    flags: &ServeFlags,
    mut settings: Settings,
    log: LogFilter,
) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let live = live::follow(flags, &settings, log);
    let (drain, after) = (live.drain.clone(), settings.after_hand_over);
    settings.live = Some(live);
    let mut running = tokio::select! {
        running = app::start(settings) => running?,
        name = signals.next() => return Ok(ended_before_serving(name)),
    };
    tokio::select! {
        entered = running.enter() => entered?,
        name = signals.next() => return Ok(ended_before_serving(name)),
    }
    announce(&running);
    let end = Life::new(drain, after)
        .run(&mut running, &mut signals)
        .await?;
    Ok(finish(running, end, &mut signals).await)
}

fn ended_before_serving(name: &str) -> ExitCode {
    info!("{name}: ends before it served; a process that serves goes on");
    ExitCode::SUCCESS
}

fn at_once(name: &str) -> ! {
    error!("{name} again: ends at once, open connections are cut");
    // Not even destructors may keep the process now.
    std::process::exit(1)
}

/// The time from the first connection to the drain.
struct Life {
    /// Time for connections to end by themselves.
    drain: watch::Receiver<Duration>,
    after: AfterHandOver,
    state: State,
    /// When connections that were half open at the hand-over have ended up somewhere.
    settled: Instant,
    /// Whether the process that has the ports keeps them, so that none is needed in reserve.
    released: bool,
}

/// Where in its life an instance is.
#[derive(Clone, Copy, Debug)]
enum State {
    Serving,
    /// A signal came while another process prepares to take over, which is waited for so that nothing is refused.
    Stopping {
        until: Instant,
    },
    /// Another process has the ports.
    Retired {
        until: Instant,
        signalled: Signalled,
    },
    /// The same, and nothing is open; waiting for a signal, in reserve.
    Reserve,
}

/// Whether a signal has asked for the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signalled {
    No,
    Yes,
}

/// How a life ends.
#[derive(Clone, Copy, Debug)]
struct End {
    /// Time for what is still open.
    left: Duration,
    /// What becomes of connections that wait at the listening sockets.
    queued: Queued,
    /// Whether the process stays until a signal.
    waits: bool,
}

impl Life {
    fn new(drain: watch::Receiver<Duration>, after: AfterHandOver) -> Self {
        Self {
            drain,
            after,
            state: State::Serving,
            settled: Instant::now(),
            released: false,
        }
    }

    async fn run(mut self, running: &mut Running, signals: &mut Signals) -> anyhow::Result<End> {
        loop {
            let end = tokio::select! {
                name = signals.next() => self.on_signal(name, running.standing()),
                event = running.event() => match event {
                    Event::Standing(standing) => self.on_standing(standing, running).await?,
                    Event::ControlEnded => {
                        return Err(anyhow!("the control plane ended, which is a bug: see the log above; restart the process"));
                    }
                },
                () = tokio::time::sleep(LOOK), if self.is_ending() => self.on_look(running),
            };
            if let Some(end) = end {
                return Ok(end);
            }
        }
    }

    fn drain(&self) -> Duration {
        *self.drain.borrow()
    }

    fn is_ending(&self) -> bool {
        matches!(self.state, State::Stopping { .. } | State::Retired { .. })
    }

    fn on_signal(&mut self, name: &'static str, standing: Standing) -> Option<End> {
        match (self.state, standing) {
            (State::Serving, Standing::Preparing) => {
                info!(
                    "{name}: another process is about to take over; it has up to {:?}",
                    self.drain()
                );
                let until = Instant::now() + self.drain();
                self.state = State::Stopping { until };
                None
            }
            (State::Serving, _) => {
                info!(
                    "{name}: not ready any more; draining for up to {:?}",
                    self.drain()
                );
                Some(End::within(self.drain()))
            }
            (
                State::Retired {
                    until,
                    signalled: Signalled::No,
                },
                _,
            ) => {
                info!("{name}: draining already, another process has the ports");
                let signalled = Signalled::Yes;
                self.state = State::Retired { until, signalled };
                None
            }
            (State::Reserve, _) => Some(End::within(self.drain())),
            (State::Stopping { .. } | State::Retired { .. }, _) => at_once(name),
        }
    }

    async fn on_standing(
        &mut self,
        standing: Standing,
        running: &mut Running,
    ) -> anyhow::Result<Option<End>> {
        match standing {
            Standing::Preparing => {}
            Standing::Alone => {
                if let State::Stopping { .. } = self.state {
                    return Ok(Some(End::within(self.drain())));
                }
                if matches!(self.state, State::Retired { .. } | State::Reserve) {
                    warn!("hand-over: takes back the ports: the process that had them has died");
                }
                running.take_back()?;
                if let State::Retired {
                    signalled: Signalled::Yes,
                    ..
                } = self.state
                {
                    return Ok(Some(End::within(self.drain())));
                }
                self.state = State::Serving;
            }
            Standing::Retired { steered } => {
                self.retire(running).await;
                if !steered {
                    // The kernel would go on to give connections to these sockets.
                    let queued = Queued::Served;
                    return Ok(Some(End {
                        queued,
                        ..self.replaced(running)
                    }));
                }
            }
            Standing::Released => {
                if !matches!(self.state, State::Retired { .. } | State::Reserve) {
                    // Two hand-overs came so soon one after the other that the first was not noticed.
                    self.retire(running).await;
                }
                self.released = true;
                return Ok(self.on_look(running));
            }
        }
        Ok(None)
    }

    async fn retire(&mut self, running: &mut Running) {
        let signalled = match self.state {
            State::Stopping { .. } => Signalled::Yes,
            _ => Signalled::No,
        };
        info!(
            "hand-over: retired; connections may last for up to {:?}",
            self.drain()
        );
        running.retire().await;
        let now = Instant::now();
        self.settled = now + SETTLE;
        let until = now + self.drain();
        self.state = State::Retired { until, signalled };
    }

    fn on_look(&mut self, running: &Running) -> Option<End> {
        let now = Instant::now();
        match self.state {
            State::Stopping { until } if now >= until => Some(End::within(self.drain())),
            State::Retired { until, .. } if now >= until => Some(self.replaced(running)),
            State::Retired { .. } if now < self.settled => None,
            State::Retired { .. } | State::Reserve if self.released => Some(self.replaced(running)),
            State::Retired { signalled, .. } if running.open_connections() == 0 => {
                if self.after == AfterHandOver::Wait && signalled == Signalled::No {
                    info!("hand-over: drained; in reserve until SIGTERM");
                    self.state = State::Reserve;
                    return None;
                }
                Some(self.replaced(running))
            }
            _ => None,
        }
    }

    /// The end of a process that another one has replaced.
    fn replaced(&self, running: &Running) -> End {
        let (left, signalled) = match self.state {
            State::Retired { until, signalled } => {
                (until.saturating_duration_since(Instant::now()), signalled)
            }
            _ => (Duration::ZERO, Signalled::No),
        };
        End {
            left: left.max(LAST_MOMENT),
            // A successor gets them whole, where here they might be cut at the deadline.
            queued: match running.migrates() {
                true => Queued::Left,
                false => Queued::Served,
            },
            waits: self.after == AfterHandOver::Wait && signalled == Signalled::No,
        }
    }
}

impl End {
    fn within(left: Duration) -> Self {
        Self {
            left,
            queued: Queued::Served,
            waits: false,
        }
    }
}

/// Drains, and stays after that if it is to.
async fn finish(mut running: Running, end: End, signals: &mut Signals) -> ExitCode {
    // A process that waits is alive, and never ready again.
    let _probe = running.take_probe();
    let _ended = running.readiness().guard("ended");
    let End {
        left,
        queued,
        mut waits,
    } = end;
    let mut draining = std::pin::pin!(drain(running, left, queued));
    loop {
        tokio::select! {
            () = &mut draining => break,
            name = signals.next() => match waits {
                true => waits = false,
                false => at_once(name),
            },
        }
    }
    if waits {
        info!("hand-over: drained; waiting for SIGTERM");
        signals.next().await;
    }
    ExitCode::SUCCESS
}

async fn drain(running: Running, deadline: Duration, queued: Queued) {
    let report = running.end(deadline, queued).await;
    match report.cut {
        0 => info!(finished = report.finished, "drained; nothing was cut"),
        cut => warn!(
            finished = report.finished,
            cut, "drained; connections were cut at the deadline"
        ),
    }
}

fn announce(running: &Running) {
    for bound in running.addresses() {
        info!(address = %bound.address, protocol = ?bound.protocol, "listening");
    }
    if let Some(address) = running.admin() {
        info!(%address, "admin pages");
    }
}

/// SIGTERM and SIGINT, which mean the same.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From here on these signals do not end the process by themselves.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one and names it.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
