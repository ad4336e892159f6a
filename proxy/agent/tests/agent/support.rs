//! Instances as child processes, and manifests for them.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidegate::demo::client;
use tidegate::settings::InstanceName;

/// Longest wait for anything that is expected to happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The variable with the name of an instance.
const INSTANCE: &str = "TIDEGATE_INSTANCE";

/// The program, without the environment's settings and with an instance name of its own.
pub(crate) fn tidegate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEGATE_") {
            command.env_remove(name);
        }
    }
    command.env(INSTANCE, InstanceName::unique("test").as_str());
    command
}

/// Whether a command is told which instance it is.
fn is_named(command: &Command) -> bool {
    command
        .get_envs()
        .any(|(name, value)| name == INSTANCE && value.is_some())
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    tidegate().args(arguments).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A running instance; killed when dropped.
pub(crate) struct Instance {
    child: Child,
    log: Arc<Mutex<String>>,
    /// Of the instance.
    name: Option<OsString>,
    pub(crate) http: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Instance {
    /// Serves a folder by HTTP and waits until it is ready.
    pub(crate) async fn serve(manifests: &Path, more: &[&str]) -> Self {
        let (http, admin) = (free_port(), free_port());
        let mut command = tidegate();
        command
            .arg("serve")
            .arg("--manifests")
            .arg(manifests)
            .args(["--http", &format!("127.0.0.1:{http}")])
            .args(["--admin", &format!("127.0.0.1:{admin}")])
            .args(["--https", "off", "--workers", "2"])
            .args(more);
        let instance = Self::start(command, http, admin);
        instance.ready().await;
        instance
    }

    /// Starts a command that is to listen on these ports.
    pub(crate) fn start(mut command: Command, http: u16, admin: u16) -> Self {
        if !is_named(&command) {
            command.env(INSTANCE, InstanceName::unique("test").as_str());
        }
        let mut variables = command.get_envs();
        let name = variables.find_map(|(name, value)| (name == INSTANCE).then_some(value)?);
        let name = name.map(OsString::from);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (lines, to) = (BufReader::new(child.stderr.take().unwrap()), log.clone());
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let mut log = to.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self {
            child,
            log,
            name,
            http: ([127, 0, 0, 1], http).into(),
            admin: ([127, 0, 0, 1], admin).into(),
        }
    }

    /// Waits until it says that it is ready.
    pub(crate) async fn ready(&self) {
        let is_ready = async || {
            let page = client::get(self.admin, "localhost", "/readyz").await;
            page.is_ok_and(|page| page.status() == 200)
        };
        self.eventually("it is ready", is_ready).await;
    }

    /// Waits for a condition; shows the log when it does not come.
    pub(crate) async fn eventually(&self, what: &str, condition: impl AsyncFn() -> bool) {
        let start = Instant::now();
        while !condition().await {
            assert!(
                start.elapsed() < DEADLINE,
                "not so in time: {what}\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status();
        assert!(status.unwrap().success());
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < DEADLINE, "it runs on\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
        if let Some(name) = &self.name {
            // Maps that it had no time to unpin.
            _ = std::fs::remove_dir_all(Path::new("/sys/fs/bpf/tidegate").join(name));
        }
    }
}

/// A temporary folder of manifests.
pub(crate) struct Manifests {
    folder: tempfile::TempDir,
}

impl Manifests {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let class = "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: tidegate}\nspec: {controller: tidegate.dev/ingress-controller}\n";
        let manifests = Self { folder };
        manifests.put("class.yaml", class);
        manifests
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file and renames it into place.
    pub(crate) fn put(&self, name: &str, text: &str) {
        let draft = self.path().join(format!(".{name}"));
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(draft, self.path().join(name)).unwrap();
    }

    /// Writes another settings file beside nothing that is followed, and returns its path.
    pub(crate) fn hidden(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(format!(".{name}"));
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// An Ingress of class `tidegate` for a host, whose paths `/` go to a Service.
pub(crate) fn ingress(name: &str, host: &str, service: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}}}
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

/// A Service with one endpoint.
pub(crate) fn service(name: &str, endpoint: SocketAddr) -> String {
    let (ip, port) = (endpoint.ip(), endpoint.port());
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
endpoints: [{{addresses: [\"{ip}\"]}}]
"
    )
}
