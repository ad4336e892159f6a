//! The guard: a program on network interfaces that keeps packets from listeners, as the settings say.
//!
//! With a folder for pins, the program's place on an interface (a link) outlives the process, and the next one puts its own
//! program there: the interface is guarded throughout. Without, the next one tries until the process before has ended.

mod interfaces;
mod maps;
mod metrics;
mod place;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::programs::{TestRun, TestRunOptions};
use prometheus_client::registry::Registry;
use thiserror::Error;

use super::failure::Failure;
use crate::settings::{GuardMode, GuardSettings};
use interfaces::Interface;
use place::{NotPlaced, Place};

pub(crate) use metrics::GuardMetrics;
pub(crate) use place::remove_all as remove_guards;

/// Between two tries to guard an interface that another program is on.
const RETRY: Duration = Duration::from_millis(100);

/// What the program returns for a frame that goes no further (`enum xdp_action` of the kernel).
const XDP_DROP: u32 = 1;

/// Why nothing is guarded, and what to do.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct GuardError(#[from] Cause);

#[derive(Debug, Error)]
enum Cause {
    /// The kernel does not take the program.
    #[error(
        "the guard's program: {0}; it needs the capabilities BPF, NET_ADMIN and PERFMON (`tidegate doctor` shows what is missing)"
    )]
    Load(#[from] Failure),
    /// The settings name no interface, and none is the way to the rest of the world.
    #[error("no network interface has a default route: name those to guard in guard.interfaces")]
    NoInterface,
    /// The kernel's routes could not be read.
    #[error(
        "cannot find the interfaces that have a default route ({0}): name those to guard in guard.interfaces"
    )]
    Routes(std::io::Error),
}

/// Listeners that are guarded, until this is dropped or, with pins, [removed](Self::remove).
#[derive(Debug)]
pub struct Guard {
    posts: Arc<Posts>,
    /// Tries on, for interfaces that another program is on.
    trying: Option<Trying>,
}

/// The program and where it is.
struct Posts {
    mode: GuardMode,
    pins: Option<PathBuf>,
    verdicts: maps::VerdictMap,
    /// Names that no interface has.
    missing: Vec<String>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    programs: Ebpf,
    posts: Vec<Post>,
}

/// One interface.
#[derive(Debug)]
struct Post {
    interface: Interface,
    standing: Standing,
}

/// What became of the attempt to guard an interface.
#[derive(Debug)]
enum Standing {
    Guarded(Place),
    /// It is to be tried; another program may be there.
    Busy,
    Off,
}

