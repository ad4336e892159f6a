//! Steps of a trial, and how each came out.

use serde::Serialize;

/// How a step came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Outcome {
    /// As a CA needs it.
    Fine,
    /// Perhaps as a CA needs it: what was seen from here may differ from what a CA sees.
    Doubtful,
    /// A CA would not issue.
    Failed,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Step {
    /// What was looked at.
    pub(super) what: String,
    pub(super) outcome: Outcome,
    /// What was seen, and what to do.
    pub(super) found: String,
}

impl Step {
    pub(super) fn fine(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(what, Outcome::Fine, found)
    }

    pub(super) fn doubtful(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(what, Outcome::Doubtful, found)
    }

    pub(super) fn failed(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(what, Outcome::Failed, found)
    }

    fn new(what: impl Into<String>, outcome: Outcome, found: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            outcome,
            found: found.into(),
        }
    }

    /// A line for people.
    pub(super) fn line(&self) -> String {
        let outcome = match self.outcome {
            Outcome::Fine => "ok",
            Outcome::Doubtful => "??",
            Outcome::Failed => "FAILED",
        };
        format!("{outcome:6}  {}: {}\n", self.what, self.found)
    }
}
