//! A program that is run: `PROGRAM ARGS... present|cleanup FQDN VALUE`.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;

use super::{Provider, ProviderError, Receipt, TxtRecord};
use crate::http::excerpt;

/// How long a run may take.
const LONGEST: Duration = Duration::from_secs(60);
/// How much of each output is kept for the error.
const KEPT: u64 = 4096;

/// A program.
pub(super) struct Exec {
    program: String,
    arguments: Vec<String>,
    longest: Duration,
}

impl Exec {
    /// # Errors
    /// No program is named.
    pub(super) fn new(command: &[String]) -> Result<Self, String> {
        match command.split_first() {
            Some((program, arguments)) if !program.is_empty() => Ok(Self {
                program: program.clone(),
                arguments: arguments.to_vec(),
                longest: LONGEST,
            }),
            _ => Err("exec.command is empty; name a program, and its arguments if any".to_owned()),
        }
    }

    async fn run(&self, action: &str, record: &TxtRecord) -> Result<(), ProviderError> {
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .args([action, &record.name.to_string(), &record.value])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                ProviderError::Refused(format!(
                    "cannot run {}: {error}; correct exec.command",
                    self.program
                ))
            })?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let run = async { tokio::join!(child.wait(), beginning(out), beginning(err)) };
        let Ok((status, out, err)) = timeout(self.longest, run).await else {
            return Err(ProviderError::Unavailable(format!(
                "{} {action} was ended after {} s",
                self.program,
                self.longest.as_secs()
            )));
        };
        let status = status.map_err(|error| {
            ProviderError::Unavailable(format!("{} {action}: {error}", self.program))
        })?;
        self.outcome(action, status, &[err, out].concat())
    }

    fn outcome(
        &self,
        action: &str,
        status: ExitStatus,
        output: &[u8],
    ) -> Result<(), ProviderError> {
        if status.success() {
            return Ok(());
        }
        let said = match excerpt(output) {
            text if text.is_empty() => "it wrote nothing".to_owned(),
            text => format!("it wrote: {text}"),
        };
        Err(ProviderError::Unavailable(format!(
            "{} {action} ended with {status}; {said}",
            self.program
        )))
    }
}

impl Provider for Exec {
    fn name(&self) -> &'static str {
        "exec"
    }

    fn present<'a>(
        &'a self,
        record: &'a TxtRecord,
    ) -> BoxFuture<'a, Result<Receipt, ProviderError>> {
        async move {
            self.run("present", record).await?;
            Ok(Receipt::default())
        }
        .boxed()
    }

    fn cleanup<'a>(&'a self, record: &'a TxtRecord) -> BoxFuture<'a, Result<(), ProviderError>> {
        self.run("cleanup", record).boxed()
    }
}

/// The beginning of what is written; the rest is read and dropped, so that the program is not held up.
async fn beginning(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(stream) = stream else {
        return kept;
    };
    let mut stream = stream.take(KEPT);
    // A pipe that breaks has said all that it will.
    let _ = stream.read_to_end(&mut kept).await;
    let _ = tokio::io::copy(&mut stream.into_inner(), &mut tokio::io::sink()).await;
    kept
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::Name;

    use super::*;

    fn shell(script: &str) -> Exec {
        let command = ["sh", "-c", script, "test"].map(str::to_owned);
        let mut exec = Exec::new(&command).unwrap();
        exec.longest = Duration::from_millis(1500);
        exec
    }

    fn record() -> TxtRecord {
        TxtRecord {
            name: Name::from_ascii("_acme-challenge.example.com.").unwrap(),
            zone: Name::from_ascii("example.com.").unwrap(),
            value: "--value; $(x)".to_owned(),
        }
    }

    #[tokio::test]
    async fn it_gets_action_name_and_value() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let exec = shell(&format!(
            "echo \"$1|$2|$3\" >> {}; head -c 1000000 /dev/zero",
            log.display()
        ));
        exec.present(&record()).await.unwrap();
        exec.cleanup(&record()).await.unwrap();
        let log = std::fs::read_to_string(log).unwrap();
        assert_eq!(
            log,
            "present|_acme-challenge.example.com.|--value; $(x)\n\
             cleanup|_acme-challenge.example.com.|--value; $(x)\n"
        );
    }

    #[tokio::test]
    async fn its_output_is_in_the_error() {
        let exec = shell("echo busy; echo 'no such zone' >&2; exit 3");
        let error = exec.present(&record()).await.unwrap_err().to_string();
        assert!(
            error.contains("sh present")
                && error.contains("3")
                && error.contains("no such zone busy"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn it_is_ended_when_it_takes_too_long() {
        let exec = shell("exec sleep 60");
        let error = exec.cleanup(&record()).await.unwrap_err().to_string();
        assert!(error.contains("ended after"), "{error}");
    }

    #[tokio::test]
    async fn it_has_to_exist() {
        let command = ["/nonexistent/program".to_owned()];
        let exec = Exec::new(&command).unwrap();
        let error = exec.present(&record()).await.unwrap_err();
        assert!(matches!(error, ProviderError::Refused(_)), "{error}");
        assert!(Exec::new(&[]).is_err());
    }
}
