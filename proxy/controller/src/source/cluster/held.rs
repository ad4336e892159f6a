//! One watch, and which objects are held of it.

use std::collections::{HashMap, HashSet};

use tidegate_model::NamespacedName;

use super::kind::WatchName;

/// What has to be known of a watch before the first view is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// All of it.
    Whole,
    /// All of it, or that the server refuses it.
    Asked,
}

/// One watch, and what is held of it.
pub(super) struct Watch {
    pub(super) name: WatchName,
    pub(super) need: Need,
    pub(super) held: HashMap<NamespacedName, Entry>,
    /// What a list that is under way has named so far.
    pub(super) listing: Option<HashSet<NamespacedName>>,
    pub(super) is_whole: bool,
    pub(super) is_refused: bool,
}

/// An object that is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    /// Of what was handed on; `None` when it could never be read.
    pub(super) hash: Option<u64>,
    pub(super) version: Option<u64>,
    /// The Service that an EndpointSlice belongs to.
    pub(super) service: Option<NamespacedName>,
}

impl Watch {
    pub(super) fn new(name: WatchName, need: Need) -> Self {
        Self {
            name,
            need,
            held: HashMap::new(),
            listing: None,
            is_whole: false,
            is_refused: false,
        }
    }

    /// Whether as much is known as has to be.
    pub(super) fn is_settled(&self) -> bool {
        self.is_whole || (self.need == Need::Asked && self.is_refused)
    }

    /// Notes that a list that is under way names the object.
    pub(super) fn list(&mut self, name: &NamespacedName) {
        if let Some(listing) = &mut self.listing {
            listing.insert(name.clone());
        }
    }

    /// Whether a later version of the object is held, because it was listed beside the watch.
    pub(super) fn is_older(&self, name: &NamespacedName, version: Option<u64>) -> bool {
        let held = match &self.listing {
            // A list is right in any case: it may have begun because versions count from the start again.
            Some(_) => None,
            None => self.held.get(name).and_then(|entry| entry.version),
        };
        version.zip(held).is_some_and(|(new, held)| new < held)
    }

    /// A list is whole. What it did not name.
    pub(super) fn end(&mut self) -> (HashSet<NamespacedName>, Vec<NamespacedName>) {
        self.is_whole = true;
        let listed = self.listing.take().unwrap_or_default();
        let gone = self.held.keys().filter(|name| !listed.contains(*name));
        let gone = gone.cloned().collect();
        (listed, gone)
    }

    /// Whether it may have passed over something that was not referred to.
    pub(super) fn is_begun(&self) -> bool {
        self.is_whole || self.listing.is_some()
    }
}
