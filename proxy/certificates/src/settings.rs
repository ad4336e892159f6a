//! What settings say about certificates.

use std::collections::BTreeSet;
use std::time::Duration;

use tidegate_model::{HostPattern, Hostname, NamespacedName};

use crate::issuer::Issuers;

/// Everything that settings say about certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSettings {
    /// Where certificates are ordered. None: no certificate is ordered.
    pub issuers: Issuers,
    /// Certificates that are wanted whatever Ingresses say.
    pub certificates: Vec<WantedCertificate>,
    /// For which names clients may cause an order; `None` for none.
    pub on_demand: Option<OnDemandSettings>,
    /// How long a certificate that nobody wants any more is kept before its Secret is removed.
    pub grace: Duration,
    /// From one rotation of the session ticket keys to the next.
    pub ticket_rotation: Duration,
    /// Limits of the CA that the ledger keeps within.
    pub limits: Limits,
}

impl Default for CertificateSettings {
    fn default() -> Self {
        Self {
            issuers: Issuers::default(),
            certificates: Vec::new(),
            on_demand: None,
            grace: Duration::from_secs(7 * 24 * 60 * 60),
            ticket_rotation: Duration::from_secs(8 * 60 * 60),
            limits: Limits::default(),
        }
    }
}

/// A certificate of the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedCertificate {
    /// Main name and others.
    pub names: BTreeSet<HostPattern>,
    /// `None` for the first issuer.
    pub issuer: Option<String>,
    /// The Secret that it is put into; `None` for one in Tidegate's own namespace.
    pub secret: Option<NamespacedName>,
}

/// Names that clients may cause an order for by a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnDemandSettings {
    /// Names equal to or below one of these.
    pub suffixes: Vec<Hostname>,
    /// Names that a route is for.
    pub routes: bool,
    /// A URL that is asked, with `?domain=NAME` added: 200 allows the name.
    pub ask: Option<String>,
    /// The issuer; `None` for the first.
    pub issuer: Option<String>,
    /// New names for which orders may begin in an hour, over the whole instance.
    pub per_hour: u32,
    /// Longest wait of the first handshake.
    pub wait: Duration,
    /// A name that nobody has asked for so long is not renewed.
    pub forget_after: Duration,
}

impl OnDemandSettings {
    /// Whether a suffix allows a name, or a rule for one of these hosts does. What is left is for [`ask`](Self::ask) to say.
    pub fn allows(&self, name: &Hostname, hosts: &BTreeSet<HostPattern>) -> bool {
        let by_suffix = self.suffixes.iter().any(|suffix| {
            let above = name.as_str().strip_suffix(suffix.as_str());
            above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
        });
        let by_route = || {
            let exact = HostPattern::Exact(name.clone());
            let above = exact.wildcard_above();
            hosts.contains(&exact) || above.is_some_and(|above| hosts.contains(&above))
        };
        by_suffix || self.routes && by_route()
    }
}

/// Limits that a CA publishes. The defaults are those of Let's Encrypt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Certificates for the same set of names in 7 days.
    pub duplicates_per_week: u32,
    /// Certificates for one registered domain in 7 days.
    pub per_domain_per_week: u32,
    /// Failed validations of one name in an hour.
    pub failures_per_hour: u32,
    /// New orders in 3 hours.
    pub orders_per_3_hours: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            duplicates_per_week: 5,
            per_domain_per_week: 50,
            failures_per_hour: 5,
            orders_per_3_hours: 300,
        }
    }
}
