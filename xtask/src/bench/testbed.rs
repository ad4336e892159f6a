//! Tidegate with a few hosts and a backend, as the benchmarks of steering and hand-over start it.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use rustls::ClientConfig;
use tempfile::TempDir;

use super::backend::{Backend, Cpu};
use super::client;
use super::objects::{Pair, objects};
use super::open_loop::Target;
use super::running::Running;
use crate::process::free_port;

/// Without TLS.
pub(super) const PLAIN_HOST: &str = "plain.test";
/// With a certificate of ECDSA P-256.
pub(super) const TLS_HOST: &str = "light.test";
/// With a certificate of RSA with 4096 bits, the longest handshake that is common.
pub(super) const LONG_HOST: &str = "long.test";
/// The host of tunnels, if there is one.
pub(super) const TUNNEL_HOST: &str = "tunnel.test";

/// How long Tidegate may take to be ready.
const START: Duration = Duration::from_secs(30);
/// What a newcomer prints when the ports are its own.
const IN_FORCE: &str = "hand-over: in force";
/// Kept connections of each thread of the clients.
const KEPT: usize = 16;

/// Which worker gets a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Steering {
    /// That of the kernel's hash
    Kernel,
    /// That of the CPU which took the packet
    Cpu,
    /// The less loaded of two
    LeastLoaded,
}

impl Steering {
    /// As `--steering` has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Cpu => "cpu",
            Self::LeastLoaded => "least-loaded",
        }
    }
}

/// What every start of Tidegate has in common.
#[derive(Debug)]
pub(super) struct Testbed {
    program: PathBuf,
    folder: TempDir,
    instance: String,
    http: SocketAddr,
    https: SocketAddr,
    pub(super) admin: SocketAddr,
    certificates: String,
    _backend: Backend,
}

impl Testbed {
    /// Starts the backend and writes the manifests, with a host of tunnels whose backend is at this address.
    pub(super) fn new(program: &Path, tunnels: Option<SocketAddr>) -> Result<Self> {
        let folder = TempDir::with_prefix("tidegate-bench-")?;
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let backend = free_port()?;
        let light = Pair::new(TLS_HOST, &KeyPair::generate()?)?;
        let long_key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096)?;
        let long = Pair::new(LONG_HOST, &long_key)?;
        let mut manifests = objects(PLAIN_HOST, backend, None)?;
        manifests += &objects(TLS_HOST, backend, Some(&light))?;
        manifests += &objects(LONG_HOST, backend, Some(&long))?;
        if let Some(tunnels) = tunnels {
            manifests += &objects(TUNNEL_HOST, tunnels.port(), None)?;
        }
        // A folder of its own, in which nothing else changes.
        fs::create_dir(folder.path().join("manifests"))?;
        fs::write(folder.path().join("manifests/all.yaml"), manifests)?;
        Ok(Self {
            program: program.to_owned(),
            instance: format!("bench-{}", std::process::id()),
            http: address(free_port()?),
            https: address(free_port()?),
            admin: address(free_port()?),
            certificates: light.certificate + &long.certificate,
            _backend: Backend::start(folder.path(), backend, Cpu::Any)?,
            folder,
        })
    }

    /// Starts Tidegate and waits until it is ready.
    pub(super) fn start(&self, steering: Steering, workers: usize) -> Result<Running> {
        self.start_with(&mut self.command(steering, workers), steering)
    }

    /// The same with more arguments.
    pub(super) fn start_with(&self, command: &mut Command, steering: Steering) -> Result<Running> {
        let tidegate = self.spawn("tidegate", command, || client::is_ready(self.admin))?;
        self.metrics()?.ensure_steering(steering)?;
        Ok(tidegate)
    }

    /// Starts Tidegate beside a running one of the same instance, and waits until it has taken over. What it prints has
    /// this name.
    pub(super) fn take_over(&self, command: &mut Command, name: &str) -> Result<Running> {
        let log = self.folder().join(format!("output/{name}.log"));
        let said_so = || fs::read_to_string(&log).is_ok_and(|text| text.contains(IN_FORCE));
        self.spawn(name, command, said_so)
    }

    fn spawn(
        &self,
        name: &str,
        command: &mut Command,
        ready: impl Fn() -> bool,
    ) -> Result<Running> {
        Running::spawn(name, command, self.folder(), START, ready)
    }

    /// What starts Tidegate.
    pub(super) fn command(&self, steering: Steering, workers: usize) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("serve").env_clear();
        command.arg(format!("--instance={}", self.instance));
        command.arg(format!("--admin={}", self.admin));
        command.arg(format!("--steering={}", steering.name()));
        command.arg(format!("--workers={workers}"));
        command.arg(format!("--http={}", self.http));
        command.arg(format!("--https={}", self.https));
        command.args(["--access-log=off", "--after-hand-over=exit"]);
        command
            .arg("--manifests")
            .arg(self.folder().join("manifests"));
        command
    }

    /// Files of a run; what Tidegate prints is in its folder `output`.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// For clients.
    pub(super) fn target(&self) -> Result<Target> {
        Ok(Target {
            http: self.http,
            https: self.https,
            plain_host: PLAIN_HOST,
            tls_host: TLS_HOST,
            long_host: LONG_HOST,
            tls: self.tls()?,
            kept: KEPT,
        })
    }

    pub(super) fn http(&self) -> SocketAddr {
        self.http
    }

    pub(super) fn tls(&self) -> Result<Arc<ClientConfig>> {
        client::tls_settings(self.certificates.as_bytes())
    }

    pub(super) fn metrics(&self) -> Result<Metrics> {
        client::metrics(self.admin).map(|text| Metrics::parse(&text))
    }
}

