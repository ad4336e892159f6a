//! The manifests: a file for each host, with its Ingress, Service, EndpointSlice and, over TLS, its Secret.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Routes of a host, and of its Ingress.
pub(super) const PATHS: usize = 10;

/// How much there is to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) hosts: usize,
    /// Whether each host has a certificate of its own.
    pub(super) certificates: Certificates,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Certificates {
    None,
    ForEach,
}

impl Size {
    pub(super) fn routes(self) -> usize {
        self.hosts * PATHS
    }

    pub(super) fn certificates(self) -> usize {
        match self.certificates {
            Certificates::None => 0,
            Certificates::ForEach => self.hosts,
        }
    }

    /// Writes all of it into a folder.
    pub(super) fn write(self, folder: &Path, cache: &Path) -> Result<()> {
        for number in 0..self.hosts {
            self.put(folder, cache, number, None)?;
        }
        Ok(())
    }

    /// Writes one host's file, by a rename as most editors do; with one more path if there is a round.
    pub(super) fn put(
        self,
        folder: &Path,
        cache: &Path,
        number: usize,
        round: Option<usize>,
    ) -> Result<()> {
        let mut text = objects(number, self.certificates, round);
        if self.certificates == Certificates::ForEach {
            let (certificate, key) = certificate(cache, number)?;
            text.push_str(&secret(number, &certificate, &key)?);
        }
        let unseen = folder.join(".writing");
        let path = folder.join(format!("app-{number:05}.yaml"));
        fs::write(&unseen, text)
            .and_then(|()| fs::rename(&unseen, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

pub(super) fn host(number: usize) -> String {
    format!("app-{number:05}.scale.example.com")
}

/// The path that a round adds.
pub(super) fn path(round: usize) -> String {
    format!("/round-{round}")
}

fn objects(number: usize, certificates: Certificates, round: Option<usize>) -> String {
    let name = format!("app-{number:05}");
    let host = host(number);
    let tls = match certificates {
        Certificates::None => String::new(),
        Certificates::ForEach => format!("  tls:\n    - {{hosts: [{host}], secretName: {name}}}\n"),
    };
    let mut text = format!(
        "\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}}}
spec:
  ingressClassName: tidegate
{tls}  rules:
    - host: {host}
      http:
        paths:
"
    );
    let usual = (0..PATHS).map(|path| format!("/api/v1/part-{path}"));
    for path in usual.chain(round.map(path)) {
        // Writing to a String cannot fail.
        _ = writeln!(
            text,
            "          - {{path: {path}, pathType: Prefix, backend: {{service: {{name: {name}, port: {{number: 80}}}}}}}}"
        );
    }
    text + &format!(
        "\
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  ports: [{{name: http, port: 80}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}
  labels: {{kubernetes.io/service-name: {name}}}
addressType: IPv4
ports: [{{name: http, port: 9}}]
endpoints:
  - addresses: [127.0.0.1]
"
    )
}

fn secret(number: usize, certificate: &str, key: &str) -> Result<String> {
    let (certificate, key) = (
        serde_json::to_string(certificate)?,
        serde_json::to_string(key)?,
    );
    Ok(format!(
        "\
---
apiVersion: v1
kind: Secret
metadata: {{name: app-{number:05}}}
type: kubernetes.io/tls
stringData: {{tls.crt: {certificate}, tls.key: {key}}}
"
    ))
}

/// The folder that keeps certificates from one run to the next.
pub(super) fn cache() -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| crate::root().join("target"), PathBuf::from);
    let folder = target.join("bench-certificates");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// A host's certificate and key (ECDSA P-256), made at the first time.
fn certificate(cache: &Path, number: usize) -> Result<(String, String)> {
    const END: &str = "-----END CERTIFICATE-----\n";
    let path = cache.join(format!("{number:05}.pem"));
    let kept = fs::read_to_string(&path).unwrap_or_default();
    // A file that was not written to its end is made anew.
    if let Some(at) = kept.find(END).filter(|_| kept.ends_with("KEY-----\n")) {
        let (certificate, key) = kept.split_at(at + END.len());
        return Ok((certificate.to_owned(), key.to_owned()));
    }
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new([host(number)])?.self_signed(&key)?;
    let pair = (
        certificate.pem().replace("\r\n", "\n"),
        key.serialize_pem().replace("\r\n", "\n"),
    );
    fs::write(&path, format!("{}{}", pair.0, pair.1))?;
    Ok(pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let first = certificate(folder.path(), 7).unwrap();
        assert!(first.0.starts_with("-----BEGIN CERTIFICATE-----\n"));
        assert!(first.1.starts_with("-----BEGIN PRIVATE KEY-----\n"));
        assert_eq!(certificate(folder.path(), 7).unwrap(), first);
        let path = folder.path().join("00007.pem");
        let cut = fs::read_to_string(&path).unwrap();
        fs::write(&path, &cut[..cut.len() / 2]).unwrap();
        assert_ne!(certificate(folder.path(), 7).unwrap(), first);
    }

    #[test]
    fn a_round_adds_a_path() {
        let before = objects(3, Certificates::None, None);
        let after = objects(3, Certificates::None, Some(4));
        assert!(!before.contains("/round-4") && after.contains("{path: /round-4, "));
        assert_eq!(after.lines().count(), before.lines().count() + 1);
    }
}
