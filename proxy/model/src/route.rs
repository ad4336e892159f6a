//! One routing decision and how two of them are ranked.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::{HostPattern, NamespacedName, PathMatch, UnixTime, UpstreamId};

/// Whether a plain-text request to a route is sent to HTTPS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsRedirect {
    /// As the [`RedirectPolicy`](crate::RedirectPolicy) of the snapshot says.
    #[default]
    Inherit,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Where a matched request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To an endpoint of this upstream.
    Upstream(UpstreamId),
    /// Nowhere: the rule's backend is unusable, which a Problem explains. Answered 503.
    Unavailable,
}

/// What metrics and logs call a route. Shared by all routes of an Ingress to one service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteLabels {
    /// The Ingress that the route comes from; `None` for the controller's own default backend.
    pub ingress: Option<NamespacedName>,
    /// The service and its port, as `namespace/name:port`; empty when the rule names none.
    pub service: String,
}

impl fmt::Display for RouteLabels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ingress {
            Some(ingress) => write!(f, "{ingress} -> {}", self.service),
            None => write!(f, "default backend -> {}", self.service),
        }
    }
}

/// How routes with equal host and path are ranked: the older object, then by namespace and name, then by place within it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRank {
    /// `metadata.creationTimestamp`; an object without one (a file) counts as the youngest.
    pub created: Option<UnixTime>,
    /// The object.
    pub object: NamespacedName,
    /// Place within the object, counted over all its rules.
    pub position: usize,
}

impl Ord for RouteRank {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |rank: &Self| rank.created.unwrap_or(UnixTime(i64::MAX));
        (key(self), &self.object, self.position).cmp(&(key(other), &other.object, other.position))
    }
}

impl PartialOrd for RouteRank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A rule's condition and what it does with a request that meets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The hosts it is for.
    pub host: HostPattern,
    /// The paths it is for.
    pub path: PathMatch,
    /// Where its requests go.
    pub target: Target,
    /// Whether plain-text requests are redirected.
    pub tls_redirect: TlsRedirect,
    /// What metrics and logs call it.
    pub labels: Arc<RouteLabels>,
    /// Its rank among routes of the same host and path.
    pub rank: RouteRank,
}
