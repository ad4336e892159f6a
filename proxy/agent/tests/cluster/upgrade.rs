//! A rolling upgrade of the DaemonSet: the new pod stands beside the old one, and no request fails.

use crate::support::bed::{Bed, SYSTEM, is_ready, with_tidegate};
use crate::support::load::Load;
use crate::support::{eventually, make};

#[test]
fn a_rolling_upgrade_fails_no_request() {
    with_tidegate(2, async |bed: Bed| {
        bed.backend("web", 2).await;
        bed.create(&make::ingress("web", "web.test", "web")).await;
        bed.everywhere("web.test", 200).await;
        let before = bed.agents().await;
        let load = Load::start(&bed.http(), "web.test");
        bed.kubectl(&[
            "rollout",
            "restart",
            "daemonset/tidegate",
            "--namespace",
            SYSTEM,
        ]);
        eventually("every pod is a new one, and ready", async || {
            let now = bed.agents().await;
            now.len() == before.len()
                && now.iter().all(|(node, pod)| {
                    pod.metadata.uid != before[node].metadata.uid && is_ready(pod)
                })
        })
        .await;
        let seen = load.end().await;
        assert!(seen.answered > 200, "{seen:?}");
        assert_eq!(seen.failed, Vec::<String>::new());
        bed.everywhere("web.test", 200).await;
    });
}
