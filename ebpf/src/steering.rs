//! Steering: which listening socket, of which process, gets a new connection.
//!
//! Each address has maps of its own. Up to [`LANES`] processes of one instance listen on it; each has a *generation*, one
//! more than its predecessor's, and the *lane* of that: its places in every map. [`Control`] says which one is in force.

/// Lanes: one for the process in force, one for its predecessor, which is in reserve while it drains, one for a newcomer,
/// and one to spare. A power of two.
pub const LANES: u32 = 4;

/// Workers of one process that can be steered to.
pub const WORKERS: u32 = 256;

/// CPUs that the mode [`MODE_CPU`] tells apart; those with higher numbers share with `number % CPUS`. A power of two.
pub const CPUS: u32 = 1024;

/// [`Lane::mode`]: the less loaded of two workers chosen at random.
pub const MODE_LEAST_LOADED: u32 = 1;

/// [`Lane::mode`]: the worker of the CPU that took the packet.
pub const MODE_CPU: u32 = 2;

/// The lane of a generation.
pub const fn lane(generation: u64) -> u32 {
    (generation & (LANES as u64 - 1)) as u32
}

/// A worker's place in the maps of sockets, loads and counters.
pub const fn slot(lane: u32, worker: u32) -> u32 {
    lane * WORKERS + worker
}

/// A CPU's place in the map from CPUs to workers.
pub const fn cpu_slot(lane: u32, cpu: u32) -> u32 {
    lane * CPUS + (cpu & (CPUS - 1))
}

/// The one entry of the map `CONTROL`, in memory that the kernel and every process of the instance share.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// The generation that gets new connections. 0: none yet.
    pub generation: u64,
}

/// How the process of one lane wants to be steered to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lane {
    /// Its workers, at most [`WORKERS`]. 0: the lane is empty.
    pub workers: u32,
    /// [`MODE_LEAST_LOADED`] or [`MODE_CPU`].
    pub mode: u32,
}

/// How busy a worker is. One cache line, in memory that the kernel and the worker share.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// What the worker holds: open connections, and [`HANDSHAKE`] for each TLS handshake in progress. The worker writes
    /// it.
    pub held: u64,
    /// `steered` as the worker found it when it last had no connection waiting. The worker writes it.
    pub seen: u64,
    /// Connections that were ever steered to the worker, some of which may have been lost in counting. The program writes
    /// it.
    pub steered: u64,
    /// The rest of the cache line.
    pub reserved: [u64; 5],
}

/// What a TLS handshake in progress weighs in [`Load::held`], in open connections. A handshake costs the worker as much as
/// dozens of requests, while most open connections are idle.
pub const HANDSHAKE: u64 = 16;

impl Load {
    /// What a new connection would wait behind: connections that are held, and those that were steered to the worker and
    /// that it has not come to. The latter grow at a worker that does nothing but compute, which cannot say so itself.
    pub const fn total(&self) -> u64 {
        let waiting = self.steered.wrapping_sub(self.seen);
        // Counts were lost since the worker looked.
        if waiting >> 63 == 1 {
            self.held
        } else {
            self.held.wrapping_add(waiting)
        }
    }
}

/// What the program did for one worker, counted for each CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// New connections that the worker was chosen for.
    pub steered: u64,
    /// New connections that it was chosen for and whose socket was not there: another one got them.
    pub fell_back: u64,
    /// Connections that it got from a listening socket that was closed.
    pub migrated: u64,
}
