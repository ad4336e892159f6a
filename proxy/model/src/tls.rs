//! What TLS with clients goes by.

mod suite;

use std::time::Duration;

use serde::Serialize;

use crate::{Hostname, RouteTable};

pub use suite::{CipherSuite, CipherSuiteError};

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    Tls13,
}

/// Versions and suites that clients are offered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsPolicy {
    /// Clients that cannot do at least this are refused.
    pub min_version: TlsVersion,
    /// Suites, the best first; empty for all, in the order that suits the machine. A list that names none of TLS 1.3
    /// leaves that version's three as they are; one that names only those leaves TLS 1.2 out.
    pub cipher_suites: Vec<CipherSuite>,
}

/// Certificates that are ordered when a client first asks for their name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnDemand {
    /// Names below or equal to one of these are allowed.
    pub suffixes: Vec<Hostname>,
    /// Whether a name is allowed that a route of ours is for.
    pub routes: AllowRoutes,
    /// Whether names are asked about elsewhere, by an `ask` URL, when nothing else allows them.
    pub asks: Asks,
    /// How long a handshake waits for its certificate before it goes on with the default one.
    pub wait: Duration,
}

impl OnDemand {
    /// Whether a handshake for this name may wait for a certificate. With [`Asks::Yes`] that holds for every name that a
    /// public CA could give one for: whoever asks the URL decides.
    pub fn allows(&self, name: &Hostname, routes: &RouteTable) -> bool {
        let is_below = |suffix: &Hostname| {
            let rest = name.as_str().strip_suffix(suffix.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        self.suffixes.iter().any(is_below)
            || self.routes == AllowRoutes::Yes && routes.names_host(name.as_str())
            || self.asks == Asks::Yes && looks_public(name.as_str())
    }
}

/// Whether a name has the form of one in the public DNS: more than one label, the last of them no number and none of
/// those that stand for something else (RFC 6761, RFC 6762, RFC 7686).
fn looks_public(name: &str) -> bool {
    const SPECIAL: [&str; 5] = ["arpa", "invalid", "local", "localhost", "onion"];
    let Some((_, last)) = name.rsplit_once('.') else {
        return false;
    };
    !SPECIAL.contains(&last) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a route allows its hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowRoutes {
    /// It does.
    Yes,
    /// It does not.
    No,
}

/// Whether a URL is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// It is.
    Yes,
    /// There is none.
    No,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HostPattern, Route, RouteLabels, RouteRank, Target, TlsRedirect, VirtualHost};

    fn routes(hosts: &[&str]) -> RouteTable {
        let mut table = RouteTable::default();
        for host in hosts {
            let host = HostPattern::parse(host).unwrap();
            let route = Route {
                host: host.clone(),
                path: crate::PathMatch::parse(crate::PathKind::Prefix, "/").unwrap(),
                target: Target::Unavailable,
                tls_redirect: TlsRedirect::Inherit,
                labels: std::sync::Arc::new(RouteLabels {
                    ingress: None,
                    service: String::new(),
                }),
                rank: RouteRank {
                    created: None,
                    object: crate::NamespacedName::new("default", "x"),
                    position: 0,
                },
            };
            let (host_routes, _) = VirtualHost::new(vec![route.into()], None, false);
            table.set(host, Some(host_routes));
        }
        table
    }

    fn rules(suffixes: &[&str], routes: AllowRoutes, asks: Asks) -> OnDemand {
        let suffixes = suffixes.iter().map(|name| Hostname::parse(name).unwrap());
        OnDemand {
            suffixes: suffixes.collect(),
            routes,
            asks,
            wait: Duration::ZERO,
        }
    }

    #[test]
    fn a_name_is_allowed_by_suffix_by_route_or_for_somebody_to_ask() {
        let mut table = routes(&["web.example", "*.shop.example", ""]);
        // Listed under `spec.tls`, without a rule.
        let listed = HostPattern::parse("listed.example").unwrap();
        table.set(listed, Some(VirtualHost::new(vec![], None, true).0));
        let by_suffix = rules(&["customers.example"], AllowRoutes::No, Asks::No);
        let by_route = rules(&[], AllowRoutes::Yes, Asks::No);
        let by_asking = rules(&[], AllowRoutes::No, Asks::Yes);
        let nothing = rules(&[], AllowRoutes::No, Asks::No);
        for (name, suffix, route, asking) in [
            ("customers.example", true, false, true),
            ("a.b.customers.example", true, false, true),
            ("othercustomers.example", false, false, true),
            ("web.example", false, true, true),
            ("a.shop.example", false, true, true),
            ("a.b.shop.example", false, false, true),
            ("listed.example", false, false, true),
            ("localhost", false, false, false),
            ("printer.local", false, false, false),
            ("4.3.2.1.in-addr.arpa", false, false, false),
            ("1.2.3.4.5", false, false, false),
        ] {
            let host = Hostname::parse(name).unwrap();
            assert_eq!(by_suffix.allows(&host, &table), suffix, "{name}");
            assert_eq!(by_route.allows(&host, &table), route, "{name}");
            assert_eq!(by_asking.allows(&host, &table), asking, "{name}");
            assert!(!nothing.allows(&host, &table), "{name}");
        }
    }
}
