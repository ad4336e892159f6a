//! Of which Services the EndpointSlices are held, and lists of those that a watch has passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_model::NamespacedName;
use tokio::sync::oneshot;

use super::arrival::{Arrival, Content};
use super::fetch::{Job, Keep, Task};
use crate::source::name;
use crate::translate::Referenced;

/// Up to so many Services are listed each by itself.
const SINGLY: usize = 32;

/// Which slices are wanted.
#[derive(Debug, Default)]
pub(super) struct Slices {
    referenced: Arc<Referenced>,
    lists: BTreeMap<u64, List>,
    last_list: u64,
    jobs: Vec<Job>,
}

/// A list that is under way beside a watch.
#[derive(Debug)]
struct List {
    /// Number of the watch that covers the same.
    watch: usize,
    services: BTreeSet<NamespacedName>,
    /// Slices of which the watch has told since it began: it knows better.
    touched: BTreeSet<NamespacedName>,
    _keep: Keep,
}

/// By namespace (`None`: all), the number of the watch, and whether it may have passed over slices.
pub(super) type Watches = BTreeMap<Option<String>, (usize, bool)>;

impl Slices {
    pub(super) fn is_wanted(&self, service: &NamespacedName) -> bool {
        self.referenced.services.contains(service)
    }

    /// Whether no list is under way.
    pub(super) fn are_listed(&self) -> bool {
        self.lists.is_empty()
    }

    pub(super) fn jobs(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.jobs)
    }

    /// Takes in what is referred to from now on.
    pub(super) fn refer(&mut self, referenced: Arc<Referenced>, watches: &Watches) {
        let before = std::mem::replace(&mut self.referenced, referenced);
        let now = self.referenced.clone();
        self.lists.retain(|_, list| {
            list.services
                .retain(|service| now.services.contains(service));
            !list.services.is_empty()
        });
        let mut added: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for service in now.services.difference(&before.services) {
            if let Some((namespace, watch)) = passed_over(service, watches) {
                let group = added.entry((namespace, watch)).or_default();
                group.insert(service.clone());
            }
        }
        for ((namespace, watch), services) in added {
            if services.len() > SINGLY {
                self.begin(watch, services, |list| Task::Slices { list, namespace });
                continue;
            }
            for service in services {
                let task = |list| Task::SlicesOf {
                    list,
                    service: service.clone(),
                };
                self.begin(watch, BTreeSet::from([service.clone()]), task);
            }
        }
    }

    fn begin(
        &mut self,
        watch: usize,
        services: BTreeSet<NamespacedName>,
        task: impl FnOnce(u64) -> Task,
    ) {
        self.last_list += 1;
        let (keep, wanted) = oneshot::channel();
        self.lists.insert(
            self.last_list,
            List {
                watch,
                services,
                touched: BTreeSet::new(),
                _keep: Arc::new(keep),
            },
        );
        let task = task(self.last_list);
        self.jobs.push(Job { task, wanted });
    }

    /// The watch has told of a slice.
    pub(super) fn touch(&mut self, slice: &NamespacedName, service: &NamespacedName) {
        for list in self.lists.values_mut() {
            if list.services.contains(service) {
                list.touched.insert(slice.clone());
            }
        }
    }

    /// Of a list, what the watch has not told, with the number of the watch that will tell of it from now on.
    pub(super) fn listed(&mut self, list: u64, slices: Vec<Arrival>) -> Vec<(usize, Arrival)> {
        let Some(list) = self.lists.remove(&list) else {
            return Vec::new();
        };
        let mut untold = slices;
        untold.retain(|slice| match &slice.content {
            Content::EndpointSlice(_, Some(service)) => {
                list.services.contains(service) && !list.touched.contains(&slice.name)
            }
            _ => false,
        });
        untold
            .into_iter()
            .map(|slice| (list.watch, slice))
            .collect()
    }
}

/// The watch that may have passed over the slices of a Service.
fn passed_over(service: &NamespacedName, watches: &Watches) -> Option<(Option<String>, usize)> {
    // A name that no Service can have is not asked for.
    if !name::is_subdomain(&service.name) || !name::is_subdomain(&service.namespace) {
        return None;
    }
    let own = Some(service.namespace.clone());
    let namespace = if watches.contains_key(&None) {
        None
    } else {
        own
    };
    match watches.get(&namespace) {
        Some((watch, true)) => Some((namespace, *watch)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
