//! Which Secrets are wanted, what is known of each, and what has to be fetched.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use tidegate_model::{NamespacedName, Problem};
use tokio::sync::oneshot;

use super::arrival::{Arrival, Content, Label, version_number};
use super::fetch::{Fetched, Job, Keep, Task};
use crate::Object;
use crate::source::name;
use crate::translate::Referenced;

/// Up to so many missing Secrets are asked for each by itself.
const SINGLY: usize = 32;
/// After so many failures, whatever they are, the first complete view does not wait for a Secret.
const PATIENCE: u32 = 5;

/// The Secrets that are wanted.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    referenced: Arc<Referenced>,
    /// Wanted for their label.
    labelled: BTreeSet<NamespacedName>,
    /// Those of them that a list has just named: fetched together when it is whole.
    found: Vec<NamespacedName>,
    wanted: BTreeMap<NamespacedName, Entry>,
    /// Namespaces that are watched; `None` for all.
    watched: BTreeSet<Option<String>>,
    jobs: Vec<Job>,
}

/// What is known of a Secret.
#[derive(Debug, Default)]
struct Entry {
    /// Hash of what was handed on; `None` while there is nothing.
    held: Option<u64>,
    /// Version of what was fetched last.
    version: Option<String>,
    /// Version that the watch told last.
    noticed: Option<String>,
    fetch: Option<Fetch>,
    /// Whether the server has said what there is, or will not say.
    is_answered: bool,
    failures: u32,
}

/// A request that is under way.
#[derive(Debug)]
struct Fetch {
    _keep: Keep,
    /// Whether the Secret was deleted meanwhile, so that the answer may be from before.
    is_outdated: bool,
}

/// What follows for others.
#[derive(Debug)]
pub(super) enum Step {
    /// Another content, with the `metadata.uid`.
    Put(NamespacedName, Object, Option<String>),
    Remove(NamespacedName),
    /// There is no problem with it any more.
    Settled(NamespacedName),
    Raise(NamespacedName, Box<Problem>),
    /// It cannot be fetched, or can again.
    Failing(NamespacedName, Option<String>),
}

impl Secrets {
    pub(super) fn is_wanted(&self, name: &NamespacedName) -> bool {
        self.wanted.contains_key(name)
    }

    /// Whether it is known of every one what there is.
    pub(super) fn are_answered(&self) -> bool {
        self.wanted.values().all(|entry| entry.is_answered)
    }

    /// How many are held in a namespace, or in all.
    pub(super) fn held(&self, namespace: Option<&str>) -> usize {
        let held = self.wanted.iter().filter(|(name, entry)| {
            entry.held.is_some() && namespace.is_none_or(|namespace| namespace == name.namespace)
        });
        held.count()
    }

