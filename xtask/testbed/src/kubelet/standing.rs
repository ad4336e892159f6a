//! What a pod's status says: where its containers stand.

use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use serde_json::{Value, json};
use tokio::sync::Notify;

/// Where a pod stands. Whoever changes it wakes whoever reports it.
#[derive(Debug)]
pub(super) struct Standing {
    board: Mutex<Board>,
    pub(super) changed: Notify,
}

#[derive(Debug)]
struct Board {
    uid: String,
    host: Ipv4Addr,
    started: Timestamp,
    address: Option<Ipv4Addr>,
    init: Vec<Entry>,
    main: Vec<Entry>,
    /// Whether every init container has done its work.
    initialized: bool,
    restarts: Restarts,
    /// The conditions as they were last, for the times of their changes.
    conditions: Vec<(&'static str, bool, Timestamp)>,
}

/// A container and how it stands.
#[derive(Clone, Debug)]
struct Entry {
    name: String,
    image: String,
    state: State,
    last: Option<End>,
    ready: bool,
    started: bool,
    restarts: u32,
}

/// What a container does.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// It cannot run yet or again, with reason and message.
    Waiting(&'static str, String),
    /// It runs.
    Running(Timestamp),
    /// It has ended, for good when the policy is so.
    Ended(End),
}

/// How a container ended.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) code: i32,
    pub(super) started: Timestamp,
    pub(super) ended: Timestamp,
}

/// `restartPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Restarts {
    Always,
    OnFailure,
    Never,
}

impl Restarts {
    pub(super) fn of(policy: Option<&str>) -> Self {
        match policy {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }

    /// Whether a container runs again that ended so.
    pub(super) fn again(self, code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => code != 0,
            Self::Never => false,
        }
    }
}

/// Which list of a pod's containers one is in, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Init(usize),
    Main(usize),
}

impl Standing {
    pub(super) fn new(pod: &Pod, spec: &PodSpec, host: Ipv4Addr) -> Self {
        let entries = |containers: &[Container]| containers.iter().map(Entry::new).collect();
        let init = spec.init_containers.as_deref().unwrap_or_default();
        let board = Board {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            host,
            started: Timestamp::now(),
            address: None,
            init: entries(init),
            main: entries(&spec.containers),
            initialized: init.is_empty(),
            restarts: Restarts::of(spec.restart_policy.as_deref()),
            conditions: Vec::new(),
        };
        let changed = Notify::new();
        changed.notify_one();
        Self {
            board: Mutex::new(board),
            changed,
        }
    }

    pub(super) fn set_address(&self, address: Ipv4Addr) {
        self.change(|board| board.address = Some(address));
    }

    pub(super) fn set_initialized(&self) {
        self.change(|board| board.initialized = true);
    }

    /// The whole pod waits, for a reason that the message tells.
    pub(super) fn set_waiting(&self, reason: &'static str, message: &str) {
        self.change(|board| {
            for entry in board.init.iter_mut().chain(&mut board.main) {
                if let State::Waiting(..) = entry.state {
                    entry.state = State::Waiting(reason, message.to_owned());
                }
            }
        });
    }

    /// A container changes state. One that runs is neither started nor ready before its probes say so.
    pub(super) fn set_state(&self, place: Place, state: State) {
        self.change(|board| {
            let Some(entry) = board.entry(place) else {
                return;
            };
            match (&entry.state, &state) {
                (State::Ended(end), State::Running(_)) => {
                    entry.last = Some(end.clone());
                    entry.restarts += 1;
                }
                (State::Ended(end), State::Waiting(..)) => entry.last = Some(end.clone()),
                (State::Waiting(..), State::Running(_)) if entry.last.is_some() => {
                    entry.restarts += 1;
                }
                _ => {}
            }
            (entry.ready, entry.started) = (false, false);
            entry.state = state;
        });
    }

    pub(super) fn set_started(&self, place: Place) {
        self.change(|board| {
            if let Some(entry) = board.entry(place) {
                entry.started = true;
            }
        });
    }

