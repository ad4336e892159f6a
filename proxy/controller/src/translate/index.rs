//! Reverse indexes: who refers to what.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_model::NamespacedName;

/// The Ingresses that refer to something.
#[derive(Debug)]
pub(super) struct Index<K>(BTreeMap<K, BTreeSet<NamespacedName>>);

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Clone> Index<K> {
    pub(super) fn link(&mut self, key: &K, ingress: &NamespacedName) {
        let ingresses = self.0.entry(key.clone()).or_default();
        ingresses.insert(ingress.clone());
    }

    pub(super) fn unlink(&mut self, key: &K, ingress: &NamespacedName) {
        if let Some(ingresses) = self.0.get_mut(key) {
            ingresses.remove(ingress);
            if ingresses.is_empty() {
                self.0.remove(key);
            }
        }
    }

    /// Those that refer to this.
    pub(super) fn of(&self, key: &K) -> impl Iterator<Item = &NamespacedName> {
        self.0.get(key).into_iter().flatten()
    }

    pub(super) fn contains(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.keys()
    }
}
