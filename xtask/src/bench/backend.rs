//! The backend behind every proxy: a small C program, so that its cost hardly counts.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process;

const PORT: u16 = 9000;

/// The running backend; it is ended when this is dropped.
#[derive(Debug)]
pub(super) struct Backend(Child);

impl Backend {
    /// Compiles it into the folder and runs it on CPU 1.
    pub(super) fn start(folder: &Path) -> Result<Self> {
        for port in [PORT, 8080, 8443] {
            let free = TcpStream::connect(("127.0.0.1", port)).is_err();
            ensure!(
                free,
                "port {port} is in use on 127.0.0.1; end the program that listens there"
            );
        }
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench-assets/backend.c");
        let program = folder.join("backend");
        process::output(
            Command::new("cc")
                .args(["-O2", "-Wall", "-o"])
                .arg(&program)
                .arg(source),
        )?;
        let child = Command::new("taskset")
            .args(["-c", "1"])
            .arg(&program)
            .arg(PORT.to_string())
            .spawn()
            .context("cannot start the backend")?;
        let backend = Self(child);
        let deadline = Instant::now() + Duration::from_secs(5);
        while TcpStream::connect(("127.0.0.1", PORT)).is_err() {
            if Instant::now() > deadline {
                bail!("the backend does not listen on 127.0.0.1:{PORT}");
            }
            sleep(Duration::from_millis(20));
        }
        Ok(backend)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}
