//! The paths of one host: a list while they are few, a tree in a hash table when they are many.
//!
//! Both are laid out for look-ups that find nothing of them in the processor's caches. What decides about a path, its
//! text included, stands in one place, and what is read next is next to it or needs no text to be found.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable, hash_map::Entry};

use super::{Shadowed, text::Text};
use crate::{PathKind, PathMatch, Route};

/// Up to this many routes a list is as fast as the tree when all is in cache, and faster when it is not.
const LIST_LIMIT: usize = 16;

/// The routes of a host's rules by path, and its default route. Small, as it is part of the host's slot in its table,
/// and cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct PathIndex {
    /// The prefix `/`, which matches every path and comes last. Most hosts have this one only.
    all: Option<Arc<Route>>,
    others: Others,
}

#[derive(Clone, Debug)]
enum Others {
    /// In order of precedence: the first that matches is the best. The default route comes last.
    List(Arc<[Listed]>),
    Tree(Arc<Tree>),
}

impl Default for Others {
    fn default() -> Self {
        Self::List(Arc::default())
    }
}

impl PathIndex {
    /// Indexes routes, which come in order of precedence. Of those with the same condition the first is kept.
    pub(super) fn new(routes: &[Arc<Route>], default: Option<Arc<Route>>) -> (Self, Vec<Shadowed>) {
        let (mut routes, shadowed) = distinct(routes);
        let all = routes.pop_if(|last| compared(&last.path).is_empty());
        let others = match (routes.len(), default) {
            (0, None) => Others::default(),
            (..=LIST_LIMIT, default) => {
                let rules = routes.into_iter().map(Listed::rule);
                Others::List(rules.chain(default.map(Listed::default)).collect())
            }
            (_, default) => Others::Tree(Arc::new(Tree::new(&routes, default))),
        };
        (Self { all, others }, shadowed)
    }

    /// Whether no route is in it, not even a default one.
    pub(super) fn is_empty(&self) -> bool {
        let is_listless = matches!(&self.others, Others::List(list) if list.is_empty());
        self.all.is_none() && is_listless
    }

    /// The route that matches a path best.
    pub(super) fn find(&self, path: &str) -> Option<&Arc<Route>> {
        let found = match &self.others {
            Others::List(list) => {
                let listed = list.iter().find(|listed| listed.matches(path.as_bytes()));
                listed.map(|listed| &listed.route)
            }
            Others::Tree(tree) => tree.find(path),
        };
        found.or(self.all.as_ref())
    }

    /// The route for requests that no rule matches.
    pub(super) fn default_route(&self) -> Option<&Arc<Route>> {
        match &self.others {
            Others::List(list) => list
                .last()
                .filter(|last| last.condition == Condition::Default)
                .map(|last| &last.route),
            Others::Tree(tree) => tree.default.as_ref(),
        }
    }

    /// Whether the other one is a copy of this: seen at once, and false for an equal index that was made anew.
    pub(super) fn is_copy(&self, other: &Self) -> bool {
        let all = match (&self.all, &other.all) {
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            (ours, theirs) => ours.is_none() && theirs.is_none(),
        };
        all && match (&self.others, &other.others) {
            (Others::List(ours), Others::List(theirs)) => {
                Arc::ptr_eq(ours, theirs) || (ours.is_empty() && theirs.is_empty())
            }
            (Others::Tree(ours), Others::Tree(theirs)) => Arc::ptr_eq(ours, theirs),
            _ => false,
        }
    }

    /// The route of every rule, in no order.
    pub(super) fn routes(&self) -> Vec<&Arc<Route>> {
        let others: Vec<_> = match &self.others {
            Others::List(list) => list
                .iter()
                .filter(|listed| listed.condition != Condition::Default)
                .map(|listed| &listed.route)
                .collect(),
            Others::Tree(tree) => tree.routes().collect(),
        };
        others.into_iter().chain(&self.all).collect()
    }
}

/// The routes without those whose condition an earlier one has.
fn distinct(routes: &[Arc<Route>]) -> (Vec<Arc<Route>>, Vec<Shadowed>) {
    let mut winners: HashMap<(PathKind, &str), &Arc<Route>> = HashMap::with_capacity(routes.len());
    let mut kept = Vec::with_capacity(routes.len());
    let mut shadowed = Vec::new();
    for route in routes {
        match winners.entry((route.path.kind(), compared(&route.path))) {
            Entry::Vacant(entry) => {
                entry.insert(route);
                kept.push(route.clone());
            }
            Entry::Occupied(winner) => shadowed.push(Shadowed {
                loser: route.clone(),
                winner: Arc::clone(winner.get()),
            }),
        }
    }
    (kept, shadowed)
}

