//! How the source is doing, for metrics and pages, and in the log once when it begins to fail and once when it is over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tidegate_model::NamespacedName;
use tokio::time::Instant;

use super::failure::{self, Failure, FailureSort};
use super::kind::{Kind, WatchName};

/// How the source is doing. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<State>>);

/// How the source is doing at one moment.
#[derive(Clone, Debug, Default)]
pub struct HealthSnapshot {
    /// Every watch.
    pub watches: BTreeMap<WatchName, WatchHealth>,
    /// Requests sent so far.
    pub requests: Requests,
    /// Secrets that are referred to and cannot be fetched, and why.
    pub secrets: BTreeMap<NamespacedName, String>,
    /// Whether every kind has been seen whole.
    pub is_complete: bool,
}

/// How one watch is doing.
#[derive(Clone, Debug, Default)]
pub struct WatchHealth {
    /// Whether all of it has been seen since the start.
    pub is_synced: bool,
    /// Objects held of it.
    pub held: usize,
    /// Events that came, those of lists included.
    pub events: u64,
    /// How often the watch was begun again, for whatever reason.
    pub restarts: u64,
    /// How often everything had to be listed again.
    pub relists: u64,
    /// Failures by sort.
    pub failures: BTreeMap<FailureSort, u64>,
    /// `None` while all is well.
    pub failing: Option<Failing>,
    /// When the server last said something, be it a bookmark.
    pub last_heard: Option<SystemTime>,
}

/// A state of failure that lasts.
#[derive(Clone, Debug)]
pub struct Failing {
    /// When it began.
    pub since: SystemTime,
    /// Sort of the last failure.
    pub sort: FailureSort,
    /// The last failure, for people.
    pub error: String,
}

/// Requests to the API server by sort. Those of writers are not among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Lists, by the page.
    pub list: u64,
    /// Watches begun.
    pub watch: u64,
    /// Single objects.
    pub get: u64,
}

/// A sort of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    List,
    Watch,
    Get,
}

#[derive(Debug, Default)]
struct State {
    shown: HealthSnapshot,
    /// Watches that a failure of the whole API server holds up, by its sort, and since when there is one.
    troubled: BTreeMap<FailureSort, (Instant, BTreeSet<WatchName>)>,
}

impl Health {
    /// As it is now.
    pub fn snapshot(&self) -> HealthSnapshot {
        self.with(|state| state.shown.clone())
    }

    pub(super) fn sent(&self, verb: Verb) {
        self.with(|state| match verb {
            Verb::List => state.shown.requests.list += 1,
            Verb::Watch => state.shown.requests.watch += 1,
            Verb::Get => state.shown.requests.get += 1,
        });
    }

    /// The server said something.
    pub(super) fn heard(&self, watch: &WatchName) {
        self.with(|state| state.watch(watch).last_heard = Some(SystemTime::now()));
    }

    /// An object came, or the word that it is gone.
    pub(super) fn event(&self, watch: &WatchName) {
        self.with(|state| {
            let watch = state.watch(watch);
            watch.events += 1;
            watch.last_heard = Some(SystemTime::now());
        });
    }

    pub(super) fn restarted(&self, watch: &WatchName) {
        self.with(|state| state.watch(watch).restarts += 1);
    }

    pub(super) fn relisting(&self, watch: &WatchName) {
        self.with(|state| state.watch(watch).relists += 1);
    }

    pub(super) fn synced(&self, watch: &WatchName) {
        self.with(|state| state.watch(watch).is_synced = true);
    }

    pub(super) fn holds(&self, watch: &WatchName, objects: usize) {
        self.with(|state| state.watch(watch).held = objects);
    }

    pub(super) fn complete(&self) {
        self.with(|state| state.shown.is_complete = true);
    }

    /// A Secret cannot be fetched, or can again.
    pub(super) fn secret(&self, name: &NamespacedName, failure: Option<String>) {
        self.with(|state| match failure {
            Some(failure) => _ = state.shown.secrets.insert(name.clone(), failure),
            None => _ = state.shown.secrets.remove(name),
        });
    }

    /// A failure that needs no word of its own: what comes next repairs it.
    pub(super) fn stumbled(&self, watch: &WatchName, sort: FailureSort) {
        self.with(|state| *state.watch(watch).failures.entry(sort).or_default() += 1);
    }

    /// A failure that may last.
    pub(super) fn failed(&self, watch: &WatchName, failure: &Failure) {
        let words = self.with(|state| state.failed(watch, failure));
        words.iter().for_each(Word::log);
    }

