//! What is held of the cluster, and what of it changed.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use tidegate_model::{NamespacedName, ObjectRef, Problem};

use super::Scope;
use super::arrival::{Arrival, Content, Held, version_number};
use super::feed::Event;
use super::fetch::{Job, Outcome};
use super::health::Health;
use super::held::{Need, Watch};
use super::kind::{Kind, WatchName};
use super::problems::Problems;
use super::secrets::{Secrets, Step};
use super::slices::Slices;
use crate::Change;
use crate::inventory::Inventory;
use crate::translate::Referenced;

/// How much of all watches is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Some watch is still needed.
    Begun,
    /// Every watch is whole; something that is referred to is not there yet.
    Watched,
    /// All of it.
    Complete,
}

/// What is held of the cluster. Has no contents: those are the translator's.
pub(super) struct View {
    watches: Vec<Watch>,
    slices: Slices,
    secrets: Secrets,
    own_namespace: String,
    publish_service: Option<NamespacedName>,
    settings: Option<String>,
    inventory: Inventory,
    health: Health,
    problems: Problems,
    changes: Vec<Change>,
}

impl View {
    pub(super) fn new(scope: &Scope, inventory: Inventory, health: Health) -> Self {
        Self {
            watches: Vec::new(),
            slices: Slices::default(),
            secrets: Secrets::default(),
            own_namespace: scope.own_namespace.clone(),
            publish_service: scope.publish_service.clone(),
            settings: None,
            inventory,
            health,
            problems: Problems::default(),
            changes: Vec::new(),
        }
    }

    /// Makes room for a watch and numbers it.
    pub(super) fn add(&mut self, name: WatchName, need: Need) -> usize {
        self.watches.push(Watch::new(name, need));
        self.watches.len() - 1
    }

    pub(super) fn standing(&self) -> Standing {
        if !self.watches.iter().all(Watch::is_settled) {
            Standing::Begun
        } else if self.secrets.are_answered() && self.slices.are_listed() {
            Standing::Complete
        } else {
            Standing::Watched
        }
    }

    /// Text of the settings; `None` while there is none.
    pub(super) fn settings(&self) -> Option<&str> {
        self.settings.as_deref()
    }

    pub(super) fn has_news(&self) -> bool {
        !self.changes.is_empty() || self.problems.are_others()
    }

    /// Whether something changed that may refer to others.
    pub(super) fn has_referring_news(&self) -> bool {
        let referring = |kind: &str| !matches!(kind, "EndpointSlice" | "Secret");
        self.changes.iter().any(|change| match change {
            Change::Put(object) => referring(object.kind()),
            Change::Remove(object) => referring(&object.kind),
            Change::Resolved(..) => false,
        })
    }

    /// What changed since the last time, and all problems.
    pub(super) fn news(&mut self) -> (Vec<Change>, Vec<Problem>) {
        (std::mem::take(&mut self.changes), self.problems.tell())
    }

    /// What is to be fetched.
    pub(super) fn jobs(&mut self) -> Vec<Job> {
        let is_listing = |watch: &Watch| watch.name.kind == Kind::Secret && watch.listing.is_some();
        if !self.watches.iter().any(is_listing) {
            self.secrets.fetch_found();
        }
        let mut jobs = self.slices.jobs();
        jobs.extend(self.secrets.jobs());
        jobs
    }

    /// Takes in what a watch has seen.
    pub(super) fn take(&mut self, number: usize, event: Event) {
        match event {
            Event::Begin => self.with(number, |watch| watch.listing = Some(HashSet::new())),
            Event::Put(arrival) => self.put(number, arrival),
            Event::Delete(arrival) => self.delete(number, &arrival),
            Event::End => self.end(number),
            Event::Refused => self.with(number, |watch| watch.is_refused = true),
        }
    }

