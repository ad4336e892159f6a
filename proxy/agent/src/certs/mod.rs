//! `tidegate certs`: how certificates stand, and what can be done about one. A process that serves is asked by its probe
//! socket.

mod facts;
mod pages;
mod shown;
mod step;
mod trial;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use http::{Method, StatusCode};
use tidegate_model::HostPattern;

use crate::cli::{CertsAction, CertsFlags, OutputFormat};
use crate::probe::{self, Answer};
use crate::{Failure, output};

pub(crate) use facts::Facts;
pub(crate) use pages::{CertsError, CertsPage, CertsPages};

/// Time for question and answer, but for a rehearsal.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time for an order at a staging directory.
const REHEARSAL: Duration = Duration::from_secs(280);
/// Longest answer: a report of some 10,000 certificates.
const LONGEST: usize = 64 << 20;

/// `tidegate certs`.
pub(crate) fn run(flags: &CertsFlags) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    runtime.block_on(async {
        match &flags.action {
            None => list(flags).await,
            Some(CertsAction::Renew { name }) => renew(&flags.socket, name).await,
            Some(CertsAction::Test(test)) => trial::run(flags, test).await,
        }
    })
}

async fn list(flags: &CertsFlags) -> Result<ExitCode, Failure> {
    let answer = ask(&flags.socket, Method::GET, "/certs", PATIENCE).await?;
    let text = done(&answer)?;
    let report: shown::Report =
        serde_json::from_str(text).context("the process answers something else than a report")?;
    match flags.output {
        OutputFormat::Json => output::print(text)?,
        OutputFormat::Text => output::print(&report.text())?,
    }
    Ok(match report.is_well() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

async fn renew(socket: &Path, name: &HostPattern) -> Result<ExitCode, Failure> {
    let page = format!("/certs/renew?name={name}");
    let answer = ask(socket, Method::POST, &page, PATIENCE).await?;
    output::print(done(&answer)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Asks the process that serves.
async fn ask(
    socket: &Path,
    method: Method,
    page: &str,
    patience: Duration,
) -> anyhow::Result<Answer> {
    let asking = probe::exchange(socket, method, page, LONGEST);
    let answer = tokio::time::timeout(patience, asking).await;
    answer
        .unwrap_or_else(|_| Err(anyhow!("no answer within {patience:?}")))
        .with_context(|| format!("asking by {}", socket.display()))
}

/// The text of an answer that says that it was done.
fn done(answer: &Answer) -> anyhow::Result<&str> {
    match answer.status {
        StatusCode::OK => Ok(&answer.text),
        _ => Err(anyhow!("{}", answer.text.trim())),
    }
}
