//! Which certificates are asked for, and what there is in the Secrets that they are to be put into.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::{Certificate, HostPattern, Hostname, NamespacedName, ObjectRef};

/// One place that asks for a certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CertificateWish {
    /// What the certificate is to be valid for; at least one name, and never [`HostPattern::Any`].
    pub names: BTreeSet<HostPattern>,
    /// Name of the issuer in the settings; `None` for the first one.
    pub issuer: Option<String>,
    /// The Secret that the certificate is to be put into; `None` for one in Tidegate's own namespace, named after what is
    /// wanted.
    pub secret: Option<NamespacedName>,
    /// Who asks: an Ingress, to which problems are told.
    pub object: ObjectRef,
    /// The field that asks, such as `spec.tls[0]`.
    pub field: String,
}

/// Whose a Secret is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretOwner {
    /// This instance made it and may write and remove it.
    Tidegate,
    /// Somebody else's: it is served, and never written.
    Other,
}

/// What is in a Secret that is wished for, or that is ours.
#[derive(Clone, Debug)]
pub struct HeldSecret {
    /// Whose it is.
    pub owner: SecretOwner,
    /// What can be served from it; `None` when it has no usable chain and key.
    pub certificate: Option<Arc<Certificate>>,
    /// The issuer that it was ordered from, by the Secret's annotation; `None` where none is written.
    pub issuer: Option<String>,
}

/// What people and handshakes have asked for by themselves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CertificateRequest {
    /// Certificates for this name are to be ordered again now, whatever the plan says.
    Renew(HostPattern),
    /// A client asked for a name that no certificate is for, and it is one that certificates are made for on demand.
    OnDemand(Hostname),
}

/// All that a plan for certificates needs to know of the objects at one moment. Equal contents in equal order.
#[derive(Clone, Debug, Default)]
pub struct Issuance {
    /// What is asked for, sorted.
    pub wishes: Vec<CertificateWish>,
    /// The Secrets that are named in wishes, and all that are ours, as far as they exist.
    pub secrets: BTreeMap<NamespacedName, HeldSecret>,
    /// Requests that wait, with the text of the time at which each was made (RFC 3339).
    pub requests: BTreeMap<CertificateRequest, String>,
    /// Hosts of the rules of every Ingress that is served; names are made on demand for them where settings say so.
    pub hosts: Arc<BTreeSet<HostPattern>>,
}
