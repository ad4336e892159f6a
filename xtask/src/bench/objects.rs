//! Manifests of one host with one endpoint.

use anyhow::Result;
use rcgen::{CertificateParams, KeyPair};

/// Certificate and key in PEM.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) certificate: String,
    key: String,
}

impl Pair {
    pub(super) fn new(host: &str, key: &KeyPair) -> Result<Self> {
        let certificate = CertificateParams::new([host.to_owned()])?.self_signed(key)?;
        Ok(Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

/// A host whose requests all go to one port, over TLS if it has a certificate.
pub(super) fn objects(host: &str, port: u16, pair: Option<&Pair>) -> Result<String> {
    let name = host.trim_end_matches(".test");
    let (tls, secret) = match pair {
        None => (String::new(), String::new()),
        Some(Pair { certificate, key }) => (
            format!("  tls:\n    - {{hosts: [{host}], secretName: {name}}}\n"),
            format!(
                "\
---
apiVersion: v1
kind: Secret
metadata: {{name: {name}}}
type: kubernetes.io/tls
stringData: {{tls.crt: {}, tls.key: {}}}
",
                serde_json::to_string(certificate)?,
                serde_json::to_string(key)?
            ),
        ),
    };
    Ok(format!(
        "\
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}}}
spec:
  ingressClassName: tidegate
{tls}  rules:
    - host: {host}
      http:
        paths:
          - path: /
            pathType: Prefix
            backend: {{service: {{name: {name}, port: {{number: 80}}}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  ports: [{{name: http, port: 80, targetPort: {port}}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}
  labels: {{kubernetes.io/service-name: {name}}}
addressType: IPv4
ports: [{{name: http, port: {port}}}]
endpoints:
  - addresses: [127.0.0.1]
{secret}"
    ))
}
