//! What happens to sets of names, as the ledger remembers it.

use std::time::Duration;

use tidegate_model::{HostPattern, UnixTime};

use super::{
    FailureKind, HOUR, InFlight, Ledger, RecordedFailure, Renewal, SetEntry, backoff, seconds,
};
use crate::domain;
use crate::names::{NameSet, SetId};
use crate::plan::{Environment, OrderTask};

/// Most characters of a message that are kept.
const MESSAGE: usize = 500;
/// Most moments of a kind that are kept of one set: more than any limit counts.
const MOMENTS: usize = 100;
/// Longest time for which one set's `Retry-After` closes the directory for all: what CAs count over longer times, they
/// count by name or by domain.
const CLOSED: i64 = HOUR;

/// What went wrong with an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Of what kind; decides how long it is waited.
    pub kind: FailureKind,
    /// What happened and what to do, for people.
    pub message: String,
    /// How long the CA wants to be left alone (`Retry-After`).
    pub retry_after: Option<Duration>,
    /// Whether the order is still good, so that it is gone on with instead of ordering anew.
    pub keep_order: bool,
    /// The names that it is about; empty when it is about all of them, or none in particular.
    pub failed_names: Vec<HostPattern>,
}

impl Ledger {
    /// A new order is going to be placed. To be saved before the CA is asked.
    pub fn begin(&mut self, task: &OrderTask, order: InFlight) {
        let entry = self.entry(&task.names);
        entry.order = Some(order);
        answer(entry, task);
    }

    /// The order that is under way is gone on with. Where its URL is not known, another is placed for it, and the first
    /// counts at the directory as if it had been. To be saved, if that changes anything, before the CA is asked.
    pub fn resumed(&mut self, task: &OrderTask, now: UnixTime) {
        let entry = self.entry(&task.names);
        answer(entry, task);
        let Some(order) = entry.order.as_mut().filter(|order| order.url.is_none()) else {
            return;
        };
        let placed = std::mem::replace(&mut order.begun, now.0);
        let directory = order.directory.clone();
        self.directories
            .entry(directory)
            .or_default()
            .orders
            .push(placed);
    }

    /// The CA has taken the order and told its URL.
    pub fn placed(&mut self, id: &SetId, url: impl Into<String>, now: UnixTime) {
        let Some(order) = self.sets.get_mut(id).and_then(|entry| entry.order.as_mut()) else {
            return;
        };
        order.url = Some(url.into());
        let directory = order.directory.clone();
        self.directories
            .entry(directory)
            .or_default()
            .orders
            .push(now.0);
    }

    /// The CA has issued. A rehearsal makes production the next step; anything else ends all failures.
    pub fn issued(&mut self, id: &SetId, task: &OrderTask, now: UnixTime) {
        let entry = self.sets.entry(id.clone()).or_default();
        answer(entry, task);
        let order = entry.order.take();
        entry.retry_at = None;
        let is_rehearsal = match &order {
            Some(order) => order.is_rehearsal,
            None => task.environment == Environment::Staging,
        };
        if is_rehearsal {
            entry.rehearsed = true;
            return;
        }
        entry.failures = 0;
        entry.last_failure = None;
        entry.rehearsed = false;
        remember(&mut entry.issued, now);
        if task.replaces.is_none() {
            let directory =
                order.map_or_else(|| task.issuer.directory.clone(), |order| order.directory);
            let directory = self.directories.entry(directory).or_default();
            for domain in domain::registered_domains(&task.names) {
                directory.issued.entry(domain).or_default().push(now.0);
            }
        }
    }

    /// The order, or an attempt to go on with it, has failed.
    pub fn failed(&mut self, id: &SetId, failure: &Failure, now: UnixTime) {
        let entry = self.sets.entry(id.clone()).or_default();
        let directory = entry.order.as_ref().map(|order| order.directory.clone());
        let is_rehearsal = entry.order.as_ref().is_some_and(|order| order.is_rehearsal);
        let dropped = match failure.keep_order {
            true => None,
            false => entry.order.take(),
        };
        if failure.kind != FailureKind::NotProven || !failure.keep_order {
            entry.failures = entry.failures.saturating_add(1);
        }
        if failure.kind == FailureKind::Validation && !is_rehearsal {
            remember(&mut entry.failed_validations, now);
        }
        entry.rehearsed = false;
        entry.last_failure = Some(RecordedFailure {
            at: now.0,
            kind: failure.kind,
            message: failure.message.chars().take(MESSAGE).collect(),
            is_rehearsal,
            names: failure
                .failed_names
                .iter()
                .map(ToString::to_string)
                .collect(),
        });
        let wait = backoff::wait(id, failure, entry.failures);
        entry.retry_at = Some(now.0.saturating_add(wait));
        if let (FailureKind::Unavailable | FailureKind::Internal, Some(order)) =
            (failure.kind, dropped)
        {
            self.count_unknown(order);
        }
        if let (FailureKind::RateLimited, Some(directory)) = (failure.kind, directory) {
            let wait = failure.retry_after.map_or(0, seconds).min(CLOSED);
            self.directory_closed(directory, UnixTime(now.0.saturating_add(wait)));
        }
    }

