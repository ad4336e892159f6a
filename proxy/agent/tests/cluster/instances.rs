//! Two instances on the same nodes, one for Ingresses of the internal class and one for those of the external.

use std::net::SocketAddr;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use crate::support::bed::{Bed, manifests, on_cluster};
use crate::support::{eventually, make, web};

#[test]
fn an_internal_and_an_external_instance_serve_side_by_side() {
    on_cluster(2, async |bed: Bed| {
        bed.apply(&manifests("overlays/internal-external"));
        bed.backend("web", 1).await;
        for class in ["internal", "external"] {
            let mut ingress = make::ingress(class, &format!("{class}.test"), "web");
            let spec = ingress.spec.as_mut().unwrap();
            spec.ingress_class_name = Some(format!("tidegate-{class}"));
            bed.create(&ingress).await;
        }
        for node in bed.testbed.nodes() {
            let external = SocketAddr::from((node.address, 80));
            let internal = SocketAddr::from((node.address, 8080));
            for (at, here, elsewhere) in [
                (external, "external.test", "internal.test"),
                (internal, "internal.test", "external.test"),
            ] {
                eventually(&format!("{here} at {at}"), async || {
                    web::status(at, here).await == Some(200)
                })
                .await;
                assert_eq!(
                    web::status(at, elsewhere).await,
                    Some(404),
                    "{elsewhere} at {at}"
                );
            }
        }
        let leases: Api<Lease> = Api::all(bed.client.clone());
        let leases = async || {
            let found = leases.list(&ListParams::default()).await.unwrap();
            let names = found.items.iter().map(ResourceExt::name_any);
            names.filter(|name| name.starts_with("tidegate")).count()
        };
        eventually("each instance has a Lease", async || leases().await == 2).await;
    });
}
