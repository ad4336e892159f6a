//! The program's maps: settings go in, verdicts come out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{HashMap, Map, MapData, PerCpuArray};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader, Pod};
use ipnet::IpNet;
use tidegate_dataplane::ListenAddress;
use tidegate_ebpf::guard::{
    ALLOW, DENY, Destination, IPV4, IPV6, LISTENER_BITS, Listener, RuleV4, RuleV6, Verdicts,
};

use super::super::OBJECT;
use super::super::failure::Failure;
use crate::settings::{GuardListener, GuardSettings, GuardVerdict};

/// Name of the program in the object.
pub(super) const PROGRAM: &str = "guard";

/// Sources whose buckets are known at one time; those that came last. About 100 bytes of the kernel's memory each.
const BUCKETS: u32 = 1 << 16;

const NANOSECONDS: u64 = 1_000_000_000;

/// Verdicts, counted for each CPU.
pub(super) type VerdictMap = PerCpuArray<MapData, Plain<Verdicts>>;

/// A type of the maps, as aya copies it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plain<T>(T);

#[allow(
    unsafe_code,
    reason = "a promise to aya about types that are made for this"
)]
mod plain {
    use super::{Destination, Listener, Plain, Pod, RuleV4, RuleV6, Verdicts};

    // SAFETY: integers alone, without padding (`repr(C)`; 16 + 2 + 2 bytes).
    unsafe impl Pod for Plain<Destination> {}
    // SAFETY: the same (8 + 8 + 4 + 4 bytes).
    unsafe impl Pod for Plain<Listener> {}
    // SAFETY: the same (4 + 4 bytes).
    unsafe impl Pod for Plain<RuleV4> {}
    // SAFETY: the same (4 + 16 bytes).
    unsafe impl Pod for Plain<RuleV6> {}
    // SAFETY: the same (3 times 8 bytes).
    unsafe impl Pod for Plain<Verdicts> {}
}

/// Loads the program with maps that hold the settings.
///
/// # Errors
/// What the kernel does not take.
pub(super) fn load(settings: &GuardSettings) -> Result<Ebpf, Failure> {
    let listeners = listeners(&settings.listeners);
    let rules = rules(&settings.listeners);
    let entries = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).max(1);
    let mut loader = EbpfLoader::new();
    loader
        .map_max_entries("GUARD_LISTENERS", entries(listeners.len()))
        .map_max_entries("GUARD_RULES_V4", entries(rules.v4.len()))
        .map_max_entries("GUARD_RULES_V6", entries(rules.v6.len()))
        .map_max_entries("GUARD_BUCKETS", BUCKETS);
    let mut programs = loader.load(OBJECT)?;
    let mut map: HashMap<_, Plain<Destination>, Plain<Listener>> =
        map(&mut programs, "GUARD_LISTENERS")?.try_into()?;
    for (destination, listener) in listeners {
        map.insert(Plain(destination), Plain(listener), 0)?;
    }
    let mut trie: LpmTrie<_, Plain<RuleV4>, u32> =
        self::map(&mut programs, "GUARD_RULES_V4")?.try_into()?;
    for (length, rule, verdict) in rules.v4 {
        trie.insert(&Key::new(length, Plain(rule)), verdict, 0)?;
    }
    let mut trie: LpmTrie<_, Plain<RuleV6>, u32> =
        self::map(&mut programs, "GUARD_RULES_V6")?.try_into()?;
    for (length, rule, verdict) in rules.v6 {
        trie.insert(&Key::new(length, Plain(rule)), verdict, 0)?;
    }
    program(&mut programs)?.load()?;
    Ok(programs)
}

/// The program.
pub(super) fn program(programs: &mut Ebpf) -> Result<&mut Xdp, Failure> {
    let program = programs.program_mut(PROGRAM);
    let program =
        program.ok_or_else(|| Failure::new("cannot find a program in the object", PROGRAM));
    Ok(program?.try_into()?)
}

/// The map of verdicts, to keep.
pub(super) fn verdicts(programs: &mut Ebpf) -> Result<VerdictMap, Failure> {
    let name = "GUARD_VERDICTS";
    let map = programs.take_map(name);
    let map = map.ok_or_else(|| Failure::new("cannot find a map in the object", name))?;
    Ok(map.try_into()?)
}

/// The sum over all CPUs.
pub(super) fn sum(map: &VerdictMap) -> Verdicts {
    let mut sum = Verdicts::default();
    for Plain(verdicts) in map.get(&0, 0).iter().flat_map(|values| values.iter()) {
        sum.passed += verdicts.passed;
        sum.limited += verdicts.limited;
        sum.denied += verdicts.denied;
    }
    sum
}

fn map<'a>(programs: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Map, Failure> {
    let map = programs.map_mut(name);
    map.ok_or_else(|| Failure::new("cannot find a map in the object", name))
}

fn listeners(guarded: &[GuardListener]) -> Vec<(Destination, Listener)> {
    numbered(guarded)
        .flat_map(|(id, guarded)| {
            let listener = listener(id, guarded);
            destinations(guarded.address).map(move |destination| (destination, listener))
        })
        .collect()
}