    /// Takes in what was fetched.
    pub(super) fn fetched(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Slices { list, slices } => {
                for (number, slice) in self.slices.listed(list, slices) {
                    self.put(number, slice);
                }
            }
            Outcome::Secret(name, fetched) => {
                let steps = self.secrets.fetched(&name, fetched);
                self.follow(steps);
            }
            Outcome::NotListed(names) => self.secrets.not_listed(&names),
        }
    }

    /// Takes in what is referred to from now on.
    pub(super) fn refer(&mut self, referenced: Arc<Referenced>) {
        let of = |kind: Kind| {
            let watches = self.watches.iter().enumerate();
            let watches = watches.filter(move |(_, watch)| watch.name.kind == kind);
            watches
                .map(|(number, watch)| (watch.name.namespace.clone(), (number, watch.is_begun())))
        };
        let slice_watches: BTreeMap<_, _> = of(Kind::EndpointSlice).collect();
        let secret_watches = of(Kind::Secret).map(|(namespace, _)| namespace).collect();
        self.slices.refer(referenced.clone(), &slice_watches);
        self.drop_slices(slice_watches.values().map(|(number, _)| *number));
        let steps = self.secrets.refer(referenced, secret_watches);
        self.follow(steps);
    }

    /// Forgets the slices of Services that nothing refers to.
    fn drop_slices(&mut self, watches: impl Iterator<Item = usize>) {
        for number in watches {
            let Some(watch) = self.watches.get(number) else {
                continue;
            };
            let unwanted = watch.held.iter().filter(|(_, entry)| {
                let service = entry.service.as_ref();
                entry.hash.is_some() && !service.is_some_and(|name| self.slices.is_wanted(name))
            });
            let unwanted: Vec<_> = unwanted.map(|(name, _)| name.clone()).collect();
            unwanted.iter().for_each(|name| self.gone(number, name));
        }
    }

    fn put(&mut self, number: usize, arrival: Arrival) {
        let Arrival {
            name,
            uid,
            version,
            content,
        } = arrival;
        let reference = self.reference(number, &name);
        match content {
            Content::SecretMetadata(label) => {
                if self.secrets.is_wanted(&name) {
                    self.list(number, &name);
                }
                let is_own = name.namespace == self.own_namespace;
                let steps = self.secrets.noticed(&name, version, label, is_own);
                return self.follow(steps);
            }
            // Contents of Secrets are fetched, not watched; of most of them nobody wants to know.
            Content::Secret(_) => return,
            Content::Unreadable(_) if self.is_of(number, Kind::Secret) => return,
            Content::Unreadable(problem) => {
                self.list(number, &name);
                self.with(number, |watch| _ = watch.held.entry(name).or_default());
                self.problems.raise(reference.clone(), *problem);
            }
            Content::EndpointSlice(held, service) => {
                return self.put_slice(number, &name, version.as_deref(), held, service);
            }
            Content::Ingress(held, record) => {
                self.inventory.set_ingress(&name, Some(record));
                self.keep(number, &name, held);
            }
            Content::IngressClass(held) | Content::Namespace(held) => {
                self.keep(number, &name, held);
            }
            Content::Service(held, addresses) => {
                if self.publish_service.as_ref() == Some(&name) {
                    self.inventory.set_published(Some(addresses));
                }
                self.keep(number, &name, held);
            }
            Content::Agent(agent) => {
                self.inventory.set_agent(&name, Some(agent));
                return self.know(number, &name);
            }
            Content::Settings(text) => {
                self.settings = text;
                return self.know(number, &name);
            }
        }
        if uid.is_some() {
            self.inventory.set_uid(&reference, uid);
        }
    }

    fn put_slice(
        &mut self,
        number: usize,
        name: &NamespacedName,
        version: Option<&str>,
        held: Held,
        service: Option<NamespacedName>,
    ) {
        let service = service.filter(|service| {
            self.slices.touch(name, service);
            self.slices.is_wanted(service)
        });
        if service.is_none() {
            return self.gone(number, name);
        }
        let version = version.and_then(version_number);
        if self.is_older(number, name, version) {
            return self.list(number, name);
        }
        self.keep(number, name, held);
        self.with(number, |watch| {
            let entry = watch.held.entry(name.clone()).or_default();
            (entry.version, entry.service) = (version, service);
        });
    }

    fn is_older(&self, number: usize, name: &NamespacedName, version: Option<u64>) -> bool {
        let watch = self.watches.get(number);
        watch.is_some_and(|watch| watch.is_older(name, version))
    }

    fn delete(&mut self, number: usize, arrival: &Arrival) {
        let name = &arrival.name;
        match &arrival.content {
            Content::SecretMetadata(_) => {
                let steps = self.secrets.deleted(name, arrival.version.as_deref());
                return self.follow(steps);
            }
            Content::EndpointSlice(_, Some(service)) => self.slices.touch(name, service),
            _ => {}
        }
        let version = arrival.version.as_deref().and_then(version_number);
        if !self.is_older(number, name, version) {
            self.gone(number, name);
        }
    }

    /// A list is whole: what it has not named is gone.
    fn end(&mut self, number: usize) {
        let Some(watch) = self.watches.get_mut(number) else {
            return;
        };
        let (listed, gone) = watch.end();
        if watch.name.kind == Kind::Secret {
            let namespace = watch.name.namespace.clone();
            return self.secrets.listed(&listed, namespace.as_deref());
        }
        gone.iter().for_each(|name| self.gone(number, name));
    }

    /// Hands an object on, unless it is as it was.
    fn keep(&mut self, number: usize, name: &NamespacedName, held: Held) {
        self.list(number, name);
        self.problems.settle(&held.object.reference());
        let Some(watch) = self.watches.get_mut(number) else {
            return;
        };
        let entry = watch.held.entry(name.clone()).or_default();
        if entry.hash.replace(held.hash) != Some(held.hash) {
            self.changes.push(Change::Put(held.object));
        }
    }

    /// Remembers an object of which nothing is handed on.
    fn know(&mut self, number: usize, name: &NamespacedName) {
        self.list(number, name);
        self.with(number, |watch| {
            _ = watch.held.entry(name.clone()).or_default();
        });
        let reference = self.reference(number, name);
        self.problems.settle(&reference);
    }

    /// Forgets an object.
    fn gone(&mut self, number: usize, name: &NamespacedName) {
        let reference = self.reference(number, name);
        let Some(watch) = self.watches.get_mut(number) else {
            return;
        };
        let kind = watch.name.kind;
        let Some(entry) = watch.held.remove(name) else {
            return;
        };
        if let Some(listing) = &mut watch.listing {
            listing.remove(name);
        }
        self.problems.settle(&reference);
        match kind {
            Kind::Ingress => self.inventory.set_ingress(name, None),
            Kind::Service if self.publish_service.as_ref() == Some(name) => {
                self.inventory.set_published(None);
            }
            Kind::Pod => self.inventory.set_agent(name, None),
            Kind::ConfigMap => self.settings = None,
            _ => {}
        }
        self.inventory.set_uid(&reference, None);
        if entry.hash.is_some() {
            self.changes.push(Change::Remove(reference));
        }
    }

    /// Does what the Secrets ask for.
    fn follow(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Put(name, object, uid) => {
                    let reference = ObjectRef::new("Secret", name);
                    self.problems.settle(&reference);
                    self.inventory.set_uid(&reference, uid);
                    self.changes.push(Change::Put(object));
                }
                Step::Remove(name) => {
                    let reference = ObjectRef::new("Secret", name);
                    self.problems.settle(&reference);
                    self.inventory.set_uid(&reference, None);
                    self.changes.push(Change::Remove(reference));
                }
                Step::Settled(name) => self.problems.settle(&ObjectRef::new("Secret", name)),
                Step::Raise(name, problem) => {
                    self.problems
                        .raise(ObjectRef::new("Secret", name), *problem);
                }
                Step::Failing(name, failure) => self.health.secret(&name, failure),
            }
        }
    }

    /// Notes that a list that is under way names the object.
    fn list(&mut self, number: usize, name: &NamespacedName) {
        self.with(number, |watch| watch.list(name));
    }

    fn with(&mut self, number: usize, change: impl FnOnce(&mut Watch)) {
        if let Some(watch) = self.watches.get_mut(number) {
            change(watch);
        }
    }

    fn is_of(&self, number: usize, kind: Kind) -> bool {
        let watch = self.watches.get(number);
        watch.is_some_and(|watch| watch.name.kind == kind)
    }

    fn reference(&self, number: usize, name: &NamespacedName) -> ObjectRef {
        let kind = self.watches.get(number).map(|watch| watch.name.kind);
        ObjectRef::new(kind.map_or("", Kind::name), name.clone())
    }

    /// Says how much is held.
    pub(super) fn count(&self) {
        for watch in &self.watches {
            let held = match watch.name.kind {
                Kind::Secret => self.secrets.held(watch.name.namespace.as_deref()),
                _ => watch.held.len(),
            };
            self.health.holds(&watch.name, held);
        }
    }
}

#[cfg(test)]
mod tests;
