//! What the leader writes: statuses and Events.

use std::collections::BTreeSet;

use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use crate::support::bed::{Bed, SYSTEM, with_tidegate};
use crate::support::{eventually, make};

/// The addresses in an Ingress's status.
async fn addresses(bed: &Bed, ingress: &str) -> BTreeSet<String> {
    let found = bed.api::<Ingress>().get(ingress).await.unwrap();
    let status = found.status.and_then(|status| status.load_balancer);
    let entries = status.and_then(|balancer| balancer.ingress);
    entries
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ip.or(entry.hostname))
        .collect()
}

fn nodes(bed: &Bed) -> BTreeSet<String> {
    let nodes = bed.testbed.nodes().iter();
    nodes.map(|node| node.address.to_string()).collect()
}

#[test]
fn an_ingress_has_the_addresses_of_the_nodes_that_are_ready_and_loses_them_with_its_class() {
    with_tidegate(3, async |bed: Bed| {
        bed.backend("web", 1).await;
        bed.create(&make::ingress("web", "web.test", "web")).await;
        let all = nodes(&bed);
        eventually("all nodes in the status", async || {
            addresses(&bed, "web").await == all
        })
        .await;

        // A node that gets no new pod: its address goes.
        let node = bed.testbed.nodes()[2].clone();
        bed.kubectl(&["label", "node", &node.name, "tidegate-test=off"]);
        let affinity = json!({ "spec": { "template": { "spec": { "affinity": { "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [{
                "matchExpressions": [{ "key": "tidegate-test", "operator": "DoesNotExist" }],
            }] },
        } } } } } });
        let patch = affinity.to_string();
        bed.kubectl(&[
            "patch",
            "daemonset",
            "tidegate",
            "--namespace",
            SYSTEM,
            "--patch",
            &patch,
        ]);
        let mut left = all.clone();
        left.remove(&node.address.to_string());
        eventually("the node has left the status", async || {
            addresses(&bed, "web").await == left
        })
        .await;

        let other_class = json!({ "spec": { "ingressClassName": "other" } });
        let patch = Patch::Merge(&other_class);
        let api = bed.api::<Ingress>();
        api.patch("web", &PatchParams::default(), &patch)
            .await
            .unwrap();
        eventually("the status is cleared", async || {
            addresses(&bed, "web").await.is_empty()
        })
        .await;
    });
}

#[test]
fn a_problem_is_an_event_on_its_object_once() {
    with_tidegate(2, async |bed: Bed| {
        bed.create(&make::ingress("lost", "lost.test", "missing"))
            .await;
        let events = async || {
            let events = bed
                .api::<Event>()
                .list(&ListParams::default())
                .await
                .unwrap();
            let about = events.items.into_iter().filter(|event| {
                let object = event.regarding.as_ref();
                object.and_then(|object| object.name.as_deref()) == Some("lost")
            });
            about.collect::<Vec<_>>()
        };
        eventually("an Event", async || !events().await.is_empty()).await;
        // Other changes, and another leader, do not say it again.
        bed.backend("web", 1).await;
        bed.create(&make::ingress("web", "web.test", "web")).await;
        bed.kubectl(&["delete", "pods", "--all", "--namespace", SYSTEM]);
        bed.all_ready().await;
        bed.everywhere("web.test", 200).await;
        bed.create(&make::ingress("more", "more.test", "web")).await;
        bed.everywhere("more.test", 200).await;
        let events = events().await;
        assert_eq!(events.len(), 1, "{events:#?}");
        let event = &events[0];
        assert_eq!(event.reason.as_deref(), Some("ServiceNotFound"));
        assert_eq!(event.type_.as_deref(), Some("Warning"));
        assert!(
            event.note.as_deref().unwrap().contains("missing"),
            "{event:#?}"
        );
        let object = event.regarding.as_ref().unwrap();
        assert_eq!(object.kind.as_deref(), Some("Ingress"));
        let ingress = bed.api::<Ingress>().get("lost").await.unwrap();
        assert_eq!(object.uid, ingress.metadata.uid);
    });
}
