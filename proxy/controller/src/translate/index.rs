//! Reverse indexes: who refers to what.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_model::NamespacedName;

/// The Ingresses that refer to something.
#[derive(Debug)]
pub(super) struct Index<K> {
    users: BTreeMap<K, BTreeSet<NamespacedName>>,
    /// Changes with the set of what is referred to.
    version: u64,
}

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self {
            users: BTreeMap::new(),
            version: 0,
        }
    }
}

impl<K: Ord + Clone> Index<K> {
    pub(super) fn link(&mut self, key: &K, ingress: &NamespacedName) {
        let ingresses = self.users.entry(key.clone()).or_default();
        if ingresses.is_empty() {
            self.version += 1;
        }
        ingresses.insert(ingress.clone());
    }

    pub(super) fn unlink(&mut self, key: &K, ingress: &NamespacedName) {
        if let Some(ingresses) = self.users.get_mut(key) {
            ingresses.remove(ingress);
            if ingresses.is_empty() {
                self.users.remove(key);
                self.version += 1;
            }
        }
    }

    /// Those that refer to this.
    pub(super) fn of(&self, key: &K) -> impl Iterator<Item = &NamespacedName> {
        self.users.get(key).into_iter().flatten()
    }

    pub(super) fn contains(&self, key: &K) -> bool {
        self.users.contains_key(key)
    }

    /// Another number each time when the keys are others.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.users.keys()
    }
}
