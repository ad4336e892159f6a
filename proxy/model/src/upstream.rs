//! Where requests go: sets of endpoints, named so that pools and health survive a new snapshot.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::Hostname;

/// The identity of an upstream, such as `default/web:80`. Stays the same while its endpoints come and go. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpstreamId(Arc<str>);

impl UpstreamId {
    /// Names an upstream; equal texts are the same upstream.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The identity as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UpstreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for UpstreamId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// What is spoken to an upstream's endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1 in plain text; WebSocket upgrades pass.
    #[default]
    Http,
    /// HTTP/1.1 over TLS; WebSocket upgrades pass. The endpoint's certificate is not verified.
    Https,
    /// HTTP/2 in plain text with prior knowledge (RFC 9113 section 3.3), which gRPC needs.
    H2c,
}

/// One address that takes requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Endpoint {
    /// Where to connect.
    pub address: SocketAddr,
}

/// A set of endpoints that are equally good for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its identity.
    pub id: UpstreamId,
    /// What its endpoints speak.
    pub protocol: Protocol,
    /// The name sent in the TLS handshake to an endpoint; none where endpoints are pods, which have no name.
    pub server_name: Option<Hostname>,
    /// Sorted, each address once. Empty: requests get 503.
    pub endpoints: Arc<[Endpoint]>,
}
