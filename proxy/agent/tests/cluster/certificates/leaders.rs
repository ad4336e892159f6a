//! Orders whose leader is elsewhere, or dies.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{EVERY_INGRESS, ingress, with_ca};
use crate::leader::leader;
use crate::restart::kill;
use crate::support::bed::{Bed, SYSTEM};
use crate::support::ca::Ca;
use crate::support::{eventually, figure};

/// The CA looks at a node that does not lead.
fn elsewhere(challenge: &str) {
    with_ca(3, challenge, EVERY_INGRESS, async |bed: Bed, ca: Ca| {
        let leading = a_leader(&bed).await;
        let nodes = bed.testbed.nodes().iter();
        let follower = nodes
            .filter(|node| node.name != leading)
            .map(|node| IpAddr::V4(node.address))
            .next()
            .unwrap();
        ca.resolve("far.test", &[follower]);
        bed.create(&ingress("far", &["far.test"], "far-tls")).await;
        bed.trusted_everywhere(&ca.client(), "far.test").await;
        assert_eq!(ca.pebble.orders(), 1);
    });
}

/// The node of the pod that leads.
async fn a_leader(bed: &Bed) -> String {
    let mut found = None;
    eventually("somebody leads", async || {
        found = leader(bed).await;
        found.is_some()
    })
    .await;
    found.unwrap().1
}

#[test]
fn http_01_is_answered_by_a_node_that_does_not_lead() {
    elsewhere("http-01");
}

#[test]
fn tls_alpn_01_is_answered_by_a_node_that_does_not_lead() {
    elsewhere("tls-alpn-01");
}

/// The leader is killed when the CA's log says this for the first time.
#[test]
fn another_node_finishes_what_a_killed_leader_began() {
    with_ca(2, "http-01", EVERY_INGRESS, async |bed: Bed, ca: Ca| {
        let client = ca.client();
        for (name, moment) in [
            ("ordered", "Added order "),
            ("ready", "Pulled a task from the Tasks queue"),
            ("finalized", "Processing finalization"),
        ] {
            let orders = ca.pebble.orders();
            let before = ca.pebble.count(moment);
            let host = format!("{name}.test");
            ca.resolve(&host, &bed.node_addresses());
            let node = a_leader(&bed).await;
            let process = bed.process(&node).await;
            bed.create(&ingress(name, &[&host], &format!("{name}-tls")))
                .await;
            eventually(moment, async || ca.pebble.count(moment) > before).await;
            kill(process);
            let killed = Instant::now();
            bed.trusted_everywhere(&client, &host).await;
            figure(
                &format!("certificate after the leader was killed ({name})"),
                killed.elapsed(),
            );
            let further = ca.pebble.orders() - orders - 1;
            assert!(further <= 1, "{name}: {further} further orders");
        }
    });
}

const RESTARTS: usize = 10;

/// A volume that is lost again and again costs nothing: what was issued is in the cluster.
#[test]
fn crashes_with_an_empty_disk_take_one_order() {
    with_ca(1, "http-01", EVERY_INGRESS, async |bed: Bed, ca: Ca| {
        bed.create(&ingress("crash", &["crash.test"], "crash-tls"))
            .await;
        let client = ca.client();
        bed.trusted_everywhere(&client, "crash.test").await;
        let node = bed.testbed.nodes()[0].name.clone();
        let agent = bed.agents().await[&node].metadata.name.clone().unwrap();
        let disk = bed.testbed.nodes()[0].disk("/var/lib/tidegate");
        let mut last = None;
        for _ in 0..RESTARTS {
            let mut process = None;
            eventually("another process", async || {
                let processes = bed.testbed.processes(SYSTEM, &agent);
                process = processes.first().copied();
                process.is_some() && process != last
            })
            .await;
            last = process;
            kill(process.unwrap());
            // The process that comes next may have made it again already.
            _ = std::fs::remove_dir_all(&disk);
            std::fs::create_dir_all(&disk).unwrap();
        }
        bed.trusted_everywhere(&client, "crash.test").await;
        eventually("it leads again", async || leader(&bed).await.is_some()).await;
        // Time for the plan that a new leader makes.
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(ca.pebble.orders(), 1);
    });
}
