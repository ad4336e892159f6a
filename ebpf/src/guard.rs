//! The guard: what is kept from listeners before the network stack sees it.
//!
//! A packet's destination gives the [`Listener`], if it is guarded. Its source is looked up among the listener's rules:
//! prefixes of addresses, the longest one wins. A SYN of a source that may come takes a token from the source's bucket.

/// Types of the map from destinations to listeners and of both tries of rules: IPv4 or IPv6.
pub const IPV4: u16 = 4;
/// See [`IPV4`].
pub const IPV6: u16 = 6;

/// [`Listener::default`] and the values of rules: the packet goes on.
pub const ALLOW: u32 = 0;
/// The packet is dropped.
pub const DENY: u32 = 1;

/// Extension headers of IPv6 that the program reads over. Packets with more pass as if they were for nobody.
pub const EXTENSION_HEADERS: u32 = 8;

/// Where packets go: the key of a listener.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Destination {
    /// In the order of the network; an IPv4 address is the first four. All 0: every address of the family.
    pub address: [u8; 16],
    /// TCP port, in the order of the network.
    pub port: [u8; 2],
    /// [`IPV4`] or [`IPV6`].
    pub family: u16,
}

/// What is kept from one listener.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listener {
    /// How long it takes until a bucket has one token more, in ns. 0: SYNs are not limited.
    pub interval: u64,
    /// How long it takes until an empty bucket is full, in ns: a multiple of `interval`.
    pub depth: u64,
    /// Its part of the keys of rules and buckets.
    pub id: u32,
    /// [`ALLOW`] or [`DENY`]: for sources that no rule names.
    pub default: u32,
}

/// The key of a rule for IPv4: a prefix of all bits of the listener and some of the address.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleV4 {
    /// [`Listener::id`].
    pub listener: u32,
    /// Of the source, in the order of the network.
    pub address: [u8; 4],
}

/// The key of a rule for IPv6: a prefix of all bits of the listener and some of the address.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleV6 {
    /// [`Listener::id`].
    pub listener: u32,
    /// Of the source, in the order of the network.
    pub address: [u8; 16],
}

/// Bits of a rule's key before the address.
pub const LISTENER_BITS: u32 = u32::BITS;

/// Who shares a bucket: an IPv4 address, or the first 64 bits of IPv6 ones, since every host of a network has the others to
/// choose from (RFC 4291 section 2.5.4).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// [`Listener::id`].
    pub listener: u32,
    /// [`IPV4`] or [`IPV6`].
    pub family: u32,
    /// In the order of the network; an IPv4 address is the first four.
    pub address: [u8; 8],
}

/// What became of packets to guarded listeners, counted for each CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// They went on.
    pub passed: u64,
    /// SYNs that found no token.
    pub limited: u64,
    /// From sources that may not come.
    pub denied: u64,
}

impl Listener {
    /// Takes a token at `now` from a bucket that is full from `full` on, both in ns of one clock. The bucket afterwards, or
    /// `None` when it had no token.
    pub const fn take(&self, full: u64, now: u64) -> Option<u64> {
        let full = if full > now { full } else { now };
        // Both summands are far below 2^63: a clock that runs since the start, and a depth that user space makes so.
        let full = full.wrapping_add(self.interval);
        if full.wrapping_sub(now) > self.depth {
            None
        } else {
            Some(full)
        }
    }
}

// The kernel compares keys as bytes: none of them may be padding.
const _: () = {
    assert!(size_of::<Destination>() == 20);
    assert!(size_of::<Listener>() == 24);
    assert!(size_of::<RuleV4>() == 8);
    assert!(size_of::<RuleV6>() == 20);
    assert!(size_of::<Source>() == 16);
};

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn listener(rate: u64, burst: u64) -> Listener {
        let interval = SECOND / rate;
        Listener {
            interval,
            depth: interval * burst,
            ..Listener::default()
        }
    }

    /// How many of these SYNs pass, all at one time.
    fn passing(listener: Listener, bucket: &mut u64, now: u64, syns: u32) -> u32 {
        let mut passing = 0;
        for _ in 0..syns {
            if let Some(after) = listener.take(*bucket, now) {
                *bucket = after;
                passing += 1;
            }
        }
        passing
    }

    #[test]
    fn a_bucket_holds_its_burst_and_fills_at_its_rate() {
        let listener = listener(10, 5);
        let mut bucket = 0;
        let start = 100 * SECOND;
        assert_eq!(passing(listener, &mut bucket, start, 9), 5);
        assert_eq!(passing(listener, &mut bucket, start + SECOND / 5, 9), 2);
        assert_eq!(passing(listener, &mut bucket, start + 3600 * SECOND, 9), 5);
    }

    #[test]
    fn a_burst_of_one_lets_the_first_pass() {
        let listener = listener(1, 1);
        let mut bucket = SECOND;
        assert_eq!(passing(listener, &mut bucket, SECOND, 3), 1);
        assert_eq!(passing(listener, &mut bucket, 2 * SECOND - 1, 3), 0);
        assert_eq!(passing(listener, &mut bucket, 2 * SECOND, 3), 1);
    }

    #[test]
    fn the_greatest_burst_does_not_overflow() {
        let burst = u64::from(u32::MAX);
        let listener = listener(1, burst);
        // A hundred years after the start.
        let now = 100 * 365 * 24 * 3600 * SECOND;
        let almost_empty = now + (burst - 1) * SECOND;
        assert_eq!(
            listener.take(almost_empty, now),
            Some(almost_empty + SECOND)
        );
        assert_eq!(listener.take(almost_empty + SECOND, now), None);
    }
}
