//! etcd, kube-apiserver and kube-controller-manager: started, killed, paused, one by one.

use std::fmt;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tidegate_testbed_inside::MARK;
use tokio::runtime::Handle;

use crate::access::{self, ISSUER, Identity};
use crate::certificates::{Certificates, Pair};
use crate::programs::Programs;
use crate::{audit, last_lines, wait};

/// How long a part may take to be ready.
const START: Duration = Duration::from_secs(60);
/// Where Services get their addresses from. Nothing leads there: there is no kube-proxy.
const SERVICES: &str = "10.96.0.0/16";
/// What of kube-controller-manager runs. No node is ever found dead: nodes send no heartbeats.
const CONTROLLERS: &str = "daemonset-controller,deployment-controller,endpointslice-controller,\
endpointslice-mirroring-controller,garbage-collector-controller,namespace-controller,replicaset-controller,\
root-ca-certificate-publisher-controller,serviceaccount-controller";

/// A program of the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Where the API server keeps everything.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager: EndpointSlices, Deployments, DaemonSets, namespaces, service accounts, garbage.
    ControllerManager,
}

impl Part {
    /// All of them, in the order in which they start.
    pub const ALL: [Self; 3] = [Self::Etcd, Self::ApiServer, Self::ControllerManager];

    /// The name of its program.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Etcd => 2379,
            Self::ApiServer => 6443,
            Self::ControllerManager => 10257,
        }
    }
}

/// The control plane of a testbed.
pub struct ControlPlane {
    testbed: String,
    folder: PathBuf,
    address: Ipv4Addr,
    programs: Programs,
    pub(crate) certificates: Certificates,
    running: Mutex<[Option<Child>; 3]>,
    /// Asks whether the API server is ready.
    runtime: Handle,
}

