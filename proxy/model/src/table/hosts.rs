//! Hosts by name, laid out so that a look-up waits for memory once.
//!
//! With many hosts nothing that a request needs is in the processor's near caches, and following a pointer costs more
//! than all computing. So what a look-up reads stands together: the table's slot has the name next to the host
//! itself, whose route for the prefix `/` is part of it. One small array before it, with a byte for each slot,
//! says which slot to read; it stays in cache. A name too long for its slot costs one more read.
//!
//! Names are spread over shards, which copies of the index share. Changing a host copies its shard only.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::{VirtualHost, text::Text};
use crate::Hostname;

/// A power of two. With 10,000 hosts a shard has about 40 of them.
const SHARDS: usize = 256;

/// Hosts by name. Copies are cheap and share what is equal.
#[derive(Clone, Debug)]
pub(super) struct HostIndex {
    hasher: DefaultHashBuilder,
    shards: Box<[Arc<HashTable<Slot>>]>,
}

/// Fills one line of a processor's cache.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(super) struct Slot {
    name: Text,
    host: VirtualHost,
}

impl Slot {
    fn is_named(&self, name: &str) -> bool {
        self.name.as_bytes() == name.as_bytes()
    }

    /// The name, which was a host name when it was put in.
    fn hostname(&self) -> Option<Hostname> {
        Hostname::parse(self.name.as_str()?).ok()
    }
}

impl Default for HostIndex {
    fn default() -> Self {
        Self {
            hasher: DefaultHashBuilder::default(),
            shards: vec![Arc::default(); SHARDS].into(),
        }
    }
}

impl HostIndex {
    /// The host of this name.
    pub(super) fn find(&self, name: &str) -> Option<&VirtualHost> {
        let hash = self.hasher.hash_one(name.as_bytes());
        let slot = self.shards[shard(hash)].find(hash, |slot| slot.is_named(name));
        slot.map(|slot| &slot.host)
    }

    /// Puts a host in, in place of the one of this name.
    pub(super) fn insert(&mut self, name: &Hostname, host: VirtualHost) {
        let name = name.as_str();
        let hasher = &self.hasher;
        let hash = hasher.hash_one(name.as_bytes());
        let entry = Arc::make_mut(&mut self.shards[shard(hash)]).entry(
            hash,
            |slot| slot.is_named(name),
            |slot| hasher.hash_one(slot.name.as_bytes()),
        );
        let name = Text::from(name);
        entry.insert(Slot { name, host });
    }

    /// Takes the host of this name out, if there is one.
    pub(super) fn remove(&mut self, name: &Hostname) {
        let name = name.as_str();
        let hash = self.hasher.hash_one(name.as_bytes());
        let shard = Arc::make_mut(&mut self.shards[shard(hash)]);
        if let Ok(slot) = shard.find_entry(hash, |slot| slot.is_named(name)) {
            slot.remove();
        }
    }

    /// Every host that is not the same in an older index, in no order; `None` for one that only the older index has.
    pub(super) fn changes_since<'a>(
        &'a self,
        older: &'a Self,
    ) -> impl Iterator<Item = (Hostname, Option<&'a VirtualHost>)> {
        // A name is in one shard of an index, so what a shared shard holds is the same in both.
        let shards = self.shards.iter().zip(&older.shards);
        let differing = shards.filter(|(ours, theirs)| !Arc::ptr_eq(ours, theirs));
        let changes = differing.flat_map(|(ours, theirs)| {
            let changed = ours.iter().filter_map(|slot| {
                let before = older.find(slot.name.as_str()?);
                (before != Some(&slot.host)).then_some((slot, Some(&slot.host)))
            });
            let gone = theirs.iter().filter_map(|slot| {
                let gone = self.find(slot.name.as_str()?).is_none();
                gone.then_some((slot, None))
            });
            changed.chain(gone)
        });
        changes.filter_map(|(slot, host)| Some((slot.hostname()?, host)))
    }

    /// Every host with its name, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Hostname, &VirtualHost)> {
        let slots = self.shards.iter().flat_map(|shard| shard.iter());
        slots.filter_map(|slot| Some((slot.hostname()?, &slot.host)))
    }
}

/// The shard for a hash, by bits that do not choose the slot within it.
fn shard(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}
