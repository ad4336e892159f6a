//! From a container of the API to a process: program, mounts, rights.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Container, SecurityContext};
use tidegate_testbed_inside::container::{
    Access, Capabilities, Container as Inside, Escalation, Missing, Mount, Process,
};
use tidegate_testbed_inside::{MARK, PROGRAMS};
use tokio::process::{Child, Command};

use super::pod::Site;
use super::volumes::Volumes;
use super::{container, environment};

/// What container runtimes leave to root.
const CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A container that runs.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) child: Child,
    /// What it was started as, for other processes in it.
    pub(super) process: Process,
}

/// What an image is here.
#[derive(Debug)]
struct Image {
    /// What its program is called, and where it is on this machine.
    program: Option<(&'static str, PathBuf)>,
    /// The words that start it.
    entrypoint: Vec<String>,
}

/// Starts a container.
pub(super) async fn start(
    site: &Site,
    volumes: &Volumes,
    container: &Container,
) -> Result<Started> {
    let variables = environment::resolve(site, container).await?;
    let image = Image::of(site, container)?;
    let process = Process {
        argv: image.words(container, &variables)?,
        env: all_variables(site, &variables),
        folder: container
            .working_dir
            .clone()
            .unwrap_or_else(|| "/".to_owned())
            .into(),
        capabilities: capabilities(container.security_context.as_ref()),
        user: id(
            site,
            container,
            |context| context.run_as_user,
            |pod| pod.run_as_user,
        )?,
        group: id(
            site,
            container,
            |context| context.run_as_group,
            |pod| pod.run_as_group,
        )?,
        escalation: escalation(container.security_context.as_ref()),
    };
    let root = site.folder.join("roots").join(&container.name);
    fs::create_dir_all(&root)?;
    let inside = Inside {
        root,
        mounts: mounts(site, volumes, container, &image, &variables_of(&process))?,
        root_access: root_access(container.security_context.as_ref()),
        process,
    };
    let description = site.folder.join(format!("{}.json", container.name));
    fs::write(&description, serde_json::to_string(&inside)?)?;
    let child = spawn(site, container, &description)?;
    Ok(Started {
        child,
        process: inside.process,
    })
}

fn spawn(site: &Site, container: &Container, description: &Path) -> Result<Child> {
    let log = container::log(site, &container.name);
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder)?;
    }
    let log = File::options().create(true).append(true).open(log)?;
    let (node, network) = (site.node.process(), site.network_process());
    let maker = &site.kubelet.maker;
    // Each of these becomes the next one, so the process that is started is the container in the end.
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--mount=/proc/{node}/ns/mnt"))
        .arg(format!("--net=/proc/{network}/ns/net"))
        .arg(format!("--uts=/proc/{network}/ns/uts"))
        .args(["unshare", "--mount", "--propagation", "private"])
        .arg(&maker.inside)
        .arg("run")
        .arg(description)
        .env(MARK, &maker.network.name)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true);
    command.spawn().context("cannot run nsenter")
}

impl Image {
    fn of(site: &Site, container: &Container) -> Result<Self> {
        let name = container.image.as_deref().unwrap_or_default();
        let inside = &site.kubelet.maker.inside;
        Ok(match base(name) {
            "tidegate" => {
                let program = site.kubelet.tidegate.clone();
                let program = program.with_context(|| {
                    format!("{name} is Tidegate, and the testbed was not told where its program is (Options::tidegate)")
                })?;
                Self {
                    program: Some(("tidegate", program)),
                    entrypoint: vec![format!("{PROGRAMS}/tidegate")],
                }
            }
            "echo" => Self {
                program: Some(("inside", inside.clone())),
                entrypoint: vec![format!("{PROGRAMS}/inside"), "echo".to_owned()],
            },
            _ => Self {
                program: None,
                entrypoint: Vec::new(),
            },
        })
    }

    /// The words of the container's process.
    fn words(
        &self,
        container: &Container,
        variables: &BTreeMap<String, String>,
    ) -> Result<Vec<String>> {
        let expanded = |words: &Option<Vec<String>>| -> Vec<String> {
            let words = words.iter().flatten();
            words
                .map(|word| environment::expand(word, variables))
                .collect()
        };
        let command = expanded(&container.command);
        let mut words = match command.as_slice() {
            [] => self.entrypoint.clone(),
            // However the image's own program is called there.
            [program, rest @ ..] if Some(base(program)) == self.name() => {
                [self.entrypoint.as_slice(), rest].concat()
            }
            _ => command,
        };
        words.extend(expanded(&container.args));
        if words.is_empty() {
            let image = container.image.as_deref().unwrap_or_default();
            bail!("the testbed has no program for the image {image}: give the container a command");
        }
        Ok(words)
    }

    fn name(&self) -> Option<&'static str> {
        self.program.as_ref().map(|(name, _)| *name)
    }
}

/// The last part of an image's name, without tag and digest; of a path, the last part as well.
pub(super) fn base(name: &str) -> &str {
    let name = name.split('@').next().unwrap_or(name);
    let name = name.rsplit('/').next().unwrap_or(name);
    name.split(':').next().unwrap_or(name)
}

