//! What CAs allow within hours and weeks, and how much of it is left.

use std::collections::HashMap;

use tidegate_model::UnixTime;

use super::moment::Moment;
use super::words;
use super::{Environment, OrderTask};
use crate::domain;
use crate::ledger::{DirectoryEntry, HOUR, InFlight, ORDERS_WINDOW, Seconds, WEEK};
use crate::names::NameSet;

/// How much is left of the limits. Orders that the plan itself makes, and those under way, count as if they had gone well.
pub(super) struct Budget<'a> {
    moment: &'a Moment<'a>,
    /// When orders were or are placed that the ledger does not count yet, by directory: those of this plan, and those of
    /// which it is not known whether the CA has them.
    orders: HashMap<String, Vec<Seconds>>,
    /// Certificates that are to come, by directory and registered domain.
    certificates: HashMap<(String, String), u32>,
    /// Failed validations within the last hour, by name.
    failures: HashMap<&'a str, Vec<Seconds>>,
}

/// Why an order has to wait, and until when.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) until: UnixTime,
    pub(super) why: String,
}

impl<'a> Budget<'a> {
    pub(super) fn new(moment: &'a Moment<'a>) -> Self {
        let mut budget = Self {
            moment,
            orders: HashMap::new(),
            certificates: HashMap::new(),
            failures: HashMap::new(),
        };
        for entry in moment.ledger.sets.values() {
            if let Some(order) = entry.order.as_ref().filter(|order| order.url.is_none()) {
                budget.count_order(&order.directory, order.begun);
            }
            if !entry.failed_validations.is_empty() {
                for name in &entry.names {
                    let failures = budget.failures.entry(name).or_default();
                    failures.extend(&entry.failed_validations);
                }
            }
        }
        budget
    }

    /// Counts what is to come of an order that is under way for a set that is wanted.
    pub(super) fn count_in_flight(&mut self, order: &InFlight, task: &OrderTask) {
        if !order.is_rehearsal {
            self.count_certificate(&order.directory, task);
        }
    }

    /// Counts an order that the plan makes.
    pub(super) fn count(&mut self, task: &OrderTask) {
        self.count_placing(task);
        if task.environment == Environment::Production {
            self.count_certificate(task.directory(), task);
        }
    }

    /// Counts an order that is placed once more, because it is not known whether the CA has the first.
    pub(super) fn count_placing(&mut self, task: &OrderTask) {
        self.count_order(task.directory(), self.moment.now.0);
    }

    fn count_order(&mut self, directory: &str, at: Seconds) {
        self.orders
            .entry(directory.to_owned())
            .or_default()
            .push(at);
    }

    fn count_certificate(&mut self, directory: &str, task: &OrderTask) {
        if task.replaces.is_some() {
            return;
        }
        for domain in domain::registered_domains(&task.names) {
            *self
                .certificates
                .entry((directory.to_owned(), domain))
                .or_default() += 1;
        }
    }

    /// Why an order has to wait; `None` when nothing speaks against it. Of several reasons the one that lasts longest.
    pub(super) fn wait(&self, task: &OrderTask) -> Option<Wait> {
        let mut waits = vec![self.closed(task), self.sealed(), self.by_orders(task)];
        if task.environment == Environment::Production {
            waits.push(self.by_duplicates(task));
            waits.push(self.by_failures(&task.names));
            waits.extend(self.by_domains(task));
        }
        waits.into_iter().flatten().max_by_key(|wait| wait.until)
    }

    fn closed(&self, task: &OrderTask) -> Option<Wait> {
        let until = self.moment.closed_until(task.directory())?;
        let why = format!(
            "{} has asked to be left alone until {}",
            task.directory(),
            words::time(until)
        );
        Some(Wait { until, why })
    }

    fn sealed(&self) -> Option<Wait> {
        let until = self
            .moment
            .ledger
            .directories_sealed_until(self.moment.now)?;
        let why = "the ledger's record 'directories' cannot be read, so it is not known how many orders were placed";
        Some(Wait {
            until,
            why: why.to_owned(),
        })
    }

