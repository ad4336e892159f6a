//! Problems gathered while one object is read.

use std::collections::BTreeMap;
use std::fmt;

use hashbrown::HashMap;
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
        let problem = Problem {
            level,
            object: self.object.clone(),
            field,
            reason,
            message,
        };
        self.problems.push(problem.bounded());
    }
}

/// Items as messages list them: the first ten, and how many more there are.
pub(super) fn enumerate(items: impl IntoIterator<Item = impl fmt::Display>) -> String {
    let mut items = items.into_iter();
    let first: Vec<_> = items.by_ref().take(10).map(|it| it.to_string()).collect();
    match items.count() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// The part of the translation that found problems, so that they are replaced when it is done again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Settings,
    Classes,
    Challenges,
    TicketKeys,
    Requests,
    Namespace(String),
    Ingress(NamespacedName),
    Secret(NamespacedName),
    Upstream(UpstreamId),
    Routes(HostPattern),
    Certificates(HostPattern),
}

/// Problems of one object that are listed. One with more is broken as a whole, or meant to flood whoever reads them.
const LISTED: usize = 100;

fn summary(object: &ObjectRef, (level, count): (Level, usize)) -> Problem {
    Problem {
        level,
        object: object.clone(),
        field: String::new(),
        reason: Reason::TooManyProblems,
        message: format!(
            "{count} more problems of the object are not listed; correct those that are, and the others follow"
        ),
    }
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

    /// All of them, sorted; what several parts found is there once. Of an object with very many the worst are there,
    /// and how many others it has.
    pub(super) fn sorted(&self) -> Vec<Problem> {
        let mut all: Vec<&Problem> = self.parts.values().flatten().collect();
        all.sort_unstable();
        all.dedup();
        let mut counts: HashMap<&ObjectRef, usize> = HashMap::new();
        let mut rest: HashMap<&ObjectRef, (Level, usize)> = HashMap::new();
        all.retain(|problem| {
            let count = counts.entry(&problem.object).or_default();
            *count += 1;
            if *count > LISTED {
                rest.entry(&problem.object).or_insert((problem.level, 0)).1 += 1;
            }
            *count <= LISTED
        });
        let mut sorted: Vec<_> = all.into_iter().cloned().collect();
        if !rest.is_empty() {
            let summaries = rest.into_iter().map(|(object, rest)| summary(object, rest));
            sorted.extend(summaries);
            sorted.sort_unstable();
        }
        sorted
    }
}
