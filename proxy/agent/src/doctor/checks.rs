//! What follows from the facts: what works, what does not, what that costs and what to do.

use serde::Serialize;

use super::facts::{Bpffs, Capability, Facts, Found, Kernel, Unknown};
use crate::ebpf::Probed;

/// The first kernel that moves queued connections to another socket when theirs is closed.
const MIGRATION: (u32, u32) = (5, 14);
/// The first kernel that has CAP_BPF.
const CAP_BPF: (u32, u32) = (5, 8);
/// The lowest port that the default settings listen on.
const LOWEST_PORT: u32 = 80;

const NO_PROGRAM: &str = "no steering: the kernel's hash picks the worker of a connection; at a hand-over connections \
queued at the end of the old process are reset";
const NO_MIGRATION: &str =
    "at a hand-over connections that reach the old process while it closes its sockets are reset";
const NO_PINS: &str = "processes share no maps: at a hand-over connections queued at the end of the old process are reset";
const NO_GUARD: &str = "the guard cannot be used";

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Check {
    /// What it is.
    pub(super) what: &'static str,
    /// How it stands.
    pub(super) state: State,
    /// What was seen.
    pub(super) found: String,
    /// Who needs it.
    pub(super) needed_by: Need,
    /// What cannot be had without it; `None` when it works.
    pub(super) cost: Option<String>,
    /// What to do about it; `None` when it works.
    pub(super) remedy: Option<String>,
}

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Works,
    Missing,
    Unknown,
}

/// Who needs something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Need {
    /// An instance with default settings.
    Defaults,
    /// An instance whose settings have a `guard:` block.
    Guard,
    /// An instance on a kernel that is too old for something better.
    OldKernel,
    /// Nobody: it explains what the others show.
    Nothing,
}

/// Everything, in the order in which it is best put right.
pub(super) fn all(facts: &Facts, probed: &[Probed]) -> Vec<Check> {
    let mut checks = vec![kernel(&facts.kernel)];
    checks.extend(CAPABILITIES.iter().map(|right| right.check(facts)));
    checks.push(bpffs(&facts.bpffs));
    checks.push(unprivileged(&facts.unprivileged_bpf_disabled));
    checks.extend(PROGRAMS.iter().map(|program| program.check(probed)));
    checks
}

impl Check {
    fn works(what: &'static str, needed_by: Need, found: String) -> Self {
        Self {
            what,
            state: State::Works,
            found,
            needed_by,
            cost: None,
            remedy: None,
        }
    }

    fn lacking(self, state: State, cost: &str, remedy: &str) -> Self {
        Self {
            state,
            cost: Some(cost.to_owned()),
            remedy: Some(remedy.to_owned()),
            ..self
        }
    }
}

/// The version explains; whether programs can be loaded is tried.
fn kernel(found: &Found<Kernel>) -> Check {
    let check = |found: &str| Check::works("kernel", Need::Nothing, found.to_owned());
    match found {
        Ok(kernel) if kernel.version >= MIGRATION => check(&kernel.release),
        Ok(kernel) if kernel.version >= CAP_BPF => {
            check(&kernel.release).lacking(State::Missing, NO_MIGRATION, "use kernel 5.14 or newer")
        }
        Ok(kernel) => check(&kernel.release).lacking(
            State::Missing,
            NO_PROGRAM,
            "use kernel 5.14 or newer; before 5.8 there is no CAP_BPF",
        ),
        Err(Unknown(reason)) => check(reason).lacking(
            State::Unknown,
            "none by itself: the programs below tell what works",
            "use a kernel whose release (`uname -r`) begins with its version",
        ),
    }
}

/// A capability and what it is for.
struct Right {
    name: &'static str,
    capability: Capability,
    needed_by: Need,
    cost: &'static str,
    remedy: &'static str,
}

const CAPABILITIES: [Right; 4] = [
    Right {
        name: "CAP_BPF",
        capability: Capability::Bpf,
        needed_by: Need::Defaults,
        cost: NO_PROGRAM,
        remedy: "add BPF to the container's securityContext.capabilities, or AmbientCapabilities=CAP_BPF to the unit",
    },
    Right {
        name: "CAP_NET_ADMIN",
        capability: Capability::NetAdmin,
        needed_by: Need::Defaults,
        cost: NO_PROGRAM,
        remedy: "add NET_ADMIN to the container's securityContext.capabilities, or AmbientCapabilities=CAP_NET_ADMIN to the unit",
    },
    Right {
        name: "CAP_NET_BIND_SERVICE",
        capability: Capability::NetBindService,
        needed_by: Need::Defaults,
        cost: "ports 80 and 443 cannot be listened on",
        remedy: "add NET_BIND_SERVICE to the container's securityContext.capabilities, lower net.ipv4.ip_unprivileged_port_start, \
                 or give higher ports with --http and --https",
    },
    Right {
        name: "CAP_PERFMON",
        capability: Capability::Perfmon,
        needed_by: Need::Guard,
        cost: NO_GUARD,
        remedy: "add PERFMON to the container's securityContext.capabilities; without `guard:` in the settings it is not needed",
    },
];

