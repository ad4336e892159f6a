//! The paths of one host: a list while they are few, a tree in a hash table when they are many.
//!
//! Most hosts have few paths. Their list takes two pieces of memory, one with everything that decides whether a path
//! is worth comparing, one with the text of all paths. A look-up that finds nothing of it in the processor's caches
//! waits for little memory, where a tree would wait for several places one after another.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use hashbrown::{Equivalent, HashMap};

use crate::{PathKind, Route};

/// Up to this many routes a list is as fast as the tree when all is in cache, and faster when it is not.
const LIST_LIMIT: usize = 16;

/// Routes by path.
#[derive(Clone, Debug)]
pub(super) enum PathIndex {
    List(List),
    Tree(Tree),
}

impl Default for PathIndex {
    fn default() -> Self {
        Self::List(List::default())
    }
}

impl PathIndex {
    /// An empty index that is good for this many routes.
    pub(super) fn for_routes(routes: usize) -> Self {
        if routes <= LIST_LIMIT {
            Self::List(List::default())
        } else {
            Self::Tree(Tree::default())
        }
    }

    /// Puts a route in, or returns the one that is there for the same condition. Routes come in order of precedence.
    pub(super) fn insert(&mut self, route: &Arc<Route>) -> Option<Arc<Route>> {
        match self {
            Self::List(list) => list.insert(route),
            Self::Tree(tree) => tree.insert(route),
        }
    }

    /// The route that matches a path best.
    pub(super) fn find(&self, path: &str) -> Option<&Arc<Route>> {
        match self {
            Self::List(list) => list.find(path),
            Self::Tree(tree) => tree.find(path),
        }
    }

    /// Every route, in no order.
    pub(super) fn routes(&self) -> Vec<&Arc<Route>> {
        match self {
            Self::List(list) => list.routes().collect(),
            Self::Tree(tree) => tree.routes().collect(),
        }
    }
}

/// Routes in order of precedence: the first that matches is the best.
#[derive(Clone, Debug, Default)]
pub(super) struct List {
    /// The prefix `/`, which matches every path and comes last.
    all: Option<Arc<Route>>,
    listed: Vec<Listed>,
    /// The paths of `listed`, one after another; prefixes without their trailing slash.
    text: String,
}

#[derive(Clone, Debug)]
struct Listed {
    kind: PathKind,
    start: usize,
    end: usize,
    route: Arc<Route>,
}

impl List {
    fn insert(&mut self, route: &Arc<Route>) -> Option<Arc<Route>> {
        let kind = route.path.kind();
        let written = route.path.as_str();
        let path = match kind {
            PathKind::Exact => written,
            PathKind::Prefix => written.strip_suffix('/').unwrap_or(written),
        };
        if path.is_empty() {
            let winner = self.all.clone();
            self.all.get_or_insert_with(|| route.clone());
            return winner;
        }
        let same =
            |listed: &&Listed| listed.kind == kind && self.text[listed.start..listed.end] == *path;
        if let Some(winner) = self.listed.iter().find(same) {
            return Some(winner.route.clone());
        }
        let start = self.text.len();
        self.text.push_str(path);
        self.listed.push(Listed {
            kind,
            start,
            end: self.text.len(),
            route: route.clone(),
        });
        None
    }

    fn find(&self, path: &str) -> Option<&Arc<Route>> {
        let path = path.as_bytes();
        let text = self.text.as_bytes();
        let matches = |listed: &&Listed| {
            let length = listed.end - listed.start;
            // The byte behind a prefix rules most routes out before any text is compared.
            let fits = match listed.kind {
                PathKind::Exact => path.len() == length,
                PathKind::Prefix => path.len() == length || path.get(length) == Some(&b'/'),
            };
            fits && path[..length] == text[listed.start..listed.end]
        };
        let found = self.listed.iter().find(matches);
        found.map(|listed| &listed.route).or(self.all.as_ref())
    }

    fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.listed
            .iter()
            .map(|listed| &listed.route)
            .chain(&self.all)
    }
}

/// Routes in a tree by path element. The nodes stand in one hash table, keyed by parent node and element, so a look-up
/// takes one probe per element however many paths there are.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    root: Node,
    nodes: HashMap<Edge, Node>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// 0 for the root.
    id: u32,
    /// Whether other nodes are below: saves the probe that would find none.
    branches: bool,
    exact: Option<Arc<Route>>,
    prefix: Option<Arc<Route>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Edge {
    parent: u32,
    element: Box<str>,
}

/// An [`Edge`] to look up, borrowed.
#[derive(Clone, Copy, Hash)]
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

impl From<&EdgeRef<'_>> for Edge {
    fn from(edge: &EdgeRef<'_>) -> Self {
        Self {
            parent: edge.parent,
            element: edge.element.into(),
        }
    }
}

impl Equivalent<Edge> for EdgeRef<'_> {
    fn equivalent(&self, edge: &Edge) -> bool {
        self.parent == edge.parent && *self.element == *edge.element
    }
}

impl Tree {
    fn insert(&mut self, route: &Arc<Route>) -> Option<Arc<Route>> {
        let node = self.node(route);
        let slot = match route.path.kind() {
            PathKind::Exact => &mut node.exact,
            PathKind::Prefix => &mut node.prefix,
        };
        let winner = slot.clone();
        slot.get_or_insert_with(|| route.clone());
        winner
    }

    /// The node for a route's path, made if need be.
    fn node(&mut self, route: &Route) -> &mut Node {
        let mut edge: Option<EdgeRef<'_>> = None;
        let mut parent = self.root.id;
        for element in route.path.elements() {
            if let Some(node) = edge.and_then(|edge| self.nodes.get_mut(&edge)) {
                node.branches = true;
            }
            let next = u32::try_from(self.nodes.len() + 1).unwrap_or(u32::MAX);
            let here = EdgeRef { parent, element };
            parent = match self.nodes.get(&here) {
                Some(node) => node.id,
                None => self.add(&here, next),
            };
            edge = Some(here);
        }
        match edge {
            Some(edge) => self.nodes.entry(Edge::from(&edge)).or_default(),
            None => &mut self.root,
        }
    }

    fn add(&mut self, edge: &EdgeRef<'_>, id: u32) -> u32 {
        let node = Node {
            id,
            ..Node::default()
        };
        self.nodes.insert(Edge::from(edge), node);
        id
    }

    fn find(&self, path: &str) -> Option<&Arc<Route>> {
        let mut best = self.root.prefix.as_ref();
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
            if !node.branches {
                return best;
            }
            parent = node.id;
        }
        best
    }

    fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        let nodes = self.nodes.values().chain([&self.root]);
        nodes.flat_map(|node| node.exact.iter().chain(&node.prefix))
    }
}
