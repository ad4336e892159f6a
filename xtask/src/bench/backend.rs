//! The backend behind every proxy: a small C program, so that its cost hardly counts.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process;

/// Where the proxies that are compared look for it.
pub(super) const PORT: u16 = 9000;

/// Where it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cpu {
    /// On CPU 1, away from the proxy.
    Second,
    /// Wherever the kernel puts it.
    Any,
}

/// The running backend; it is ended when this is dropped.
#[derive(Debug)]
pub(super) struct Backend(Child);

impl Backend {
    /// Compiles it into the folder and runs it.
    pub(super) fn start(folder: &Path, port: u16, cpu: Cpu) -> Result<Self> {
        ensure_free(port)?;
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench-assets/backend.c");
        let program = folder.join("backend");
        process::output(
            Command::new("cc")
                .args(["-O2", "-Wall", "-o"])
                .arg(&program)
                .arg(source),
        )?;
        let mut command = match cpu {
            Cpu::Any => Command::new(&program),
            Cpu::Second => {
                let mut taskset = Command::new("taskset");
                taskset.args(["-c", "1"]).arg(&program);
                taskset
            }
        };
        let child = command
            .arg(port.to_string())
            .spawn()
            .context("cannot start the backend")?;
        let backend = Self(child);
        let deadline = Instant::now() + Duration::from_secs(5);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > deadline {
                bail!("the backend does not listen on 127.0.0.1:{port}");
            }
            sleep(Duration::from_millis(20));
        }
        Ok(backend)
    }
}

/// Fails while something listens on the port, whose answers would be taken for those of the program to come.
pub(super) fn ensure_free(port: u16) -> Result<()> {
    let free = TcpStream::connect(("127.0.0.1", port)).is_err();
    ensure!(
        free,
        "port {port} is in use on 127.0.0.1; end the program that listens there"
    );
    Ok(())
}

impl Drop for Backend {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}
