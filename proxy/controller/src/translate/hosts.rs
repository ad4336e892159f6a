//! The route table, host by host: only hosts whose Ingresses changed are put together again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_model::{
    Excerpt, HostPattern, NamespacedName, Problem, Reason, Route, RouteRank, RouteTable, Shadowed,
    VirtualHost,
};

use super::Ingresses;
use super::index::Index;
use super::ingress::{Derived, Scope};
use super::report::{Part, Problems, Report};
use super::server_names::ServerNames;
use super::solver;

/// Which default backend goes first: that of an Ingress without rules, then as routes are ranked.
type DefaultRank = (Scope, RouteRank);

/// The routes of every host.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    table: Arc<RouteTable>,
    named: Index<HostPattern>,
    defaults: BTreeMap<DefaultRank, Arc<Route>>,
    /// The controller's own default backend.
    fallback: Option<Arc<Route>>,
    outcomes: BTreeMap<HostPattern, Outcome>,
    dirty: BTreeSet<HostPattern>,
    /// Wildcards that are listed under `spec.tls` now, or no longer are.
    listed: BTreeSet<HostPattern>,
}

/// What became of the Ingresses that name a host.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    /// How many routes each has that are never reached.
    shadowed: BTreeMap<NamespacedName, usize>,
    /// Whose default backend is in force.
    default: Option<NamespacedName>,
}

impl Hosts {
    pub(super) fn table(&self) -> &Arc<RouteTable> {
        &self.table
    }

    /// The hosts that rules name.
    pub(super) fn named(&self) -> &Index<HostPattern> {
        &self.named
    }

    /// Sets the controller's own default backend.
    pub(super) fn set_fallback(&mut self, fallback: Option<Arc<Route>>) {
        if self.fallback != fallback {
            self.fallback = fallback;
            self.touch(HostPattern::Any);
        }
    }

    /// Has a host put together again.
    pub(super) fn touch(&mut self, host: HostPattern) {
        self.dirty.insert(host);
    }

    /// Has a host that is listed under `spec.tls` now, or no longer is, put together again, and those that it covers.
    pub(super) fn touch_listed(&mut self, host: HostPattern) {
        if matches!(host, HostPattern::Wildcard(_)) {
            self.listed.insert(host.clone());
        }
        self.touch(host);
    }

    /// All of them in one go, however many there are.
    fn touch_covered(&mut self) {
        let listed = std::mem::take(&mut self.listed);
        if listed.is_empty() {
            return;
        }
        let covered = self.named.keys().filter(|named| {
            let above = named.wildcard_above();
            above.is_some_and(|above| listed.contains(&above))
        });
        self.dirty.extend(covered.cloned());
    }

    /// Takes the new version of an Ingress in.
    pub(super) fn replace(
        &mut self,
        name: &NamespacedName,
        old: Option<&Derived>,
        new: Option<&Derived>,
    ) {
        for host in old.iter().flat_map(|old| old.hosts.keys()) {
            if new.is_none_or(|new| !new.hosts.contains_key(host)) {
                self.named.unlink(host, name);
                self.dirty.insert(host.clone());
            }
        }
        for (host, routes) in new.iter().flat_map(|new| &new.hosts) {
            let before = old.and_then(|old| old.hosts.get(host));
            if before.is_none() {
                self.named.link(host, name);
            }
            if before != Some(routes) || !same_standing(old, new) {
                self.dirty.insert(host.clone());
            }
        }
        self.replace_default(old, new);
    }

    fn replace_default(&mut self, old: Option<&Derived>, new: Option<&Derived>) {
        let before = self.best_default().cloned();
        let rank = |derived: &Derived| (derived.scope, derived.rank.clone());
        if let Some(old) = old {
            self.defaults.remove(&rank(old));
        }
        if let Some(new) = new
            && let Some(default) = &new.default
        {
            self.defaults.insert(rank(new), default.clone());
        }
        if self.best_default() != before.as_ref() {
            self.touch(HostPattern::Any);
        }
    }

    fn best_default(&self) -> Option<&Arc<Route>> {
        self.defaults.values().next()
    }

    /// Puts the touched hosts together. Returns the Ingresses of which more or fewer routes are in force now.
    pub(super) fn update(
        &mut self,
        ingresses: &Ingresses,
        server_names: &ServerNames,
        problems: &mut Problems,
    ) -> BTreeSet<NamespacedName> {
        self.touch_covered();
        let mut concerned = BTreeSet::new();
        for host in std::mem::take(&mut self.dirty) {
            let (outcome, conflicts) = self.assemble(&host, ingresses, server_names);
            problems.set(Part::Routes(host.clone()), conflicts);
            let before = match outcome == Outcome::default() {
                true => self.outcomes.remove(&host),
                false => self.outcomes.insert(host.clone(), outcome),
            };
            for outcome in before.iter().chain(self.outcomes.get(&host)) {
                concerned.extend(outcome.shadowed.keys().cloned());
                concerned.extend(outcome.default.clone());
            }
        }
        concerned
    }

