//! `tidegate serve`: an instance from its start to its drain.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use crate::app::{self, Running};
use crate::cli::ServeFlags;
use crate::settings::Settings;
use crate::{Failure, limits, logging};

/// Serves until a signal ends it.
pub(crate) fn run(flags: ServeFlags) -> Result<ExitCode, Failure> {
    let settings = Settings::for_serving(flags).map_err(Failure::usage)?;
    logging::start(&settings.log)?;
    limits::raise_open_files();
    let code = runtime()?.block_on(serve(settings))?;
    Ok(code)
}

/// The runtime of the main thread: signals, admin pages, drain. Requests have their own.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the main runtime")
}

async fn serve(settings: Settings) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let drain = settings.drain;
    let mut running = app::start(settings)?;
    announce(&running);
    tokio::select! {
        name = signals.next() => info!("{name}: not ready any more; draining for up to {drain:?}"),
        () = running.control_ended() => {
            return Err(anyhow!("the control plane ended, which is a bug: see the log above; restart the process"));
        }
    }
    tokio::select! {
        code = finish(running, drain) => Ok(code),
        name = signals.next() => {
            error!("{name} again: ends at once, open connections are cut");
            // Not even destructors may keep the process now.
            std::process::exit(1)
        }
    }
}

async fn finish(running: Running, deadline: Duration) -> ExitCode {
    let report = running.drain(deadline).await;
    match report.cut {
        0 => info!(finished = report.finished, "drained; nothing was cut"),
        cut => warn!(
            finished = report.finished,
            cut, "drained; connections were cut at the deadline"
        ),
    }
    ExitCode::SUCCESS
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