impl Right {
    fn check(&self, facts: &Facts) -> Check {
        let check = |found: &str| Check::works(self.name, self.needed_by, found.to_owned());
        if self.is_bind()
            && facts
                .first_unprivileged_port
                .as_ref()
                .is_ok_and(|port| *port <= LOWEST_PORT)
        {
            return check("not needed: net.ipv4.ip_unprivileged_port_start allows port 80");
        }
        match &facts.capabilities {
            Ok(held) if held.has(self.capability) => check("effective"),
            // The kernel takes this one for either of them.
            Ok(held) if self.is_for_programs() && held.has(Capability::SysAdmin) => {
                check("by CAP_SYS_ADMIN")
            }
            Ok(_) => check("not effective").lacking(State::Missing, self.cost, self.remedy),
            Err(Unknown(reason)) => check(reason).lacking(State::Unknown, self.cost, self.remedy),
        }
    }

    fn is_bind(&self) -> bool {
        self.capability == Capability::NetBindService
    }

    fn is_for_programs(&self) -> bool {
        matches!(self.capability, Capability::Bpf | Capability::Perfmon)
    }
}

fn bpffs(found: &Bpffs) -> Check {
    let check = Check::works("bpffs", Need::Defaults, found.to_string());
    match found {
        Bpffs::Writable(_) => check,
        Bpffs::NotWritable(..) => check.lacking(
            State::Missing,
            NO_PINS,
            "mount it writable into the container, and `chown` the folder to the user that Tidegate runs as",
        ),
        Bpffs::NotMounted(_) => check.lacking(
            State::Missing,
            NO_PINS,
            "`mount -t bpf bpf /sys/fs/bpf` on the node, and a hostPath volume of it in the container",
        ),
        Bpffs::Unknown(_) => check.lacking(
            State::Unknown,
            NO_PINS,
            "let the user that Tidegate runs as read /sys/fs/bpf",
        ),
    }
}

/// Whatever it is, it stands in nobody's way who has CAP_BPF.
fn unprivileged(found: &Found<u32>) -> Check {
    let check =
        |found: String| Check::works("kernel.unprivileged_bpf_disabled", Need::Nothing, found);
    match found {
        Ok(0) => check("0: Tidegate needs its capabilities all the same".to_owned()),
        Ok(other) => check(format!("{other}: eBPF is for those with CAP_BPF")),
        Err(Unknown(reason)) => check(reason.clone()).lacking(
            State::Unknown,
            "none for those with CAP_BPF",
            "give CAP_BPF; then its value does not matter",
        ),
    }
}

/// A program of the object and what it is for.
struct Program {
    name: &'static str,
    what: &'static str,
    needed_by: Need,
    cost: &'static str,
}

/// The program for kernels without migration.
const FALLBACK: &str = "steer_select";

const PROGRAMS: [Program; 3] = [
    Program {
        name: "steer",
        what: "program steer",
        needed_by: Need::Defaults,
        cost: NO_PROGRAM,
    },
    Program {
        name: FALLBACK,
        what: "program steer_select",
        needed_by: Need::OldKernel,
        cost: "nothing where steer can be loaded, else steering",
    },
    Program {
        name: "guard",
        what: "program guard",
        needed_by: Need::Guard,
        cost: NO_GUARD,
    },
];

impl Program {
    fn check(&self, probed: &[Probed]) -> Check {
        let check = |found: &str| Check::works(self.what, self.needed_by, found.to_owned());
        let cost = match self.name != FALLBACK
            && self.needed_by == Need::Defaults
            && loads(FALLBACK, probed)
        {
            true => NO_MIGRATION,
            false => self.cost,
        };
        match outcome(self.name, probed) {
            Some(Ok(())) => check("can be loaded"),
            Some(Err(reason)) => check(reason.trim()).lacking(
                State::Missing,
                cost,
                "put right what is missing above; when nothing is, the kernel lacks something: use 5.14 or newer",
            ),
            None => check("not tried").lacking(
                State::Unknown,
                cost,
                "use a build of Tidegate that holds the program",
            ),
        }
    }
}

fn loads(program: &str, probed: &[Probed]) -> bool {
    matches!(outcome(program, probed), Some(Ok(())))
}

fn outcome<'a>(program: &str, probed: &'a [Probed]) -> Option<&'a Result<(), String>> {
    let found = probed.iter().find(|probed| probed.program == program);
    found.map(|probed| &probed.outcome)
}

#[cfg(test)]
mod tests;
