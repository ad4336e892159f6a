//! Paths of rules: parsed, normalised and ordered by precedence.

use std::cmp::Ordering;
use std::fmt;

use serde::Serialize;
use thiserror::Error;

/// How a path is compared (`pathType` of networking.k8s.io/v1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum PathKind {
    /// The whole path, case and trailing slash included.
    Exact,
    /// Element by element from the left: `/a` matches `/a`, `/a/` and `/a/b`, not `/ab`.
    Prefix,
}

/// Why a path cannot be used.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PathError {
    /// It does not start with `/`.
    #[error("a path starts with '/'")]
    NotAbsolute,
    /// It contains `//`, `/./`, `/../`, or an encoded slash, which no normalised request path has.
    #[error("a path must not contain '//', '/./', '/../' or '%2f'; no request would match it")]
    NotNormal,
    /// It contains a character that no path of a request can contain.
    #[error("a path holds no control characters, spaces, '?' or '#'")]
    Character,
}

/// The path condition of one rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct PathMatch {
    kind: PathKind,
    path: Box<str>,
}

impl PathMatch {
    /// Parses a rule's path. The empty path means `/`.
    ///
    /// # Errors
    /// [`PathError`] for what the Kubernetes API would refuse.
    pub fn parse(kind: PathKind, path: &str) -> Result<Self, PathError> {
        let path = if path.is_empty() { "/" } else { path };
        if !path.starts_with('/') {
            return Err(PathError::NotAbsolute);
        }
        if path
            .bytes()
            .any(|b| b <= b' ' || b == 0x7f || b == b'?' || b == b'#')
        {
            return Err(PathError::Character);
        }
        let lower = path.to_ascii_lowercase();
        let dots = path
            .split('/')
            .any(|element| element == "." || element == "..");
        if dots || path.contains("//") || lower.contains("%2f") {
            return Err(PathError::NotNormal);
        }
        Ok(Self {
            kind,
            path: path.into(),
        })
    }

    /// How it is compared.
    pub fn kind(&self) -> PathKind {
        self.kind
    }

    /// The path as it was written.
    pub fn as_str(&self) -> &str {
        &self.path
    }

    /// Whether a request's path (no query) meets the condition. Look-ups use the index of a
    /// [`VirtualHost`](crate::VirtualHost), which gives the same answer.
    pub fn matches(&self, path: &str) -> bool {
        match self.kind {
            PathKind::Exact => *self.path == *path,
            PathKind::Prefix => {
                let prefix = self.path.strip_suffix('/').unwrap_or(&self.path);
                prefix.is_empty()
                    || path
                        .strip_prefix(prefix)
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        }
    }

    /// The elements to walk through an index: between the slashes, a prefix without its trailing slash.
    pub(crate) fn elements(&self) -> impl Iterator<Item = &str> {
        let path = match self.kind {
            PathKind::Exact => &*self.path,
            PathKind::Prefix => self.path.strip_suffix('/').unwrap_or(&self.path),
        };
        path.strip_prefix('/')
            .into_iter()
            .flat_map(|rest| rest.split('/'))
    }
}

/// Precedence: Exact before Prefix, then longer before shorter, then by text so that the order is total.
impl Ord for PathMatch {
    fn cmp(&self, other: &Self) -> Ordering {
        self.kind
            .cmp(&other.kind)
            .then_with(|| other.path.len().cmp(&self.path.len()))
            .then_with(|| self.path.cmp(&other.path))
    }
}

impl PartialOrd for PathMatch {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for PathMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            PathKind::Exact => write!(f, "= {}", self.path),
            PathKind::Prefix => f.write_str(&self.path),
        }
    }
}
