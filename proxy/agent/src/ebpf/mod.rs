//! What runs in the kernel: programs are loaded, their maps filled and read. The one place that knows aya.

mod failure;
mod guard;
mod memory;
mod pins;
mod probe;
mod steering;

pub(crate) use failure::Failure;
pub use guard::{Guard, GuardError};
pub(crate) use guard::{GuardMetrics, remove_guards};
pub(crate) use pins::{Pins, Predecessor, ROOT_IN_POD};
pub(crate) use probe::{Probed, probe};
pub(crate) use steering::{Addresses, Steering, allowed_cpus};

/// The programs, built from `ebpf/` by `cargo xtask ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../ebpf/tidegate.bpf.o");
