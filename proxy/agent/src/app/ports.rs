//! The ports of an instance: its listening sockets, and who steers connections to them.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_dataplane::{BoundAddress, Dataplane, Listeners, WorkerLoad};
use tidegate_ebpf::steering::Counters;
use tracing::{info, warn};

use crate::ebpf::{Addresses, Pins, Predecessor as PinsOf, Steering};
use crate::hand_over::Ownership;
use crate::listening;
use crate::settings::SteeringMode;

/// What is to be steered, and to whom.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// What the settings ask for.
    pub(crate) mode: SteeringMode,
    /// The name that maps are pinned under.
    pub(crate) instance: String,
    /// CPUs of the workers, in the mode that has a worker for each.
    pub(crate) cpus: Vec<usize>,
    /// Workers.
    pub(crate) workers: usize,
}

/// The listening sockets of this process and what steers to them.
#[derive(Debug)]
pub(crate) struct Ports {
    /// Until the workers have them.
    listeners: Option<Listeners>,
    steering: SharedSteering,
    pins: Option<Pins>,
    generation: u64,
}

/// How connections are steered, as the metrics show it.
#[derive(Clone, Debug)]
pub(crate) struct SharedSteering(Arc<Mutex<InForce>>);

#[derive(Debug)]
struct InForce {
    mode: SteeringMode,
    reason: &'static str,
    /// `None` where the kernel chooses.
    steering: Option<Steering>,
}

impl SharedSteering {
    fn with<T>(&self, act: impl FnOnce(&mut InForce) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The mode in force and a word for why; `asked` when the settings ask for it.
    pub(crate) fn mode(&self) -> (SteeringMode, &'static str) {
        self.with(|in_force| (in_force.mode, in_force.reason))
    }

    /// What the program did for each worker; empty without a program.
    pub(crate) fn counters(&self) -> Vec<Counters> {
        self.with(|in_force| {
            let steering = in_force.steering.as_ref();
            steering.map(Steering::counters).unwrap_or_default()
        })
    }
}

impl Ports {
    /// Loads what steers to these addresses. Whatever of it cannot be had is told in the log, and the kernel does it.
    pub(crate) fn prepare(
        plan: &Plan,
        bound: &[BoundAddress],
        predecessor: Option<&Ownership>,
    ) -> Self {
        let generation = predecessor.map_or(1, |before| before.generation + 1);
        let mut ports = Self {
            listeners: None,
            steering: SharedSteering(Arc::new(Mutex::new(InForce {
                mode: SteeringMode::Kernel,
                reason: ASKED,
                steering: None,
            }))),
            pins: None,
            generation,
        };
        if plan.mode != SteeringMode::Kernel {
            ports.pins = claim(plan, predecessor);
            ports.load(plan, bound);
        }
        ports
    }

    fn load(&mut self, plan: &Plan, bound: &[BoundAddress]) {
        let to = Addresses {
            addresses: bound.iter().map(|bound| bound.address).collect(),
            workers: u32::try_from(plan.workers).unwrap_or(u32::MAX),
            cpus: plan.cpus.clone(),
        };
        let loaded = Steering::load(plan.mode, self.generation, &to, self.pins.as_ref());
        match loaded {
            Ok(steering) => self.steering.with(|in_force| {
                if !steering.migrates() {
                    warn!("steering: this kernel cannot move queued connections from a socket that is closed: before 5.14");
                }
                in_force.mode = plan.mode;
                in_force.steering = Some(steering);
            }),
            Err(failure) => {
                warn!(
                    "steering: {failure}; the kernel chooses workers by its hash: {}",
                    failure.remedy()
                );
                self.steering
                    .with(|in_force| in_force.reason = failure.word());
                if let Some(pins) = self.pins.take() {
                    pins.release();
                }
            }
        }
    }

    /// What is in force, to be shown.
    pub(crate) fn steering(&self) -> SharedSteering {
        self.steering.clone()
    }

    /// Counts the processes of the instance that took over from each other.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// The folder for what is pinned.
    pub(crate) fn pins(&self) -> Option<&Path> {
        self.pins.as_ref().map(Pins::folder)
    }