fn numbered(guarded: &[GuardListener]) -> impl Iterator<Item = (u32, &GuardListener)> {
    (0..).zip(guarded)
}

fn listener(id: u32, guarded: &GuardListener) -> Listener {
    let (interval, burst) = guarded.syn.map_or((0, 0), |limit| {
        let rate = u64::from(limit.rate.get());
        (NANOSECONDS.div_ceil(rate), u64::from(limit.burst.get()))
    });
    Listener {
        interval,
        // Less than 2^62: a second times the most that 32 bits hold.
        depth: interval.saturating_mul(burst),
        id,
        default: word(guarded.default),
    }
}

fn word(verdict: GuardVerdict) -> u32 {
    match verdict {
        GuardVerdict::Allow => ALLOW,
        GuardVerdict::Deny => DENY,
    }
}

fn destinations(address: ListenAddress) -> impl Iterator<Item = Destination> {
    let (first, second): (SocketAddr, Option<SocketAddr>) = match address {
        ListenAddress::Socket(address) => (address, None),
        ListenAddress::Port(port) => (
            (Ipv4Addr::UNSPECIFIED, port).into(),
            Some((Ipv6Addr::UNSPECIFIED, port).into()),
        ),
    };
    [Some(first), second].into_iter().flatten().map(destination)
}

fn destination(address: SocketAddr) -> Destination {
    let port = address.port().to_be_bytes();
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => {
            let mut address = [0; 16];
            let [a, b, c, d] = ip.octets();
            [address[0], address[1], address[2], address[3]] = [a, b, c, d];
            Destination {
                address,
                port,
                family: IPV4,
            }
        }
        IpAddr::V6(ip) => Destination {
            address: ip.octets(),
            port,
            family: IPV6,
        },
    }
}

/// Keys with the lengths of their prefixes, and what happens.
#[derive(Debug, Default)]
struct Rules {
    v4: Vec<(u32, RuleV4, u32)>,
    v6: Vec<(u32, RuleV6, u32)>,
}

fn rules(guarded: &[GuardListener]) -> Rules {
    let mut rules = Rules::default();
    for (listener, guarded) in numbered(guarded) {
        for (net, verdict) in &guarded.rules {
            let length = LISTENER_BITS + u32::from(net.prefix_len());
            let verdict = word(*verdict);
            match net {
                IpNet::V4(net) => {
                    let address = net.network().octets();
                    rules
                        .v4
                        .push((length, RuleV4 { listener, address }, verdict));
                }
                IpNet::V6(net) => {
                    let address = net.network().octets();
                    rules
                        .v6
                        .push((length, RuleV6 { listener, address }, verdict));
                }
            }
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::SynLimit;
    use std::num::NonZeroU32;

    fn guarded(address: ListenAddress) -> GuardListener {
        GuardListener {
            address,
            syn: None,
            rules: Vec::new(),
            default: GuardVerdict::Allow,
        }
    }

    #[test]
    fn a_port_is_guarded_in_both_families() {
        let destinations: Vec<_> = destinations(ListenAddress::Port(443)).collect();
        let every = |family| Destination {
            address: [0; 16],
            port: [1, 187],
            family,
        };
        assert_eq!(destinations, [every(IPV4), every(IPV6)]);
    }

    #[test]
    fn an_ipv4_address_is_the_first_bytes() {
        let one = destination("203.0.113.7:80".parse().unwrap());
        assert_eq!(&one.address[..5], &[203, 0, 113, 7, 0]);
        let mapped = destination("[::ffff:203.0.113.7]:80".parse().unwrap());
        assert_eq!(mapped, one);
    }

    #[test]
    fn the_greatest_numbers_stay_in_range() {
        let limit = |rate, burst| {
            let mut guarded = guarded(ListenAddress::Port(1));
            guarded.syn = Some(SynLimit {
                rate: NonZeroU32::new(rate).unwrap(),
                burst: NonZeroU32::new(burst).unwrap(),
            });
            listener(0, &guarded)
        };
        let slow = limit(1, u32::MAX);
        assert_eq!(slow.depth, NANOSECONDS * u64::from(u32::MAX));
        assert!(slow.depth < 1 << 62);
        let fast = limit(u32::MAX, 1);
        assert_eq!((fast.interval, fast.depth), (1, 1));
        assert_eq!(listener(0, &guarded(ListenAddress::Port(1))).interval, 0);
    }

    #[test]
    fn a_rule_is_its_listeners_alone() {
        let mut second = guarded(ListenAddress::Port(2));
        second.rules = vec![
            ("192.0.2.0/24".parse().unwrap(), GuardVerdict::Deny),
            ("2001:db8::/32".parse().unwrap(), GuardVerdict::Allow),
        ];
        let rules = rules(&[guarded(ListenAddress::Port(1)), second]);
        let v4 = RuleV4 {
            listener: 1,
            address: [192, 0, 2, 0],
        };
        assert_eq!(rules.v4, [(56, v4, DENY)]);
        assert_eq!(rules.v6.len(), 1);
        assert_eq!((rules.v6[0].0, rules.v6[0].2), (64, ALLOW));
    }
}
