//! Without a cluster: one process, its folder of manifests, and a file in the place of Secrets.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tidegate::demo::client::TlsClient;
use tidegate::settings::InstanceName;
use tidegate_testbed::pebble::{Pebble, PebbleOptions};

use super::import::Elsewhere;
use crate::support::ca::{Ca, trusted_status};
use crate::support::eventually;

/// A process that serves a folder; killed when dropped.
struct Alone {
    child: Child,
    address: Ipv4Addr,
}

impl Alone {
    fn serve(folder: &Path, instance: &str, address: Ipv4Addr) -> Self {
        let child = tidegate(instance)
            .arg("serve")
            .arg("--manifests")
            .arg(folder.join("manifests"))
            .arg("--config")
            .arg(folder.join("settings.yaml"))
            .arg("--data-dir")
            .arg(folder.join("data"))
            .arg("--probe-socket")
            .arg(folder.join("probe.sock"))
            .args(["--http", &format!("{address}:80")])
            .args(["--https", &format!("{address}:443")])
            .args(["--admin", "off", "--workers", "1", "--steering", "kernel"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, address }
    }

    fn https(&self) -> SocketAddr {
        (self.address, 443).into()
    }

    async fn trusted(&self, client: &TlsClient, host: &str) {
        eventually(&format!("{host} is served"), async || {
            trusted_status(client, self.https(), host).await == Some(503)
        })
        .await;
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn tidegate(instance: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.env("TIDEGATE_INSTANCE", instance);
    command
}

/// An Ingress whose Service has no endpoint: what is of interest is TLS.
fn manifest(name: &str, host: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: {name}\nspec:\n  \
         ingressClassName: tidegate\n  tls:\n    - hosts: [{host}]\n      secretName: {name}-tls\n  rules:\n    \
         - host: {host}\n      http:\n        paths:\n          - path: /\n            pathType: Prefix\n            \
         backend: {{ service: {{ name: none, port: {{ number: 80 }} }} }}\n"
    )
}

#[test]
fn a_process_beside_no_cluster_orders_keeps_and_serves() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let address = Pebble::free_address();
        let ca = Ca {
            pebble: Pebble::new(PebbleOptions::at(address)).unwrap(),
        };
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        std::fs::create_dir(folder.join("manifests")).unwrap();
        let settings = ca.settings("http-01", super::EVERY_INGRESS);
        std::fs::write(folder.join("settings.yaml"), settings).unwrap();
        let put = |name: &str, host: &str| {
            let file = folder.join("manifests").join(format!("{name}.yaml"));
            std::fs::write(file, manifest(name, host)).unwrap();
        };
        put("alone", "alone.test");
        let instance = InstanceName::unique("test");
        let instance = instance.as_str();

        let elsewhere = Elsewhere::new();
        let file = folder.join("acme.json");
        let content = elsewhere.later(&["moved.test"], "default");
        std::fs::write(&file, content.to_string()).unwrap();
        let imported = tidegate(instance)
            .args(["import", "acme.json"])
            .arg(&file)
            .arg("--data-dir")
            .arg(folder.join("data"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&imported.stderr);
        assert!(imported.status.success(), "{said}");
        put("moved", "moved.test");

        let root = ca.pebble.root().unwrap();
        let root = CertificateDer::from_pem_slice(root.as_bytes()).unwrap();
        let client = TlsClient::trusting(root).unwrap();
        let first = Alone::serve(folder, instance, address);
        first.trusted(&client, "alone.test").await;
        first.trusted(&elsewhere.client(), "moved.test").await;
        assert_eq!(ca.pebble.orders(), 1);
        // Killed, and started again: what was issued is there.
        drop(first);
        ca.pebble.kill();
        let second = Alone::serve(folder, instance, address);
        second.trusted(&client, "alone.test").await;
        second.trusted(&elsewhere.client(), "moved.test").await;

        let shown = tidegate(instance)
            .args(["certs", "--socket"])
            .arg(folder.join("probe.sock"))
            .output()
            .unwrap();
        let table = String::from_utf8_lossy(&shown.stdout);
        assert!(shown.status.success(), "{table}");
        assert!(
            table.contains("alone.test") && table.contains("moved.test"),
            "{table}"
        );
        assert_eq!(ca.pebble.orders(), 1);
    });
}
