//! Logs: on standard error, as text or as JSON.

use std::fmt;
use std::io::IsTerminal;
use std::sync::Arc;

use anyhow::Context;
use tracing_subscriber::{EnvFilter, reload};

use crate::settings::{LogFormat, LogSettings};

/// Parses filter directives such as `info` or `warn,tidegate_dataplane=debug`.
pub(crate) fn filter(directives: &str) -> Result<String, String> {
    EnvFilter::builder().parse(directives).map_err(|error| {
        format!("{error}; write a level (error, warn, info, debug, trace), or `module=level` separated by commas")
    })?;
    Ok(directives.to_owned())
}

/// The directives behind one for the Kubernetes client, which logs every refused connection, where we log a state once. What
/// is written about it goes before that.
fn with_quiet(directives: &str) -> String {
    match directives.contains("kube_client") {
        true => directives.to_owned(),
        false => format!("{directives},kube_client=off"),
    }
}

/// What is logged by the process, to be changed while it runs.
#[derive(Clone)]
pub(crate) struct LogFilter(Arc<Reload>);

type Reload = dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync;

impl LogFilter {
    /// From here on, what these directives say is logged.
    pub(crate) fn set(&self, directives: &str) -> anyhow::Result<()> {
        let filter = EnvFilter::builder().parse(with_quiet(directives))?;
        Ok(self.0(filter)?)
    }

    /// Of no log at all.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self(Arc::new(|_| Ok(())))
    }
}

impl fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogFilter")
    }
}

/// Starts logging for the whole process.
pub(crate) fn start(settings: &LogSettings) -> anyhow::Result<LogFilter> {
    let filter = EnvFilter::builder()
        .parse(with_quiet(&settings.level))
        .context("log level")?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let (changes, started) = match settings.format {
        LogFormat::Text => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            let changes: Arc<Reload> = Arc::new(move |filter| handle.reload(filter));
            (changes, builder.try_init())
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_filter_reloading();
            let handle = builder.reload_handle();
            let changes: Arc<Reload> = Arc::new(move |filter| handle.reload(filter));
            (changes, builder.try_init())
        }
    };
    started.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))?;
    Ok(LogFilter(changes))
}
