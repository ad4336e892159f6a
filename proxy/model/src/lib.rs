//! Tidegate's vocabulary: what the control plane publishes and the data plane serves.
//!
//! Nothing here does I/O, waits, or knows Kubernetes' types. The controller builds a [`Snapshot`], the data plane looks
//! requests up in it, and both speak of trouble as a [`Problem`].
#![forbid(unsafe_code)]

mod certificate;
mod challenge;
mod describe;
mod excerpt;
mod host;
mod issuance;
mod object;
mod path;
mod problem;
mod route;
mod snapshot;
mod table;
mod ticket;
mod time;
mod tls;
mod upstream;

pub use certificate::{Certificate, CertificateIndex, Fingerprint, PrivateKey};
pub use challenge::{ChallengeAnswers, ChallengeError};
pub use describe::{
    CertificateDescription, RouteDescription, SnapshotDescription, TicketKeyDescription,
    TlsDescription, UpstreamDescription,
};
pub use excerpt::Excerpt;
pub use host::{HostPattern, Hostname, HostnameError, authority_host};
pub use issuance::{CertificateRequest, CertificateWish, HeldSecret, Issuance, SecretOwner};
pub use object::{NamespacedName, ObjectRef};
pub use path::{PathError, PathKind, PathMatch};
pub use problem::{Level, Problem, Reason};
pub use route::{Route, RouteLabels, RouteRank, Target, TlsRedirect};
pub use snapshot::{Policy, RedirectMode, RedirectPolicy, Snapshot, Timeouts};
pub use table::{Lookup, RouteTable, Shadowed, VirtualHost};
pub use ticket::{TICKET_LIFETIME, TicketKey, TicketKeys};
pub use time::UnixTime;
pub use tls::{AllowRoutes, Asks, CipherSuite, CipherSuiteError, OnDemand, TlsPolicy, TlsVersion};
pub use upstream::{Endpoint, Protocol, Upstream, UpstreamId};
