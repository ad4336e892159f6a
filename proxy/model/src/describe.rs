//! A snapshot as people and tools read it: sorted, serialisable, without secrets.

use std::net::SocketAddr;

use serde::Serialize;

use crate::{
    CipherSuite, Fingerprint, HostPattern, Hostname, Lookup, NamespacedName, PathKind, Protocol,
    Route, Snapshot, Target, TicketKey, TlsPolicy, TlsRedirect, TlsVersion, UnixTime, UpstreamId,
    VirtualHost,
};

/// One route, as `/snapshot` and `tidegate check` show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteDescription {
    /// The hosts, `*` for any.
    pub host: HostPattern,
    /// The path; `None` for a default backend, which answers what no rule matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// How the path is compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_type: Option<PathKind>,
    /// The Ingress; `None` for the controller's default backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<NamespacedName>,
    /// The upstream; `None` when the backend is unusable and requests get 503.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<UpstreamId>,
    /// Whether plain-text requests go to HTTPS.
    pub tls_redirect: bool,
}

/// One upstream, as `/snapshot` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UpstreamDescription {
    /// Its identity.
    pub id: UpstreamId,
    /// What its endpoints speak.
    pub protocol: Protocol,
    /// Their addresses.
    pub endpoints: Vec<SocketAddr>,
}

/// One certificate in use for one host, as `/snapshot` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateDescription {
    /// The server name, `*` for the default.
    pub host: HostPattern,
    /// The Secret that holds it.
    pub secret: NamespacedName,
    /// End of its life, seconds since 1970.
    pub not_after: UnixTime,
    /// Identity by content, in hexadecimal.
    pub fingerprint: String,
}

/// One key of session tickets, as `/snapshot` shows it: without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TicketKeyDescription {
    /// Its name, in hexadecimal.
    pub name: String,
    /// The moment from which it seals, seconds since 1970.
    pub active_from: UnixTime,
}

/// What TLS with clients goes by, as `/snapshot` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsDescription {
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// Suites, the best first; empty for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cipher_suites: Vec<CipherSuite>,
}

/// A whole snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotDescription {
    /// By host, then by precedence of the paths.
    pub routes: Vec<RouteDescription>,
    /// By identity.
    pub upstreams: Vec<UpstreamDescription>,
    /// By host.
    pub certificates: Vec<CertificateDescription>,
    /// Tokens of the ACME challenges that are answered, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub challenges: Vec<String>,
    /// Hosts whose TLS-ALPN-01 challenges are answered, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub handshake_challenges: Vec<Hostname>,
    /// Keys of session tickets that all nodes share, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ticket_keys: Vec<TicketKeyDescription>,
    /// Set when it is not the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsDescription>,
}

impl Snapshot {
    /// The snapshot for people and tools. Private keys are not in it.
    pub fn describe(&self) -> SnapshotDescription {
        let hosts = self.routes.hosts();
        let routes = hosts
            .iter()
            .flat_map(|(pattern, host)| self.describe_host(pattern, host))
            .collect();
        let mut upstreams: Vec<_> = self.upstreams.values().collect();
        upstreams.sort_by(|a, b| a.id.cmp(&b.id));
        let upstreams = upstreams.into_iter().map(|upstream| UpstreamDescription {
            id: upstream.id.clone(),
            protocol: upstream.protocol,
            endpoints: upstream
                .endpoints
                .iter()
                .map(|endpoint| endpoint.address)
                .collect(),
        });
        let certificates = self
            .certificates
            .entries()
            .into_iter()
            .flat_map(|(host, list)| {
                list.iter().map(move |certificate| CertificateDescription {
                    host: host.clone(),
                    secret: certificate.secret.clone(),
                    not_after: certificate.not_after,
                    fingerprint: short(&certificate.fingerprint),
                })
            });
        SnapshotDescription {
            routes,
            upstreams: upstreams.collect(),
            certificates: certificates.collect(),
            challenges: self
                .challenges
                .entries()
                .into_iter()
                .map(|(token, _)| token.to_owned())
                .collect(),
            handshake_challenges: self
                .challenges
                .handshakes()
                .into_iter()
                .map(|(host, _)| host.clone())
                .collect(),
            ticket_keys: self.tickets.all().iter().map(describe_key).collect(),
            tls: (self.policy.tls != TlsPolicy::default()).then(|| TlsDescription {
                min_version: self.policy.tls.min_version,
                cipher_suites: self.policy.tls.cipher_suites.clone(),
            }),
        }
    }

    /// Whether a plain-text request that was looked up so is to be redirected to HTTPS.
    pub fn redirects(&self, lookup: Lookup<'_>) -> bool {
        use crate::RedirectMode as Mode;
        match lookup
            .route
            .map_or(TlsRedirect::Inherit, |route| route.tls_redirect)
        {
            TlsRedirect::Always => true,
            TlsRedirect::Never => false,
            TlsRedirect::Inherit => match self.policy.redirect.mode {
                Mode::All => true,
                Mode::None => false,
                Mode::TlsHosts => lookup.tls_host,
            },
        }
    }

    fn describe_host(&self, pattern: &HostPattern, host: &VirtualHost) -> Vec<RouteDescription> {
        let describe = |route: &Route, path: Option<&Route>| RouteDescription {
            host: pattern.clone(),
            path: path.map(|route| route.path.as_str().to_owned()),
            path_type: path.map(|route| route.path.kind()),
            ingress: route.labels.ingress.clone(),
            upstream: match &route.target {
                Target::Upstream(id) => Some(id.clone()),
                Target::Unavailable => None,
            },
            tls_redirect: match route.tls_redirect {
                TlsRedirect::Always => true,
                TlsRedirect::Never => false,
                TlsRedirect::Inherit => self.redirects(Lookup {
                    route: None,
                    tls_host: host.tls(),
                }),
            },
        };
        let rules = host
            .routes()
            .into_iter()
            .map(|route| describe(route, Some(route)));
        rules
            .chain(host.default_route().map(|route| describe(route, None)))
            .collect()
    }
}

fn describe_key(key: &TicketKey) -> TicketKeyDescription {
    TicketKeyDescription {
        name: format!("{:032x}", u128::from_be_bytes(key.name)),
        active_from: key.active_from,
    }
}

/// Enough of a fingerprint to tell two apart.
fn short(fingerprint: &Fingerprint) -> String {
    let mut text = fingerprint.to_string();
    text.truncate(16);
    text
}