    /// The watch works.
    pub(super) fn works(&self, watch: &WatchName) {
        let words = self.with(|state| {
            let words = state.over(watch, None);
            state.watch(watch).failing = None;
            words
        });
        words.iter().for_each(Word::log);
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn watch(&mut self, name: &WatchName) -> &mut WatchHealth {
        if !self.shown.watches.contains_key(name) {
            self.shown
                .watches
                .insert(name.clone(), WatchHealth::default());
        }
        self.shown.watches.entry(name.clone()).or_default()
    }

    fn failed(&mut self, name: &WatchName, failure: &Failure) -> Vec<Word> {
        let sort = failure.sort;
        let watch = self.watch(name);
        *watch.failures.entry(sort).or_default() += 1;
        let before = watch.failing.clone();
        let is_new = before.as_ref().map(|before| before.sort) != Some(sort);
        let mut words = match is_new {
            true => self.over(name, Some(sort)),
            false => Vec::new(),
        };
        self.watch(name).failing = Some(Failing {
            since: before.map_or_else(SystemTime::now, |before| before.since),
            sort,
            error: failure.message.clone(),
        });
        if !is_new {
            return words;
        }
        if is_common(sort) {
            let group = group(sort);
            let first = !self.troubled.contains_key(&group);
            let (_, watches) = self
                .troubled
                .entry(group)
                .or_insert_with(|| (Instant::now(), BTreeSet::new()));
            watches.insert(name.clone());
            if first {
                words.push(Word::Begins(begins(group, name, failure)));
            }
        } else {
            words.push(Word::Begins(refused(name, failure)));
        }
        words
    }

    /// What is over for a watch that works, or that now fails in another way.
    fn over(&mut self, name: &WatchName, now: Option<FailureSort>) -> Vec<Word> {
        let Some(before) = self.watch(name).failing.clone() else {
            return Vec::new();
        };
        if !is_common(before.sort) {
            let over = now
                .is_none()
                .then(|| Word::Over(format!("{name} is watched again")));
            return over.into_iter().collect();
        }
        let group = group(before.sort);
        if now.is_some_and(|now| is_common(now) && self::group(now) == group) {
            return Vec::new();
        }
        let Some((since, watches)) = self.troubled.get_mut(&group) else {
            return Vec::new();
        };
        watches.remove(name);
        if !watches.is_empty() {
            return Vec::new();
        }
        let lasted = since.elapsed().as_secs();
        self.troubled.remove(&group);
        let what = match group {
            FailureSort::Unauthorized => "the API server accepts Tidegate's credentials again",
            _ => "the API server is reached again",
        };
        vec![Word::Over(format!("{what}, after {lasted} s"))]
    }
}

/// A line of the log.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    Begins(String),
    Over(String),
}

impl Word {
    fn log(&self) {
        match self {
            Self::Begins(text) => tracing::warn!("{text}"),
            Self::Over(text) => tracing::info!("{text}"),
        }
    }
}

/// Whether a failure is one of the API server as a whole, which all watches share.
fn is_common(sort: FailureSort) -> bool {
    !matches!(sort, FailureSort::Forbidden | FailureSort::Refused)
}

/// Failures that are spoken of as one.
fn group(sort: FailureSort) -> FailureSort {
    match sort {
        FailureSort::Unauthorized => sort,
        _ => FailureSort::Connection,
    }
}

fn begins(group: FailureSort, name: &WatchName, failure: &Failure) -> String {
    match group {
        FailureSort::Unauthorized => format!(
            "the API server does not accept Tidegate's credentials ({failure}); what was read before stays in force. \
             Renew the token or the certificate; a token file is read again for every request."
        ),
        _ => format!(
            "the API server cannot be watched ({name}: {failure}); what was read before stays in force, and it is tried again \
             at least every 30 s"
        ),
    }
}

fn refused(name: &WatchName, failure: &Failure) -> String {
    let remedy = match failure.sort {
        FailureSort::Forbidden => failure::grant(name.kind, name.namespace.as_deref()),
        _ => "look into the API server's log".to_owned(),
    };
    let consequence = match name.kind {
        Kind::Pod => "the addresses of this instance's nodes are not known",
        Kind::ConfigMap => "changed settings are not taken over",
        _ => "what was read of it before stays in force",
    };
    format!("{name} cannot be watched ({failure}); {consequence}. To mend it, {remedy}.")
}

#[cfg(test)]
mod tests;
