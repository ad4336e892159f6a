//! Keys of session tickets (RFC 5077, RFC 8446 section 4.6.1) that all nodes share.

use std::fmt;
use std::time::Duration;

use crate::UnixTime;

/// How long a ticket resumes its session after it was sealed. A key is of use for that long after the next one has
/// become active.
pub const TICKET_LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);

/// A key of session tickets. Its `Debug` shows only its name.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketKey {
    /// Names the key in the tickets that it seals.
    pub name: [u8; 16],
    /// The moment from which tickets are sealed with it, unless a later one has come. Every node has the key before that.
    pub active_from: UnixTime,
    /// For AES-256-GCM.
    pub secret: [u8; 32],
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKey")
            .field(
                "name",
                &format_args!("{:032x}", u128::from_be_bytes(self.name)),
            )
            .field("active_from", &self.active_from)
            .finish_non_exhaustive()
    }
}

/// The keys that tickets are opened with, one of which seals new ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TicketKeys {
    /// Oldest first by [`TicketKey::active_from`].
    keys: Vec<TicketKey>,
}

impl TicketKeys {
    /// Takes keys in any order.
    pub fn new(keys: impl IntoIterator<Item = TicketKey>) -> Self {
        let mut keys: Vec<_> = keys.into_iter().collect();
        keys.sort_by_key(|key| (key.active_from, key.name));
        keys.dedup_by_key(|key| key.name);
        Self { keys }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// All of them, oldest first.
    pub fn all(&self) -> &[TicketKey] {
        &self.keys
    }

    /// The key that new tickets are sealed with at this moment: the newest that is active; before any is, the first.
    pub fn sealing(&self, now: UnixTime) -> Option<&TicketKey> {
        let active = self.keys.iter().rev().find(|key| key.active_from <= now);
        active.or_else(|| self.keys.first())
    }

    /// The key of this name.
    pub fn named(&self, name: &[u8]) -> Option<&TicketKey> {
        self.keys.iter().find(|key| key.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8, active_from: i64) -> TicketKey {
        TicketKey {
            name: [number; 16],
            active_from: UnixTime(active_from),
            secret: [number; 32],
        }
    }

    #[test]
    fn the_newest_key_that_is_active_seals_and_all_open() {
        let keys = TicketKeys::new([key(3, 300), key(1, 100), key(2, 200), key(2, 200)]);
        assert_eq!(keys.all().len(), 3, "a key is kept once");
        for (now, sealing) in [(0, 1), (100, 1), (199, 1), (200, 2), (299, 2), (9999, 3)] {
            let found = keys.sealing(UnixTime(now)).map(|key| key.name);
            assert_eq!(found, Some([sealing; 16]), "at {now}");
        }
        for number in 1..=3 {
            assert_eq!(
                keys.named(&[number; 16]).map(|key| key.secret),
                Some([number; 32])
            );
        }
        assert_eq!(keys.named(&[4; 16]), None);
        assert_eq!(keys.named(&[]), None);
        assert_eq!(TicketKeys::default().sealing(UnixTime(0)), None);
    }

    #[test]
    fn a_key_is_not_shown() {
        let shown = format!("{:?}", key(7, 5));
        assert!(shown.contains("07070707") && shown.contains("active_from"));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
