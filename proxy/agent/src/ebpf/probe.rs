//! Trying what the kernel takes, for `tidegate doctor`.

use aya::Ebpf;

use super::OBJECT;
use super::failure::Failure;
use super::guard;
use super::steering::load_program;

/// One program and whether it can be loaded.
#[derive(Debug)]
pub(crate) struct Probed {
    /// Its name in the object.
    pub(crate) program: &'static str,
    /// Why it cannot.
    pub(crate) outcome: Result<(), String>,
}

/// Loads every program once, each with maps of its own, and lets it go again.
pub(crate) fn probe() -> Vec<Probed> {
    let steering = ["steer", "steer_select"].map(|program| Probed {
        program,
        outcome: try_steering(program).map_err(|failure| failure.to_string()),
    });
    let guard = Probed {
        program: "guard",
        outcome: guard::probe().map_err(|failure| failure.to_string()),
    };
    steering.into_iter().chain([guard]).collect()
}

fn try_steering(program: &'static str) -> Result<(), Failure> {
    let mut programs = Ebpf::load(OBJECT)?;
    load_program(&mut programs, program)
}
