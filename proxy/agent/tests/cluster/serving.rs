//! What is applied is served, by every node, soon; and what changes is followed without a failed request.

use std::time::Instant;

use futures_util::stream::{self, StreamExt};
use k8s_openapi::api::networking::v1::Ingress;
use serde_json::json;

use crate::support::bed::{Bed, with_tidegate};
use crate::support::load::Load;
use crate::support::make::{self, NAMESPACE};
use crate::support::{eventually, figure, web};

const INGRESSES: usize = 200;

#[test]
fn two_hundred_ingresses_are_served_everywhere_followed_and_forgotten() {
    with_tidegate(3, async |bed: Bed| {
        bed.backend("web", 2).await;
        let hosts: Vec<_> = (0..INGRESSES)
            .map(|number| format!("host-{number}.test"))
            .collect();
        for (number, host) in hosts.iter().enumerate() {
            let ingress = make::ingress(&format!("host-{number}"), host, "web");
            bed.create(&ingress).await;
        }
        let written = Instant::now();
        bed.everywhere(&hosts[INGRESSES - 1], 200).await;
        figure(
            "200 Ingresses served by 3 nodes after the last write",
            written.elapsed(),
        );
        // From here on nothing is waited for.
        for (host, node) in hosts
            .iter()
            .flat_map(|host| bed.http().into_iter().map(move |node| (host, node)))
        {
            assert_eq!(web::status(node, host).await, Some(200), "{host} at {node}");
        }

        let deleted = Instant::now();
        bed.delete::<Ingress>("host-17").await;
        bed.everywhere("host-17.test", 404).await;
        figure("deleted Ingress answered 404 by 3 nodes", deleted.elapsed());
        assert_eq!(web::status(bed.http()[0], "host-18.test").await, Some(200));
    });
}

#[test]
fn traffic_follows_a_service_as_it_grows_and_shrinks_and_no_request_fails() {
    with_tidegate(3, async |bed: Bed| {
        bed.backend("web", 1).await;
        bed.create(&make::ingress("web", "web.test", "web")).await;
        bed.everywhere("web.test", 200).await;
        let load = Load::start(&bed.http(), "web.test");

        scale(&bed, 4).await;
        bed.pods_ready("web", 4).await;
        let ready = Instant::now();
        let all_pods = async || answering(&bed).await == 4;
        eventually("every pod gets requests", all_pods).await;
        figure(
            "new pods get requests from 3 nodes after they are ready",
            ready.elapsed(),
        );

        scale(&bed, 1).await;
        bed.pods_ready("web", 1).await;
        let gone = Instant::now();
        let one_pod = async || answering(&bed).await == 1;
        eventually("one pod is left", one_pod).await;
        figure(
            "pods that ended get no more requests from 3 nodes",
            gone.elapsed(),
        );

        let seen = load.end().await;
        assert!(seen.answered > 500, "{seen:?}");
        assert_eq!(seen.failed, Vec::<String>::new());
    });
}

async fn scale(bed: &Bed, replicas: usize) {
    let namespace = format!("--namespace={NAMESPACE}");
    let replicas = format!("--replicas={replicas}");
    bed.kubectl(&["scale", "deployment/web", &namespace, &replicas]);
}

/// How many pods answer 30 requests, over all nodes; 0 when one fails.
async fn answering(bed: &Bed) -> usize {
    let nodes = bed.http();
    let asked = stream::iter(nodes.iter().cycle().take(30))
        .map(|node| web::pod(*node, "web.test"))
        .buffer_unordered(6);
    let pods: Vec<_> = asked.collect().await;
    let pods: Option<std::collections::BTreeSet<_>> = pods.into_iter().collect();
    pods.map_or(0, |pods| pods.len())
}

#[test]
fn an_ingress_that_turns_to_another_service_fails_no_request() {
    with_tidegate(2, async |bed: Bed| {
        bed.backend("old", 1).await;
        bed.backend("new", 1).await;
        bed.create(&make::ingress("web", "web.test", "old")).await;
        bed.everywhere("web.test", 200).await;
        let load = Load::start(&bed.http(), "web.test");
        // Nothing has referred to this one until now, so its endpoints are not held.
        let turned = make::ingress("web", "web.test", "new");
        let spec = json!({ "spec": turned.spec }).to_string();
        bed.kubectl(&[
            "patch",
            "ingress",
            "web",
            "--namespace",
            NAMESPACE,
            "--patch",
            &spec,
            "--type=merge",
        ]);
        let is_new = async || {
            let pod = web::pod(bed.http()[0], "web.test").await;
            pod.is_some_and(|pod| pod.starts_with("new"))
        };
        eventually("the new pods answer", is_new).await;
        let seen = load.end().await;
        assert_eq!(seen.failed, Vec::<String>::new());
    });
}

#[test]
fn a_certificate_is_served_as_its_secret_now_is() {
    with_tidegate(2, async |bed: Bed| {
        bed.backend("web", 1).await;
        let (first, second) = (make::Pair::new("tls.test"), make::Pair::new("tls.test"));
        bed.create(&make::tls_ingress("tls", "tls.test", "web", "tls"))
            .await;
        bed.create(&first.secret("tls")).await;
        serves(&bed, &first).await;
        let data = json!({ "data": second.secret("tls").data, "stringData": second.secret("tls").string_data });
        bed.kubectl(&[
            "patch",
            "secret",
            "tls",
            "--namespace",
            NAMESPACE,
            "--patch",
            &data.to_string(),
        ]);
        serves(&bed, &second).await;
    });
}

async fn serves(bed: &Bed, pair: &make::Pair) {
    let all = async || {
        for node in bed.https() {
            if web::tls_status(node, "tls.test", pair).await != Some(200) {
                return false;
            }
        }
        true
    };
    eventually("every node has the certificate", all).await;
}
