//! Something to serve: backends, manifests and a certificate, and processes that serve them.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, io};

use rustls::pki_types::CertificateDer;
use tidegate::demo::backend::Backend;
use tidegate::demo::client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::client::{Target, TlsTarget};
use super::metrics::ADMIN;
use super::process::{DEADLINE, Process, command, program};

/// The host that is served in plain text.
pub(crate) const WEB: &str = "web.example.com";
/// The host that is served by TLS.
pub(crate) const SECURE: &str = "secure.example.com";
/// The host that talks by WebSocket.
pub(crate) const LIVE: &str = "live.example.com";
/// What the name of the instance stands for.
pub(crate) const INSTANCE: &str = "kernel-test";
/// Where its maps are pinned.
pub(crate) const PINS: &str = "/sys/fs/bpf/tidegate/kernel-test";

/// Documents in the manifests that take a while to read.
const MANY: usize = 60_000;

/// Backends and manifests of one test.
pub(crate) struct Site {
    folder: tempfile::TempDir,
    certificate: CertificateDer<'static>,
    _quick: Quick,
    _live: Backend,
}

impl Site {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Processes of other users read it, too.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let quick = Quick::start().await.unwrap();
        let live = Backend::start("live").await.unwrap();
        let made = rcgen::generate_simple_self_signed([SECURE.to_owned()]).unwrap();
        let site = Self {
            folder,
            certificate: made.cert.der().clone(),
            _live: live,
            _quick: quick,
        };
        let manifests = site.manifests();
        fs::create_dir(&manifests).unwrap();
        let ports = [site._quick.port, site._live.address().port()];
        let text = manifests_text(ports, &made.cert.pem(), &made.signing_key.serialize_pem());
        fs::write(manifests.join("site.yaml"), text).unwrap();
        site
    }

    fn manifests(&self) -> PathBuf {
        self.folder.path().join("manifests")
    }

    /// A path in a folder that every user can read.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The site on a plain port of loopback.
    pub(crate) fn plain(port: u16) -> Target {
        Target::plain(([127, 0, 0, 1], port).into(), WEB)
    }

    /// The site on a TLS port of loopback.
    pub(crate) fn secure(&self, port: u16) -> Target {
        self.secure_at(([127, 0, 0, 1], port).into())
    }

    pub(crate) fn secure_at(&self, address: std::net::SocketAddr) -> Target {
        Target::Tls(TlsTarget::new(address, SECURE, &self.certificate))
    }

    /// `tidegate serve` on ports 80 and 443 with two workers, unless `more` says otherwise.
    pub(crate) fn serve(&self, more: &[&str]) -> Command {
        let mut serve = command(program());
        serve.args(self.arguments(more));
        serve
    }

    /// What `tidegate` is given to serve the site.
    pub(crate) fn arguments(&self, more: &[&str]) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["serve".into(), "--manifests".into()];
        arguments.push(self.manifests().into());
        arguments.extend(["--instance", INSTANCE].map(Into::into));
        arguments.extend(more.iter().map(Into::into));
        for default in [["--workers", "2"], ["--after-hand-over", "exit"]] {
            if !more.contains(&default[0]) {
                arguments.extend(default.map(Into::into));
            }
        }
        arguments
    }

    /// Starts the first process and waits until it is ready.
    pub(crate) async fn start(&self, more: &[&str]) -> Process {
        let mut process = Process::start("the first process", self.serve(more));
        ready(&mut process).await;
        process
    }

    /// Starts a process beside those that run and waits until it has taken over.
    pub(crate) async fn take_over(&self, name: &str, more: &[&str]) -> Process {
        let mut process = Process::start(name, self.serve(more));
        process.logs("hand-over: in force").await;
        process
    }

    /// Manifests that take much longer to read than others. Make them before there is a load: that takes a while, too.
    pub(crate) fn slow_manifests(&self) -> PathBuf {
        let folder = self.path("slow");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("many.yaml"), many_documents()).unwrap();
        folder
    }

    /// Starts a process that has found the owner, and that has a while to go until it takes over.
    pub(crate) async fn prepare(&self, slow_manifests: &Path, more: &[&str]) -> Process {
        let mut serve = self.serve(more);
        serve.arg("--manifests").arg(slow_manifests);
        let mut process = Process::start("a process that prepares", serve);
        process.logs("hand-over: takes over from").await;
        process
    }
}

/// Waits until a process says that it is ready.
pub(crate) async fn ready(process: &mut Process) {
    let start = Instant::now();
    loop {
        let page = client::get(ADMIN, "localhost", "/readyz").await;
        if page.is_ok_and(|page| page.status() == 200) {
            return;
        }
        let goes_on = process.is_running() && start.elapsed() < DEADLINE;
        assert!(goes_on, "it is not ready\n{}", process.log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Everything below a folder of pinned maps; empty when there is no such folder.
pub(crate) fn pins(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => pins(&path),
            false => vec![path],
        })
        .collect()
}

/// Fails unless nothing is pinned.
pub(crate) fn assert_no_pins() {
    let left = pins(Path::new(PINS));
    assert!(left.is_empty() && !Path::new(PINS).exists(), "{left:?}");
}

fn many_documents() -> String {
    let document =
        |number| format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: many-{number}}}\n");
    (0..MANY).map(document).collect()
}

fn manifests_text([quick, live]: [u16; 2], certificate: &str, key: &str) -> String {
    let indented =
        |pem: &str| -> String { pem.lines().map(|line| format!("    {line}\n")).collect() };
    format!(
        "apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {{name: tidegate}}
spec: {{controller: tidegate.dev/ingress-controller}}
---
{}---
{}---
{}  tls: [{{hosts: [{SECURE}], secretName: secure}}]
---
apiVersion: v1
kind: Secret
metadata: {{name: secure}}
type: kubernetes.io/tls
stringData:
  tls.crt: |
{}  tls.key: |
{}---
{}---
{}",
        ingress(WEB, "quick"),
        ingress(LIVE, "live"),
        ingress(SECURE, "quick"),
        indented(certificate),
        indented(key),
        service("quick", quick),
        service("live", live),
    )
}

fn ingress(host: &str, service: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {host}}}
spec:
  ingressClassName: tidegate
  rules:
    - host: {host}
      http:
        paths:
          - {{path: /, pathType: Prefix, backend: {{service: {{name: {service}, port: {{number: 80}}}}}}}}
"
    )
}

fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{ports: [{{name: http, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: http, port: {port}}}]
endpoints: [{{addresses: [127.0.0.1]}}]
"
    )
}

/// A backend that costs next to nothing: two letters for every request.
struct Quick {
    port: u16,
    accepting: JoinHandle<()>,
}

impl Quick {
    async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let accepting = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    // A client that goes away is its own business.
                    Ok((stream, _)) => drop(tokio::spawn(answer_all(stream))),
                    Err(error) => println!("backend: {error}"),
                }
            }
        });
        Ok(Self { port, accepting })
    }
}

impl Drop for Quick {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn answer_all(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = Vec::new();
    while stream.read_buf(&mut request).await? > 0 {
        // Requests have no bodies, and come one after the other.
        if request.ends_with(b"\r\n\r\n") {
            request.clear();
            let response = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(response).await?;
        }
    }
    Ok(())
}
