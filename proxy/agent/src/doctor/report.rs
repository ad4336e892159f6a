//! What was found, as a table for people and as JSON for programs.

use anyhow::Context;
use serde::Serialize;

use super::checks::{Check, Need, State};
use crate::output;

/// What is printed.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Whether everything works that the default settings use.
    works: bool,
    checks: Vec<Check>,
}

impl Report {
    pub(super) fn new(checks: Vec<Check>) -> Self {
        let mut needed = checks
            .iter()
            .filter(|check| check.needed_by == Need::Defaults);
        Self {
            works: needed.all(|check| check.state == State::Works),
            checks,
        }
    }

    /// Whether everything works that the default settings use.
    pub(super) fn works(&self) -> bool {
        self.works
    }

    pub(super) fn json(&self) -> anyhow::Result<String> {
        let mut text = serde_json::to_string_pretty(self).context("cannot write JSON")?;
        text.push('\n');
        Ok(text)
    }

    /// A row for each check, and below what is lacking with its cost.
    pub(super) fn text(&self) -> String {
        let rows: Vec<_> = self.checks.iter().map(row).collect();
        let mut text = output::table(["WHAT", "STATE", "NEEDED BY", "FOUND"], &rows);
        text.push('\n');
        self.checks
            .iter()
            .filter_map(lack)
            .for_each(|lack| text.push_str(&lack));
        text.push_str(match self.works {
            true => "everything works that the default settings use\n",
            false => "something is lacking that the default settings use\n",
        });
        text
    }
}

/// A verifier may say a lot: the row has the first line of it.
fn row(check: &Check) -> [String; 4] {
    let state = match check.state {
        State::Works => "works",
        State::Missing => "missing",
        State::Unknown => "unknown",
    };
    let needed_by = match check.needed_by {
        Need::Defaults => "default settings",
        Need::Guard => "guard",
        Need::OldKernel => "kernels before 5.14",
        Need::Nothing => "-",
    };
    let found = check.found.lines().next().unwrap_or_default();
    [check.what, state, needed_by, found].map(str::to_owned)
}

/// What a check that does not work costs, what to do, and the rest of what was said.
fn lack(check: &Check) -> Option<String> {
    let cost = check.cost.as_deref()?;
    let mut text = format!("{}\n  costs: {cost}\n", check.what);
    if let Some(remedy) = &check.remedy {
        text.push_str(&format!("  do: {remedy}\n"));
    }
    let mut said = check.found.lines();
    if said.nth(1).is_some() {
        text.push_str("  said:\n");
        for line in check.found.lines() {
            text.push_str(&format!("    {line}\n"));
        }
    }
    text.push('\n');
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(state: State, needed_by: Need) -> Check {
        let lacks = state != State::Works;
        Check {
            what: "program steer",
            state,
            found: "permission denied\nlast line of the verifier".to_owned(),
            needed_by,
            cost: lacks.then(|| "no steering".to_owned()),
            remedy: lacks.then(|| "give CAP_BPF".to_owned()),
        }
    }

    #[test]
    fn only_what_the_defaults_use_decides() {
        let works = |state, needed_by| Report::new(vec![check(state, needed_by)]).works();
        assert!(works(State::Works, Need::Defaults));
        assert!(!works(State::Missing, Need::Defaults));
        assert!(!works(State::Unknown, Need::Defaults));
        for needed_by in [Need::Guard, Need::OldKernel, Need::Nothing] {
            assert!(works(State::Missing, needed_by), "{needed_by:?}");
        }
    }

    #[test]
    fn the_table_has_costs_and_remedies_below() {
        let text = Report::new(vec![check(State::Missing, Need::Defaults)]).text();
        let expected = "\
WHAT           STATE    NEEDED BY         FOUND
program steer  missing  default settings  permission denied

program steer
  costs: no steering
  do: give CAP_BPF
  said:
    permission denied
    last line of the verifier

something is lacking that the default settings use
";
        assert_eq!(text, expected);
        let text = Report::new(vec![check(State::Works, Need::Defaults)]).text();
        assert!(!text.contains("costs"), "{text}");
    }

    #[test]
    fn json_has_the_same() {
        let json = Report::new(vec![check(State::Unknown, Need::OldKernel)]).json();
        let value: serde_json::Value = serde_json::from_str(&json.unwrap()).unwrap();
        assert_eq!(value["works"], true);
        let check = &value["checks"][0];
        assert_eq!(check["what"], "program steer");
        assert_eq!(check["state"], "unknown");
        assert_eq!(check["neededBy"], "old-kernel");
        assert_eq!(check["cost"], "no steering");
        assert_eq!(check["remedy"], "give CAP_BPF");
    }
}
