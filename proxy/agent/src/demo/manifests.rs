//! The example manifests: what a user would `kubectl apply`, with endpoints on loopback.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;

use super::backend::Backend;

/// Example backends are Services of these names.
pub(crate) const SHOP: &str = "shop";
pub(crate) const CART: &str = "cart";
pub(crate) const APPS: &str = "apps";

const INGRESS_CLASS: &str = "\
# The class that Tidegate serves: its controller is Tidegate's.
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata:
  name: tidegate
spec:
  controller: tidegate.dev/ingress-controller
";

const INGRESSES: &str = r#"# An exact host with two paths.
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: shop
  namespace: demo
spec:
  ingressClassName: tidegate
  rules:
    - host: shop.localhost
      http:
        paths:
          - path: /
            pathType: Prefix
            backend: { service: { name: shop, port: { name: http } } }
          - path: /cart
            pathType: Prefix
            backend: { service: { name: cart, port: { number: 80 } } }
---
# Every host with one label before .apps.localhost.
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: apps
  namespace: demo
spec:
  ingressClassName: tidegate
  rules:
    - host: "*.apps.localhost"
      http:
        paths:
          - path: /
            pathType: Prefix
            backend: { service: { name: apps, port: { name: http } } }
---
# TLS by a Secret: requests in plain text are sent to HTTPS.
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: secure
  namespace: demo
spec:
  ingressClassName: tidegate
  tls:
    - hosts: [secure.localhost]
      secretName: secure-tls
  rules:
    - host: secure.localhost
      http:
        paths:
          - path: /
            pathType: Prefix
            backend: { service: { name: shop, port: { name: http } } }
---
# A rule whose Service does not exist: its requests get 503, its neighbours serve.
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: broken
  namespace: demo
spec:
  ingressClassName: tidegate
  rules:
    - host: broken.localhost
      http:
        paths:
          - path: /
            pathType: Prefix
            backend: { service: { name: not-there, port: { number: 80 } } }
          - path: /works
            pathType: Exact
            backend: { service: { name: shop, port: { number: 80 } } }
"#;

const DEFAULT_BACKEND: &str = "\
# Answers whatever no rule matches.
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: everything-else
  namespace: demo
spec:
  ingressClassName: tidegate
  defaultBackend:
    service: { name: apps, port: { number: 80 } }
";

/// The folder with the example manifests. A temporary one is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    certificate: CertificateDer<'static>,
    _temporary: Option<tempfile::TempDir>,
}

impl Folder {
    /// Writes the example manifests to a folder, made if need be, or to a temporary one.
    pub(crate) fn write(dir: Option<&Path>, backends: &[Backend]) -> anyhow::Result<Self> {
        let temporary = match dir {
            Some(dir) => {
                std::fs::create_dir_all(dir)
                    .with_context(|| format!("cannot make the folder {}", dir.display()))?;
                None
            }
            None => Some(
                tempfile::Builder::new()
                    .prefix("tidegate-demo-")
                    .tempdir()
                    .context("cannot make a temporary folder; name one with --dir")?,
            ),
        };
        let path = match (dir, &temporary) {
            (Some(dir), _) => dir.to_owned(),
            (None, Some(temporary)) => temporary.path().to_owned(),
            (None, None) => std::env::temp_dir(),
        };
        let (secret, certificate) = tls_secret("secure-tls", "secure.localhost")?;
        let folder = Self {
            path,
            certificate,
            _temporary: temporary,
        };
        folder.put("ingress-class.yaml", INGRESS_CLASS)?;
        folder.put("backends.yaml", &services(backends))?;
        folder.put("ingresses.yaml", INGRESSES)?;
        folder.put("secure-tls.yaml", &secret)?;
        Ok(folder)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The certificate of the TLS host.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Adds the Ingress that answers what nothing else does.
    pub(crate) fn add_default_backend(&self) -> anyhow::Result<()> {
        self.put("everything-else.yaml", DEFAULT_BACKEND)
    }

    /// Sends the paths of the cart to the shop, as an edit of the file would.
    pub(crate) fn send_cart_to_shop(&self) -> anyhow::Result<()> {
        let edited = INGRESSES.replace(
            "name: cart, port: { number: 80 }",
            "name: shop, port: { number: 80 }",
        );
        self.put("ingresses.yaml", &edited)
    }

    /// Writes a file whole: it is renamed into place, so that nobody reads half of it.
    fn put(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.path.join(name);
        let put = || {
            let mut file = tempfile::Builder::new()
                .prefix(".tidegate-")
                .tempfile_in(&self.path)?;
            std::io::Write::write_all(&mut file, text.as_bytes())?;
            file.persist(&path)?;
            Ok::<_, std::io::Error>(())
        };
        put().with_context(|| format!("cannot write {}", path.display()))
    }
}

/// A Service and its EndpointSlice for every backend.
fn services(backends: &[Backend]) -> String {
    let mut text = "# The example backends: addresses are those of the running demo.\n".to_owned();
    for backend in backends {
        service(&mut text, backend.name(), backend.address());
    }
    text
}

fn service(text: &mut String, name: &str, address: SocketAddr) {
    let (ip, port) = (address.ip(), address.port());
    // Writing to a String does not fail.
    _ = write!(
        text,
        "---
apiVersion: v1
kind: Service
metadata:
  name: {name}
  namespace: demo
spec:
  ports:
    - name: http
      port: 80
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}-1
  namespace: demo
  labels:
    kubernetes.io/service-name: {name}
addressType: IPv4
ports:
  - name: http
    port: {port}
endpoints:
  - addresses: [\"{ip}\"]
"
    );
}

/// A Secret with a fresh self-signed certificate for a host, and the certificate.
fn tls_secret(name: &str, host: &str) -> anyhow::Result<(String, CertificateDer<'static>)> {
    let key = KeyPair::generate().context("cannot make a key")?;
    let mut subject = CertificateParams::new([host.to_owned()]).context("certificate")?;
    subject.distinguished_name = rcgen::DistinguishedName::new();
    subject
        .distinguished_name
        .push(rcgen::DnType::CommonName, "Tidegate demo");
    let certificate = subject
        .self_signed(&key)
        .context("cannot make a certificate")?;
    let secret = format!(
        "# Self-signed, made by the demo.
apiVersion: v1
kind: Secret
metadata:
  name: {name}
  namespace: demo
type: kubernetes.io/tls
stringData:
  tls.crt: |
{}  tls.key: |
{}",
        indented(&certificate.pem()),
        indented(&key.serialize_pem()),
    );
    Ok((secret, certificate.der().clone()))
}

fn indented(pem: &str) -> String {
    pem.lines().fold(String::new(), |mut text, line| {
        // Writing to a String does not fail.
        _ = writeln!(text, "    {}", line.trim_end());
        text
    })
}
