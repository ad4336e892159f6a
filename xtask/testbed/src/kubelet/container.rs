//! A container: started, looked after, started again, ended.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;
use tokio::time::{sleep, timeout};

use super::pod::{Site, Stop};
use super::probe::{self, Exec};
use super::standing::{End, Place, Restarts, State};
use super::volumes::Volumes;
use super::{RETRY, Task, process};

/// The shortest and the longest wait before a container starts again.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// One container of a pod.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) site: Arc<Site>,
    pub(super) volumes: Arc<Volumes>,
    pub(super) container: Container,
    pub(super) place: Place,
    pub(super) stop: Stop,
}

/// What became of a container that does not run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It ended with status 0.
    Succeeded,
    /// It ended with another one.
    Failed,
    /// The pod was to end.
    Stopped,
}

/// Why a running container was left.
enum Left {
    Ended(ExitStatus),
    Unhealthy,
    Stopped(Duration),
}

impl Life {
    /// Runs the container as often as the pod's policy has it.
    pub(super) async fn run(mut self) -> Outcome {
        let mut backoff = BACKOFF.0;
        loop {
            let began = Instant::now();
            let Some(code) = self.run_once().await else {
                return Outcome::Stopped;
            };
            if !self.restarts().again(code) {
                return if code == 0 {
                    Outcome::Succeeded
                } else {
                    Outcome::Failed
                };
            }
            if began.elapsed() > BACKOFF.1 {
                backoff = BACKOFF.0;
            }
            let message = format!("starts again in {} s", backoff.as_secs());
            self.set(State::Waiting("CrashLoopBackOff", message));
            if !self.pause(backoff).await {
                return Outcome::Stopped;
            }
            backoff = BACKOFF.1.min(backoff * 2);
        }
    }

    /// An init container that has succeeded is done, except for one that is to run beside the others.
    fn restarts(&self) -> Restarts {
        let policy = self.site.spec.restart_policy.as_deref();
        match (self.place, self.container.restart_policy.as_deref()) {
            (Place::Init(_), Some("Always")) => Restarts::Always,
            (Place::Init(_), _) if Restarts::of(policy) == Restarts::Always => Restarts::OnFailure,
            _ => Restarts::of(policy),
        }
    }

    /// Runs the container once. Its exit code, or nothing when it was stopped.
    async fn run_once(&mut self) -> Option<i32> {
        let (mut child, exec) = loop {
            match self.spawn().await {
                Ok(spawned) => break spawned,
                Err(error) => {
                    let message = format!("{error:#}");
                    self.set(State::Waiting("CreateContainerConfigError", message));
                }
            }
            if !self.pause(RETRY).await {
                return None;
            }
        };
        let started = Timestamp::now();
        let name = self.container.name.clone();
        let (site, process) = (Arc::clone(&self.site), child.id());
        site.kubelet.set_process(&site.pod, &name, process);
        self.set(State::Running(started));
        let (left, status) = self.look_after(&mut child, exec).await;
        site.kubelet.set_process(&site.pod, &name, None);
        let code = status.map_or(-1, exit_code);
        self.set(State::Ended(End {
            code,
            started,
            ended: Timestamp::now(),
        }));
        match left {
            Left::Stopped(_) => None,
            Left::Ended(_) | Left::Unhealthy => Some(code),
        }
    }

    async fn spawn(&self) -> Result<(Child, Exec)> {
        let started = process::start(&self.site, &self.volumes, &self.container).await?;
        let process = started.child.id().context("the container ended at once")?;
        let exec = Exec {
            process,
            like: started.process,
        };
        Ok((started.child, exec))
    }

    /// Waits for the container's end, and brings it about when it has to be.
    async fn look_after(&mut self, child: &mut Child, exec: Exec) -> (Left, Option<ExitStatus>) {
        let (unhealthy, mut is_unhealthy) = tokio::sync::watch::channel(false);
        let looked_at = probe::Looked {
            site: Arc::clone(&self.site),
            container: self.container.clone(),
            place: self.place,
            exec: exec.clone(),
        };
        // They go on while it ends, as a kubelet's do.
        let _probes = Task::spawn(looked_at.watch_over(unhealthy));
        let left = tokio::select! {
            status = child.wait() => match status {
                Ok(status) => Left::Ended(status),
                Err(_) => Left::Unhealthy,
            },
            Ok(_) = is_unhealthy.wait_for(|is| *is) => Left::Unhealthy,
            grace = self.stopped() => Left::Stopped(grace),
        };
        let status = match left {
            Left::Ended(status) => Some(status),
            Left::Unhealthy => terminate(child, self.grace()).await,
            Left::Stopped(grace) => {
                let began = Instant::now();
                let hook = timeout(grace, self.before_stop(&exec));
                tokio::select! {
                    _ = hook => {}
                    _ = child.wait() => {}
                }
                terminate(child, grace.saturating_sub(began.elapsed())).await
            }
        };
        (left, status)
    }

    /// Does what the `preStop` hook asks for.
    async fn before_stop(&self, exec: &Exec) {
        let lifecycle = self.container.lifecycle.as_ref();
        let hook = lifecycle.and_then(|lifecycle| lifecycle.pre_stop.as_ref());
        let Some(LifecycleHandler {
            exec: command,
            sleep: wait,
            ..
        }) = hook
        else {
            return;
        };
        if let Some(words) = command.as_ref().and_then(|exec| exec.command.as_deref()) {
            // What it leaves is as little a reason to stay as it is for a kubelet.
            _ = exec.run(words, Duration::MAX).await;
        }
        if let Some(seconds) = wait
            .as_ref()
            .and_then(|wait| u64::try_from(wait.seconds).ok())
        {
            sleep(Duration::from_secs(seconds)).await;
        }
    }

    fn grace(&self) -> Duration {
        let seconds = self.site.spec.termination_grace_period_seconds;
        let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
        Duration::from_secs(seconds.unwrap_or(30))
    }

    fn set(&self, state: State) {
        self.site.standing.set_state(self.place, state);
    }

    async fn stopped(&mut self) -> Duration {
        match self.stop.wait_for(Option::is_some).await {
            Ok(grace) => grace.unwrap_or_default(),
            Err(_) => Duration::ZERO,
        }
    }

    /// Waits. Whether the container is still wanted then.
    async fn pause(&mut self, time: Duration) -> bool {
        tokio::select! {
            () = sleep(time) => true,
            _ = self.stopped() => false,
        }
    }
}

/// SIGTERM, and SIGKILL when that does not help in time.
async fn terminate(child: &mut Child, grace: Duration) -> Option<ExitStatus> {
    let process = child.id().and_then(|process| i32::try_from(process).ok());
    if let Some(process) = process.and_then(Pid::from_raw)
        && !grace.is_zero()
    {
        // It may have ended in between.
        _ = kill_process(process, Signal::TERM);
        if let Ok(status) = timeout(grace, child.wait()).await {
            return status.ok();
        }
    }
    _ = child.start_kill();
    child.wait().await.ok()
}

/// As a container runtime gives it: 128 and the signal for one that was killed.
fn exit_code(status: ExitStatus) -> i32 {
    let killed = || 128 + status.signal().unwrap_or_default();
    status.code().unwrap_or_else(killed)
}

/// Where the log of a container is. It outlives the pod.
pub(crate) fn log(site: &Site, container: &str) -> PathBuf {
    let pods = site.kubelet.folder.join("logs").join(&site.namespace);
    pods.join(&site.name).join(format!("{container}.log"))
}
