//! The program as child processes with logs.
#![allow(
    unsafe_code,
    reason = "what a child does before its program starts has no safe interface"
)]

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

/// Longest wait for anything that is expected to happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The program under test: another one than cargo's where the tests run on another kernel.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("TIDEGATE_PROGRAM")
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_tidegate").into())
        .into()
}

/// A program without the settings of the environment, which dies with the test.
pub(crate) fn command(program: impl Into<OsString>) -> Command {
    let mut command = Command::new(program.into());
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("TIDEGATE_") || name_text == "KUBERNETES_SERVICE_HOST" {
            command.env_remove(&name);
        }
    }
    // SAFETY: one system call, which allocates nothing.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
    command
}

/// Waits for a condition.
pub(crate) async fn eventually(
    what: &str,
    mut condition: impl AsyncFnMut() -> bool,
    detail: impl Fn() -> String,
) {
    let start = Instant::now();
    while !condition().await {
        assert!(
            start.elapsed() < DEADLINE,
            "not so in time: {what}\n{}",
            detail()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A running process; killed when dropped.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Process {
    /// Starts a command and keeps what it logs.
    pub(crate) fn start(name: impl Into<String>, mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let log = Arc::new(Mutex::new(String::new()));
        let (lines, to) = (BufReader::new(child.stderr.take().unwrap()), log.clone());
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let mut log = to.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self {
            name: name.into(),
            child,
            log,
        }
    }

    /// What it has logged, under its name.
    pub(crate) fn log(&self) -> String {
        format!("log of {}:\n{}", self.name, self.log.lock().unwrap())
    }

    /// Whether it has logged something.
    pub(crate) fn has_logged(&self, text: &str) -> bool {
        self.log.lock().unwrap().contains(text)
    }

    /// The time by the system's clock, in seconds since midnight, at which it first logged something.
    pub(crate) fn logged_at(&self, text: &str) -> f64 {
        let log = self.log.lock().unwrap();
        let line = log.lines().find(|line| line.contains(text));
        let line = line.unwrap_or_else(|| panic!("it has not logged {text:?}\n{log}"));
        // As in 2026-03-01T12:34:56.789012Z.
        let clock = line.split(['T', 'Z']).nth(1).unwrap_or_default();
        let parts = clock.split(':').map(|part| part.parse::<f64>().unwrap());
        parts.fold(0.0, |seconds, part| seconds * 60.0 + part)
    }

    /// Waits until it has logged something; fails when it ends before.
    pub(crate) async fn logs(&mut self, text: &str) {
        let start = Instant::now();
        while !self.has_logged(text) {
            let ended = self.child.try_wait().unwrap();
            // What it said last may come a little later.
            if let Some(status) = ended
                && start.elapsed() > Duration::from_secs(1)
            {
                assert!(
                    self.has_logged(text),
                    "it ended with {status} before it logged {text:?}\n{}",
                    self.log()
                );
            }
            assert!(
                start.elapsed() < DEADLINE,
                "it has not logged {text:?}\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok();
        kill_process(id.and_then(Pid::from_raw).unwrap(), signal).unwrap();
    }

    /// Whether it has not ended.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < DEADLINE, "it runs on\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits for its end with exit code 0.
    pub(crate) async fn ended_well(&mut self) {
        let status = self.ended().await;
        // What it said last may come a little later.
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(status.code(), Some(0), "{status}\n{}", self.log());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
        if std::thread::panicking() {
            println!("{}", self.log());
        }
    }
}
