//! Running a guest and keeping what it says.

use std::io::{self, BufRead, BufReader, PipeReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::guest::Guest;
use super::outcome;

/// A guest that is not done by then hangs.
pub(super) const LONGEST: Duration = Duration::from_secs(300);

/// What a guest said until it turned itself off or was ended.
#[derive(Debug)]
pub(super) struct Console {
    pub(super) text: String,
    /// From the start of the emulation to the guest's first own line; `None` if it did not get there.
    pub(super) booted: Option<Duration>,
    pub(super) took: Duration,
    /// Whether it was ended because it took too long.
    pub(super) hung: bool,
}

/// Runs a guest to its end.
pub(super) fn run(guest: Guest, kernel: &Path, image: &Path) -> Result<Console> {
    let started = Instant::now();
    let (reader, writer) = io::pipe()?;
    let append = format!(
        "console={} quiet panic=-1 rdinit=/init",
        guest.architecture.console()
    );
    let mut qemu = guest.architecture.qemu();
    qemu.arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(image)
        .args(["-append", &append])
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let mut child = qemu.spawn().context("cannot run QEMU")?;
    // With it goes our end of the pipe, so that reading ends when QEMU does.
    drop(qemu);
    let listener = spawn(move || listen(reader, started));
    let hung = !ended_within(&mut child, LONGEST)?;
    let (text, booted) = listener.join().unwrap_or_else(|_| (String::new(), None));
    Ok(Console {
        text,
        booted,
        took: started.elapsed(),
        hung,
    })
}

fn listen(reader: PipeReader, started: Instant) -> (String, Option<Duration>) {
    let (mut text, mut booted) = (String::new(), None);
    for line in BufReader::new(reader)
        .split(b'\n')
        .map_while(io::Result::ok)
    {
        // Firmware clears the screen; ours is to stay as it is.
        let line = String::from_utf8_lossy(&line).replace(|letter: char| letter.is_control(), "");
        if outcome::is_up(&line) {
            booted.get_or_insert(started.elapsed());
        }
        text.push_str(&line);
        text.push('\n');
    }
    (text, booted)
}

/// Whether the child ended by itself in this time; else it is ended.
fn ended_within(child: &mut Child, time: Duration) -> Result<bool> {
    let deadline = Instant::now() + time;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Ok(false);
        }
        sleep(Duration::from_millis(50));
    }
    Ok(true)
}
