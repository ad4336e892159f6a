//! What goes wrong with the API server costs nothing that is served, and is over when it is over.

use std::time::Duration;

use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tidegate_testbed::Part;

use crate::support::bed::{Bed, SYSTEM, with_tidegate};
use crate::support::load::Load;
use crate::support::{eventually, make, web};

#[test]
fn requests_are_served_while_the_api_server_restarts_and_etcd_is_lost() {
    with_tidegate(2, async |bed: Bed| {
        bed.backend("web", 2).await;
        bed.create(&make::ingress("web", "web.test", "web")).await;
        bed.everywhere("web.test", 200).await;
        let load = Load::start(&bed.http(), "web.test");
        let control_plane = bed.testbed.control_plane();
        control_plane.kill(Part::ApiServer).unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        control_plane.start(Part::ApiServer).unwrap();
        bed.create(&make::ingress("first", "first.test", "web"))
            .await;
        bed.everywhere("first.test", 200).await;

        let control_plane = bed.testbed.control_plane();
        control_plane.kill(Part::Etcd).unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        control_plane.start(Part::Etcd).unwrap();
        let created = async || {
            let ingress = make::ingress("second", "second.test", "web");
            let made = bed.api().create(&PostParams::default(), &ingress).await;
            made.is_ok()
        };
        eventually("etcd is back", created).await;
        bed.everywhere("second.test", 200).await;
        let seen = load.end().await;
        assert!(seen.answered > 200, "{seen:?}");
        assert_eq!(seen.failed, Vec::<String>::new());
    });
}

#[test]
fn an_api_server_that_hangs_is_noticed_and_left() {
    with_tidegate(1, async |bed: Bed| {
        bed.backend("web", 1).await;
        bed.create(&make::ingress("web", "web.test", "web")).await;
        bed.everywhere("web.test", 200).await;
        bed.testbed.control_plane().pause(Part::ApiServer).unwrap();
        tokio::time::sleep(Duration::from_secs(20)).await;
        bed.everywhere("web.test", 200).await;
        bed.testbed.control_plane().resume(Part::ApiServer).unwrap();
        bed.create(&make::ingress("late", "late.test", "web")).await;
        bed.everywhere("late.test", 200).await;
    });
}

#[test]
fn a_right_that_is_revoked_costs_its_kind_alone_until_it_is_given_back() {
    with_tidegate(1, async |bed: Bed| {
        bed.backend("web", 1).await;
        let pair = make::Pair::new("tls.test");
        bed.create(&pair.secret("tls")).await;
        bed.create(&make::tls_ingress("tls", "tls.test", "web", "tls"))
            .await;
        let has_certificate =
            async || web::tls_status(bed.https()[0], "tls.test", &pair).await == Some(200);
        eventually("the certificate is served", has_certificate).await;

        let roles: Api<ClusterRole> = Api::all(bed.client.clone());
        let shipped = roles.get("tidegate").await.unwrap();
        let mut without = shipped.clone();
        without.metadata.managed_fields = None;
        without.metadata.resource_version = None;
        for rule in without.rules.iter_mut().flatten() {
            for resource in rule.resources.iter_mut().flatten() {
                if resource == "secrets" {
                    *resource = "nothing".to_owned();
                }
            }
        }
        let rules = json!({ "rules": without.rules });
        let patch = Patch::Merge(&rules);
        roles
            .patch("tidegate", &PatchParams::default(), &patch)
            .await
            .unwrap();
        let agents = bed.agents().await;
        let agent = agents.values().next().unwrap().name_any();
        tokio::time::sleep(Duration::from_secs(3)).await;
        bed.create(&make::ingress("new", "new.test", "web")).await;
        bed.create(&make::tls_ingress(
            "new-tls",
            "new-tls.test",
            "web",
            "new-tls",
        ))
        .await;
        let other = make::Pair::new("new-tls.test");
        bed.create(&other.secret("new-tls")).await;
        bed.everywhere("new.test", 200).await;
        bed.everywhere("tls.test", 308).await;
        assert!(has_certificate().await, "what was held stays");

        let rules = json!({ "rules": shipped.rules });
        let patch = Patch::Merge(&rules);
        roles
            .patch("tidegate", &PatchParams::default(), &patch)
            .await
            .unwrap();
        let served =
            async || web::tls_status(bed.https()[0], "new-tls.test", &other).await == Some(200);
        eventually("the new Secret is served", served).await;
        let log = bed.testbed.logs(SYSTEM, &agent);
        let refusals = log
            .lines()
            .filter(|line| line.contains("secrets") && line.contains("403"));
        assert!(refusals.count() <= 3, "said once, not in a flood:\n{log}");
    });
}
