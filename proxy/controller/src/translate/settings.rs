//! What an instance is set to serve, and how.

use std::collections::BTreeSet;
use std::fmt;

use tidegate_model::{NamespacedName, Policy};

use super::own_secrets::Owner;
use super::selector::Selector;
use super::wishes::CertificateDefaults;

/// What decides which objects are ours and how they are served.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Names of the served classes. `None`: `tidegate`, and every IngressClass with our controller.
    pub ingress_class: Option<BTreeSet<String>>,
    /// Whether Ingresses that name no class are served.
    pub watch_ingress_without_class: bool,
    /// Namespaces whose Ingresses are served; empty for all.
    pub namespaces: BTreeSet<String>,
    /// Labels that an Ingress must carry to be served; the default selects every Ingress.
    pub selector: Selector,
    /// Labels that a namespace must carry for its Ingresses to be served; the default selects every namespace. A
    /// namespace without an object has no labels.
    pub namespace_selector: Selector,
    /// The namespace that Tidegate itself runs in, whose Secrets with the label [`CHALLENGE_ANSWERS_LABEL`](super::CHALLENGE_ANSWERS_LABEL) hold what
    /// ACME servers are answered, and those with labels of its instance certificates, ticket keys and requests. `None`:
    /// there are no such Secrets.
    pub own_namespace: Option<String>,
    /// Name of the instance, which is the value of the labels of its own Secrets.
    pub instance_label: String,
    /// What is done about certificates where neither an Ingress nor its class says otherwise.
    pub certificates: CertificateDefaults,
    /// Answers what nothing else does.
    pub default_backend: Option<ServicePort>,
    /// Secret with the certificate for clients that nothing else is for.
    pub default_certificate: Option<NamespacedName>,
    /// Settings for every request, passed through to the snapshot.
    pub policy: Policy,
}

/// A Service and one of its ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServicePort {
    /// The Service.
    pub service: NamespacedName,
    /// Number or name of the port.
    pub port: PortRef,
}

impl fmt::Display for ServicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.service, self.port)
    }
}

/// How a backend names a port of its Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortRef {
    /// `port.number`
    Number(u16),
    /// `port.name`
    Name(String),
}

impl fmt::Display for PortRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl Settings {
    /// Whose own Secrets are looked for; `None` where there are none.
    pub(super) fn owner(&self) -> Option<Owner<'_>> {
        let instance = Some(self.instance_label.as_str()).filter(|name| !name.is_empty())?;
        let namespace = self.own_namespace.as_deref()?;
        Some(Owner {
            namespace,
            instance,
        })
    }
}