impl fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut plane = f.debug_struct("ControlPlane");
        plane
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl ControlPlane {
    /// Writes what the programs need and starts nothing yet. They listen on this address only.
    pub(crate) fn new(
        testbed: String,
        folder: PathBuf,
        address: Ipv4Addr,
        programs: Programs,
        runtime: Handle,
    ) -> Result<Self> {
        let certificates = Certificates::make(folder.join("certificates"), address)?;
        let plane = Self {
            testbed,
            address,
            programs,
            certificates,
            running: Mutex::default(),
            runtime,
            folder,
        };
        std::fs::write(plane.folder.join("audit-policy.yaml"), audit::POLICY)?;
        for (file, user) in [
            ("kubeconfig", "admin"),
            ("kubelet.kubeconfig", "kubelet"),
            ("controller-manager.kubeconfig", "controller-manager"),
        ] {
            let path = plane.folder.join(file);
            plane.write_kubeconfig(&path, &Identity::Certificate(user), "default")?;
        }
        Ok(plane)
    }

    /// Starts everything that does not run.
    pub(crate) fn start_all(&self) -> Result<()> {
        for part in Part::ALL {
            self.spawn(part)?;
        }
        Part::ALL.into_iter().try_for_each(|part| self.wait(part))
    }

    /// Writes a kubeconfig for this API server.
    pub(crate) fn write_kubeconfig(
        &self,
        path: &Path,
        identity: &Identity<'_>,
        namespace: &str,
    ) -> Result<()> {
        let server = format!("https://{}", self.endpoint());
        access::write_kubeconfig(path, &server, &self.certificates, identity, namespace)
    }

    /// Where the API server listens.
    pub fn endpoint(&self) -> SocketAddr {
        (self.address, Part::ApiServer.port()).into()
    }

    /// The log of a part; all its lives write to the same one.
    pub fn log(&self, part: Part) -> PathBuf {
        self.folder.join(format!("{}.log", part.name()))
    }

    /// The process of a part, while it runs.
    pub fn process(&self, part: Part) -> Option<u32> {
        let mut running = self.lock();
        let child = slot(&mut running, part).as_mut()?;
        matches!(child.try_wait(), Ok(None)).then(|| child.id())
    }

    /// Starts a part and waits until it is ready. One that runs is left alone.
    ///
    /// # Errors
    /// When it ends or does not get ready; the message shows what it said last.
    pub fn start(&self, part: Part) -> Result<()> {
        self.spawn(part)?;
        self.wait(part)
    }

    /// Ends a part at once (SIGKILL).
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self, part: Part) -> Result<()> {
        let child = slot(&mut self.lock(), part).take();
        let mut child = child.with_context(|| format!("{} does not run", part.name()))?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Stops a part where it is (SIGSTOP): its connections stay open and nothing answers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self, part: Part) -> Result<()> {
        self.signal(part, Signal::STOP)
    }

    /// Lets a paused part go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self, part: Part) -> Result<()> {
        self.signal(part, Signal::CONT)
    }

    fn signal(&self, part: Part, signal: Signal) -> Result<()> {
        let process = self
            .process(part)
            .and_then(|process| i32::try_from(process).ok());
        match process.and_then(Pid::from_raw) {
            Some(process) => Ok(kill_process(process, signal)?),
            None => bail!("{} does not run", part.name()),
        }
    }

    fn spawn(&self, part: Part) -> Result<()> {
        let mut running = self.lock();
        let slot = slot(&mut running, part);
        if let Some(child) = slot
            && child.try_wait()?.is_none()
        {
            return Ok(());
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log(part))?;
        let mut command = match part {
            Part::Etcd => self.etcd(),
            Part::ApiServer => self.apiserver(),
            Part::ControllerManager => self.controller_manager(),
        };
        command
            .env(MARK, &self.testbed)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command.spawn();
        *slot = Some(child.with_context(|| format!("cannot start {}", part.name()))?);
        Ok(())
    }

    fn wait(&self, part: Part) -> Result<()> {
        let kubeconfig = self.folder.join("kubeconfig");
        let client = async move { access::client(&kubeconfig).await };
        let client = wait(&self.runtime, client)??;
        let deadline = Instant::now() + START;
        while !self.is_ready(part, &client) {
            let ended = self.ended(part)?;
            if ended.is_some() || Instant::now() > deadline {
                let what = ended.map_or_else(
                    || format!("is not ready after {} s", START.as_secs()),
                    |status| format!("ended with {status}"),
                );
                let said = last_lines(&self.log(part), 15);
                bail!("{} {what}; it said last:\n{said}", part.name());
            }
            sleep(Duration::from_millis(25));
        }
        Ok(())
    }

    fn ended(&self, part: Part) -> Result<Option<ExitStatus>> {
        match slot(&mut self.lock(), part) {
            Some(child) => Ok(child.try_wait()?),
            None => Ok(None),
        }
    }

    fn is_ready(&self, part: Part, client: &kube::Client) -> bool {
        let address = (self.address, part.port()).into();
        if TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            return false;
        }
        part != Part::ApiServer || self.apiserver_is_ready(client)
    }

    fn apiserver_is_ready(&self, client: &kube::Client) -> bool {
        let Ok(request) = http::Request::get("/readyz").body(Vec::new()) else {
            return false;
        };
        let client = client.clone();
        let asked = async move {
            let answer = client.request_text(request);
            tokio::time::timeout(Duration::from_secs(2), answer).await
        };
        matches!(wait(&self.runtime, asked), Ok(Ok(Ok(_))))
    }

    /// kubectl as admin.
    pub(crate) fn kubectl(&self) -> Command {
        let mut kubectl = Command::new(&self.programs.kubectl);
        kubectl.env("KUBECONFIG", self.folder.join("kubeconfig"));
        // Where it keeps what it knows of an API server.
        kubectl.env("KUBECACHEDIR", self.folder.join("kubectl"));
        kubectl
    }

    /// What is in it survives its process, not the machine: it never waits for the disk.
    fn etcd(&self) -> Command {
        let Self { address, .. } = self;
        let (Pair { certificate, key }, authority) = (
            self.certificates.pair("etcd"),
            self.certificates.authority(),
        );
        let mut etcd = Command::new(&self.programs.etcd);
        etcd.args(["--unsafe-no-fsync", "--name=testbed", "--logger=zap"])
            // It is alone: there is no other one to wait for.
            .args(["--heartbeat-interval=10", "--election-timeout=100"])
            .arg(format!("--listen-client-urls=https://{address}:2379"))
            .arg(format!("--advertise-client-urls=https://{address}:2379"))
            .arg(format!("--listen-peer-urls=https://{address}:2380"))
            .arg(format!(
                "--initial-advertise-peer-urls=https://{address}:2380"
            ))
            .arg(format!("--initial-cluster=testbed=https://{address}:2380"))
            .arg(flag("data-dir", &self.folder.join("etcd")));
        for prefix in ["", "peer-"] {
            etcd.arg(flag(&format!("{prefix}cert-file"), &certificate))
                .arg(flag(&format!("{prefix}key-file"), &key))
                .arg(flag(&format!("{prefix}trusted-ca-file"), &authority))
                .arg(format!("--{prefix}client-cert-auth"));
        }
        etcd
    }

    fn apiserver(&self) -> Command {
        let Self { address, .. } = self;
        let certificates = &self.certificates;
        let (own, authority) = (certificates.pair("apiserver"), certificates.authority());
        let mut server = Command::new(&self.programs.apiserver);
        server
            .arg(format!("--etcd-servers=https://{address}:2379"))
            .arg(flag("etcd-cafile", &authority))
            .arg(flag("etcd-certfile", &own.certificate))
            .arg(flag("etcd-keyfile", &own.key))
            .arg(format!("--bind-address={address}"))
            .arg(format!("--advertise-address={address}"))
            .arg(format!("--secure-port={}", Part::ApiServer.port()))
            .arg(flag("tls-cert-file", &own.certificate))
            .arg(flag("tls-private-key-file", &own.key))
            .arg(flag("client-ca-file", &authority))
            .arg("--authorization-mode=RBAC")
            .arg("--allow-privileged=true")
            // Nodes would be made with a taint that only a controller takes away which does not run.
            .arg("--disable-admission-plugins=TaintNodesByCondition")
            .arg(format!("--service-cluster-ip-range={SERVICES}"))
            .arg(format!("--service-account-issuer={ISSUER}"))
            .arg(flag(
                "service-account-key-file",
                &certificates.token_public_key(),
            ))
            .arg(flag(
                "service-account-signing-key-file",
                &certificates.token_key(),
            ))
            // A token ends when it says so.
            .arg("--service-account-extend-token-expiration=false")
            .arg(flag(
                "audit-policy-file",
                &self.folder.join("audit-policy.yaml"),
            ))
            .arg(flag("audit-log-path", &self.audit_log()))
            // It is read as one file.
            .arg("--audit-log-maxsize=100000");
        server
    }

    fn controller_manager(&self) -> Command {
        let certificates = &self.certificates;
        let own = certificates.pair("controller-manager");
        let mut controllers = Command::new(&self.programs.controller_manager);
        controllers
            .arg(flag(
                "kubeconfig",
                &self.folder.join("controller-manager.kubeconfig"),
            ))
            .arg(format!("--controllers={CONTROLLERS}"))
            .arg("--leader-elect=false")
            .arg(format!("--bind-address={}", self.address))
            .arg(format!("--secure-port={}", Part::ControllerManager.port()))
            .arg(flag("tls-cert-file", &own.certificate))
            .arg(flag("tls-private-key-file", &own.key))
            .arg(flag("root-ca-file", &certificates.authority()))
            .arg(flag(
                "service-account-private-key-file",
                &certificates.token_key(),
            ))
            .args(["--kube-api-qps=1000", "--kube-api-burst=2000"]);
        controllers
    }

    pub(crate) fn audit_log(&self) -> PathBuf {
        self.folder.join("audit.log")
    }

    fn lock(&self) -> MutexGuard<'_, [Option<Child>; 3]> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn slot(running: &mut [Option<Child>; 3], part: Part) -> &mut Option<Child> {
    let [etcd, apiserver, controller_manager] = running;
    match part {
        Part::Etcd => etcd,
        Part::ApiServer => apiserver,
        Part::ControllerManager => controller_manager,
    }
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}
