//! A report as people read it.

use std::collections::BTreeMap;

use serde::Deserialize;
use tidegate_model::UnixTime;

use crate::output;

/// What the page `/certs` says, as far as it is shown.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Report {
    at: i64,
    leader: bool,
    outlook: Vec<Outlook>,
    problems: Vec<Problem>,
    ledger: Ledger,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Outlook {
    names: Vec<String>,
    issuer: String,
    secrets: Vec<String>,
    not_after: Option<i64>,
    next: String,
    at: Option<i64>,
    why: String,
    last_error: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    level: String,
    object: String,
    field: String,
    reason: String,
    message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Ledger {
    sets: usize,
    in_flight: usize,
    directories: BTreeMap<String, Directory>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Directory {
    orders: usize,
    issued: BTreeMap<String, usize>,
    closed_until: Option<i64>,
}

impl Report {
    /// Whether every certificate that is wanted is there, and alive.
    pub(super) fn is_well(&self) -> bool {
        let is_alive = |outlook: &Outlook| match outlook.not_after {
            Some(end) => end > self.at,
            None => outlook.next == "remove",
        };
        self.outlook.iter().all(is_alive)
    }

    /// A table of certificates, what is wrong, and the ledger.
    pub(super) fn text(&self) -> String {
        let mut text = match self.outlook.is_empty() {
            true => "no certificate is wanted\n".to_owned(),
            false => self.table(),
        };
        for problem in &self.problems {
            text.push_str(&problem.line());
        }
        text.push_str(&self.ledger(self.leader));
        text
    }

    fn table(&self) -> String {
        let rows: Vec<_> = self.outlook.iter().map(Outlook::cells).collect();
        output::table(
            ["NAMES", "ISSUER", "SECRET", "EXPIRES", "NEXT", "LAST ERROR"],
            &rows,
        )
    }

    fn ledger(&self, leader: bool) -> String {
        let who = match leader {
            true => "this process orders",
            false => "another process orders, or none",
        };
        let Ledger {
            sets,
            in_flight,
            directories,
        } = &self.ledger;
        let mut text =
            format!("\nledger: {sets} sets of names, {in_flight} orders under way; {who}\n");
        for (url, directory) in directories {
            text.push_str(&directory.line(url));
        }
        text
    }
}

impl Outlook {
    fn cells(&self) -> [String; 6] {
        let next = match self.at {
            Some(at) => format!("{} {}", self.next, output::minute(UnixTime(at))),
            None => self.next.clone(),
        };
        let next = match self.why.is_empty() {
            true => next,
            false => format!("{next} ({})", self.why),
        };
        let or_dash = |text: String| match text.is_empty() {
            true => "-".to_owned(),
            false => text,
        };
        let end = self.not_after.map(|end| output::minute(UnixTime(end)));
        [
            or_dash(self.names.join(", ")),
            or_dash(self.issuer.clone()),
            or_dash(self.secrets.join(", ")),
            end.unwrap_or_else(|| "-".to_owned()),
            next,
            or_dash(self.last_error.clone().unwrap_or_default()),
        ]
    }
}

impl Problem {
    fn line(&self) -> String {
        let Self {
            level,
            object,
            field,
            reason,
            message,
        } = self;
        let place = match field.is_empty() {
            true => object.clone(),
            false => format!("{object} {field}"),
        };
        format!("{level}: {place}: {reason}: {message}\n")
    }
}

impl Directory {
    fn line(&self, url: &str) -> String {
        let issued: Vec<_> = self
            .issued
            .iter()
            .map(|(domain, count)| format!("{domain} {count}"))
            .collect();
        let issued = match issued.is_empty() {
            true => "none".to_owned(),
            false => issued.join(", "),
        };
        let closed = self.closed_until.map(|until| {
            format!(
                "; the CA wants nothing of us before {}",
                output::minute(UnixTime(until))
            )
        });
        format!(
            "  {url}: {} orders in 3 hours; certificates in 7 days: {issued}{}\n",
            self.orders,
            closed.unwrap_or_default()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tidegate_certificates as certificates;
    use tidegate_certificates::plan::Plan;
    use tidegate_certificates::{Ledger, NameSet};
    use tidegate_model::{HostPattern, NamespacedName};

    /// What a page would say.
    fn shown(report: &certificates::Report) -> Report {
        serde_json::from_str(&serde_json::to_string(report).unwrap()).unwrap()
    }

    fn outlook(name: &str, not_after: Option<i64>) -> certificates::plan::Outlook {
        let names = NameSet::new([HostPattern::parse(name).unwrap()]).unwrap();
        certificates::plan::Outlook {
            id: names.id(),
            names: vec![name.to_owned()],
            issuer: "main".to_owned(),
            secrets: vec![NamespacedName::new("shop", "web-tls")],
            objects: Vec::new(),
            not_after: not_after.map(UnixTime),
            next: "renew",
            at: Some(UnixTime(86_400)),
            why: "two thirds of its life".to_owned(),
            last_error: Some("the CA could not be reached".to_owned()),
        }
    }

    #[test]
    fn a_report_is_shown_with_all_that_it_says() {
        let mut ledger = Ledger::default();
        let directory = certificates::ledger::DirectoryEntry {
            orders: vec![900, 950],
            closed_until: Some(3_600),
            issued: [("a.example".to_owned(), vec![900])].into(),
        };
        ledger
            .directories
            .insert("https://ca.example/dir".to_owned(), directory);
        let mut plan = Plan::default();
        plan.outlook.push(outlook("a.example", Some(172_800)));
        let report = certificates::Report::new(UnixTime(1_000), &plan, &ledger);
        let report = Arc::new(report);
        let shown = shown(&report);
        assert!(shown.is_well());
        let text = shown.text();
        for part in [
            "a.example",
            "main",
            "shop/web-tls",
            "1970-01-03 00:00",
            "renew 1970-01-02 00:00 (two thirds of its life)",
            "the CA could not be reached",
            "https://ca.example/dir: 2 orders in 3 hours; certificates in 7 days: a.example 1; the CA wants nothing of us \
             before 1970-01-01 01:00",
            "another process orders",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn what_is_missing_or_dead_is_not_well() {
        let of = |outlook| {
            let mut plan = Plan::default();
            plan.outlook.push(outlook);
            shown(&certificates::Report::new(
                UnixTime(1_000),
                &plan,
                &Ledger::default(),
            ))
        };
        assert!(!of(outlook("a.example", None)).is_well());
        assert!(!of(outlook("a.example", Some(1_000))).is_well());
        let mut gone = outlook("a.example", None);
        gone.next = "remove";
        assert!(of(gone).is_well());
        assert!(Report::default().is_well());
        assert!(
            Report::default()
                .text()
                .starts_with("no certificate is wanted")
        );
    }
}
