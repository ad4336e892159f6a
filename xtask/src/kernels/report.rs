//! One row for a kernel.

use super::console::Console;
use super::guest::Guest;
use super::outcome::{Check, Ended, Outcome};
use crate::table::{Align, Table};

/// What became of one guest.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) guest: Guest,
    pub(super) console: Console,
    pub(super) outcome: Outcome,
}

impl Row {
    pub(super) fn passed(&self) -> bool {
        self.outcome.passed()
    }

    /// The line that is said when the guest is done.
    pub(super) fn line(&self) -> String {
        let took = self.console.took.as_secs_f64();
        let result = if self.passed() { "passed" } else { "FAILED" };
        format!("{} {result} after {took:.1} s", self.guest.name())
    }

    /// What went wrong, below everything that the guest said.
    pub(super) fn failure(&self) -> Option<String> {
        let problems = self.outcome.problems();
        if problems.is_empty() {
            return None;
        }
        let name = self.guest.name();
        let lines = self.console.text.lines();
        let console: String = lines.map(|line| format!("  | {line}\n")).collect();
        Some(format!(
            "\n{name} said:\n{console}{name}: {}",
            problems.join("; ")
        ))
    }
}

pub(super) fn table(rows: &[Row]) -> Table {
    let start = [
        ("kernel", Align::Left),
        ("architecture", Align::Left),
        ("boot", Align::Right),
    ];
    let checks = Check::ALL.map(|check| (check.name(), Align::Left));
    let columns = start.into_iter().chain(checks);
    let mut table = Table::new(columns.chain([("all", Align::Right)]));
    for row in rows {
        let release = row.outcome.release.as_deref();
        let boot = row.console.booted;
        let start = [
            release.unwrap_or(row.guest.series).to_owned(),
            row.guest.architecture.debian().to_owned(),
            boot.map_or("-".to_owned(), |boot| {
                format!("{:.1} s", boot.as_secs_f64())
            }),
        ];
        let checks = Check::ALL.map(|check| match row.outcome.ended(check) {
            Ended::Passed(1) => "passed".to_owned(),
            Ended::Passed(count) => format!("{count} passed"),
            Ended::Failed => "FAILED".to_owned(),
            Ended::Missing => "not run".to_owned(),
        });
        let all = format!("{:.1} s", row.console.took.as_secs_f64());
        table.push(start.into_iter().chain(checks).chain([all]));
    }
    table
}

/// The sum of all guests, as cargo's tests have it.
pub(super) fn result_line(rows: &[Row]) -> String {
    let tallies = rows.iter().map(|row| row.outcome.tally());
    let (passed, failed) = tallies.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let result = if rows.iter().all(Row::passed) {
        "ok"
    } else {
        "FAILED"
    };
    format!(
        "test result: {result}. {passed} passed; {failed} failed; 0 ignored (on {} kernels)",
        rows.len()
    )
}
