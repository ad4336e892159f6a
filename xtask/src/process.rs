//! Running other programs, and the ports that they are to have.

use std::env;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use tidegate_testbed::run::line;
pub(crate) use tidegate_testbed::run::{exists, output};

use crate::terminal::say;

/// What a program that was shown at work left behind.
#[derive(Debug)]
pub(crate) struct Shown {
    /// Whether it ended with status 0.
    pub(crate) success: bool,
    /// Its standard output, which was passed on as well.
    pub(crate) output: String,
}

/// The cargo that runs us, in the workspace's folder.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(crate::root());
    command
}

/// Names the Tidegate that a command starts, so that it takes over from no other one. Those that know no names do not
/// look at it.
pub(crate) fn as_own_instance(command: &mut Command) {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let counter = COUNTER.fetch_add(1, Ordering::Relaxed);
    let name = format!("xtask-{}-{counter}", std::process::id());
    command.env("TIDEGATE_INSTANCE", name);
}

/// Runs a program and passes its output on while it comes.
pub(crate) fn show(command: &mut Command) -> Result<Shown> {
    say(format_args!("$ {}", line(command)));
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", line(command)))?;
    let mut output = String::new();
    if let Some(stdout) = child.stdout.take() {
        let mut reader = BufReader::new(stdout);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes)? > 0 {
            let text = String::from_utf8_lossy(&bytes);
            say(text.trim_end_matches('\n'));
            output.push_str(&text);
            bytes.clear();
        }
    }
    let success = child.wait()?.success();
    Ok(Shown { success, output })
}

/// A port of this machine that nothing listens on.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}
