//! A proxy at work, and what it takes from the machine.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::backend;
use super::peers::{Peer, Site};

/// The unit of times in `/proc/PID/stat` (USER_HZ), fixed by the kernel's interface on every machine that Tidegate runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// How long a proxy may take to answer for the first time.
const START: Duration = Duration::from_secs(30);

/// How often a started program is looked at.
const POLL: Duration = Duration::from_millis(2);

/// A started proxy; it is ended when this is dropped.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    /// Whether it was seen to end, so that its number may be another's by now.
    is_over: bool,
}

impl Running {
    /// Starts a proxy and waits until it passes requests on, in plain text and over TLS.
    pub(super) fn start(peer: Peer, site: &Site) -> Result<Self> {
        for port in [8080, 8443] {
            backend::ensure_free(port)?;
        }
        let urls = ["http://127.0.0.1:8080/", "https://127.0.0.1:8443/"];
        let all_answer = || urls.iter().all(|url| answers(url));
        let mut command = site.command(peer)?;
        Self::spawn(peer.name(), &mut command, site.folder(), START, all_answer)
    }

    /// Starts a program, with what it prints in files of the folder, and waits until it is ready.
    pub(super) fn spawn(
        name: &str,
        command: &mut Command,
        folder: &Path,
        longest: Duration,
        ready: impl Fn() -> bool,
    ) -> Result<Self> {
        // Not beside the manifests: Tidegate follows their folder, and would hear of every line of its own log.
        let output = folder.join("output");
        fs::create_dir_all(&output)?;
        let log = output.join(format!("{name}.log"));
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(output.join(format!("{name}.out")))?)
            .stderr(File::create(&log)?)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let mut running = Self {
            child,
            is_over: false,
        };
        running.wait_until(longest, ready).with_context(|| {
            let said = fs::read_to_string(&log).unwrap_or_default();
            format!("{name} does not serve; it said: {}", said.trim())
        })?;
        Ok(running)
    }

    fn wait_until(&mut self, longest: Duration, ready: impl Fn() -> bool) -> Result<()> {
        let deadline = Instant::now() + longest;
        while !ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended ({status})");
            }
            if Instant::now() > deadline {
                bail!("it was not ready within {} s", longest.as_secs());
            }
            sleep(POLL);
        }
        Ok(())
    }

    /// Waits until it has ended by itself, and nothing is left to be ended.
    pub(super) fn wait_for_end(mut self, longest: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + longest;
        loop {
            if let Some(status) = self.child.try_wait()? {
                self.is_over = true;
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("it did not end within {} s", longest.as_secs());
            }
            sleep(POLL);
        }
    }

    /// User and system time of all its processes so far, in seconds.
    pub(super) fn cpu_seconds(&self) -> f64 {
        let ticks = self.processes().into_iter().filter_map(|process| {
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
            ticks(&stat)
        });
        ticks.sum::<u64>() as f64 / TICKS_PER_SECOND
    }

    /// Resident memory of all its processes, in MiB.
    pub(super) fn resident_mib(&self) -> f64 {
        self.resident_kib() as f64 / 1024.0
    }

    /// Resident memory of all its processes, in KiB, as the kernel counts it.
    pub(super) fn resident_kib(&self) -> u64 {
        let kib = self.processes().into_iter().filter_map(|process| {
            let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        });
        kib.sum()
    }

    /// The started process and all that come from it.
    fn processes(&self) -> Vec<u32> {
        let mut found = vec![self.child.id()];
        let mut next = 0;
        while let Some(&process) = found.get(next) {
            let threads = fs::read_dir(format!("/proc/{process}/task"));
            for thread in threads.into_iter().flatten().flatten() {
                let children =
                    fs::read_to_string(thread.path().join("children")).unwrap_or_default();
                found.extend(
                    children
                        .split_whitespace()
                        .filter_map(|id| id.parse::<u32>().ok()),
                );
            }
            next += 1;
        }
        found
    }

    fn signal(&self, name: &str) {
        let group = format!("-{}", self.child.id());
        _ = Command::new("kill")
            .args(["-s", name, "--", &group])
            .status();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        self.signal("TERM");
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            sleep(Duration::from_millis(50));
        }
        self.signal("KILL");
        _ = self.child.wait();
    }
}

/// User and system time of a process from its `/proc/PID/stat`. The name before the last parenthesis may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let times = fields.split_whitespace().skip(11).take(2);
    times.map(|time| time.parse::<u64>().ok()).sum()
}

fn answers(url: &str) -> bool {
    let mut curl = Command::new("curl");
    curl.args(["-s", "-k", "-f", "-m", "2", "-o", "/dev/null", url]);
    curl.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stand_behind_a_name_with_blanks() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 99 0 0 0 250 40 0 0 20 0 1 0 1000\n";
        assert_eq!(ticks(stat), Some(290));
        assert_eq!(ticks("nonsense"), None);
    }
}
