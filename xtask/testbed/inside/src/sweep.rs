//! Taking a testbed down from outside: whatever became of the process that made it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::MARK;

/// How long processes may take to go once they are killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What becomes of the testbed's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folder {
    /// It goes.
    Remove,
    /// It stays, to be looked at.
    Keep,
}

/// Ends the processes of a testbed, and with them their namespaces and mounts; removes its network interfaces and its
/// folder. What is not there any more is no error: this can be done twice.
///
/// # Errors
/// Names what could not be removed; the rest is removed.
pub fn sweep(testbed: &str, folder: &Path, fate: Folder) -> Result<(), String> {
    let mut left = Vec::new();
    if !end_processes(testbed) {
        left.push(format!("processes with {MARK}={testbed}"));
    }
    remove_interfaces(testbed);
    let interfaces = interfaces(testbed);
    if !interfaces.is_empty() {
        left.push(format!("network interfaces {}", interfaces.join(", ")));
    }
    if fate == Folder::Remove
        && let Err(error) = fs::remove_dir_all(folder)
        && folder.exists()
    {
        left.push(format!("the folder {} ({error})", folder.display()));
    }
    match left.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "testbed {testbed} could not be removed as a whole; left: {}",
            left.join("; ")
        )),
    }
}

/// The processes of a testbed, this one left out.
pub fn processes(testbed: &str) -> Vec<u32> {
    let mark = format!("{MARK}={testbed}");
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter_map(|entry| {
        let process: u32 = entry.file_name().to_str()?.parse().ok()?;
        let environment = fs::read(entry.path().join("environ")).ok()?;
        let mut variables = environment.split(|byte| *byte == 0);
        (process != std::process::id() && variables.any(|variable| variable == mark.as_bytes()))
            .then_some(process)
    });
    processes.collect()
}

/// The network interfaces of a testbed in this network namespace: its bridge and the ports of that.
pub fn interfaces(testbed: &str) -> Vec<String> {
    let port = format!("{testbed}-");
    let entries = fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name == testbed || name.starts_with(&port))
        .collect()
}

fn end_processes(testbed: &str) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = processes(testbed);
        if found.is_empty() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        for process in found {
            if let Some(process) = i32::try_from(process).ok().and_then(Pid::from_raw) {
                // One that has just ended is what is wanted.
                _ = kill_process(process, Signal::KILL);
            }
        }
        sleep(Duration::from_millis(10));
    }
}

/// The other ends of the ports went with their namespaces, or are about to.
fn remove_interfaces(testbed: &str) {
    for name in interfaces(testbed) {
        let mut ip = Command::new("ip");
        ip.args(["link", "delete", &name]);
        // It may go by itself at the same moment. What stays is found afterwards.
        _ = ip.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}
