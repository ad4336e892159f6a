//! moto, which answers as the APIs of AWS do, from its memory. Python's pip installs it once, with pinned versions, into a
//! folder beside the programs that Go builds.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::programs::{announce, caches, checksum};
use crate::run;

const REQUIREMENTS: &str = include_str!("../moto/requirements.txt");
/// How long it may take to be ready.
const START: Duration = Duration::from_secs(60);

/// A running moto. It ends when this is dropped, or the process that started it ends.
#[derive(Debug)]
pub struct Moto {
    address: SocketAddr,
    process: Child,
    _folder: tempfile::TempDir,
}

impl Moto {
    /// Starts one on a free port, installed first when it is not there yet.
    ///
    /// # Errors
    /// Python or its venv is missing, or it does not start; the message shows what it said last.
    pub fn start() -> Result<Self> {
        let program = ensure()?;
        let folder = tempfile::TempDir::with_prefix("tidegate-moto-")?;
        let log = folder.path().join("moto.log");
        let output = File::create(&log)?;
        // Another may take the port before moto does; then it ends, and says so.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(program)
            .args(["-H", &address.ip().to_string()])
            .args(["-p", &address.port().to_string()])
            .stdin(Stdio::null())
            .stderr(output.try_clone()?)
            .stdout(output);
        let process = command
            .spawn()
            .with_context(|| format!("cannot run {}", run::line(&command)))?;
        let mut moto = Self {
            address,
            process,
            _folder: folder,
        };
        moto.wait(&log)?;
        Ok(moto)
    }

    /// URL of the APIs.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    fn wait(&mut self, log: &Path) -> Result<()> {
        let start = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            let has_ended = self.process.try_wait()?.is_some();
            if has_ended || start.elapsed() > START {
                let said = fs::read_to_string(log).unwrap_or_default();
                bail!("moto is not ready after {:?}: {said}", start.elapsed());
            }
            sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // One that has ended by itself has no more to be ended.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// Installs moto when it is not there yet, and returns its program. Several processes may do so at once: one installs, the
/// others wait.
///
/// # Errors
/// Python is missing, or pip fails; the message says what to install.
pub fn ensure() -> Result<PathBuf> {
    let (folder, program) = place()?;
    if program.is_file() {
        return Ok(program);
    }
    let caches = caches()?;
    fs::create_dir_all(&caches).with_context(|| format!("cannot make {}", caches.display()))?;
    let lock = File::create(caches.join("moto.lock"))?;
    lock.lock()
        .context("cannot lock the folder of built programs")?;
    if !program.is_file() {
        install(&folder)?;
    }
    Ok(program)
}

/// Whether it is installed.
pub fn is_there() -> bool {
    place().is_ok_and(|(_, program)| program.is_file())
}

/// Its folder and its program, which is made last.
fn place() -> Result<(PathBuf, PathBuf)> {
    let folder = caches()?.join(format!("moto-{}", checksum(&[REQUIREMENTS])));
    let program = folder.join("bin/moto_server.whole");
    Ok((folder, program))
}

fn install(folder: &Path) -> Result<()> {
    announce("testbed: installing moto, once; this takes half a minute");
    let mut venv = Command::new("python3");
    let made = run::output(venv.args(["-m", "venv", "--clear"]).arg(folder));
    made.context("cannot make a virtual environment of Python: install the packages `python3` and `python3-venv`")?;
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS)?;
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--no-input", "-r"]);
    run::output(pip.arg(&requirements))?;
    // Scripts of a virtual environment name its folder, so it cannot be moved into place; its program is, instead.
    let script = folder.join("bin/moto_server");
    fs::rename(&script, folder.join("bin/moto_server.whole"))
        .with_context(|| format!("pip installed no {}", script.display()))
}