/// Figures of one scrape, by name with labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let figures = lines.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Self(figures.collect())
    }

    /// A figure of every worker, in their order.
    pub(super) fn by_worker(&self, name: &str) -> Vec<u64> {
        let values = (0..).map_while(|worker| {
            let labelled = format!("{name}{{worker=\"{worker}\"}}");
            self.0.get(&labelled).map(|value| *value as u64)
        });
        values.collect()
    }

    /// The sum of figures whose names with labels begin so and have this in them.
    pub(super) fn sum(&self, beginning: &str, part: &str) -> u64 {
        let figures = self.0.iter();
        let wanted = figures.filter(|(name, _)| name.starts_with(beginning) && name.contains(part));
        wanted.map(|(_, value)| *value as u64).sum()
    }

    /// Fails when another mode is in force than was asked for: its figures would stand under a wrong name.
    fn ensure_steering(&self, steering: Steering) -> Result<()> {
        let of_mode = |line: &&String| line.starts_with("tidegate_steering_mode{");
        let line = self.0.keys().find(of_mode);
        let line = line.context("/metrics has no tidegate_steering_mode")?;
        ensure!(
            line.contains(&format!("mode=\"{}\"", steering.name())),
            "--steering={} is not in force but {line}; `tidegate doctor` tells what is missing",
            steering.name()
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# HELP tidegate_worker_requests Exchanges that are over, by worker.
tidegate_worker_requests_total{worker=\"0\"} 12
tidegate_worker_requests_total{worker=\"1\"} 3
tidegate_steering_mode{mode=\"kernel\",reason=\"no-capability\"} 1
# EOF
";

    #[test]
    fn workers_are_in_order() {
        let metrics = Metrics::parse(TEXT);
        assert_eq!(metrics.by_worker("tidegate_worker_requests_total"), [12, 3]);
        assert!(metrics.by_worker("tidegate_worker_fish").is_empty());
    }

    #[test]
    fn another_mode_than_asked_for_is_an_error() {
        let metrics = Metrics::parse(TEXT);
        assert!(metrics.ensure_steering(Steering::Kernel).is_ok());
        let error = metrics.ensure_steering(Steering::Cpu).unwrap_err();
        assert!(error.to_string().contains("no-capability"), "{error}");
    }
}
