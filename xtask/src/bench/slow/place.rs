//! Tidegate with its manifests, and the backends behind it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use tempfile::TempDir;

use super::super::backend::{Backend, Cpu};
use super::super::client;
use super::super::objects::objects;
use super::super::running::Running;
use super::backends::{Behaviour, Stubborn};
use super::{ANSWER_DEADLINE, HEAD_DEADLINE, IDLE_DEADLINE, LINGER};
use crate::process::{self, free_port};

/// The backend of `bench-assets`, which answers as it should.
pub(super) const GOOD_HOST: &str = "good.test";
/// Another one of the kind, which sends what stalled readers ask for, so that good clients do not wait for that in a backend.
pub(super) const MUCH_HOST: &str = "much.test";
/// Never reads.
pub(super) const DEAF_HOST: &str = "deaf.test";
/// Answers before it reads.
pub(super) const HASTY_HOST: &str = "hasty.test";

/// How long Tidegate may take to be ready.
const START: Duration = Duration::from_secs(30);

/// All that runs; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    tidegate: Running,
    pub(super) http: SocketAddr,
    admin: SocketAddr,
    _backends: Vec<Backend>,
    _deaf: Stubborn,
    _hasty: Stubborn,
    _folder: TempDir,
}

impl Place {
    pub(super) fn start(program: &Path) -> Result<Self> {
        let folder = TempDir::with_prefix("tidegate-slow-")?;
        let (good, much) = (free_port()?, free_port()?);
        let backends = [good, much].into_iter();
        let backends = backends.map(|port| backend(folder.path(), port));
        let backends = backends.collect::<Result<_>>()?;
        let deaf = Stubborn::start(Behaviour::Deaf)?;
        let hasty = Stubborn::start(Behaviour::Hasty)?;
        let routes = [
            (GOOD_HOST, good),
            (MUCH_HOST, much),
            (DEAF_HOST, deaf.port),
            (HASTY_HOST, hasty.port),
        ];
        let manifests = folder.path().join("manifests.yaml");
        let texts = routes.map(|(host, port)| objects(host, port, None));
        let texts: Vec<_> = texts.into_iter().collect::<Result<_>>()?;
        fs::write(&manifests, texts.concat())?;
        let http = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let config = folder.path().join("settings.yaml");
        fs::write(&config, settings(http, admin))?;
        let mut command = Command::new(program);
        process::as_own_instance(&mut command);
        command.args(["serve", "--workers=2"]);
        command.arg("--config").arg(&config);
        command.arg("--manifests").arg(&manifests);
        let tidegate = Running::spawn("tidegate", &mut command, folder.path(), START, || {
            client::is_ready(admin)
        })?;
        Ok(Self {
            tidegate,
            http,
            admin,
            _backends: backends,
            _deaf: deaf,
            _hasty: hasty,
            _folder: folder,
        })
    }

    pub(super) fn resident_mib(&self) -> f64 {
        self.tidegate.resident_mib()
    }

    /// Waits until no more connections of clients are open than these, at most for [`LINGER`]. How many they are then,
    /// as the metrics have them.
    pub(super) fn wait_for_connections(&self, most: usize) -> Result<u64> {
        let deadline = Instant::now() + LINGER;
        loop {
            let open = client::metric(self.admin, "tidegate_connections_open")?;
            if open <= most as u64 || Instant::now() > deadline {
                return Ok(open);
            }
            sleep(Duration::from_millis(50));
        }
    }
}

/// A backend with a folder of its own.
fn backend(folder: &Path, port: u16) -> Result<Backend> {
    let folder = folder.join(port.to_string());
    fs::create_dir(&folder)?;
    Backend::start(&folder, port, Cpu::Any)
}

fn settings(http: SocketAddr, admin: SocketAddr) -> String {
    format!(
        "http: {http}\nhttps: off\nadmin: {admin}\ntimeouts:\n  requestHead: {head}s\n  idle: {idle}s\n  responseHead: {answer}s\n",
        head = HEAD_DEADLINE.as_secs(),
        idle = IDLE_DEADLINE.as_secs(),
        answer = ANSWER_DEADLINE.as_secs(),
    )
}