fn all_variables(site: &Site, variables: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let testbed = &site.kubelet.maker.network.name;
    let own = [
        ("PATH", PATH),
        ("HOME", "/root"),
        ("HOSTNAME", site.name.as_str()),
        (MARK, testbed.as_str()),
        ("TESTBED_POD", site.name.as_str()),
        ("TESTBED_NAMESPACE", site.namespace.as_str()),
        ("TESTBED_NODE", site.node.name.as_str()),
    ];
    let own = own
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let own = own.filter(|(name, _)| !variables.contains_key(name) || name == MARK);
    let asked = variables.iter().filter(|(name, _)| *name != MARK);
    own.chain(asked.map(|(name, value)| (name.clone(), value.clone())))
        .collect()
}

fn variables_of(process: &Process) -> BTreeMap<String, String> {
    process.env.iter().cloned().collect()
}

fn mounts(
    site: &Site,
    volumes: &Volumes,
    container: &Container,
    image: &Image,
    variables: &BTreeMap<String, String>,
) -> Result<Vec<Mount>> {
    let program = |name: &str, source: &Path| Mount {
        source: source.to_owned(),
        target: Path::new(PROGRAMS).join(name),
        access: Access::ReadOnly,
        missing: Missing::Fail,
    };
    let mut mounts = vec![program("inside", &site.kubelet.maker.inside)];
    if let Some((name @ "tidegate", path)) = &image.program {
        mounts.push(program(name, path));
    }
    let mut wanted: Vec<_> = container.volume_mounts.iter().flatten().collect();
    // One that is inside of another comes after it.
    wanted.sort_by_key(|mount| mount.mount_path.len());
    for mount in wanted {
        let expanded = mount.sub_path_expr.as_deref();
        let sub_path = expanded
            .map(|text| environment::expand(text, variables))
            .or_else(|| mount.sub_path.clone());
        let found = volumes.source(&mount.name, sub_path.as_deref())?;
        let read_only = mount.read_only == Some(true) || found.access == Access::ReadOnly;
        mounts.push(Mount {
            source: found.path,
            target: mount.mount_path.clone().into(),
            access: if read_only {
                Access::ReadOnly
            } else {
                Access::ReadWrite
            },
            missing: found.missing,
        });
    }
    Ok(mounts)
}

fn capabilities(context: Option<&SecurityContext>) -> Capabilities {
    if context.is_some_and(|context| context.privileged == Some(true)) {
        return Capabilities::All;
    }
    let asked = context.and_then(|context| context.capabilities.as_ref());
    let names = |names: Option<&Vec<String>>| -> Vec<String> {
        let names = names.into_iter().flatten();
        names
            .map(|name| {
                name.to_ascii_uppercase()
                    .trim_start_matches("CAP_")
                    .to_owned()
            })
            .collect()
    };
    let added = names(asked.and_then(|asked| asked.add.as_ref()));
    if added.iter().any(|name| name == "ALL") {
        return Capabilities::All;
    }
    let dropped = names(asked.and_then(|asked| asked.drop.as_ref()));
    let usual = CAPABILITIES.iter().map(|name| (*name).to_owned());
    let mut kept: Vec<String> = usual
        .filter(|name| {
            !dropped
                .iter()
                .any(|dropped| dropped == "ALL" || dropped == name)
        })
        .collect();
    kept.extend(added);
    Capabilities::Only(kept)
}

/// A user or group as the container has it, else as the pod has it.
fn id(
    site: &Site,
    container: &Container,
    own: impl Fn(&SecurityContext) -> Option<i64>,
    of_pod: impl Fn(&k8s_openapi::api::core::v1::PodSecurityContext) -> Option<i64>,
) -> Result<Option<u32>> {
    let own = container.security_context.as_ref().and_then(own);
    let id = own.or_else(|| site.spec.security_context.as_ref().and_then(of_pod));
    let id = id.map(u32::try_from).transpose();
    id.context("a user or group of the security context is out of range")
}

fn root_access(context: Option<&SecurityContext>) -> Access {
    match context.and_then(|context| context.read_only_root_filesystem) {
        Some(true) => Access::ReadOnly,
        _ => Access::ReadWrite,
    }
}

fn escalation(context: Option<&SecurityContext>) -> Escalation {
    match context.and_then(|context| context.allow_privilege_escalation) {
        Some(false) => Escalation::Denied,
        _ => Escalation::Allowed,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Capabilities as Asked;

    use super::*;

    #[test]
    fn images_are_known_by_their_last_part() {
        assert_eq!(base("ghcr.io/tidegate/tidegate:0.1.0"), "tidegate");
        assert_eq!(base("localhost:5000/echo@sha256:00"), "echo");
        assert_eq!(base("/usr/local/bin/tidegate"), "tidegate");
    }

    fn asked(add: &[&str], drop: &[&str]) -> Capabilities {
        let list = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        let context = SecurityContext {
            capabilities: Some(Asked {
                add: list(add),
                drop: list(drop),
            }),
            ..SecurityContext::default()
        };
        capabilities(Some(&context))
    }

    #[test]
    fn capabilities_as_asked() {
        let only = |names: &[&str]| {
            Capabilities::Only(names.iter().map(|name| (*name).to_owned()).collect())
        };
        assert_eq!(
            asked(&["NET_ADMIN", "CAP_BPF"], &["ALL"]),
            only(&["NET_ADMIN", "BPF"])
        );
        assert_eq!(asked(&["ALL"], &[]), Capabilities::All);
        let Capabilities::Only(usual) = asked(&[], &["NET_RAW"]) else {
            panic!("nothing was dropped");
        };
        assert_eq!(usual.len(), CAPABILITIES.len() - 1);
    }
}
