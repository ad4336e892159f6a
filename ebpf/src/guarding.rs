//! Keeping packets from listeners (program type `xdp`).
//!
//! The program drops what the rules of a guarded listener say, and nothing else: what is for nobody it knows, or is not
//! understood, goes on untouched. It reads the packet at places that the packet itself names, which takes CAP_PERFMON
//! besides CAP_BPF and CAP_NET_ADMIN.

mod packet;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{HashMap, LpmTrie, LruHashMap, PerCpuArray};
use aya_ebpf::programs::XdpContext;
use tidegate_ebpf::guard::{
    DENY, Destination, IPV4, IPV6, LISTENER_BITS, Listener, RuleV4, RuleV6, Source, Verdicts,
};

use packet::{Address, Segment};

// How many entries there are is said when the maps are made.
#[map]
static GUARD_LISTENERS: HashMap<Destination, Listener> = HashMap::with_max_entries(1, 0);
#[map]
static GUARD_RULES_V4: LpmTrie<RuleV4, u32> = LpmTrie::with_max_entries(1, 0);
#[map]
static GUARD_RULES_V6: LpmTrie<RuleV6, u32> = LpmTrie::with_max_entries(1, 0);
/// When each bucket is full, in ns since the start. Full ones may be forgotten, and are, for those of newer sources.
#[map]
static GUARD_BUCKETS: LruHashMap<Source, u64> = LruHashMap::with_max_entries(1, 0);
#[map]
static GUARD_VERDICTS: PerCpuArray<Verdicts> = PerCpuArray::with_max_entries(1, 0);

/// What becomes of a packet to a guarded listener.
#[derive(Clone, Copy, PartialEq)]
enum Verdict {
    Passed,
    Limited,
    Denied,
}

#[xdp]
fn guard(context: XdpContext) -> u32 {
    let verdict = match packet::segment(&context) {
        Some(segment) => judge(&segment),
        None => None,
    };
    let Some(verdict) = verdict else {
        return XDP_PASS;
    };
    count(verdict);
    match verdict {
        Verdict::Passed => XDP_PASS,
        Verdict::Limited | Verdict::Denied => XDP_DROP,
    }
}

/// `None` when the segment is for no guarded listener.
#[inline(always)]
fn judge(segment: &Segment) -> Option<Verdict> {
    let listener = listener(segment)?;
    if rule(listener, &segment.source) == DENY {
        return Some(Verdict::Denied);
    }
    if !segment.begins || listener.interval == 0 || take_token(listener, &segment.source) {
        Some(Verdict::Passed)
    } else {
        Some(Verdict::Limited)
    }
}

/// The one at the address itself, or else at every address.
#[inline(always)]
fn listener(segment: &Segment) -> Option<&'static Listener> {
    let mut destination = Destination {
        address: [0; 16],
        port: segment.port,
        family: family(&segment.destination),
    };
    // SAFETY: listeners do not change once the program is attached.
    let every = unsafe { GUARD_LISTENERS.get(destination) };
    match &segment.destination {
        Address::V4([a, b, c, d]) => {
            [
                destination.address[0],
                destination.address[1],
                destination.address[2],
                destination.address[3],
            ] = [*a, *b, *c, *d];
        }
        Address::V6(address) => destination.address = *address,
    }
    // SAFETY: as above.
    unsafe { GUARD_LISTENERS.get(destination) }.or(every)
}

#[inline(always)]
fn family(address: &Address) -> u16 {
    match address {
        Address::V4(_) => IPV4,
        Address::V6(_) => IPV6,
    }
}

#[inline(always)]
fn rule(listener: &Listener, source: &Address) -> u32 {
    let rule = match source {
        Address::V4(address) => GUARD_RULES_V4.get(Key::new(
            LISTENER_BITS + 32,
            RuleV4 {
                listener: listener.id,
                address: *address,
            },
        )),
        Address::V6(address) => GUARD_RULES_V6.get(Key::new(
            LISTENER_BITS + 128,
            RuleV6 {
                listener: listener.id,
                address: *address,
            },
        )),
    };
    match rule {
        Some(rule) => *rule,
        None => listener.default,
    }
}

/// Whether there was one. A source that is not known has a full bucket.
#[inline(always)]
fn take_token(listener: &Listener, source: &Address) -> bool {
    let address = match source {
        Address::V4([a, b, c, d]) => [*a, *b, *c, *d, 0, 0, 0, 0],
        Address::V6([a, b, c, d, e, f, g, h, ..]) => [*a, *b, *c, *d, *e, *f, *g, *h],
    };
    let source = Source {
        listener: listener.id,
        family: u32::from(family(source)),
        address,
    };
    // SAFETY: the helper has no condition.
    let now = unsafe { bpf_ktime_get_ns() };
    let Some(bucket) = GUARD_BUCKETS.get_ptr_mut(source) else {
        let first = listener.take(now, now).unwrap_or(now);
        // A map that takes no entry limits nobody.
        let _ = GUARD_BUCKETS.insert(source, first, 0);
        return true;
    };
    // SAFETY: the entry stays memory of the map for as long as the program runs. CPUs that take a token at one time may
    // take the same one, and a bucket that is forgotten meanwhile may be another source's.
    unsafe {
        match listener.take(bucket.read_volatile(), now) {
            Some(after) => {
                bucket.write_volatile(after);
                true
            }
            None => false,
        }
    }
}

#[inline(always)]
fn count(verdict: Verdict) {
    if let Some(verdicts) = GUARD_VERDICTS.get_ptr_mut(0) {
        // SAFETY: the entry is this CPU's own, and a program is not interrupted by another run of itself.
        let verdicts = unsafe { &mut *verdicts };
        match verdict {
            Verdict::Passed => verdicts.passed += 1,
            Verdict::Limited => verdicts.limited += 1,
            Verdict::Denied => verdicts.denied += 1,
        }
    }
}
