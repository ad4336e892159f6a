//! The upstreams in use: only those whose Service or slices changed are gathered again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::HashMap;
use tidegate_model::{Hostname, NamespacedName, Upstream, UpstreamId};

use super::objects::{Dirty, Objects};
use super::report::{Part, Problems};
use super::upstream::{self, UpstreamSource};

type Sources = BTreeMap<UpstreamId, UpstreamSource>;

/// Every upstream that a route leads to.
#[derive(Debug, Default)]
pub(super) struct Upstreams {
    built: Arc<HashMap<UpstreamId, Arc<Upstream>>>,
    used: BTreeMap<UpstreamId, Used>,
    by_service: BTreeMap<NamespacedName, BTreeSet<UpstreamId>>,
    by_name: BTreeMap<Hostname, BTreeSet<UpstreamId>>,
    dirty: BTreeSet<UpstreamId>,
}

#[derive(Debug)]
struct Used {
    source: UpstreamSource,
    /// How many refer to it.
    users: usize,
    name: Option<Hostname>,
}

impl Upstreams {
    pub(super) fn built(&self) -> &Arc<HashMap<UpstreamId, Arc<Upstream>>> {
        &self.built
    }

    /// The ExternalNames to resolve.
    pub(super) fn names(&self) -> BTreeSet<Hostname> {
        self.by_name.keys().cloned().collect()
    }

    /// Takes in that somebody refers to other upstreams than before.
    pub(super) fn replace(&mut self, old: Option<&Sources>, new: Option<&Sources>) {
        let absent = |from: Option<&Sources>, id: &UpstreamId| {
            from.is_none_or(|sources| !sources.contains_key(id))
        };
        for (id, source) in new.into_iter().flatten() {
            if absent(old, id) {
                self.acquire(id, source);
            }
        }
        for id in old.into_iter().flat_map(BTreeMap::keys) {
            if absent(new, id) {
                self.release(id);
            }
        }
    }

    fn acquire(&mut self, id: &UpstreamId, source: &UpstreamSource) {
        if let Some(used) = self.used.get_mut(id) {
            used.users += 1;
            return;
        }
        let ids = self.by_service.entry(source.service.clone()).or_default();
        ids.insert(id.clone());
        let used = Used {
            source: source.clone(),
            users: 1,
            name: None,
        };
        self.used.insert(id.clone(), used);
        self.dirty.insert(id.clone());
    }

    /// The upstream itself goes at the next update, if nobody has taken it up again until then.
    fn release(&mut self, id: &UpstreamId) {
        if let Some(used) = self.used.get_mut(id) {
            used.users -= 1;
            if used.users == 0 {
                self.dirty.insert(id.clone());
            }
        }
    }

    /// Gathers what changed.
    pub(super) fn update(&mut self, changed: &Dirty, objects: &Objects, problems: &mut Problems) {
        for service in changed.services.union(&changed.endpoints) {
            let ids = self.by_service.get(service).into_iter().flatten();
            self.dirty.extend(ids.cloned());
        }
        for name in &changed.names {
            let ids = self.by_name.get(name).into_iter().flatten();
            self.dirty.extend(ids.cloned());
        }
        for id in std::mem::take(&mut self.dirty) {
            match self.used.get(&id) {
                Some(used) if used.users > 0 => self.build(&id, objects, problems),
                _ => self.drop(&id, problems),
            }
        }
    }

    fn build(&mut self, id: &UpstreamId, objects: &Objects, problems: &mut Problems) {
        let Some(used) = self.used.get_mut(id) else {
            return;
        };
        let built = upstream::build(&used.source, objects);
        problems.set(Part::Upstream(id.clone()), built.problems);
        let before = std::mem::replace(&mut used.name, built.name.clone());
        if before != built.name {
            self.unlink_name(id, before);
            if let Some(name) = built.name {
                self.by_name.entry(name).or_default().insert(id.clone());
            }
        }
        if self
            .built
            .get(id)
            .is_none_or(|known| **known != built.upstream)
        {
            Arc::make_mut(&mut self.built).insert(id.clone(), Arc::new(built.upstream));
        }
    }

    fn drop(&mut self, id: &UpstreamId, problems: &mut Problems) {
        problems.set(Part::Upstream(id.clone()), Vec::new());
        if let Some(used) = self.used.remove(id) {
            self.unlink_name(id, used.name);
            remove(&mut self.by_service, &used.source.service, id);
        }
        if self.built.contains_key(id) {
            Arc::make_mut(&mut self.built).remove(id);
        }
    }

    fn unlink_name(&mut self, id: &UpstreamId, name: Option<Hostname>) {
        if let Some(name) = name {
            remove(&mut self.by_name, &name, id);
        }
    }
}

fn remove<K: Ord>(map: &mut BTreeMap<K, BTreeSet<UpstreamId>>, key: &K, id: &UpstreamId) {
    if let Some(ids) = map.get_mut(key) {
        ids.remove(id);
        if ids.is_empty() {
            map.remove(key);
        }
    }
}
