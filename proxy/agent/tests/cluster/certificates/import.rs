//! Files of Traefik are brought along: served without any order.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use tidegate::demo::client::TlsClient;

use super::{EVERY_INGRESS, ingress, with_ca};
use crate::support::bed::{Bed, SYSTEM};
use crate::support::ca::Ca;

/// A CA that issued what is imported.
pub(super) struct Elsewhere {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

impl Elsewhere {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap().der().clone();
        Self {
            issuer: Issuer::new(params, key),
            root,
        }
    }

    pub(super) fn client(&self) -> TlsClient {
        TlsClient::trusting(self.root.clone()).unwrap()
    }

    /// Chain and key for names, base64 as the files have them.
    pub(super) fn pair(&self, names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let encode = |text: String| BASE64_STANDARD.encode(text);
        (encode(leaf.pem()), encode(key.serialize_pem()))
    }

    /// As Traefik 1 writes it.
    pub(super) fn first(&self, names: &[&str]) -> Value {
        let (certificate, key) = self.pair(names);
        json!({
            "Account": { "Email": "a@b.test", "Registration": null, "PrivateKey": null },
            "Certificates": [{
                "Domain": { "Main": names[0], "SANs": &names[1..] },
                "Certificate": certificate, "Key": key,
            }],
            "HTTPChallenges": {}, "TLSChallenges": {},
        })
    }

    /// As Traefik 2 and 3 write it; the later one names a store.
    pub(super) fn later(&self, names: &[&str], store: &str) -> Value {
        let (certificate, key) = self.pair(names);
        json!({ "le": {
            "Account": { "Email": "a@b.test", "Registration": null, "PrivateKey": null, "KeyType": "4096" },
            "Certificates": [{
                "domain": { "main": names[0], "sans": &names[1..] },
                "certificate": certificate, "key": key, "Store": store,
            }],
        } })
    }
}

#[test]
fn what_traefik_kept_is_served_without_an_order() {
    with_ca(2, "http-01", EVERY_INGRESS, async |bed: Bed, ca: Ca| {
        let elsewhere = Elsewhere::new();
        let folder = tempfile::tempdir().unwrap();
        let files = [
            (
                "one",
                elsewhere.first(&["one.old.test", "www.one.old.test"]),
            ),
            ("two", elsewhere.later(&["two.old.test"], "default")),
            ("three", elsewhere.later(&["three.old.test"], "")),
        ];
        for (name, content) in files {
            let file = folder.path().join(format!("{name}.json"));
            std::fs::write(&file, content.to_string()).unwrap();
            let output = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"))
                .args(["import", "acme.json"])
                .arg(&file)
                .arg("--kubeconfig")
                .arg(bed.testbed.kubeconfig())
                .args(["--namespace", SYSTEM, "--instance", "tidegate"])
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name}: {said}");
        }
        let client = elsewhere.client();
        for (name, hosts) in [
            ("one", vec!["one.old.test", "www.one.old.test"]),
            ("two", vec!["two.old.test"]),
            ("three", vec!["three.old.test"]),
        ] {
            bed.create(&ingress(name, &hosts, &format!("{name}-tls")))
                .await;
            for host in hosts {
                bed.trusted_everywhere(&client, host).await;
            }
            crate::support::eventually("it is in the Secret that the Ingress names", async || {
                bed.secret(&format!("{name}-tls")).await.is_some()
            })
            .await;
        }
        assert_eq!(ca.pebble.orders(), 0);
    });
}
