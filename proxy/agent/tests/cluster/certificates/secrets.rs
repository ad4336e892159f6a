//! Secrets that others change.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::Ingress;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::{EVERY_INGRESS, annotations, ingress, with_ca};
use crate::support::bed::Bed;
use crate::support::ca::Ca;
use crate::support::{eventually, make, web};

#[test]
fn what_is_in_a_secret_is_served_and_ours_is_ordered_again() {
    with_ca(2, "http-01", EVERY_INGRESS, async |bed: Bed, ca: Ca| {
        let client = ca.client();
        let secrets: Api<Secret> = bed.api();
        ca.resolve("hand.test", &bed.node_addresses());
        bed.create(&ingress("hand", &["hand.test"], "hand-tls"))
            .await;
        bed.trusted_everywhere(&client, "hand.test").await;
        assert_eq!(ca.pebble.orders(), 1);

        // Deleted: ordered again.
        bed.delete::<Secret>("hand-tls").await;
        eventually("the Secret is there again", async || {
            bed.secret("hand-tls").await.is_some()
        })
        .await;
        bed.trusted_everywhere(&client, "hand.test").await;
        assert_eq!(ca.pebble.orders(), 2);

        // Damaged, and still ours: ordered again.
        let damaged = json!({ "stringData": { "tls.crt": "no certificate" } });
        let parameters = PatchParams::default();
        secrets
            .patch("hand-tls", &parameters, &Patch::Merge(damaged))
            .await
            .unwrap();
        eventually("a third order", async || ca.pebble.orders() == 3).await;
        bed.trusted_everywhere(&client, "hand.test").await;

        // Another's, as cert-manager would leave it: served as it is, and never touched.
        bed.delete::<Ingress>("hand").await;
        bed.delete::<Secret>("hand-tls").await;
        let pair = make::Pair::new("hand.test");
        bed.create(&pair.secret("hand-tls")).await;
        bed.create(&ingress("hand", &["hand.test"], "hand-tls"))
            .await;
        for node in bed.https() {
            eventually("the other's certificate is served", async || {
                web::tls_status(node, "hand.test", &pair).await == Some(200)
            })
            .await;
        }
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        assert_eq!(ca.pebble.orders(), 3);
        let kept = bed.secret("hand-tls").await.unwrap();
        assert!(kept.metadata.labels.unwrap_or_default().is_empty());
    });
}

#[test]
fn an_annotation_decides_against_the_settings() {
    with_ca(1, "http-01", "", async |bed: Bed, ca: Ca| {
        let client = ca.client();
        for name in ["asks", "silent"] {
            let host = format!("{name}.test");
            bed.create(&ingress(name, &[&host], &format!("{name}-tls")))
                .await;
        }
        let ingresses: Api<Ingress> = bed.api();
        let patch = Patch::Merge(annotations(&[("tidegate.dev/certificate", "acme")]));
        ingresses
            .patch("asks", &PatchParams::default(), &patch)
            .await
            .unwrap();
        bed.trusted_everywhere(&client, "asks.test").await;
        assert_eq!(ca.pebble.orders(), 1);
        assert!(bed.secret("silent-tls").await.is_none());
    });
}

#[test]
fn hosts_of_rules_get_certificates_where_settings_say_so() {
    let settings = "certificates:\n  issue: acme\n  hosts: rules\n";
    with_ca(2, "http-01", settings, async |bed: Bed, ca: Ca| {
        ca.resolve("rule.test", &bed.node_addresses());
        bed.create(&make::ingress("rule", "rule.test", "web")).await;
        bed.trusted_everywhere(&ca.client(), "rule.test").await;
        assert_eq!(ca.pebble.orders(), 1);
    });
}
