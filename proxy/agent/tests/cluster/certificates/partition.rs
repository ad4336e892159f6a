//! A node that nobody reaches: the CA is not asked to look until it answers.

use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;

use super::{EVERY_INGRESS, ingress, with_ca};
use crate::leader::leader;
use crate::support::bed::Bed;
use crate::support::ca::Ca;
use crate::support::eventually;

/// What the CA writes when it is told that a challenge is ready.
const VALIDATES: &str = "Pulled a task from the Tasks queue";

#[test]
fn no_order_is_ready_while_a_node_does_not_answer() {
    with_ca(2, "http-01", EVERY_INGRESS, async |bed: Bed, ca: Ca| {
        let mut leading = None;
        eventually("somebody leads", async || {
            leading = leader(&bed).await;
            leading.is_some()
        })
        .await;
        let (_, leading) = leading.unwrap();
        let nodes = bed.testbed.nodes();
        let alone = nodes.iter().find(|node| node.name != leading).unwrap();
        let link = |state: &str| {
            let status = alone
                .command("ip")
                .args(["link", "set", "eth0", state])
                .status()
                .unwrap();
            assert!(status.success());
        };
        ca.resolve("split.test", &bed.node_addresses());
        link("down");
        bed.create(&ingress("split", &["split.test"], "split-tls"))
            .await;
        let events: Api<Event> = bed.api();
        eventually("an Event names the node", async || {
            let found = events.list(&ListParams::default()).await.unwrap();
            let about = found.items.iter().filter(|event| {
                let object = event
                    .regarding
                    .as_ref()
                    .and_then(|object| object.name.as_deref());
                object == Some("split")
            });
            let mut notes = about.filter_map(|event| event.note.as_deref());
            notes.any(|note| note.contains(&alone.name))
        })
        .await;
        assert_eq!(
            ca.pebble.count(VALIDATES),
            0,
            "no challenge was marked ready"
        );
        assert!(bed.secret("split-tls").await.is_none());
        link("up");
        // The route of the node went with its interface.
        let gateway = bed.testbed.control_plane().endpoint().ip().to_string();
        _ = alone
            .command("ip")
            .args(["route", "replace", "default", "via", &gateway])
            .status();
        bed.trusted_everywhere(&ca.client(), "split.test").await;
        assert_eq!(ca.pebble.orders(), 1);
    });
}
