//! Problems gathered while one object is read.

use std::collections::BTreeMap;

use tidegate_model::{HostPattern, Level, NamespacedName, ObjectRef, Problem, Reason, UpstreamId};

/// Gathers the problems of one object.
#[derive(Debug)]
pub(super) struct Report {
    object: ObjectRef,
    problems: Vec<Problem>,
}

impl Report {
    pub(super) fn about(kind: &str, name: &NamespacedName) -> Self {
        Self {
            object: ObjectRef::new(kind, name.clone()),
            problems: Vec::new(),
        }
    }

    pub(super) fn error(
        &mut self,
        reason: Reason,
        field: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.add(Level::Error, reason, field.into(), message.into());
    }

    pub(super) fn warning(
        &mut self,
        reason: Reason,
        field: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.add(Level::Warning, reason, field.into(), message.into());
    }

    pub(super) fn note(
        &mut self,
        reason: Reason,
        field: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.add(Level::Info, reason, field.into(), message.into());
    }

    /// Takes in what was found wrong with another object on the way.
    pub(super) fn extend(&mut self, other: Self) {
        self.problems.extend(other.problems);
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    fn add(&mut self, level: Level, reason: Reason, field: String, message: String) {
        self.problems.push(Problem {
            level,
            object: self.object.clone(),
            field,
            reason,
            message,
        });
    }
}

/// The part of the translation that found problems, so that they are replaced when it is done again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Settings,
    Classes,
    Ingress(NamespacedName),
    Secret(NamespacedName),
    Upstream(UpstreamId),
    Routes(HostPattern),
    Certificates(HostPattern),
}

/// Every problem there is, by the part that found it.
#[derive(Debug, Default)]
pub(super) struct Problems {
    parts: BTreeMap<Part, Vec<Problem>>,
}

impl Problems {
    /// Replaces what a part had found.
    pub(super) fn set(&mut self, part: Part, problems: Vec<Problem>) {
        if problems.is_empty() {
            self.parts.remove(&part);
        } else {
            self.parts.insert(part, problems);
        }
    }

    /// All of them, sorted; what several parts found is there once.
    pub(super) fn sorted(&self) -> Vec<Problem> {
        let mut all: Vec<&Problem> = self.parts.values().flatten().collect();
        all.sort_unstable();
        all.dedup();
        all.into_iter().cloned().collect()
    }
}
