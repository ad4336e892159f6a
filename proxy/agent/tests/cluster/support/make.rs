//! Objects as tests apply them.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::networking::v1::Ingress;
use rcgen::{CertificateParams, KeyPair};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The namespace of everything that tests apply.
pub(crate) const NAMESPACE: &str = "default";

fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// Pods that say who they are.
pub(crate) fn deployment(name: &str, replicas: usize) -> Deployment {
    object(json!({
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": {
                    "terminationGracePeriodSeconds": 5,
                    "containers": [{
                        "name": "echo",
                        "image": "ghcr.io/tidegate/echo:0.1.0",
                        "ports": [{ "name": "http", "containerPort": 8080 }],
                        "readinessProbe": {
                            "httpGet": { "path": "/", "port": 8080 },
                            "periodSeconds": 1,
                        },
                    }],
                },
            },
        },
    }))
}

/// The Service of a [`deployment`].
pub(crate) fn service(name: &str, pods: &str) -> Service {
    object(json!({
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": {
            "selector": { "app": pods },
            "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }],
        },
    }))
}

/// All paths of a host to a Service.
pub(crate) fn ingress(name: &str, host: &str, service: &str) -> Ingress {
    object(json!({
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": {
            "ingressClassName": "tidegate",
            "rules": [{
                "host": host,
                "http": { "paths": [{
                    "path": "/",
                    "pathType": "Prefix",
                    "backend": { "service": { "name": service, "port": { "name": "http" } } },
                }] },
            }],
        },
    }))
}

/// The same with TLS by a Secret, and without redirects.
pub(crate) fn tls_ingress(name: &str, host: &str, service: &str, secret: &str) -> Ingress {
    let mut ingress = ingress(name, host, service);
    let spec = ingress.spec.as_mut().unwrap();
    spec.tls = Some(vec![object(
        json!({ "hosts": [host], "secretName": secret }),
    )]);
    ingress
}

/// A certificate with its key.
pub(crate) struct Pair {
    pub(crate) certificate: rustls::pki_types::CertificateDer<'static>,
    certificate_pem: String,
    key_pem: String,
}

impl Pair {
    pub(crate) fn new(host: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([host.to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            certificate: certificate.der().clone(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }

    /// A Secret with both.
    pub(crate) fn secret(&self, name: &str) -> Secret {
        object(json!({
            "metadata": { "name": name, "namespace": NAMESPACE },
            "type": "kubernetes.io/tls",
            "stringData": { "tls.crt": self.certificate_pem, "tls.key": self.key_pem },
        }))
    }
}
