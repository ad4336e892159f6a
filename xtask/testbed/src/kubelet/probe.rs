//! Probes: whether a container has started, is ready, is alive.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tidegate_testbed_inside::PROGRAMS;
use tidegate_testbed_inside::container::Process;
use tidegate_testbed_inside::look::{Look, Request};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::pod::Site;
use super::process::base;
use super::standing::Place;

/// How often a probe is repeated that has not succeeded yet, and for how long; after that its own period holds.
const AT_FIRST: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// A running container that is looked at.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) site: Arc<Site>,
    pub(super) container: Container,
    pub(super) place: Place,
    pub(super) exec: Exec,
}

/// How to run other processes in a container.
#[derive(Clone, Debug)]
pub(super) struct Exec {
    /// The container's process.
    pub(super) process: u32,
    /// What that was started as: others have its environment and rights.
    pub(super) like: Process,
}

/// The numbers of a probe, with the defaults of the API.
#[derive(Clone, Copy, Debug)]
struct Pace {
    delay: Duration,
    period: Duration,
    timeout: Duration,
    successes: u32,
    failures: u32,
}

impl Pace {
    fn of(probe: &Probe) -> Self {
        let number = |number: Option<i32>, default: u32| {
            let number = number.and_then(|number| u32::try_from(number).ok());
            number.filter(|number| *number > 0).unwrap_or(default)
        };
        let seconds = |seconds, default| Duration::from_secs(number(seconds, default).into());
        Self {
            delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            successes: number(probe.success_threshold, 1),
            failures: number(probe.failure_threshold, 3),
        }
    }
}

impl Looked {
    /// Looks until the container is gone, and says when it has to go.
    pub(super) async fn watch_over(self, unhealthy: watch::Sender<bool>) {
        if let Some(startup) = &self.container.startup_probe
            && !self.starts(startup).await
        {
            unhealthy.send_replace(true);
            return;
        }
        self.site.standing.set_started(self.place);
        let readiness = async {
            match &self.container.readiness_probe {
                Some(probe) => self.follow_readiness(probe).await,
                None => self.site.standing.set_ready(self.place, true),
            }
        };
        let liveness = async {
            if let Some(probe) = &self.container.liveness_probe {
                self.fails(probe).await;
                unhealthy.send_replace(true);
            }
        };
        tokio::join!(readiness, liveness);
    }

    /// Waits for the first success. Whether it came before too many failures.
    async fn starts(&self, probe: &Probe) -> bool {
        let pace = Pace::of(probe);
        sleep(pace.delay).await;
        let began = Instant::now();
        let mut failures = 0;
        while self.look(probe, pace).await.is_err() {
            if began.elapsed() < AT_FIRST.1.min(pace.period) {
                sleep(AT_FIRST.0).await;
                continue;
            }
            failures += 1;
            if failures >= pace.failures {
                return false;
            }
            sleep(pace.period).await;
        }
        true
    }

    async fn follow_readiness(&self, probe: &Probe) {
        let pace = Pace::of(probe);
        sleep(pace.delay).await;
        let began = Instant::now();
        let (mut ready, mut ever, mut streak) = (false, false, 0);
        loop {
            let looks_ready = self.look(probe, pace).await.is_ok();
            streak = if looks_ready == ready { 0 } else { streak + 1 };
            let enough = if ready { pace.failures } else { pace.successes };
            if streak >= enough {
                (ready, streak) = (looks_ready, 0);
                ever |= ready;
                self.site.standing.set_ready(self.place, ready);
            }
            let hurries = !ever && began.elapsed() < AT_FIRST.1;
            sleep(if hurries {
                AT_FIRST.0.min(pace.period)
            } else {
                pace.period
            })
            .await;
        }
    }

    /// Waits for so many failures one after the other that the container is not alive.
    async fn fails(&self, probe: &Probe) {
        let pace = Pace::of(probe);
        sleep(pace.delay).await;
        let mut failures = 0;
        while failures < pace.failures {
            sleep(pace.period).await;
            match self.look(probe, pace).await {
                Ok(()) => failures = 0,
                Err(_) => failures += 1,
            }
        }
    }

    async fn look(&self, probe: &Probe, pace: Pace) -> Result<()> {
        if let Some(words) = probe.exec.as_ref().and_then(|exec| exec.command.as_deref()) {
            return self.exec.run(words, pace.timeout).await;
        }
        let (address, request) = if let Some(get) = &probe.http_get {
            let address = self.address(get.host.as_deref(), &get.port)?;
            (address, Some(request(get)?))
        } else if let Some(socket) = &probe.tcp_socket {
            (self.address(socket.host.as_deref(), &socket.port)?, None)
        } else {
            bail!("the testbed knows exec, httpGet and tcpSocket probes only");
        };
        let look = Look {
            address,
            timeout: pace.timeout,
            request,
        };
        if address.ip() == self.site.address {
            return tokio::task::spawn_blocking(move || look.once()).await?;
        }
        // Another address means what it means on the node.
        let mut command = self.site.node.command(&self.site.kubelet.maker.inside);
        command.arg("look").arg(serde_json::to_string(&look)?);
        finish(command.into(), pace.timeout * 3).await
    }

    fn address(&self, host: Option<&str>, port: &IntOrString) -> Result<SocketAddr> {
        let host = match host {
            None | Some("") => self.site.address,
            Some("localhost") => Ipv4Addr::LOCALHOST,
            Some(host) => host
                .parse()
                .with_context(|| format!("the host {host} of a probe is no address"))?,
        };
        let number = match port {
            IntOrString::Int(number) => Some(*number),
            IntOrString::String(name) => {
                let mut ports = self.container.ports.iter().flatten();
                let found = ports.find(|port| port.name.as_ref() == Some(name));
                found.map(|port| port.container_port)
            }
        };
        let number = number.and_then(|number| u16::try_from(number).ok());
        Ok((
            host,
            number.context("the port of a probe is none of the container's")?,
        )
            .into())
    }
}

fn request(get: &HTTPGetAction) -> Result<Request> {
    if get.scheme.as_deref() == Some("HTTPS") {
        bail!("the testbed has no probes over HTTPS");
    }
    let headers = get.http_headers.iter().flatten();
    let path = get.path.as_deref().unwrap_or("/");
    Ok(Request {
        path: if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        },
        headers: headers
            .map(|header| (header.name.clone(), header.value.clone()))
            .collect(),
    })
}

impl Exec {
    /// Runs a command in the container, which is to end with status 0 in time.
    pub(super) async fn run(&self, words: &[String], limit: Duration) -> Result<()> {
        let mut process = self.like.clone();
        process.argv = words.to_vec();
        // The image's own program, however it is called there.
        let own = self.like.argv.first();
        if let (Some(word), Some(own)) = (process.argv.first_mut(), own)
            && own.starts_with(PROGRAMS)
            && base(word) == base(own)
        {
            word.clone_from(own);
        }
        let mut command = Command::new("nsenter");
        command
            .args(["--mount", "--net", "--uts", "--target"])
            .arg(self.process.to_string())
            .arg(format!("{PROGRAMS}/inside"))
            .arg("exec")
            .arg(serde_json::to_string(&process)?);
        finish(command, limit).await
    }
}

async fn finish(mut command: Command, limit: Duration) -> Result<()> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let mut child = command.spawn().context("cannot run nsenter")?;
    let status = timeout(limit, child.wait())
        .await
        .context("it takes too long")??;
    if !status.success() {
        bail!("it ended with {status}");
    }
    Ok(())
}