    /// The CA has said when to renew, or that it does not say: then the answer is one without a window to be used
    /// ([`Renewal::unsupported`]). Also to be told when the question failed, or it is put again at once.
    pub fn renewal(&mut self, id: &SetId, renewal: Renewal) {
        self.sets.entry(id.clone()).or_default().renewal = Some(renewal);
    }

    /// The CA at this directory wants nothing of us before a moment. A later one that is known already stays.
    pub fn directory_closed(&mut self, url: impl Into<String>, until: UnixTime) {
        let closed = &mut self.directories.entry(url.into()).or_default().closed_until;
        *closed = (*closed).max(Some(until.0));
    }

    /// Carries out `NoteUnwanted`.
    pub fn unwanted(&mut self, id: &SetId, now: UnixTime) {
        let entry = self.sets.entry(id.clone()).or_default();
        entry.unwanted_since.get_or_insert(now.0);
    }

    /// Carries out `NoteWanted`.
    pub fn wanted(&mut self, id: &SetId) {
        if let Some(entry) = self.sets.get_mut(id) {
            entry.unwanted_since = None;
        }
    }

    /// Carries out `NoteDemand`.
    pub fn demanded(&mut self, names: &NameSet, now: UnixTime) {
        let entry = self.entry(names);
        entry.on_demand = Some(now.0);
        entry.on_demand_since.get_or_insert(now.0);
    }

    /// Carries out `Abandon`. What was or may have been asked of the CA goes on counting.
    pub fn abandoned(&mut self, id: &SetId) {
        if let Some(order) = self.sets.get_mut(id).and_then(|entry| entry.order.take()) {
            self.count_unknown(order);
        }
    }

    /// Counts an order of which it is not known whether the CA has it as if it had.
    fn count_unknown(&mut self, order: InFlight) {
        if order.url.is_none() {
            let directory = self.directories.entry(order.directory).or_default();
            directory.orders.push(order.begun);
        }
    }

    /// Carries out `Remove`, once the Secrets are gone: only what counts at the CA is remembered.
    pub fn removed(&mut self, id: &SetId) {
        if let Some(entry) = self.sets.get_mut(id) {
            *entry = SetEntry {
                names: std::mem::take(&mut entry.names),
                issued: std::mem::take(&mut entry.issued),
                failed_validations: std::mem::take(&mut entry.failed_validations),
                ..SetEntry::default()
            };
        }
    }

    fn entry(&mut self, names: &NameSet) -> &mut SetEntry {
        let entry = self.sets.entry(names.id()).or_default();
        entry.names = names.iter().map(ToString::to_string).collect();
        entry
    }
}

impl Renewal {
    /// What is remembered of a certificate about which the CA says nothing (or not now), until it is asked again.
    pub fn unsupported(certificate: impl Into<String>, ask_at: UnixTime) -> Self {
        Self {
            certificate: certificate.into(),
            start: 0,
            end: 0,
            at: 0,
            ask_at: ask_at.0,
            explanation: None,
        }
    }

    /// The moment to renew; `None` when the CA has named none.
    pub fn moment(&self) -> Option<UnixTime> {
        (self.end > 0).then_some(UnixTime(self.at))
    }
}

/// Remembers that the request behind a task is being carried out.
fn answer(entry: &mut SetEntry, task: &OrderTask) {
    if let Some(request) = &task.requested {
        entry.renewed_for = Some(request.clone());
    }
}

fn remember(moments: &mut Vec<i64>, now: UnixTime) {
    moments.push(now.0);
    let surplus = moments.len().saturating_sub(MOMENTS);
    moments.drain(..surplus);
}
