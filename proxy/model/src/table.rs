//! The index that finds a request's route: one look-up by host, then one by path.
//!
//! Precedence (networking.k8s.io/v1 `IngressRule` and `HTTPIngressPath`): an exact host before its wildcard before any
//! host; within a host an Exact path before the longest Prefix. Where a more precise host has no matching path, the
//! next one is asked. When no rule matches at all, default backends answer in the same order of hosts, and last the
//! controller's own.

mod hosts;
mod paths;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::{hosts::HostIndex, paths::PathIndex};
use crate::{HostPattern, Route, host::parent};

/// Every route, indexed. Copies share all hosts but those that are changed afterwards, so that a copy with one host
/// changed costs microseconds whatever the number of hosts.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    exact: HostIndex,
    wildcard: HostIndex,
    any: VirtualHost,
}

/// What [`RouteTable::find`] found.
#[derive(Clone, Copy, Debug)]
pub struct Lookup<'a> {
    /// The route, if any rule or default backend is for the request.
    pub route: Option<&'a Arc<Route>>,
    /// Whether the request's host is listed under some `spec.tls`.
    pub tls_host: bool,
}

impl RouteTable {
    /// The route for a host (lower case, no port) and a path (no query).
    pub fn find(&self, host: &str, path: &str) -> Lookup<'_> {
        let exact = self.exact.find(host);
        // A wildcard is asked only when the exact host had no answer, which is rare: look it up late.
        if let Some(virtual_host) = exact
            && let Some(route) = virtual_host.find(path)
        {
            return Lookup {
                route: Some(route),
                tls_host: virtual_host.tls,
            };
        }
        let wildcard = parent(host).and_then(|suffix| self.wildcard.find(suffix));
        let hosts = [exact, wildcard, Some(&self.any)];
        let mut known = hosts.into_iter().flatten();
        let tls_host = exact.or(wildcard).unwrap_or(&self.any).tls;
        let route = known
            .clone()
            .find_map(|virtual_host| virtual_host.find(path))
            .or_else(|| known.find_map(VirtualHost::default_route));
        Lookup { route, tls_host }
    }

    /// Whether a rule or default backend names this host (lower case), itself or by its wildcard. One that is for any
    /// host does not count.
    pub fn names_host(&self, host: &str) -> bool {
        let exact = self.exact.find(host);
        let wildcard = parent(host).and_then(|suffix| self.wildcard.find(suffix));
        let mut found = exact.into_iter().chain(wildcard);
        found.any(|virtual_host| !virtual_host.paths.is_empty())
    }

    /// Puts a host's routes in, in place of those it had; `None` removes the host.
    pub fn set(&mut self, host: HostPattern, virtual_host: Option<VirtualHost>) {
        let (index, name) = match host {
            HostPattern::Exact(name) => (&mut self.exact, name),
            HostPattern::Wildcard(suffix) => (&mut self.wildcard, suffix),
            HostPattern::Any => return self.any = virtual_host.unwrap_or_default(),
        };
        match virtual_host {
            Some(virtual_host) => index.insert(&name, virtual_host),
            None => index.remove(&name),
        }
    }

    /// Every host with its routes, in order of precedence and name. A host without routes is one that is only listed
    /// under `spec.tls`.
    pub fn hosts(&self) -> BTreeMap<HostPattern, &VirtualHost> {
        let exact = self.exact.iter();
        let exact = exact.map(|(name, found)| (HostPattern::Exact(name), found));
        let wildcard = self.wildcard.iter();
        let wildcard = wildcard.map(|(name, found)| (HostPattern::Wildcard(name), found));
        exact
            .chain(wildcard)
            .chain([(HostPattern::Any, &self.any)])
            .collect()
    }

    /// Every host whose routes are not those of an older table, in no order; `None` for one that only the older table
    /// has. Fast where one is a copy of the other with some hosts changed.
    pub fn changes_since<'a>(
        &'a self,
        older: &'a Self,
    ) -> impl Iterator<Item = (HostPattern, Option<&'a VirtualHost>)> {
        let exact = self.exact.changes_since(&older.exact);
        let exact = exact.map(|(name, host)| (HostPattern::Exact(name), host));
        let wildcard = self.wildcard.changes_since(&older.wildcard);
        let wildcard = wildcard.map(|(name, host)| (HostPattern::Wildcard(name), host));
        let any = (self.any != older.any).then_some((HostPattern::Any, Some(&self.any)));
        exact.chain(wildcard).chain(any)
    }
}

/// A route that no request reaches, because another has the same host and path and a better rank.
#[derive(Clone, Debug)]
pub struct Shadowed {
    /// The unreachable one.
    pub loser: Arc<Route>,
    /// The one that is served in its place.
    pub winner: Arc<Route>,
}

/// The routes of one host. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct VirtualHost {
    paths: PathIndex,
    tls: bool,
}

impl VirtualHost {
    /// Indexes routes. Of routes with the same condition the best [rank](Route::rank) is kept and the others are
    /// returned, each with the one that won over it.
    ///
    /// `default` answers what no rule matches; `tls` says that the host is listed under some `spec.tls`.
    #[must_use]
    pub fn new(
        mut routes: Vec<Arc<Route>>,
        default: Option<Arc<Route>>,
        tls: bool,
    ) -> (Self, Vec<Shadowed>) {
        routes.sort_by(|a, b| a.path.cmp(&b.path).then_with(|| a.rank.cmp(&b.rank)));
        let (paths, shadowed) = PathIndex::new(&routes, default);
        (Self { paths, tls }, shadowed)
    }

    /// The route whose rule matches the path best; default backends are not asked.
    pub fn find(&self, path: &str) -> Option<&Arc<Route>> {
        self.paths.find(path)
    }

    /// Every route that can be reached, in order of precedence.
    pub fn routes(&self) -> Vec<&Arc<Route>> {
        let mut routes = self.paths.routes();
        routes.sort_by(|a, b| a.path.cmp(&b.path));
        routes
    }

    /// What answers when no rule matches.
    pub fn default_route(&self) -> Option<&Arc<Route>> {
        self.paths.default_route()
    }

    /// Whether the host is listed under some `spec.tls`.
    pub fn tls(&self) -> bool {
        self.tls
    }
}

/// Equal routes make hosts equal. A copy is known at once.
impl PartialEq for VirtualHost {
    fn eq(&self, other: &Self) -> bool {
        let is_alike =
            || self.default_route() == other.default_route() && self.routes() == other.routes();
        self.tls == other.tls && (self.paths.is_copy(&other.paths) || is_alike())
    }
}

impl Eq for VirtualHost {}

#[cfg(test)]
mod tests;
