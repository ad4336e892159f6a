//! Choosing the listening socket for a new connection (program type `sk_reuseport`).
//!
//! The programs never refuse a connection: where no socket of ours can be had they return without a choice, and the kernel
//! chooses by its hash among all sockets that listen on the address. They have no loop and read nothing of the packet, so
//! CAP_BPF and CAP_NET_ADMIN are enough to load them.

use aya_ebpf::bindings::sk_action::SK_PASS;
use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_get_smp_processor_id};
use aya_ebpf::macros::{map, sk_reuseport};
use aya_ebpf::maps::{Array, PerCpuArray, ReusePortSockArray};
use aya_ebpf::programs::SkReuseportContext;
use tidegate_ebpf::steering::{
    CPUS, Control, Counters, LANES, Lane, Load, MODE_CPU, MODE_LEAST_LOADED, WORKERS, cpu_slot,
    lane, slot,
};

/// `BPF_F_MMAPABLE`: processes read and write the map as memory.
const SHARED_MEMORY: u32 = 1 << 10;

#[map]
static CONTROL: Array<Control> = Array::with_max_entries(1, SHARED_MEMORY);
#[map]
static LANE: Array<Lane> = Array::with_max_entries(LANES, 0);
/// The worker of each CPU, for each lane.
#[map]
static CPU_WORKERS: Array<u32> = Array::with_max_entries(LANES * CPUS, 0);
#[map]
static LOADS: Array<Load> = Array::with_max_entries(LANES * WORKERS, SHARED_MEMORY);
#[map]
static SOCKETS: ReusePortSockArray = ReusePortSockArray::with_max_entries(LANES * WORKERS, 0);
#[map]
static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(LANES * WORKERS, 0);

/// What the connection is.
#[derive(Clone, Copy, PartialEq)]
enum Arrival {
    New,
    /// It waited at a listening socket that was closed.
    Migrating,
}

/// New connections, and those of listening sockets that are closed (kernel 5.14 or newer).
#[sk_reuseport(migrate)]
fn steer(context: SkReuseportContext) -> u32 {
    let arrival = match context.migrating_sk() {
        Some(_) => Arrival::Migrating,
        None => Arrival::New,
    };
    choose(&context, arrival)
}

/// New connections alone, for older kernels.
#[sk_reuseport]
fn steer_select(context: SkReuseportContext) -> u32 {
    choose(&context, Arrival::New)
}

#[inline(always)]
fn choose(context: &SkReuseportContext, arrival: Arrival) -> u32 {
    if let Some(control) = CONTROL.get_ptr(0) {
        // SAFETY: the entry exists for as long as the program runs. Processes write it meanwhile, one aligned word.
        let generation = unsafe { (&raw const (*control).generation).read_volatile() };
        // The predecessor, if it still drains, gets what a process that died cannot.
        let _ = choose_in(context, lane(generation), arrival)
            || choose_in(context, lane(generation.wrapping_sub(1)), arrival);
    }
    SK_PASS
}

/// Chooses a socket of a lane; false when it has none that can be had.
#[inline(always)]
fn choose_in(context: &SkReuseportContext, lane: u32, arrival: Arrival) -> bool {
    let Some(Lane { workers, mode }) = LANE.get(lane) else {
        return false;
    };
    let (workers, mode) = (*workers, *mode);
    if workers == 0 || workers > WORKERS {
        return false;
    }
    let (one, other) = two_of(workers);
    let (first, second) = match mode {
        MODE_LEAST_LOADED if load(lane, other) < load(lane, one) => (other, one),
        MODE_LEAST_LOADED => (one, other),
        MODE_CPU => (worker_of_cpu(lane, workers), one),
        _ => return false,
    };
    take(context, slot(lane, first), arrival) || take(context, slot(lane, second), arrival)
}

#[inline(always)]
fn take(context: &SkReuseportContext, slot: u32, arrival: Arrival) -> bool {
    let taken = SOCKETS.select_reuseport(context, slot).is_ok();
    if let Some(counters) = COUNTERS.get_ptr_mut(slot) {
        // SAFETY: the entry is this CPU's own, and a program is not interrupted by another run of itself.
        let counters = unsafe { &mut *counters };
        match (taken, arrival) {
            (true, Arrival::New) => counters.steered += 1,
            (true, Arrival::Migrating) => counters.migrated += 1,
            (false, _) => counters.fell_back += 1,
        }
    }
    if taken && let Some(load) = LOADS.get_ptr_mut(slot) {
        // SAFETY: the entry exists for as long as the program runs. CPUs that do this at one time may lose a count, which
        // the worker makes good when it has caught up; an atomic addition would need kernel 5.12.
        unsafe {
            let steered = &raw mut (*load).steered;
            steered.write_volatile(steered.read_volatile().wrapping_add(1));
        }
    }
    taken
}

#[inline(always)]
fn load(lane: u32, worker: u32) -> u64 {
    LOADS.get(slot(lane, worker)).map_or(u64::MAX, Load::total)
}

/// Two different workers at random; the same one twice where there is only one.
#[inline(always)]
fn two_of(workers: u32) -> (u32, u32) {
    let random = random();
    let one = remainder(random & 0xffff, workers);
    let other = one + 1 + remainder(random >> 16, workers - 1);
    match other < workers {
        true => (one, other),
        false => (one, other - workers),
    }
}

#[inline(always)]
fn worker_of_cpu(lane: u32, workers: u32) -> u32 {
    // SAFETY: the helper has no condition.
    let cpu = unsafe { bpf_get_smp_processor_id() } as u32;
    let worker = CPU_WORKERS.get(cpu_slot(lane, cpu));
    remainder(worker.copied().unwrap_or(cpu), workers)
}

#[inline(always)]
fn random() -> u32 {
    // SAFETY: the helper has no condition.
    unsafe { bpf_get_prandom_u32() }
}

/// `%` without the way to a panic that it has for 0.
#[inline(always)]
fn remainder(number: u32, divisor: u32) -> u32 {
    match number.checked_rem(divisor) {
        Some(remainder) => remainder,
        None => 0,
    }
}