/// The text that requests are compared with: a prefix's has no trailing slash. Empty for the prefix `/` alone.
fn compared(path: &PathMatch) -> &str {
    let written = path.as_str();
    match path.kind() {
        PathKind::Exact => written,
        PathKind::Prefix => written.strip_suffix('/').unwrap_or(written),
    }
}

/// A route in a list, with all that a comparison needs.
#[derive(Clone, Debug)]
struct Listed {
    text: Text,
    route: Arc<Route>,
    condition: Condition,
    /// Of the text. Paths of one host tend to begin alike and to end differently.
    last: Option<u8>,
}

/// When a listed route is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Path(PathKind),
    /// No rule matches.
    Default,
}

impl Listed {
    fn rule(route: Arc<Route>) -> Self {
        let text = compared(&route.path);
        Self {
            text: text.into(),
            condition: Condition::Path(route.path.kind()),
            last: text.bytes().last(),
            route,
        }
    }

    fn default(route: Arc<Route>) -> Self {
        Self {
            text: "".into(),
            condition: Condition::Default,
            last: None,
            route,
        }
    }

    fn matches(&self, path: &[u8]) -> bool {
        let Some((start, rest)) = path.split_at_checked(self.text.len()) else {
            return false;
        };
        // Two bytes rule most routes out before any text is compared.
        let fits = match self.condition {
            Condition::Path(PathKind::Exact) => rest.is_empty(),
            Condition::Path(PathKind::Prefix) => rest.is_empty() || rest.starts_with(b"/"),
            Condition::Default => false,
        };
        fits && start.last().copied() == self.last && start == self.text.as_bytes()
    }
}

/// Routes in a tree by path element. The nodes stand in one hash table, keyed by parent node and element, so a look-up
/// takes one probe per element however many paths there are. The root has no route and no place in the table.
#[derive(Debug, Default)]
struct Tree {
    hasher: DefaultHashBuilder,
    nodes: HashTable<Node>,
    default: Option<Arc<Route>>,
}

/// Fills one line of a processor's cache.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Node {
    parent: u32,
    element: Text,
    id: u32,
    /// Whether other nodes are below: saves the probe that would find none.
    branches: bool,
    exact: Option<Arc<Route>>,
    prefix: Option<Arc<Route>>,
}

/// The root's [`Node::id`].
const ROOT: u32 = 0;

impl Node {
    fn is(&self, parent: u32, element: &[u8]) -> bool {
        self.parent == parent && self.element.as_bytes() == element
    }
}

impl Tree {
    fn new(routes: &[Arc<Route>], default: Option<Arc<Route>>) -> Self {
        let mut tree = Self {
            default,
            ..Self::default()
        };
        for route in routes {
            tree.insert(route);
        }
        tree
    }

    fn insert(&mut self, route: &Arc<Route>) {
        let mut elements = route.path.elements().peekable();
        let mut parent = ROOT;
        while let Some(element) = elements.next() {
            let node = self.node(parent, element);
            parent = node.id;
            if elements.peek().is_some() {
                node.branches = true;
                continue;
            }
            match route.path.kind() {
                PathKind::Exact => node.exact = Some(route.clone()),
                PathKind::Prefix => node.prefix = Some(route.clone()),
            }
        }
    }

    /// The node of an element below a parent, made if need be.
    fn node(&mut self, parent: u32, element: &str) -> &mut Node {
        let id = u32::try_from(self.nodes.len() + 1).unwrap_or(u32::MAX);
        let hasher = &self.hasher;
        let entry = self.nodes.entry(
            hasher.hash_one((parent, element.as_bytes())),
            |node| node.is(parent, element.as_bytes()),
            |node| hasher.hash_one((node.parent, node.element.as_bytes())),
        );
        let node = || Node {
            parent,
            element: Text::from(element),
            id,
            branches: false,
            exact: None,
            prefix: None,
        };
        entry.or_insert_with(node).into_mut()
    }

    // On its own, so that the way to a list or to the prefix `/` stays short.
    #[inline(never)]
    fn find(&self, path: &str) -> Option<&Arc<Route>> {
        let mut best = None;
        let mut parent = ROOT;
        let path = path.strip_prefix('/')?.as_bytes();
        let mut elements = path.split(|byte| *byte == b'/').peekable();
        while let Some(element) = elements.next() {
            let hash = self.hasher.hash_one((parent, element));
            let Some(node) = self.nodes.find(hash, |node| node.is(parent, element)) else {
                return best;
            };
            if elements.peek().is_none() && node.exact.is_some() {
                return node.exact.as_ref();
            }
            best = node.prefix.as_ref().or(best);
            if !node.branches {
                return best;
            }
            parent = node.id;
        }
        best
    }

    fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        let nodes = self.nodes.iter();
        nodes.flat_map(|node| node.exact.iter().chain(&node.prefix))
    }
}
