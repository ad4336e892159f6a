//! Tidegate as a node of the cluster has it, with the rights that the manifests give.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustls::ClientConfig;
use tidegate_testbed::Testbed;

use super::super::client;
use super::fill;
use crate::process::free_port;

/// How long everything may take.
const DEADLINE: Duration = Duration::from_secs(300);
/// How often the node is asked while something is waited for.
const POLL: Duration = Duration::from_millis(2);
const SYSTEM: &str = "tidegate";

/// What every start has in common.
#[derive(Debug)]
pub(super) struct Node {
    program: PathBuf,
    folder: PathBuf,
    kubeconfig: PathBuf,
    https: SocketAddr,
    tls: Arc<ClientConfig>,
}

/// A process that is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Running(Child);

impl Node {
    /// Applies the shipped manifests but for the pods, which this process stands for.
    pub(super) fn new(program: &Path, testbed: &Testbed, authority: &[u8]) -> Result<Self> {
        let base = crate::root().join("manifests/base");
        let kubectl = |arguments: &[&str]| {
            let mut command = testbed.kubectl();
            crate::process::output(command.args(arguments))
        };
        kubectl(&["apply", "--server-side", "-k", &base.display().to_string()])?;
        kubectl(&["delete", "daemonset", "tidegate", "--namespace", SYSTEM])?;
        let lifetime = Duration::from_secs(24 * 60 * 60);
        let folder = testbed.folder().join("node");
        fs::create_dir(&folder)?;
        Ok(Self {
            program: program.to_owned(),
            kubeconfig: testbed.token_kubeconfig(SYSTEM, "tidegate", lifetime)?,
            https: (Ipv4Addr::LOCALHOST, free_port()?).into(),
            tls: client::tls_settings(authority)?,
            folder,
        })
    }

    pub(super) fn start(&self) -> Result<Running> {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("log"))?;
        let child = Command::new(&self.program)
            .args(["serve", "--http", "off", "--admin", "off"])
            .args(["--instance", "tidegate", "--https", &self.https.to_string()])
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--data-dir")
            .arg(self.folder.join("data"))
            .env("POD_NAMESPACE", SYSTEM)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start Tidegate")?;
        Ok(Running(child))
    }

    /// Waits until requests for a host are answered by this backend, by TLS.
    pub(super) fn until(&self, host: &str, body: &str) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        while self.ask(host).ok().as_deref() != Some(body.as_bytes()) {
            if Instant::now() > deadline {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                bail!("{host} is not served by {body} within {DEADLINE:?}; it said: {log}");
            }
            sleep(POLL);
        }
        Ok(())
    }

    /// Asks for every host, each with a handshake of its own; fails when one is not answered.
    pub(super) fn try_all(&self, hosts: usize) -> Result<usize> {
        self.until(&fill::host(0), "first")?;
        for number in 0..hosts {
            let host = fill::host(number);
            let body = self.ask(&host).with_context(|| host.clone())?;
            ensure!(!body.is_empty(), "{host} is answered with nothing");
        }
        Ok(hosts)
    }

    fn ask(&self, host: &str) -> Result<Vec<u8>> {
        let stream = client::connect(self.https, Ipv4Addr::LOCALHOST)?;
        let mut client = client::tls_for(host.to_owned(), stream, self.tls.clone())?;
        let answer = client.get(host, "/")?;
        ensure!(answer.status == 200, "{host} is answered {}", answer.status);
        Ok(client.body().to_vec())
    }

    /// Requests of the node to the API server so far, but for the Lease, which the leader of all nodes renews.
    pub(super) fn requests(&self, testbed: &Testbed) -> Result<usize> {
        let events = testbed.audit()?.into_iter();
        let ours = events.filter(|event| event.user.ends_with(":tidegate"));
        Ok(ours.filter(|event| event.resource != "leases").count())
    }
}

impl Running {
    /// Resident memory in MiB.
    pub(super) fn resident_mib(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        let kib: f64 = kib.context("no VmRSS")?.parse()?;
        Ok(kib / 1024.0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}