    pub(super) fn jobs(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.jobs)
    }

    /// Asks for those that were found by their label since the last time.
    pub(super) fn fetch_found(&mut self) {
        let mut found = std::mem::take(&mut self.found);
        found.retain(|name| {
            let entry = self.wanted.get(name);
            entry.is_some_and(|entry| entry.fetch.is_none() && entry.version.is_none())
        });
        self.fetch_all(found);
    }

    /// Takes in what is referred to from now on.
    pub(super) fn refer(
        &mut self,
        referenced: Arc<Referenced>,
        watched: BTreeSet<Option<String>>,
    ) -> Vec<Step> {
        let before = std::mem::replace(&mut self.referenced, referenced);
        self.watched = watched;
        let now = self.referenced.clone();
        let steps = before
            .secrets
            .difference(&now.secrets)
            .flat_map(|name| self.unwant(name))
            .collect();
        let added = now.secrets.difference(&before.secrets);
        let missing: Vec<_> = added.filter_map(|name| self.want(name)).collect();
        self.fetch_all(missing);
        steps
    }

    /// Wants a Secret. Its name, when it has to be fetched.
    fn want(&mut self, name: &NamespacedName) -> Option<NamespacedName> {
        if self.wanted.contains_key(name) {
            return None;
        }
        let covered = self.scope(name).is_some();
        let entry = self.wanted.entry(name.clone()).or_default();
        // A Secret that cannot be is absent without a question.
        entry.is_answered = !covered;
        covered.then(|| name.clone())
    }

    /// The namespace of the watch that covers a Secret (`None` for all); none for one that no watch covers, or with a
    /// name that no Secret can have.
    fn scope(&self, name: &NamespacedName) -> Option<Option<String>> {
        if !name::is_subdomain(&name.name) || !name::is_subdomain(&name.namespace) {
            return None;
        }
        let own = Some(name.namespace.clone());
        let scopes = [None, own];
        scopes
            .into_iter()
            .find(|scope| self.watched.contains(scope))
    }

    fn unwant(&mut self, name: &NamespacedName) -> Vec<Step> {
        if self.referenced.secrets.contains(name) || self.labelled.contains(name) {
            return Vec::new();
        }
        let Some(entry) = self.wanted.remove(name) else {
            return Vec::new();
        };
        let mut steps = vec![Step::Settled(name.clone())];
        if entry.failures > 0 {
            steps.push(Step::Failing(name.clone(), None));
        }
        if entry.held.is_some() {
            steps.push(Step::Remove(name.clone()));
        }
        steps
    }

    /// Asks for Secrets: many of them at once.
    fn fetch_all(&mut self, names: Vec<NamespacedName>) {
        let mut scopes: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for name in names {
            if let Some(scope) = self.scope(&name) {
                scopes.entry(scope).or_default().insert(name);
            }
        }
        for (namespace, names) in scopes {
            if names.len() <= SINGLY {
                names.iter().for_each(|name| self.fetch(name));
                continue;
            }
            let (keep, wanted) = oneshot::channel();
            let keep = Arc::new(keep);
            names.iter().for_each(|name| self.begin(name, keep.clone()));
            let names = Arc::new(names);
            let task = Task::Secrets { namespace, names };
            self.jobs.push(Job { task, wanted });
        }
    }

    fn fetch(&mut self, name: &NamespacedName) {
        let (keep, wanted) = oneshot::channel();
        self.begin(name, Arc::new(keep));
        let task = Task::Secret(name.clone());
        self.jobs.push(Job { task, wanted });
    }

    fn begin(&mut self, name: &NamespacedName, keep: Keep) {
        if let Some(entry) = self.wanted.get_mut(name) {
            entry.fetch = Some(Fetch {
                _keep: keep,
                is_outdated: false,
            });
        }
    }

    /// The watch tells that a Secret is there in some version.
    pub(super) fn noticed(
        &mut self,
        name: &NamespacedName,
        version: Option<String>,
        label: Label,
        is_own: bool,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut is_found = false;
        let is_needed = match label {
            Label::Certificate => true,
            Label::Record => is_own,
            Label::Other => false,
        };
        if is_needed {
            self.labelled.insert(name.clone());
            is_found = self.want(name).is_some();
        } else if self.labelled.remove(name) {
            steps = self.unwant(name);
        }
        let Some(entry) = self.wanted.get_mut(name) else {
            return steps;
        };
        let is_known = version.is_some() && entry.version == version;
        entry.noticed = version;
        if is_found {
            self.found.push(name.clone());
        } else if entry.fetch.is_none() && !is_known {
            self.fetch(name);
        }
        steps
    }

    /// The watch tells that a Secret was deleted, in which version.
    pub(super) fn deleted(&mut self, name: &NamespacedName, version: Option<&str>) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.labelled.remove(name) {
            steps = self.unwant(name);
        }
        let Some(entry) = self.wanted.get_mut(name) else {
            return steps;
        };
        if is_older(version, entry.version.as_deref()) {
            // What was fetched since is a new one of the name.
            return steps;
        }
        (entry.noticed, entry.version) = (None, None);
        if let Some(fetch) = &mut entry.fetch {
            fetch.is_outdated = true;
        }
        if entry.held.take().is_some() {
            steps.push(Step::Remove(name.clone()));
        }
        steps
    }

    /// The watch has listed everything in a namespace, or in all. Those that are held and were not listed may be gone.
    pub(super) fn listed(&mut self, listed: &HashSet<NamespacedName>, namespace: Option<&str>) {
        let doubtful = self.wanted.iter().filter(|(name, entry)| {
            let covered = namespace.is_none_or(|namespace| namespace == name.namespace);
            let known = entry.held.is_some() && entry.fetch.is_none();
            covered && known && !listed.contains(*name)
        });
        let doubtful = doubtful.map(|(name, _)| name.clone()).collect();
        self.fetch_all(doubtful);
    }

    /// A list of many did not have these: of another type, or absent.
    pub(super) fn not_listed(&mut self, names: &BTreeSet<NamespacedName>) {
        for name in names {
            if self
                .wanted
                .get(name)
                .is_some_and(|entry| entry.fetch.is_some())
            {
                self.fetch(name);
            }
        }
    }

    /// Takes in what the server says of a Secret.
    pub(super) fn fetched(&mut self, name: &NamespacedName, fetched: Fetched) -> Vec<Step> {
        let Some(entry) = self.wanted.get_mut(name) else {
            return Vec::new();
        };
        let mut steps = Vec::new();
        let is_current = match fetched {
            Fetched::Failing(failure) => {
                entry.failures += 1;
                entry.is_answered |= failure.is_refusal() || entry.failures >= PATIENCE;
                let message = failure.to_string();
                return vec![Step::Failing(name.clone(), Some(message))];
            }
            Fetched::Absent => entry.absent(name, &mut steps),
            Fetched::Found(arrival) => entry.found(name, *arrival, &mut steps),
        };
        if std::mem::take(&mut entry.failures) > 0 {
            steps.push(Step::Failing(name.clone(), None));
        }
        entry.is_answered = true;
        entry.fetch = None;
        if !is_current {
            self.fetch(name);
        }
        steps
    }
}

