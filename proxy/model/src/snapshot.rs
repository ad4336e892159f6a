//! What is served at one moment: routes, upstreams, certificates and policy that belong together.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use ipnet::IpNet;
use serde::Serialize;

use crate::{
    CertificateIndex, ChallengeAnswers, OnDemand, RouteTable, TicketKeys, TlsPolicy, Upstream,
    UpstreamId,
};

/// Which plain-text requests are redirected to HTTPS, unless a route says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RedirectMode {
    /// Those for a host that is listed under `spec.tls`.
    #[default]
    TlsHosts,
    /// All.
    All,
    /// None.
    None,
}

/// How a plain-text request is redirected to HTTPS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RedirectPolicy {
    /// For which requests.
    pub mode: RedirectMode,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// Port in the new address; 443 is left out of it.
    pub port: u16,
}

impl Default for RedirectPolicy {
    fn default() -> Self {
        Self {
            mode: RedirectMode::default(),
            status: 308,
            port: 443,
        }
    }
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    /// A TLS handshake with a client, from its first byte to its last.
    pub handshake: Duration,
    /// A request head, from its first byte to its last.
    pub request_head: Duration,
    /// A client that is silent between two requests, or within a body or a WebSocket while the upstream is silent too.
    pub idle: Duration,
    /// A connection to an endpoint; after it 504.
    pub connect: Duration,
    /// The head of a response, counted from the end of the request's head; after it 504.
    pub response_head: Duration,
    /// An upstream connection that nobody uses.
    pub upstream_idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            request_head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            connect: Duration::from_secs(5),
            response_head: Duration::from_secs(60),
            upstream_idle: Duration::from_secs(60),
        }
    }
}

/// Settings that apply to every request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Redirects to HTTPS.
    pub redirect: RedirectPolicy,
    /// Limits of waiting.
    pub timeouts: Timeouts,
    /// Peers whose `X-Forwarded-*` and `X-Real-IP` are believed. From everyone else they are replaced.
    pub trusted_proxies: Vec<IpNet>,
    /// What TLS with clients goes by.
    pub tls: TlsPolicy,
    /// For which names a handshake may wait until there is a certificate; `None` for none.
    pub on_demand: Option<OnDemand>,
}

/// Everything that a request needs to know, immutable and shared. Parts that did not change are the same allocation as
/// in the snapshot before.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Which request goes where.
    pub routes: Arc<RouteTable>,
    /// The endpoints, by upstream.
    pub upstreams: Arc<HashMap<UpstreamId, Arc<Upstream>>>,
    /// Which certificate is for whom.
    pub certificates: Arc<CertificateIndex>,
    /// What ACME servers are answered.
    pub challenges: Arc<ChallengeAnswers>,
    /// By what sessions are resumed on any node; none: each process makes keys of its own.
    pub tickets: Arc<TicketKeys>,
    /// Settings for every request.
    pub policy: Arc<Policy>,
}
