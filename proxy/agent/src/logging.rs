//! Logs: on standard error, as text or as JSON.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::settings::{LogFormat, LogSettings};

/// Parses filter directives such as `info` or `warn,tidegate_dataplane=debug`.
pub(crate) fn filter(directives: &str) -> Result<String, String> {
    EnvFilter::builder().parse(directives).map_err(|error| {
        format!("{error}; write a level (error, warn, info, debug, trace), or `module=level` separated by commas")
    })?;
    Ok(directives.to_owned())
}

/// Starts logging for the whole process.
pub(crate) fn start(settings: &LogSettings) -> anyhow::Result<()> {
    let filter = EnvFilter::builder()
        .parse(&settings.level)
        .context("log level")?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match settings.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
}
