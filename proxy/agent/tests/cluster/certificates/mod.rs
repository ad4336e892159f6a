//! Certificates from a real ACME server, ordered by one node and served by all.

mod alone;
mod demand;
mod import;
mod issuing;
mod leaders;
mod partition;
mod secrets;
mod sessions;

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::Ingress;
use kube::Api;
use serde_json::json;
use tidegate::demo::client::TlsClient;

use crate::support::bed::{Bed, with_tidegate};
use crate::support::ca::{Ca, trusted_status};
use crate::support::{PATIENCE, make, within};

/// The key of the settings that has every Ingress with `spec.tls` ask for certificates.
const EVERY_INGRESS: &str = "certificates:\n  issue: acme\n";

/// Runs a test on a cluster whose Tidegate orders from a CA beside it, by this kind of challenge.
fn with_ca<F: Future<Output = ()>>(
    nodes: usize,
    challenge: &str,
    more: &str,
    test: impl FnOnce(Bed, Ca) -> F,
) {
    with_tidegate(nodes, async |bed: Bed| {
        let ca = Ca::beside(&bed);
        bed.settle(&ca.settings(challenge, more)).await;
        bed.backend("web", 1).await;
        test(bed, ca).await;
    });
}

/// An Ingress for several hosts whose certificate is to be in one Secret.
fn ingress(name: &str, hosts: &[&str], secret: &str) -> Ingress {
    let mut ingress = make::tls_ingress(name, hosts[0], "web", secret);
    let spec = ingress.spec.as_mut().unwrap();
    let rules = spec.rules.as_mut().unwrap();
    for host in &hosts[1..] {
        let mut rule = rules[0].clone();
        rule.host = Some((*host).to_owned());
        rules.push(rule);
    }
    spec.tls.as_mut().unwrap()[0].hosts =
        Some(hosts.iter().map(|host| (*host).to_owned()).collect());
    ingress
}

impl Bed {
    fn node_addresses(&self) -> Vec<IpAddr> {
        let nodes = self.testbed.nodes().iter();
        nodes.map(|node| IpAddr::V4(node.address)).collect()
    }

    /// Waits until every node serves a host with a certificate that the client trusts.
    async fn trusted_everywhere(&self, client: &TlsClient, host: &str) -> std::time::Duration {
        trusted_at(client, &self.https(), host).await
    }

    async fn secret(&self, name: &str) -> Option<Secret> {
        let secrets: Api<Secret> = self.api();
        secrets.get_opt(name).await.unwrap()
    }
}

async fn trusted_at(client: &TlsClient, nodes: &[SocketAddr], host: &str) -> std::time::Duration {
    let what = format!("{host} is served with a certificate of the CA");
    let all = async || {
        for node in nodes {
            if trusted_status(client, *node, host).await != Some(200) {
                return false;
            }
        }
        true
    };
    // An order that failed is tried again after a minute.
    within(PATIENCE, &what, all).await
}

/// A merge patch of an object's annotations.
fn annotations(entries: &[(&str, &str)]) -> serde_json::Value {
    let entries: std::collections::BTreeMap<_, _> = entries.iter().copied().collect();
    json!({ "metadata": { "annotations": entries } })
}
