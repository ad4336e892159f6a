//! What a process that serves tells of its surroundings, so that another can try what a CA would.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use tidegate_certificates::issuer::ChallengeSettings;
use tidegate_certificates::proof::{Node, Ports};
use tidegate_certificates::{CertificateSettings, Issuer};

/// Where requests arrive, and where certificates are ordered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Facts {
    /// Nodes that are ready; one without addresses is this machine.
    pub(crate) nodes: Vec<NodeFacts>,
    /// Addresses and names that the status of Ingresses shows.
    pub(crate) published: Vec<String>,
    /// Port of plain HTTP.
    pub(crate) http: Option<u16>,
    /// Port of TLS.
    pub(crate) https: Option<u16>,
    /// The issuers, the first of which is meant where none is named.
    pub(crate) issuers: Vec<IssuerFacts>,
}

/// A node that takes requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeFacts {
    /// Its name.
    pub(crate) name: String,
    /// Its own addresses.
    pub(crate) addresses: Vec<IpAddr>,
}

/// An issuer, without what is secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct IssuerFacts {
    /// Its name.
    pub(crate) name: String,
    /// URL of its directory.
    pub(crate) directory: String,
    /// URL of the directory for rehearsals.
    pub(crate) staging: Option<String>,
    /// How names are proven: `http-01`, `tls-alpn-01` or `dns-01`.
    pub(crate) challenge: String,
    /// Certificates in PEM that the directory's own is verified with.
    pub(crate) ca_bundle: Option<String>,
    /// The profile of orders.
    pub(crate) profile: Option<String>,
    /// Whether its account is bound to an external one.
    pub(crate) has_external_account: bool,
    /// Name servers that zones are looked up with.
    pub(crate) resolvers: Vec<SocketAddr>,
}

impl Facts {
    /// Of what the keeper of certificates goes by.
    pub(crate) fn new(
        nodes: Vec<Node>,
        published: Vec<String>,
        ports: Ports,
        settings: &CertificateSettings,
    ) -> Self {
        let nodes = nodes.into_iter().map(|node| NodeFacts {
            name: node.name,
            addresses: node.addresses.into_iter().collect(),
        });
        Self {
            nodes: nodes.collect(),
            published,
            http: ports.http,
            https: ports.https,
            issuers: settings.issuers.0.iter().map(IssuerFacts::of).collect(),
        }
    }

    /// The issuer of this name, or the first one.
    pub(super) fn issuer(&self, name: Option<&str>) -> Option<&IssuerFacts> {
        match name {
            None => self.issuers.first(),
            Some(name) => self.issuers.iter().find(|issuer| issuer.name == name),
        }
    }
}

impl IssuerFacts {
    fn of(issuer: &Issuer) -> Self {
        let (challenge, resolvers) = match &issuer.challenge {
            ChallengeSettings::Http01 => ("http-01", Vec::new()),
            ChallengeSettings::TlsAlpn01 => ("tls-alpn-01", Vec::new()),
            ChallengeSettings::Dns01(dns) => ("dns-01", dns.resolvers.clone()),
        };
        let bundle = issuer.ca_bundle.as_ref();
        Self {
            name: issuer.name.clone(),
            directory: issuer.directory.clone(),
            staging: issuer.staging.clone(),
            challenge: challenge.to_owned(),
            ca_bundle: bundle.map(|pem| String::from_utf8_lossy(pem).into_owned()),
            profile: issuer.profile.clone(),
            has_external_account: issuer.external_account.is_some(),
            resolvers,
        }
    }
}