    /// Why no order can be placed at the moment because of the number of orders.
    pub(super) fn by_orders(&self, task: &OrderTask) -> Option<Wait> {
        let directory = task.directory();
        let limit = self.moment.settings.limits.orders_per_3_hours;
        let placed = self
            .directory(directory)
            .map_or(&[][..], |known| &known.orders);
        let coming = self.orders.get(directory).map_or(&[][..], Vec::as_slice);
        let until = self.free_at(&[placed, coming].concat(), 0, limit, ORDERS_WINDOW)?;
        let why = format!("{directory} takes {limit} orders in 3 hours, and they are used up");
        Some(Wait { until, why })
    }

    fn by_duplicates(&self, task: &OrderTask) -> Option<Wait> {
        let limit = self.moment.settings.limits.duplicates_per_week;
        let issued = &self.moment.entry(&task.names.id()).issued;
        let until = self.free_at(issued, 0, limit, WEEK)?;
        let why = format!(
            "{limit} certificates a week are issued for the same names, and they are used up"
        );
        Some(Wait { until, why })
    }

    fn by_failures(&self, names: &NameSet) -> Option<Wait> {
        let limit = self.moment.settings.limits.failures_per_hour;
        let waits = names.iter().filter_map(|name| {
            let name = name.to_string();
            let failed = self
                .failures
                .get(name.as_str())
                .map_or(&[][..], Vec::as_slice);
            let until = self.free_at(failed, 0, limit, HOUR)?;
            let why = format!("validation of {name} may fail {limit} times an hour, and has");
            Some(Wait { until, why })
        });
        waits.max_by_key(|wait| wait.until)
    }

    fn by_domains(&self, task: &OrderTask) -> Vec<Option<Wait>> {
        // CAs do not count renewals by domain.
        if task.replaces.is_some() {
            return Vec::new();
        }
        let limit = self.moment.settings.limits.per_domain_per_week;
        let directory = task.directory();
        let known = self.directory(directory);
        let wait = |domain: String| {
            let issued = known.and_then(|known| known.issued.get(&domain));
            let issued = issued.map_or(&[][..], Vec::as_slice);
            let key = (directory.to_owned(), domain);
            let coming = self.certificates.get(&key).copied().unwrap_or(0);
            let until = self.free_at(issued, coming, limit, WEEK)?;
            let why = format!(
                "{directory} issues {limit} certificates a week for {}, and they are used up",
                key.1
            );
            Some(Wait { until, why })
        };
        domain::registered_domains(&task.names)
            .into_iter()
            .map(wait)
            .collect()
    }

    fn directory(&self, url: &str) -> Option<&'a DirectoryEntry> {
        self.moment.ledger.directories.get(url)
    }

    /// When one more fits under a limit; `None` for now. What is `coming` counts from now on.
    fn free_at(
        &self,
        moments: &[Seconds],
        coming: u32,
        limit: u32,
        window: Seconds,
    ) -> Option<UnixTime> {
        let now = self.moment.now.0;
        let since = now.saturating_sub(window);
        let mut counted: Vec<_> = moments
            .iter()
            .filter(|moment| **moment > since)
            .map(|moment| (*moment).min(now))
            .collect();
        let used = counted
            .len()
            .saturating_add(usize::try_from(coming).unwrap_or(usize::MAX));
        let surplus = used.checked_sub(usize::try_from(limit).unwrap_or(usize::MAX))?;
        counted.sort_unstable();
        let last_to_go = counted.get(surplus).copied().unwrap_or(now);
        Some(UnixTime(last_to_go.saturating_add(window)))
    }
}

impl OrderTask {
    /// URL of the directory that it is placed at. A rehearsal where there is no staging directory is none.
    pub fn directory(&self) -> &str {
        match (self.environment, &self.issuer.staging) {
            (Environment::Staging, Some(staging)) => staging,
            _ => &self.issuer.directory,
        }
    }
}