    /// Whether a successor finds the maps where they are pinned.
    pub(crate) fn is_pinned(&self) -> bool {
        self.pins.is_some()
    }

    /// For each worker, where it tells how busy it is; empty without a program.
    pub(crate) fn loads(&self) -> Vec<Box<dyn WorkerLoad>> {
        self.steering.with(|in_force| {
            let steering = in_force.steering.as_ref();
            steering.map(Steering::loads).unwrap_or_default()
        })
    }

    /// Takes the sockets that are to listen.
    pub(crate) fn set_listeners(&mut self, listeners: Listeners) {
        self.listeners = Some(listeners);
    }

    /// Listens, and lets the workers accept what is steered to them. With a predecessor this is the moment from which
    /// new connections come here.
    ///
    /// # Errors
    /// An address cannot be listened on, and nothing has changed for a predecessor.
    pub(crate) fn open(&mut self, dataplane: &Dataplane) -> anyhow::Result<()> {
        let Some(mut listeners) = self.listeners.take() else {
            return Ok(());
        };
        listeners
            .listen()
            .map_err(|error| listening::failed(error.address, &error.source))?;
        self.steering.with(|in_force| {
            if let Some(steering) = &mut in_force.steering
                && let Err(failure) = place(steering, &listeners)
            {
                warn!("steering: {failure}; the kernel chooses workers by its hash");
                in_force.reason = failure.word();
                in_force.mode = SteeringMode::Kernel;
                in_force.steering = None;
            }
            if in_force.steering.is_none() {
                // A program of a predecessor knows nothing of these sockets.
                for socket in first_sockets(&listeners) {
                    Steering::detach(socket);
                }
            }
        });
        dataplane.accept(listeners);
        self.steering.with(|in_force| {
            if let Some(steering) = &in_force.steering {
                steering.put_in_force();
            }
        });
        let (mode, reason) = self.steering.mode();
        info!(
            mode = mode.as_str(),
            reason,
            generation = self.generation,
            "steering"
        );
        Ok(())
    }

    /// Whether a program steers, so that sockets of other processes get nothing.
    pub(crate) fn is_steered(&self) -> bool {
        self.steering.with(|in_force| in_force.steering.is_some())
    }

    /// Whether connections that wait at a socket that is closed move to another one.
    pub(crate) fn migrates(&self) -> bool {
        self.steering.with(|in_force| {
            let steering = in_force.steering.as_ref();
            steering.is_some_and(Steering::migrates)
        })
    }

    /// Takes new connections again, after a successor has died.
    pub(crate) fn take_back(&self) {
        self.steering.with(|in_force| {
            if let Some(steering) = &in_force.steering {
                steering.take_back();
            }
        });
    }

    /// Lets go of the listening sockets, so that the workers can close them, and of what is pinned, unless another process
    /// goes on with it.
    pub(crate) fn close(&mut self) {
        self.listeners = None;
        self.steering.with(|in_force| {
            if let Some(steering) = &mut in_force.steering {
                steering.let_go();
            }
        });
        if let Some(pins) = self.pins.take() {
            pins.release();
        }
    }
}

/// The settings ask for what is in force.
const ASKED: &str = "asked";

/// The folder for pinned maps, where there is one to be had.
fn claim(plan: &Plan, predecessor: Option<&Ownership>) -> Option<Pins> {
    let pinned = predecessor.is_some_and(|before| before.pinned.is_some());
    let of = if pinned { PinsOf::Pinned } else { PinsOf::None };
    match Pins::claim(&plan.instance, of) {
        Ok(pins) => Some(pins),
        Err(error) => {
            warn!(
                "steering: maps are not pinned: {error}; a hand-over then switches one address after the other"
            );
            None
        }
    }
}

fn place(
    steering: &mut Steering,
    listeners: &Listeners,
) -> anyhow::Result<(), crate::ebpf::Failure> {
    for (bound, sockets) in listeners.sockets() {
        steering.place(bound.address, sockets)?;
    }
    Ok(())
}

fn first_sockets(listeners: &Listeners) -> impl Iterator<Item = &std::net::TcpListener> {
    listeners
        .sockets()
        .filter_map(|(_, sockets)| sockets.first())
}
