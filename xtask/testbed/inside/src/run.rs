//! Becoming a container: a root of its own, the mounts, fewer rights, then the program.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};
use rustix::mount::{
    MountFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_remount, unmount,
};
use rustix::thread::{
    CapabilitySet, remove_capability_from_bounding_set, set_no_new_privs, set_thread_groups,
};
use tidegate_testbed_inside::container::{
    Access, Capabilities, Container, Escalation, Missing, Mount, Process,
};

/// Folders of the host that stand in for what an image brings: programs and libraries.
const SHARED: [&str; 7] = ["bin", "lib", "lib32", "lib64", "libx32", "sbin", "usr"];
/// What of the host's `/etc` programs need. The rest of it is not there, so that volumes can be mounted in it.
const CONFIGURED: [&str; 10] = [
    "alternatives",
    "group",
    "hosts",
    "ld.so.cache",
    "localtime",
    "nsswitch.conf",
    "passwd",
    "resolv.conf",
    "services",
    "ssl",
];
/// Empty folders of every container.
const EMPTY: [&str; 7] = ["etc", "home", "opt", "root", "run", "tmp", "var"];

/// Becomes the container that the file describes. Comes back only with an error.
pub(crate) fn container(description: &Path) -> Result<()> {
    let text = fs::read_to_string(description)
        .with_context(|| format!("cannot read {}", description.display()))?;
    let container: Container = serde_json::from_str(&text).context("cannot read the container")?;
    build_root(&container.root).context("cannot put the root of the container together")?;
    for mounted in &container.mounts {
        put(mounted, &container.root)
            .with_context(|| format!("cannot mount {}", mounted.target.display()))?;
    }
    enter(&container.root, container.root_access).context("cannot enter the container's root")?;
    become_process(&container.process)
}

/// Becomes another process in the container that this one is in already.
pub(crate) fn process(description: &str) -> Result<()> {
    let process: Process =
        serde_json::from_str(description).context("cannot read the process to become")?;
    become_process(&process)
}

fn build_root(root: &Path) -> Result<()> {
    mount("testbed", root, "tmpfs", MountFlags::empty(), None)?;
    for name in SHARED {
        share(&Path::new("/").join(name), &root.join(name))?;
    }
    for name in EMPTY {
        fs::create_dir(root.join(name))?;
    }
    symlink("/run", root.join("var/run"))?;
    for name in CONFIGURED {
        share(&Path::new("/etc").join(name), &root.join("etc").join(name))?;
    }
    for name in ["dev", "proc"] {
        let target = root.join(name);
        fs::create_dir(&target)?;
        mount_bind_recursive(Path::new("/").join(name), target)?;
    }
    // A new one shows the interfaces of this network namespace.
    let sys = root.join("sys");
    fs::create_dir(&sys)?;
    mount("sysfs", sys, "sysfs", MountFlags::empty(), None)?;
    Ok(())
}

/// Shows something of the host for reading. What the host does not have is left out.
fn share(source: &Path, target: &Path) -> Result<()> {
    let Ok(found) = fs::symlink_metadata(source) else {
        return Ok(());
    };
    if found.is_symlink() {
        symlink(fs::read_link(source)?, target)?;
        return Ok(());
    }
    make_like(source, target)?;
    mount_bind_recursive(source, target)?;
    mount_remount(target, MountFlags::BIND | MountFlags::RDONLY, "")?;
    Ok(())
}

fn put(mounted: &Mount, root: &Path) -> Result<()> {
    let source = &mounted.source;
    match (source.exists(), mounted.missing) {
        (true, _) => {}
        (false, Missing::Fail) => bail!("{} does not exist", source.display()),
        (false, Missing::MakeFolder) => fs::create_dir_all(source)
            .with_context(|| format!("cannot make the folder {}", source.display()))?,
        (false, Missing::MakeFile) => drop(File::create(source)?),
    }
    let target = inside(&mounted.target, root)?;
    if !target.exists() {
        make_like(source, &target).with_context(|| mount_point_hint(&mounted.target))?;
    }
    mount_bind(source, &target)?;
    if mounted.access == Access::ReadOnly {
        mount_remount(&target, MountFlags::BIND | MountFlags::RDONLY, "")?;
    }
    Ok(())
}

/// Where a path of the container is while its root is still a folder of the host. Links are followed as the container
/// would follow them.
fn inside(path: &Path, root: &Path) -> Result<PathBuf> {
    let relative = path
        .strip_prefix("/")
        .map_err(|_| anyhow!("the mount path is not absolute"))?;
    let mut place = root.to_owned();
    for part in relative.components() {
        place.push(part);
        match fs::read_link(&place) {
            Ok(link) if link.is_absolute() => {
                place = root.join(link.strip_prefix("/").unwrap_or(&link));
            }
            Ok(link) => {
                place.pop();
                place.push(link);
            }
            Err(_) => {}
        }
    }
    Ok(place)
}

fn mount_point_hint(target: &Path) -> String {
    let target = target.display();
    format!(
        "the mount point {target} cannot be made in the container; container runtimes cannot make one below /sys and /proc either, so mount a folder that is there"
    )
}

/// A place to mount the source on: a folder for a folder, a file for anything else.
fn make_like(source: &Path, target: &Path) -> Result<()> {
    if source.is_dir() {
        fs::create_dir_all(target)?;
        return Ok(());
    }
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder)?;
    }
    match File::create_new(target) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error.into()),
        _ => Ok(()),
    }
}

fn enter(root: &Path, access: Access) -> Result<()> {
    if access == Access::ReadOnly {
        mount_remount(root, MountFlags::BIND | MountFlags::RDONLY, "")?;
    }
    rustix::process::chdir(root)?;
    // The old root comes to lie over the new one and is taken away, as pivot_root(2) describes it.
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(())
}

fn become_process(process: &Process) -> Result<()> {
    let [program, arguments @ ..] = process.argv.as_slice() else {
        bail!("there is no program to run");
    };
    rustix::process::chdir(&process.folder)
        .with_context(|| format!("no working directory {}", process.folder.display()))?;
    set_thread_groups(&[])?;
    if let Capabilities::Only(kept) = &process.capabilities {
        limit(kept)?;
    }
    if process.escalation == Escalation::Denied {
        set_no_new_privs(true)?;
    }
    let mut command = Command::new(program);
    command.args(arguments).env_clear();
    command.envs(process.env.iter().map(|(name, value)| (name, value)));
    if let Some(group) = process.group {
        command.gid(group);
    }
    if let Some(user) = process.user {
        command.uid(user);
    }
    let error = command.exec();
    Err(anyhow!(error).context(format!("cannot run {program}")))
}

/// Takes every other capability out of the bounding set: root gets what is left of that when the program starts.
fn limit(kept: &[String]) -> Result<()> {
    let mut allowed = CapabilitySet::empty();
    for name in kept {
        let found = CapabilitySet::from_name(name);
        allowed |= found.with_context(|| format!("there is no capability {name}"))?;
    }
    for capability in CapabilitySet::all().iter() {
        if !allowed.contains(capability) {
            match remove_capability_from_bounding_set(capability) {
                // One that this kernel does not know is not there to be taken away.
                Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                Err(error) => return Err(error).context("cannot take capabilities away"),
            }
        }
    }
    Ok(())
}