    fn assemble(
        &mut self,
        host: &HostPattern,
        ingresses: &Ingresses,
        server_names: &ServerNames,
    ) -> (Outcome, Vec<Problem>) {
        let naming = || self.named.of(host).filter_map(|name| ingresses.get(name));
        let routes: Vec<_> = naming()
            .flat_map(|derived| derived.hosts.get(host))
            .flatten()
            .cloned()
            .collect();
        let default = match host {
            HostPattern::Any => self.best_default().or(self.fallback.as_ref()).cloned(),
            _ => naming()
                .filter_map(|derived| Some((&derived.rank, derived.default.as_ref()?)))
                .min_by_key(|(rank, _)| *rank)
                .map(|(_, default)| default.clone()),
        };
        let tls = server_names.lists(host);
        let known = self.named.contains(host) || server_names.names(host) || default.is_some();
        let owner = default
            .as_ref()
            .and_then(|route| route.labels.ingress.clone());
        let (virtual_host, shadowed) = VirtualHost::new(routes, default, tls);
        let table = Arc::make_mut(&mut self.table);
        table.set(host.clone(), known.then_some(virtual_host));
        let mut outcome = Outcome {
            default: owner,
            ..Outcome::default()
        };
        for loser in shadowed.iter().map(|shadowed| &shadowed.loser) {
            *outcome
                .shadowed
                .entry(loser.rank.object.clone())
                .or_default() += 1;
        }
        let conflicts = shadowed
            .iter()
            .flat_map(|shadowed| conflict(shadowed, ingresses));
        (outcome, conflicts.collect())
    }

    /// How many routes of an Ingress are in force: those that no other shadows, and its default backend if it answers
    /// anywhere.
    pub(super) fn routes_in_force(&self, name: &NamespacedName, derived: &Derived) -> usize {
        let mut routes = 0;
        let mut answers_rest = false;
        for (host, here) in &derived.hosts {
            let outcome = self.outcomes.get(host);
            let shadowed = outcome.and_then(|outcome| outcome.shadowed.get(name));
            routes += here.len() - shadowed.copied().unwrap_or_default();
            answers_rest |= self.answers_rest(host, name);
        }
        answers_rest |= self.answers_rest(&HostPattern::Any, name);
        routes + usize::from(answers_rest)
    }

    fn answers_rest(&self, host: &HostPattern, name: &NamespacedName) -> bool {
        let outcome = self.outcomes.get(host);
        outcome.is_some_and(|outcome| outcome.default.as_ref() == Some(name))
    }
}

/// Whether what ranks an Ingress among others, and what answers the rest of its hosts, is the same.
fn same_standing(old: Option<&Derived>, new: Option<&Derived>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => {
            old.rank == new.rank && old.shape == new.shape && old.default == new.default
        }
        _ => false,
    }
}

fn conflict(shadowed: &Shadowed, ingresses: &Ingresses) -> Vec<Problem> {
    let Shadowed { loser, winner } = shadowed;
    let field = |route: &Route| {
        let derived = ingresses.get(&route.rank.object);
        derived.map_or_else(String::new, |derived| {
            derived.shape.field_at(route.rank.position)
        })
    };
    let whose = if loser.rank.object == winner.rank.object {
        format!("{} of this Ingress", field(winner))
    } else {
        format!("Ingress {}", winner.rank.object)
    };
    let why = if loser.path != winner.path {
        format!(
            "has '{}', which matches the same and is longer",
            Excerpt(winner.path.as_str())
        )
    } else if loser.rank.object == winner.rank.object {
        "has the same path and comes first".to_owned()
    } else if winner.rank.created == Some(solver::OLDEST) {
        "has the same path and answers the challenge that it is for".to_owned()
    } else if loser.rank.created == winner.rank.created {
        "has the same path and comes first by namespace and name".to_owned()
    } else {
        "has the same path and is older".to_owned()
    };
    let mut report = Report::about("Ingress", &loser.rank.object);
    report.warning(
        Reason::RouteConflict,
        field(loser),
        format!(
            "'{}' ({:?}) of host '{}' gets no requests: {whose} {why}; remove one of the two",
            Excerpt(loser.path.as_str()),
            loser.path.kind(),
            loser.host,
        ),
    );
    report.into_problems()
}
