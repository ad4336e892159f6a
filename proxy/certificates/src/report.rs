//! What people are shown of certificates: `tidegate certs`, admin pages and Events are made of it.

use std::collections::BTreeMap;

use serde::Serialize;
use tidegate_model::{Problem, UnixTime};

use crate::ledger::{Ledger, ORDERS_WINDOW, Seconds, WEEK};
use crate::plan::{Outlook, Plan};

/// How all certificates of an instance stand.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// When it was made.
    pub at: UnixTime,
    /// Whether by the process that orders; another has read the same, and orders nothing.
    pub leader: bool,
    /// Each set of names.
    pub outlook: Vec<Outlook>,
    /// What is wrong, sorted.
    pub problems: Vec<Problem>,
    /// What counts at the CAs.
    pub ledger: LedgerExcerpt,
}

/// What the ledger says about CAs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerExcerpt {
    /// Sets of names that something is remembered of.
    pub sets: usize,
    /// Orders under way.
    pub in_flight: usize,
    /// By URL of the directory.
    pub directories: BTreeMap<String, DirectoryExcerpt>,
}

/// What the ledger says about one directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DirectoryExcerpt {
    /// Orders placed in the last 3 hours.
    pub orders: usize,
    /// Certificates issued in the last 7 days, by registered domain, without renewals.
    pub issued: BTreeMap<String, usize>,
    /// The CA wants nothing of us before this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_until: Option<UnixTime>,
}

impl Report {
    /// Puts a report together from a plan and the ledger that it was made with, for a process that does not order.
    pub fn new(now: UnixTime, plan: &Plan, ledger: &Ledger) -> Self {
        Self {
            at: now,
            leader: false,
            outlook: plan.outlook.clone(),
            problems: plan.problems.clone(),
            ledger: LedgerExcerpt::new(now, ledger),
        }
    }
}

impl LedgerExcerpt {
    fn new(now: UnixTime, ledger: &Ledger) -> Self {
        let directories = ledger.directories.iter().map(|(url, directory)| {
            let issued = directory
                .issued
                .iter()
                .map(|(domain, moments)| (domain.clone(), within(moments, now, WEEK)))
                .filter(|(_, count)| *count > 0);
            let excerpt = DirectoryExcerpt {
                orders: within(&directory.orders, now, ORDERS_WINDOW),
                issued: issued.collect(),
                closed_until: directory
                    .closed_until
                    .filter(|until| *until > now.0)
                    .map(UnixTime),
            };
            (url.clone(), excerpt)
        });
        Self {
            sets: ledger.sets.len(),
            in_flight: ledger
                .sets
                .values()
                .filter(|entry| entry.order.is_some())
                .count(),
            directories: directories.collect(),
        }
    }
}

fn within(moments: &[Seconds], now: UnixTime, window: Seconds) -> usize {
    let since = now.0.saturating_sub(window);
    moments.iter().filter(|moment| **moment > since).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::DirectoryEntry;

    #[test]
    fn a_report_tells_what_still_counts() -> Result<(), serde_json::Error> {
        let now = UnixTime(1_000_000);
        let mut ledger = Ledger::default();
        let directory = DirectoryEntry {
            orders: vec![now.0 - ORDERS_WINDOW, now.0 - 5],
            closed_until: Some(now.0),
            issued: BTreeMap::from([
                ("example.com".to_owned(), vec![now.0 - 10, now.0 - 20]),
                ("old.example".to_owned(), vec![now.0 - WEEK]),
            ]),
        };
        ledger
            .directories
            .insert("https://ca".to_owned(), directory);
        let report = Report {
            leader: true,
            ..Report::new(now, &Plan::default(), &ledger)
        };
        let json: serde_json::Value = serde_json::to_value(&report)?;
        let directory = serde_json::json!({"orders": 1, "issued": {"example.com": 2}});
        assert_eq!(json["ledger"]["directories"]["https://ca"], directory);
        assert_eq!(json["leader"], true);
        Ok(())
    }
}
