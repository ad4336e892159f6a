//! What the machine says of itself.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::ebpf::ROOT_IN_POD;

/// Where maps and programs are pinned.
const BPFFS: &str = "/sys/fs/bpf";
/// The folder of all Tidegates within it.
const PINS: &str = "tidegate";
/// `BPF_FS_MAGIC` of the kernel: the type of a file system that holds eBPF maps and programs.
const BPFFS_MAGIC: u64 = 0xcafe_4a11;

/// Why something is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unknown(pub(super) String);

/// What was found, or why nothing was.
pub(super) type Found<T> = Result<T, Unknown>;

/// What this machine and process are.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) kernel: Found<Kernel>,
    pub(super) capabilities: Found<Capabilities>,
    pub(super) bpffs: Bpffs,
    /// `kernel.unprivileged_bpf_disabled`
    pub(super) unprivileged_bpf_disabled: Found<u32>,
    /// `net.ipv4.ip_unprivileged_port_start`: ports from here on are anybody's, those of IPv6, too.
    pub(super) first_unprivileged_port: Found<u32>,
}

impl Facts {
    /// Looks at everything; what cannot be read is unknown.
    pub(super) fn look() -> Self {
        Self {
            kernel: Kernel::parse(&rustix::system::uname().release().to_string_lossy()),
            capabilities: capabilities(Path::new("/proc/self/status")),
            bpffs: match Path::new(ROOT_IN_POD) {
                pod if is_bpffs(pod).is_ok_and(|is| is) => bpffs(pod),
                _ => bpffs(Path::new(BPFFS)),
            },
            unprivileged_bpf_disabled: number("/proc/sys/kernel/unprivileged_bpf_disabled"),
            first_unprivileged_port: number("/proc/sys/net/ipv4/ip_unprivileged_port_start"),
        }
    }
}

/// The kernel's release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kernel {
    /// Major and minor number.
    pub(super) version: (u32, u32),
    /// All of it, with what its builder added.
    pub(super) release: String,
}

impl Kernel {
    /// Parses a release such as `6.12.48+deb12-cloud-amd64`.
    pub(super) fn parse(release: &str) -> Found<Self> {
        let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
        let mut number = || numbers.next().and_then(|digits| digits.parse().ok());
        match (number(), number()) {
            (Some(major), Some(minor)) => Ok(Self {
                version: (major, minor),
                release: release.to_owned(),
            }),
            _ => Err(Unknown(format!(
                "{release:?} does not begin with a version"
            ))),
        }
    }
}

/// Rights of a process, as `capabilities(7)` numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Capability {
    NetBindService = 10,
    NetAdmin = 12,
    SysAdmin = 21,
    Perfmon = 38,
    Bpf = 39,
}

/// The effective rights of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capabilities(pub(super) u64);

impl Capabilities {
    pub(super) fn has(self, capability: Capability) -> bool {
        self.0 >> (capability as u32) & 1 == 1
    }

    /// Parses the text of `/proc/PID/status`.
    fn parse(status: &str) -> Option<Self> {
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(mask.trim(), 16).ok().map(Self)
    }
}

fn capabilities(status: &Path) -> Found<Capabilities> {
    let text = read(status)?;
    let none = || Unknown(format!("{} has no CapEff line", status.display()));
    Capabilities::parse(&text).ok_or_else(none)
}

/// A file of procfs that holds a number.
fn number<T: FromStr>(path: impl AsRef<Path>) -> Found<T> {
    let path = path.as_ref();
    let text = read(path)?;
    let none = |_| Unknown(format!("{} holds {:?}", path.display(), text.trim()));
    text.trim().parse().map_err(none)
}

fn read(path: &Path) -> Found<String> {
    fs::read_to_string(path)
        .map_err(|error| Unknown(format!("cannot read {}: {error}", path.display())))
}

/// Where pins are to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bpffs {
    /// It is there, and folders can be made in it.
    Writable(PathBuf),
    /// It is there, and folders cannot be made in it: the folder, and what the system says.
    NotWritable(PathBuf, String),
    /// Another file system, or nothing, is in its place.
    NotMounted(PathBuf),
    /// The system does not tell.
    Unknown(String),
}

