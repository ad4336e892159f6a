//! A container as the program inside sees it: mounts, then one process.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// All that is needed to start a container in the namespaces of its node or pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// An empty folder of the host over which the container's root is put together.
    pub root: PathBuf,
    /// Put in place in this order.
    pub mounts: Vec<Mount>,
    /// What may be done to the root itself. Volumes have their own say.
    pub root_access: Access,
    /// The process to become.
    pub process: Process,
}

/// A file or folder of the host that shows at a path of the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// On the host, as the node's mount namespace has it.
    pub source: PathBuf,
    /// In the container; absolute.
    pub target: PathBuf,
    /// What the container may do with it.
    pub access: Access,
    /// What to do when the source does not exist.
    pub missing: Missing,
}

/// What may be done with a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Only reading.
    ReadOnly,
    /// Reading and writing.
    ReadWrite,
}

/// What to do about a source that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Missing {
    /// The container cannot start.
    Fail,
    /// A folder is made.
    MakeFolder,
    /// An empty file is made.
    MakeFile,
}

/// A program with what it is given and allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The program, as a path or a name on `PATH`, and its arguments. Not empty.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// The working directory.
    pub folder: PathBuf,
    /// What root may do.
    pub capabilities: Capabilities,
    /// The user to become; root when none is named.
    pub user: Option<u32>,
    /// The group to become; root when none is named.
    pub group: Option<u32>,
    /// Whether its programs may get more rights than it has.
    pub escalation: Escalation,
}

/// The bounding set of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Capabilities {
    /// Nothing is taken away.
    All,
    /// Just these, named without `CAP_`.
    Only(Vec<String>),
}

/// `securityContext.allowPrivilegeEscalation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Escalation {
    /// As the kernel has it.
    Allowed,
    /// `no_new_privs` is set.
    Denied,
}
