//! The index that finds a request's route: one look-up by host, then one step per path element.
//!
//! Precedence (networking.k8s.io/v1 `IngressRule` and `HTTPIngressPath`): an exact host before its wildcard before any
//! host; within a host an Exact path before the longest Prefix. Where a more precise host has no matching path, the
//! next one is asked. When no rule matches at all, default backends answer in the same order of hosts, and last the
//! controller's own.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use hashbrown::{Equivalent, HashMap};

use crate::{HostPattern, Hostname, PathKind, Route, host::parent};

/// Every route, indexed.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    exact: HashMap<Hostname, Arc<VirtualHost>>,
    wildcard: HashMap<Hostname, Arc<VirtualHost>>,
    any: Arc<VirtualHost>,
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
        let exact = self.exact.get(host).map(|found| &**found);
        // A wildcard is asked only when the exact host had no answer, which is rare: look it up late.
        if let Some(virtual_host) = exact
            && let Some(route) = virtual_host.find(path)
        {
            return Lookup {
                route: Some(route),
                tls_host: virtual_host.tls,
            };
        }
        let wildcard = parent(host)
            .and_then(|suffix| self.wildcard.get(suffix))
            .map(|found| &**found);
        let hosts = [exact, wildcard, Some(&*self.any)];
        let mut known = hosts.into_iter().flatten();
        let tls_host = exact.or(wildcard).unwrap_or(&self.any).tls;
        let route = known
            .clone()
            .find_map(|virtual_host| virtual_host.find(path))
            .or_else(|| known.find_map(|virtual_host| virtual_host.default.as_ref()));
        Lookup { route, tls_host }
    }

    /// Puts a host's routes in, in place of those it had; `None` removes the host.
    pub fn set(&mut self, host: HostPattern, virtual_host: Option<VirtualHost>) {
        let virtual_host = virtual_host.map(Arc::new);
        let (map, name) = match host {
            HostPattern::Exact(name) => (&mut self.exact, name),
            HostPattern::Wildcard(suffix) => (&mut self.wildcard, suffix),
            HostPattern::Any => return self.any = virtual_host.unwrap_or_default(),
        };
        match virtual_host {
            Some(virtual_host) => _ = map.insert(name, virtual_host),
            None => _ = map.remove(&name),
        }
    }

    /// Every host with its routes, in order of precedence and name. A host without routes is one that is only listed
    /// under `spec.tls`.
    pub fn hosts(&self) -> BTreeMap<HostPattern, &VirtualHost> {
        let exact = self
            .exact
            .iter()
            .map(|(name, found)| (HostPattern::Exact(name.clone()), &**found));
        let wildcard = self
            .wildcard
            .iter()
            .map(|(name, found)| (HostPattern::Wildcard(name.clone()), &**found));
        exact
            .chain(wildcard)
            .chain([(HostPattern::Any, &*self.any)])
            .collect()
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

/// The routes of one host.
///
/// Paths stand in one hash table of tree nodes, keyed by parent node and element, so a look-up takes one probe per
/// element however many paths there are.
#[derive(Clone, Debug, Default)]
pub struct VirtualHost {
    root: Node,
    nodes: HashMap<Edge, Node>,
    default: Option<Arc<Route>>,
    tls: bool,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// 0 for the root.
    id: u32,
    exact: Option<Arc<Route>>,
    prefix: Option<Arc<Route>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Edge {
    parent: u32,
    element: Box<str>,
}

/// An [`Edge`] to look up, borrowed.
#[derive(Hash)]
struct EdgeRef<'a> {
    parent: u32,
    element: &'a str,
}

impl Hash for Edge {
    fn hash<H: Hasher>(&self, state: &mut H) {
        EdgeRef {
            parent: self.parent,
            element: &self.element,
        }
        .hash(state);
    }
}

impl Equivalent<Edge> for EdgeRef<'_> {
    fn equivalent(&self, edge: &Edge) -> bool {
        self.parent == edge.parent && *self.element == *edge.element
    }
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
        let mut host = Self {
            default,
            tls,
            ..Self::default()
        };
        let mut shadowed = Vec::new();
        for route in routes {
            let node = host.node(&route);
            let slot = match route.path.kind() {
                PathKind::Exact => &mut node.exact,
                PathKind::Prefix => &mut node.prefix,
            };
            match slot {
                Some(winner) => shadowed.push(Shadowed {
                    loser: route,
                    winner: winner.clone(),
                }),
                None => *slot = Some(route),
            }
        }
        (host, shadowed)
    }

    /// The node for a route's path, made if need be.
    fn node(&mut self, route: &Route) -> &mut Node {
        let mut edge = None;
        let mut parent = self.root.id;
        for element in route.path.elements() {
            let next = u32::try_from(self.nodes.len() + 1).unwrap_or(u32::MAX);
            let key = Edge {
                parent,
                element: element.into(),
            };
            parent = self
                .nodes
                .entry(key.clone())
                .or_insert_with(|| Node {
                    id: next,
                    ..Node::default()
                })
                .id;
            edge = Some(key);
        }
        match edge {
            Some(edge) => self.nodes.entry(edge).or_default(),
            None => &mut self.root,
        }
    }

    /// The route whose rule matches the path best; default backends are not asked.
    pub fn find(&self, path: &str) -> Option<&Arc<Route>> {
        let mut best = self.root.prefix.as_ref();
        if self.nodes.is_empty() {
            return best;
        }
        let Some(rest) = path.strip_prefix('/') else {
            return best;
        };
        let mut parent = self.root.id;
        let mut elements = rest.split('/').peekable();
        while let Some(element) = elements.next() {
            let Some(node) = self.nodes.get(&EdgeRef { parent, element }) else {
                return best;
            };
            if elements.peek().is_none() && node.exact.is_some() {
                return node.exact.as_ref();
            }
            best = node.prefix.as_ref().or(best);
            parent = node.id;
        }
        best
    }

    /// Every route that can be reached, in order of precedence.
    pub fn routes(&self) -> Vec<&Arc<Route>> {
        let nodes = self.nodes.values().chain([&self.root]);
        let mut routes: Vec<_> = nodes
            .flat_map(|node| node.exact.iter().chain(&node.prefix))
            .collect();
        routes.sort_by(|a, b| a.path.cmp(&b.path));
        routes
    }

    /// What answers when no rule matches.
    pub fn default_route(&self) -> Option<&Arc<Route>> {
        self.default.as_ref()
    }

    /// Whether the host is listed under some `spec.tls`.
    pub fn tls(&self) -> bool {
        self.tls
    }
}

#[cfg(test)]
mod tests;
