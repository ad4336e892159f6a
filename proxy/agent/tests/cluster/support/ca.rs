//! An ACME server beside a testbed, and Tidegate's settings for it.

use std::net::{IpAddr, SocketAddr};

use http::Version;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;
use tidegate::demo::client::TlsClient;
use tidegate_testbed::pebble::{Pebble, PebbleOptions};

use super::bed::{Bed, SYSTEM};

/// A real ACME server at the address that all nodes reach this machine at.
pub(crate) struct Ca {
    pub(crate) pebble: Pebble,
}

impl Ca {
    /// Starts it; every host resolves to the first node until [`resolve`](Self::resolve) says otherwise.
    pub(crate) fn beside(bed: &Bed) -> Self {
        let IpAddr::V4(address) = bed.testbed.control_plane().endpoint().ip() else {
            panic!("testbeds have addresses of IPv4");
        };
        let pebble = Pebble::new(PebbleOptions::at(address)).unwrap();
        let first = bed.testbed.nodes()[0].address;
        pebble.set_default_address(Some(first)).unwrap();
        Self { pebble }
    }

    /// Has a host resolve to these nodes, of which the CA takes any.
    pub(crate) fn resolve(&self, host: &str, nodes: &[IpAddr]) {
        self.pebble.set_addresses(host, nodes).unwrap();
    }

    /// Settings with this CA as the only issuer, certificates by default, and further keys.
    pub(crate) fn settings(&self, challenge: &str, more: &str) -> String {
        let bundle: String = self
            .pebble
            .authority()
            .lines()
            .map(|line| format!("      {line}\n"))
            .collect();
        let directory = self.pebble.directory();
        format!(
            "issuers:\n\
             \x20 - name: pebble\n\
             \x20   directory: {directory}\n\
             \x20   contact: admin@tidegate.test\n\
             \x20   challenge: {challenge}\n\
             \x20   caBundle: |\n{bundle}\
             {more}"
        )
    }

    /// Trusts what the CA issues, and nothing else.
    pub(crate) fn client(&self) -> TlsClient {
        let root = self.pebble.root().unwrap();
        TlsClient::trusting(CertificateDer::from_pem_slice(root.as_bytes()).unwrap()).unwrap()
    }
}

/// The status of `/` of a host by TLS, with a certificate that the client trusts.
pub(crate) async fn trusted_status(
    client: &TlsClient,
    node: SocketAddr,
    host: &str,
) -> Option<u16> {
    let answer = client.get(node, host, "/", Version::HTTP_11).await.ok()?;
    Some(answer.status())
}

impl Bed {
    /// Puts other settings in force: the text of `settings.yaml`.
    pub(crate) async fn settle(&self, settings: &str) {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), SYSTEM);
        let patch = json!({ "data": { "settings.yaml": settings } });
        let parameters = PatchParams::default();
        maps.patch("tidegate-settings", &parameters, &Patch::Merge(patch))
            .await
            .unwrap();
    }
}