impl Entry {
    /// Whether that is the last word.
    fn absent(&mut self, name: &NamespacedName, steps: &mut Vec<Step>) -> bool {
        self.version = None;
        steps.push(Step::Settled(name.clone()));
        if self.held.take().is_some() {
            steps.push(Step::Remove(name.clone()));
        }
        // The watch has told of it, perhaps after the question; it is asked once more for each such word.
        !self.is_outdated() && self.noticed.take().is_none()
    }

    /// Whether that is the last word.
    fn found(&mut self, name: &NamespacedName, arrival: Arrival, steps: &mut Vec<Step>) -> bool {
        if self.is_outdated() {
            return false;
        }
        self.version = arrival.version;
        match arrival.content {
            Content::Secret(held) => {
                steps.push(Step::Settled(name.clone()));
                if self.held.replace(held.hash) != Some(held.hash) {
                    steps.push(Step::Put(name.clone(), held.object, arrival.uid));
                }
            }
            Content::Unreadable(problem) => steps.push(Step::Raise(name.clone(), problem)),
            _ => {}
        }
        let (version, noticed) = (self.version.as_deref(), self.noticed.as_deref());
        // A list that is read in pages is as old as its first page.
        noticed.is_none() || version == noticed || is_older(noticed, version)
    }

    fn is_outdated(&self) -> bool {
        self.fetch.as_ref().is_some_and(|fetch| fetch.is_outdated)
    }
}

/// Whether a version is known to come before another.
fn is_older(version: Option<&str>, other: Option<&str>) -> bool {
    let number = |version: Option<&str>| version.and_then(version_number);
    number(version)
        .zip(number(other))
        .is_some_and(|(version, other)| version < other)
}

#[cfg(test)]
mod tests;
