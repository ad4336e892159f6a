//! From an Ingress to a certificate on every node.

use std::time::Instant;

use super::{EVERY_INGRESS, ingress, with_ca};
use crate::support::bed::Bed;
use crate::support::ca::Ca;
use crate::support::figure;

/// Both challenges that nodes answer: the certificate is on every node, by one order.
fn one_order(challenge: &str) {
    with_ca(3, challenge, EVERY_INGRESS, async |bed: Bed, ca: Ca| {
        for host in ["a.shop.test", "b.shop.test"] {
            ca.resolve(host, &bed.node_addresses());
        }
        let hosts = ["a.shop.test", "b.shop.test"];
        let applied = Instant::now();
        bed.create(&ingress("shop", &hosts, "shop-tls")).await;
        let client = ca.client();
        for host in hosts {
            bed.trusted_everywhere(&client, host).await;
        }
        figure(
            &format!("{challenge}: from apply to the last of three nodes"),
            applied.elapsed(),
        );
        assert_eq!(ca.pebble.orders(), 1);
        let secret = bed.secret("shop-tls").await.unwrap();
        assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/tls"));
        let labels = secret.metadata.labels.unwrap();
        assert_eq!(labels["tidegate.dev/certificate"], "tidegate");
        // A second Ingress for the same hosts is served by the same order.
        let mut other = ingress("other", &hosts, "other-tls");
        other.metadata.name = Some("other".to_owned());
        bed.create(&other).await;
        crate::support::eventually("the second Secret", async || {
            bed.secret("other-tls").await.is_some()
        })
        .await;
        assert_eq!(ca.pebble.orders(), 1);
    });
}

#[test]
fn http_01_on_three_nodes_takes_one_order() {
    one_order("http-01");
}

#[test]
fn tls_alpn_01_on_three_nodes_takes_one_order() {
    one_order("tls-alpn-01");
}