    pub(super) fn set_ready(&self, place: Place, ready: bool) {
        self.change(|board| {
            if let Some(entry) = board.entry(place) {
                entry.ready = ready;
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Board)) {
        change(&mut self.board.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    /// A merge patch of the pod's status.
    pub(super) fn patch(&self) -> Value {
        let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        board.patch()
    }
}

impl Board {
    fn entry(&mut self, place: Place) -> Option<&mut Entry> {
        match place {
            Place::Init(index) => self.init.get_mut(index),
            Place::Main(index) => self.main.get_mut(index),
        }
    }

    fn patch(&mut self) -> Value {
        let ready = self.initialized && self.main.iter().all(|entry| entry.ready);
        self.turn("PodScheduled", true);
        self.turn("Initialized", self.initialized);
        self.turn("ContainersReady", ready);
        self.turn("Ready", ready);
        let conditions = self.conditions.iter().map(|(kind, is, since)| {
            let status = if *is { "True" } else { "False" };
            json!({"type": kind, "status": status, "lastTransitionTime": second(*since)})
        });
        let pod_ips = self.address.map(|address| json!([{"ip": address}]));
        json!({
            "metadata": {"uid": self.uid},
            "status": {
                "phase": self.phase(),
                "startTime": second(self.started),
                "hostIP": self.host,
                "hostIPs": [{"ip": self.host}],
                "podIP": self.address,
                "podIPs": pod_ips,
                "conditions": conditions.collect::<Vec<_>>(),
                "initContainerStatuses": self.init.iter().map(Entry::status).collect::<Vec<_>>(),
                "containerStatuses": self.main.iter().map(Entry::status).collect::<Vec<_>>(),
            },
        })
    }

    fn turn(&mut self, condition: &'static str, is: bool) {
        let now = Timestamp::now();
        let mut known = self.conditions.iter_mut();
        match known.find(|(kind, ..)| *kind == condition) {
            Some((_, was, _)) if *was == is => {}
            Some(known) => *known = (condition, is, now),
            None => self.conditions.push((condition, is, now)),
        }
    }

    fn phase(&self) -> &'static str {
        let ended = |entry: &Entry| match &entry.state {
            State::Ended(end) if !self.restarts.again(end.code) => Some(end.code),
            _ => None,
        };
        if self.init.iter().filter_map(ended).any(|code| code != 0) {
            return "Failed";
        }
        let codes: Vec<i32> = self.main.iter().filter_map(ended).collect();
        if codes.len() == self.main.len() {
            return if codes.iter().all(|code| *code == 0) {
                "Succeeded"
            } else {
                "Failed"
            };
        }
        let fresh =
            |entry: &Entry| entry.last.is_none() && matches!(entry.state, State::Waiting(..));
        if !self.initialized || self.main.iter().any(fresh) {
            return "Pending";
        }
        "Running"
    }
}

impl Entry {
    fn new(container: &Container) -> Self {
        Self {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            state: State::Waiting("ContainerCreating", String::new()),
            last: None,
            ready: false,
            started: false,
            restarts: 0,
        }
    }

    fn status(&self) -> Value {
        let state = match &self.state {
            State::Waiting(reason, message) => {
                json!({"waiting": {"reason": reason, "message": message}})
            }
            State::Running(since) => json!({"running": {"startedAt": second(*since)}}),
            State::Ended(end) => end.status(),
        };
        json!({
            "name": self.name,
            "image": self.image,
            "imageID": format!("testbed://{}", self.image),
            "state": state,
            "lastState": self.last.as_ref().map_or_else(|| json!({}), End::status),
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restarts,
        })
    }
}

impl End {
    fn status(&self) -> Value {
        let reason = if self.code == 0 { "Completed" } else { "Error" };
        json!({"terminated": {
            "exitCode": self.code,
            "reason": reason,
            "startedAt": second(self.started),
            "finishedAt": second(self.ended),
        }})
    }
}

/// Times of the API are whole seconds.
fn second(time: Timestamp) -> String {
    let time = Timestamp::from_second(time.as_second()).unwrap_or(time);
    time.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(policy: &str) -> Standing {
        let container = Container {
            name: "c".to_owned(),
            ..Container::default()
        };
        let spec = PodSpec {
            containers: vec![container],
            restart_policy: Some(policy.to_owned()),
            ..PodSpec::default()
        };
        Standing::new(&Pod::default(), &spec, Ipv4Addr::LOCALHOST)
    }

    fn phase(standing: &Standing) -> String {
        standing.patch()["status"]["phase"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    fn ended(code: i32) -> State {
        let now = Timestamp::now();
        State::Ended(End {
            code,
            started: now,
            ended: now,
        })
    }

    #[test]
    fn a_pod_is_pending_then_runs_then_is_ready() {
        let standing = standing("Always");
        assert_eq!(phase(&standing), "Pending");
        standing.set_state(Place::Main(0), State::Running(Timestamp::now()));
        assert_eq!(phase(&standing), "Running");
        standing.set_ready(Place::Main(0), true);
        let conditions = standing.patch()["status"]["conditions"].clone();
        let ready =
            |condition: &&Value| condition["type"] == "Ready" && condition["status"] == "True";
        assert_eq!(
            conditions
                .as_array()
                .into_iter()
                .flatten()
                .filter(ready)
                .count(),
            1
        );
    }

    #[test]
    fn a_container_that_ends_counts_its_restarts() {
        let standing = standing("Always");
        let place = Place::Main(0);
        standing.set_state(place, State::Running(Timestamp::now()));
        standing.set_state(place, ended(1));
        standing.set_state(place, State::Waiting("CrashLoopBackOff", String::new()));
        assert_eq!(phase(&standing), "Running");
        standing.set_state(place, State::Running(Timestamp::now()));
        let status = standing.patch()["status"]["containerStatuses"][0].clone();
        assert_eq!(status["restartCount"], 1);
        assert_eq!(status["lastState"]["terminated"]["exitCode"], 1);
    }

    #[test]
    fn a_pod_that_does_not_restart_comes_to_an_end() {
        for (code, phase_then) in [(0, "Succeeded"), (3, "Failed")] {
            let standing = standing("Never");
            standing.set_state(Place::Main(0), State::Running(Timestamp::now()));
            standing.set_state(Place::Main(0), ended(code));
            assert_eq!(phase(&standing), phase_then);
        }
    }
}
