//! One leader writes: what becomes of the Lease when it dies, hangs or leaves.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::networking::v1::Ingress;
use kube::Api;
use rustix::process::Signal;
use tidegate_testbed::AuditEvent;

use crate::restart::{kill, signal};
use crate::support::bed::{Bed, SYSTEM, with_tidegate};
use crate::support::{eventually, figure, make};

/// `spec.leaseDurationSeconds`.
const LEASE: Duration = Duration::from_secs(15);

/// Who holds the Lease.
async fn holder(bed: &Bed) -> Option<String> {
    let leases: Api<Lease> = Api::namespaced(bed.client.clone(), SYSTEM);
    let lease = leases.get_opt("tidegate").await.unwrap()?;
    lease.spec?.holder_identity
}

/// The pod that holds the Lease, and its node.
pub(crate) async fn leader(bed: &Bed) -> Option<(String, String)> {
    let holder = holder(bed).await?;
    let agents = bed.agents().await;
    agents.into_iter().find_map(|(node, pod)| {
        let name = pod.metadata.name?;
        holder.starts_with(&name).then_some((name, node))
    })
}

/// Waits until somebody leads, other than this pod.
async fn leader_other_than(bed: &Bed, before: &str) -> (String, String) {
    let mut found = None;
    let elected = async || {
        found = leader(bed).await.filter(|(name, _)| name != before);
        found.is_some()
    };
    eventually("another leader", elected).await;
    found.unwrap()
}

async fn has_status(bed: &Bed, ingress: &str) -> bool {
    let found = bed.api::<Ingress>().get(ingress).await.unwrap();
    let status = found.status.and_then(|status| status.load_balancer);
    let addresses = status.and_then(|balancer| balancer.ingress);
    addresses.is_some_and(|addresses| !addresses.is_empty())
}

#[test]
fn another_one_writes_when_the_leader_is_killed() {
    with_tidegate(3, async |bed: Bed| {
        bed.backend("web", 1).await;
        let (_, node) = leader_other_than(&bed, "").await;
        let before = holder(&bed).await;
        // It is started again at once, as another process, to which the Lease is somebody else's.
        kill(bed.process(&node).await);
        let killed = Instant::now();
        bed.create(&make::ingress("web", "web.test", "web")).await;
        eventually("somebody writes", async || has_status(&bed, "web").await).await;
        let took = killed.elapsed();
        figure("status written after the leader was killed", took);
        let lease = holder(&bed).await;
        assert_ne!(lease, before);
    });
}

#[test]
fn a_leader_that_ends_gives_the_lease_away_at_once() {
    with_tidegate(2, async |bed: Bed| {
        let (name, _) = leader_other_than(&bed, "").await;
        let left = Instant::now();
        bed.kubectl(&[
            "delete",
            "pod",
            &name,
            "--namespace",
            SYSTEM,
            "--wait=false",
        ]);
        leader_other_than(&bed, &name).await;
        let took = left.elapsed();
        figure("another leader after the first one ended", took);
        assert!(took < LEASE, "{took:?}: the Lease was given away");
    });
}

#[test]
fn a_leader_that_was_stopped_makes_no_write_when_it_goes_on() {
    with_tidegate(2, async |bed: Bed| {
        bed.backend("web", 1).await;
        let (name, node) = leader_other_than(&bed, "").await;
        let process = bed.process(&node).await;
        signal(process, Signal::STOP);
        // Work that it would do, had it not been stopped.
        bed.create(&make::ingress("while", "while.test", "web"))
            .await;
        let (_, other_node) = leader_other_than(&bed, &name).await;
        assert_ne!(node, other_node);
        eventually("the other one writes", async || {
            has_status(&bed, "while").await
        })
        .await;
        let resumed = Timestamp::now();
        signal(process, Signal::CONT);
        bed.create(&make::ingress("after", "after.test", "web"))
            .await;
        eventually("the other one writes", async || {
            has_status(&bed, "after").await
        })
        .await;
        tokio::time::sleep(Duration::from_secs(10)).await;

        let writers: BTreeSet<_> = bed
            .testbed
            .audit()
            .unwrap()
            .into_iter()
            .filter(|event| event.time >= resumed && is_write(event))
            .map(|event| event.address)
            .collect();
        let address = |name: &str| {
            let mut nodes = bed.testbed.nodes().iter();
            let node = nodes.find(|node| node.name == name).unwrap();
            Some(IpAddr::from(node.address))
        };
        assert_eq!(
            writers,
            [address(&other_node)].into(),
            "{node} wrote after it went on"
        );
        kill(process);
    });
}

/// Whether Tidegate changed something.
fn is_write(event: &AuditEvent) -> bool {
    let is_ours = event.user.ends_with(":tidegate");
    is_ours && matches!(&*event.verb, "create" | "update" | "patch" | "delete")
}