#[derive(Debug)]
struct Trying {
    /// Dropped to end it.
    _on: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl Guard {
    /// Loads the program with the rules of the settings and puts it on the interfaces. With `pins` it takes the places of
    /// the process before. Where another program is, it is tried again for as long as `patience` says, in a thread.
    ///
    /// # Errors
    /// When no interface can be guarded for a reason that all share. What goes wrong with one of them is logged.
    pub fn start(
        settings: &GuardSettings,
        pins: Option<&Path>,
        patience: Duration,
    ) -> Result<Self, GuardError> {
        let names = interfaces::chosen(&settings.interfaces)?;
        let mut programs = maps::load(settings).map_err(Cause::Load)?;
        let (found, missing) = find(names);
        let posts = Arc::new(Posts {
            mode: settings.mode,
            pins: pins.map(Path::to_owned),
            verdicts: maps::verdicts(&mut programs).map_err(Cause::Load)?,
            missing,
            state: Mutex::new(State {
                programs,
                posts: found,
            }),
        });
        let all_placed = posts.attach();
        posts.remove_others();
        let trying = match all_placed {
            true => None,
            false => try_on(&posts, patience),
        };
        Ok(Self { posts, trying })
    }

    /// Adds its metrics.
    pub fn register(&self, registry: &mut Registry) {
        self.metrics().register(registry);
    }

    /// The metrics `tidegate_guard_packets_total` and `tidegate_guard_state`.
    pub(crate) fn metrics(&self) -> GuardMetrics {
        GuardMetrics::of(Arc::clone(&self.posts))
    }

    /// Leaves the interfaces, which nobody guards from then on. Whoever hands over drops the guard instead.
    pub fn remove(mut self) {
        self.stop_trying();
        self.posts.unpin();
    }

    /// Whether the program drops an Ethernet frame. The frame need not come from anywhere; it counts all the same.
    ///
    /// # Errors
    /// When the kernel cannot run the program by itself.
    #[doc(hidden)]
    pub fn drops(&self, frame: &[u8]) -> Result<bool, GuardError> {
        let state = &mut *self.posts.state();
        let program = maps::program(&mut state.programs).map_err(Cause::Load)?;
        let ran = program.test_run(TestRunOptions {
            data_in: Some(frame),
            ..TestRunOptions::new()
        });
        let ran =
            ran.map_err(|error| Cause::Load(Failure::new("cannot run the program", error)))?;
        Ok(ran.return_value == XDP_DROP)
    }

    fn stop_trying(&mut self) {
        if let Some(Trying { _on, thread }) = self.trying.take() {
            drop(_on);
            // It ends at once, and had nothing to say but what it logged.
            _ = thread.join();
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.stop_trying();
        // Metrics hold the rest.
        self.posts.state().posts.clear();
    }
}

/// Whether the kernel takes the program.
pub(super) fn probe() -> Result<(), Failure> {
    maps::load(&GuardSettings {
        interfaces: Vec::new(),
        mode: GuardMode::Auto,
        listeners: Vec::new(),
    })
    .map(drop)
}

/// Interfaces to guard, and names of those that are not there.
fn find(names: Vec<String>) -> (Vec<Post>, Vec<String>) {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in names {
        match Interface::named(&name) {
            Ok(interface) => found.push(Post {
                interface,
                standing: Standing::Busy,
            }),
            Err(error) => {
                tracing::error!(
                    interface = name,
                    "guard: off: there is no such interface ({error}); correct guard.interfaces (`ip link` lists them)"
                );
                missing.push(name);
            }
        }
    }
    (found, missing)
}

/// Goes on trying in the background.
fn try_on(posts: &Arc<Posts>, patience: Duration) -> Option<Trying> {
    let (on, ended) = mpsc::channel();
    let posts = Arc::clone(posts);
    let until = Instant::now() + patience;
    let work = move || {
        while ended.recv_timeout(RETRY) == Err(RecvTimeoutError::Timeout) {
            if posts.attach() {
                return;
            }
            if Instant::now() >= until {
                posts.give_up();
                return;
            }
        }
    };
    match thread::Builder::new().name("guard".to_owned()).spawn(work) {
        Ok(thread) => Some(Trying { _on: on, thread }),
        Err(error) => {
            tracing::error!("guard: cannot try again, no thread: {error}");
            None
        }
    }
}

impl Posts {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries every interface that is not decided. Whether all are then.
    fn attach(&self) -> bool {
        let State { programs, posts } = &mut *self.state();
        let undecided = posts
            .iter_mut()
            .filter(|post| matches!(post.standing, Standing::Busy));
        let mut decided = true;
        for post in undecided {
            let placed = maps::program(programs).map_err(NotPlaced::Failed);
            let placed = placed.and_then(|program| {
                place::put(program, &post.interface, self.mode, self.pins.as_deref())
            });
            post.standing = match placed {
                Ok(place) => {
                    tracing::info!(
                        interface = %post.interface,
                        mode = place.mode().as_str(),
                        "guard: in force"
                    );
                    Standing::Guarded(place)
                }
                Err(NotPlaced::Busy) => {
                    decided = false;
                    Standing::Busy
                }
                Err(NotPlaced::Failed(failure)) => {
                    tracing::error!(interface = %post.interface, "guard: off: {failure}");
                    Standing::Off
                }
            };
        }
        decided
    }

    /// Takes away what is pinned for interfaces that are not guarded any more.
    fn remove_others(&self) {
        let Some(pins) = &self.pins else {
            return;
        };
        let state = self.state();
        let kept = state.posts.iter().filter_map(|post| match &post.standing {
            Standing::Guarded(place) => place.pin(),
            Standing::Busy | Standing::Off => None,
        });
        place::remove_all_but(pins, &kept.collect::<Vec<_>>());
    }

    fn give_up(&self) {
        for post in &mut self.state().posts {
            if matches!(post.standing, Standing::Busy) {
                tracing::error!(
                    interface = %post.interface,
                    "guard: off: another XDP program is on the interface (`ip link show` names it); remove it, or leave the \
                     interface out of guard.interfaces"
                );
                post.standing = Standing::Off;
            }
        }
    }

    fn unpin(&self) {
        for post in self.state().posts.drain(..) {
            if let Standing::Guarded(place) = post.standing {
                place.remove();
                tracing::info!(interface = %post.interface, "guard: removed");
            }
        }
    }
}

impl std::fmt::Debug for Posts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Posts")
            .field("mode", &self.mode)
            .field("pins", &self.pins)
            .finish_non_exhaustive()
    }
}