fn bpffs(mount: &Path) -> Bpffs {
    match is_bpffs(mount) {
        Ok(true) => writable(mount),
        Ok(false) => Bpffs::NotMounted(mount.to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Bpffs::NotMounted(mount.to_owned())
        }
        Err(error) => Bpffs::Unknown(format!("cannot look at {}: {error}", mount.display())),
    }
}

fn is_bpffs(path: &Path) -> io::Result<bool> {
    let found = rustix::fs::statfs(path)?;
    Ok(u64::try_from(found.f_type) == Ok(BPFFS_MAGIC))
}

/// Makes a folder where an instance would make its own, and removes it.
fn writable(mount: &Path) -> Bpffs {
    let pins = mount.join(PINS);
    let folder = if pins.is_dir() {
        pins
    } else {
        mount.to_owned()
    };
    // A name of bpffs holds no dot.
    let probe = folder.join(format!("doctor-{}", std::process::id()));
    match fs::create_dir(&probe).and_then(|()| fs::remove_dir(&probe)) {
        Ok(()) => Bpffs::Writable(folder),
        Err(error) => Bpffs::NotWritable(folder, error.to_string()),
    }
}

impl fmt::Display for Bpffs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Writable(folder) => write!(f, "{} can be written to", folder.display()),
            Self::NotWritable(folder, error) => write!(f, "{}: {error}", folder.display()),
            Self::NotMounted(mount) => write!(f, "no bpffs at {}", mount.display()),
            Self::Unknown(reason) => f.write_str(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        let version = |release| Kernel::parse(release).map(|kernel| kernel.version);
        assert_eq!(version("6.12.48+deb12-cloud-amd64"), Ok((6, 12)));
        assert_eq!(version("5.4"), Ok((5, 4)));
        assert_eq!(version("6.1-rc3"), Ok((6, 1)));
        for odd in ["", "6", "six.one", "-6.1", ".6.1", "99999999999.1", "6.x"] {
            let Err(Unknown(reason)) = version(odd) else {
                panic!("{odd} was taken")
            };
            assert!(reason.contains(odd), "{reason}");
        }
    }

    #[test]
    fn effective_capabilities() {
        let status = "Name:\ttidegate\nCapPrm:\tffff\nCapEff:\t000000c000001400\nCapBnd:\tffff\n";
        let found = Capabilities::parse(status).unwrap();
        for held in [
            Capability::Bpf,
            Capability::Perfmon,
            Capability::NetAdmin,
            Capability::NetBindService,
        ] {
            assert!(found.has(held), "{held:?}");
        }
        assert!(!found.has(Capability::SysAdmin));
        for odd in ["", "CapEff:\n", "CapEff: everything\n", "CapPrm: 1\n"] {
            assert_eq!(Capabilities::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_unknown() {
        let nowhere = Path::new("/nowhere/at/all");
        assert!(capabilities(nowhere).is_err());
        let Err(Unknown(reason)) = number::<u32>(nowhere) else {
            panic!("a number was found")
        };
        assert!(reason.contains("/nowhere/at/all"), "{reason}");
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("odd");
        for text in ["", "two\n", "-1", "99999999999"] {
            fs::write(&odd, text).unwrap();
            assert!(number::<u32>(&odd).is_err(), "{text}");
            assert!(capabilities(&odd).is_err(), "{text}");
        }
        fs::write(&odd, "2\n").unwrap();
        assert_eq!(number(&odd), Ok(2));
    }

    #[test]
    fn another_file_system_is_no_bpffs() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().to_owned();
        assert_eq!(bpffs(&other), Bpffs::NotMounted(other.clone()));
        let missing = other.join("missing");
        assert_eq!(bpffs(&missing), Bpffs::NotMounted(missing.clone()));
    }

    #[test]
    fn the_probe_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mount = folder.path();
        assert_eq!(writable(mount), Bpffs::Writable(mount.to_owned()));
        assert_eq!(fs::read_dir(mount).unwrap().count(), 0);
        let pins = mount.join(PINS);
        fs::create_dir(&pins).unwrap();
        assert_eq!(writable(mount), Bpffs::Writable(pins.clone()));
        assert_eq!(fs::read_dir(&pins).unwrap().count(), 0);
        let gone = mount.join("gone");
        assert!(matches!(writable(&gone), Bpffs::NotWritable(at, _) if at == gone));
    }
}
