//! Nodes: network, mount and UTS namespaces on one bridge, each kept by a process.

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use tidegate_testbed_inside::{MARK, READY};

use crate::network::Network;

/// Where the BPF file system is, on a node as on any machine.
const BPF: &str = "sys/fs/bpf";

/// A node of the cluster.
#[derive(Debug)]
pub struct Node {
    /// `node-1`, `node-2`, …
    pub name: String,
    /// `InternalIP`: where it is reached, from this machine as from other nodes and pods.
    pub address: Ipv4Addr,
    /// `ExternalIP`: of a range for documentation (RFC 5737). Nothing leads there.
    pub external_address: Ipv4Addr,
    pub(crate) number: u8,
    /// Stands in for the root of the node's disk.
    disk: PathBuf,
    holder: Holder,
}

/// Makes the namespaces that pods and nodes need.
#[derive(Clone, Debug)]
pub(crate) struct Maker {
    pub(crate) network: Network,
    /// The program that runs inside.
    pub(crate) inside: PathBuf,
}

/// A process that keeps namespaces, until this is dropped.
#[derive(Debug)]
pub(crate) struct Holder(Child);

/// Which namespaces a holder gets of its own, beyond network and UTS.
#[derive(Clone, Copy, Debug)]
enum Own<'a> {
    Nothing,
    /// Mounts, among them a BPF file system at this path.
    Mounts {
        bpf: &'a Path,
    },
}

impl Maker {
    /// Makes a node; the first one has number 1.
    pub(crate) fn node(&self, number: u8, folder: &Path) -> Result<Node> {
        let name = format!("node-{number}");
        let disk = folder.join(&name);
        let holder = self.hold(
            &name,
            Own::Mounts {
                bpf: &disk.join(BPF),
            },
        );
        let holder = holder.with_context(|| format!("cannot make the namespaces of {name}"))?;
        let address = self.network.node(number);
        self.network
            .connect(&format!("n{number}"), holder.process(), address)?;
        Ok(Node {
            name,
            address,
            external_address: Ipv4Addr::new(203, 0, 113, number),
            number,
            disk,
            holder,
        })
    }

    /// Makes the network and UTS namespaces of a pod. The port names it, unique within the testbed.
    pub(crate) fn pod(&self, hostname: &str, port: &str, address: Ipv4Addr) -> Result<Holder> {
        let holder = self.hold(hostname, Own::Nothing)?;
        self.network.connect(port, holder.process(), address)?;
        Ok(holder)
    }

    fn hold(&self, hostname: &str, own: Own<'_>) -> Result<Holder> {
        let mut command = Command::new("unshare");
        command.args(["--net", "--uts"]);
        if let Own::Mounts { .. } = own {
            command.args(["--mount", "--propagation", "private"]);
        }
        command
            .arg(&self.inside)
            .args(["hold", "--hostname", hostname]);
        if let Own::Mounts { bpf } = own {
            command.arg("--bpf").arg(bpf);
        }
        let mut child = command
            .env(MARK, &self.network.name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run unshare")?;
        let mut said = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out).read_line(&mut said)?;
        }
        let holder = Holder(child);
        if said.trim() != READY {
            bail!(
                "the process that is to keep the namespaces of {hostname} ended; it said why above"
            );
        }
        Ok(holder)
    }
}

impl Holder {
    /// The process whose namespaces they are.
    pub(crate) fn process(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

impl Node {
    /// A command that runs on the node: in its network, mount and UTS namespaces. Files are this machine's; what
    /// containers see of the node's disk is at [`Node::disk`].
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let process = self.holder.process().to_string();
        let mut command = Command::new("nsenter");
        command.args(["--net", "--mount", "--uts", "--target", &process, "--"]);
        command.arg(program);
        command
    }

    /// A file or folder of the node's disk, given the absolute path that a `hostPath` volume names.
    pub fn disk(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.disk.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The process that keeps its namespaces.
    pub(crate) fn process(&self) -> u32 {
        self.holder.process()
    }
}
