//! Maps that outlive their process: the folder of an instance on the BPF file system.
//!
//! Every process that uses the folder holds a shared lock (flock) on it, so whether it is in use is known however its
//! users ended.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock, statfs};
use thiserror::Error;

/// Where the folders of instances are.
const ROOT: &str = "/sys/fs/bpf/tidegate";
/// Where a pod has that folder of its node: container runtimes make no mount points below `/sys`, and AppArmor's profile
/// for containers forbids writing there.
pub(crate) const ROOT_IN_POD: &str = "/run/tidegate/bpf";
/// `BPF_FS_MAGIC` of the kernel's `magic.h`.
const BPF_FS: u64 = 0xcafe_4a11;
/// Tries when the folder goes away, or is locked, in the moment in which it is opened.
const TRIES: usize = 10;
/// Pause between them.
const PAUSE: Duration = Duration::from_millis(10);

/// Why maps are not pinned. Steering works without; see `docs/steering.md`.
#[derive(Debug, Error)]
pub(crate) enum PinsError {
    /// Something else is mounted there, or nothing.
    #[error(
        "{ROOT} is on no BPF file system: mount one with `mount -t bpf bpf /sys/fs/bpf`; in a pod, have that folder of the \
         node as a hostPath volume at {ROOT_IN_POD}"
    )]
    NoBpfFs,
    /// Another live process, such as one in another network namespace, has the folder.
    #[error("{path} is in use by a process that this one does not take over from")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// Somebody else could put maps of theirs there.
    #[error(
        "{path} belongs to user {owner}: give it to the user who runs Tidegate, with mode 0700"
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// The file system refused.
    #[error("{path}: {cause}; the folder must be this user's to write")]
    System {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

/// Who used the folder before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Predecessor {
    /// Nobody that lives: what is in the folder is stale.
    None,
    /// A process that lives and whose maps are pinned.
    Pinned,
}

/// The folder of an instance, locked.
#[derive(Debug)]
pub(crate) struct Pins {
    folder: PathBuf,
    lock: File,
}

impl Pins {
    /// Takes the folder of an instance: as it is from a predecessor that lives, else empty.
    ///
    /// # Errors
    /// See [`PinsError`].
    pub(crate) fn claim(instance: &str, predecessor: Predecessor) -> Result<Self, PinsError> {
        let root = root()?;
        remove_stale(root, instance);
        let folder = root.join(instance);
        for _ in 0..TRIES {
            make_folder(&folder)?;
            let Some(pins) = Self::open(&folder)? else {
                continue;
            };
            pins.must_be_ours()?;
            match pins.take(predecessor) {
                Ok(()) if pins.is_at_its_path() => return Ok(pins),
                // Somebody may just be looking whether it is stale.
                Ok(()) | Err(PinsError::InUse { .. }) => std::thread::sleep(PAUSE),
                Err(error) => return Err(error),
            }
        }
        Err(PinsError::InUse { path: folder })
    }

    fn take(&self, predecessor: Predecessor) -> Result<(), PinsError> {
        if predecessor == Predecessor::None {
            self.lock(FlockOperation::NonBlockingLockExclusive)?;
            self.remove_contents()?;
        }
        self.lock(FlockOperation::NonBlockingLockShared)
    }

    /// Opens a folder, which is not locked yet. `None` when it has gone.
    fn open(folder: &Path) -> Result<Option<Self>, PinsError> {
        match File::open(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(system(folder, error)),
            Ok(lock) => Ok(Some(Self {
                folder: folder.to_owned(),
                lock,
            })),
        }
    }

    /// Where the maps of an address are.
    pub(super) fn of(&self, address: SocketAddr) -> Result<PathBuf, PinsError> {
        let layout = self.folder.join(format!("v{}", tidegate_ebpf::LAYOUT));
        // Names on a BPF file system have no dots.
        let folder = layout.join(address.to_string().replace('.', "_"));
        make_folder(&layout)?;
        make_folder(&folder)?;
        Ok(folder)
    }

    /// The folder, for what else is pinned there.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Gives the folder up, and removes it unless another process uses it.
    pub(crate) fn release(self) {
        if self.lock(FlockOperation::NonBlockingLockExclusive).is_err() {
            return;
        }
        let removed = self.remove_contents().and_then(|()| {
            fs::remove_dir(&self.folder).map_err(|error| system(&self.folder, error))
        });
        if let Err(error) = removed {
            tracing::warn!("pinned maps are left behind: {error}");
        }
    }

    fn lock(&self, operation: FlockOperation) -> Result<(), PinsError> {
        flock(&self.lock, operation).map_err(|error| match error {
            rustix::io::Errno::WOULDBLOCK => PinsError::InUse {
                path: self.folder.clone(),
            },
            other => system(&self.folder, other.into()),
        })
    }

    /// On some machines everyone may make folders on the file system.
    fn must_be_ours(&self) -> Result<(), PinsError> {
        let metadata = self.lock.metadata();
        let owner = metadata.map_err(|error| system(&self.folder, error))?.uid();
        match owner == rustix::process::geteuid().as_raw() {
            true => Ok(()),
            false => Err(PinsError::Foreign {
                path: self.folder.clone(),
                owner,
            }),
        }
    }

    /// Whether the locked folder is still the one at the path: it may have been removed before the lock was had.
    fn is_at_its_path(&self) -> bool {
        let inode = |metadata: io::Result<fs::Metadata>| metadata.map(|data| data.ino()).ok();
        inode(self.lock.metadata()) == inode(fs::metadata(&self.folder))
    }

    fn remove_contents(&self) -> Result<(), PinsError> {
        remove_contents(&self.folder).map_err(|error| system(&self.folder, error))
    }
}

/// The folder of all instances, made if it is not there.
fn root() -> Result<&'static Path, PinsError> {
    let in_pod = Path::new(ROOT_IN_POD);
    if is_bpf_fs(in_pod).is_ok_and(|is| is) {
        return Ok(in_pod);
    }
    let root = Path::new(ROOT);
    make_folder(root)?;
    match is_bpf_fs(root).map_err(|error| system(root, error))? {
        true => Ok(root),
        false => Err(PinsError::NoBpfFs),
    }
}

fn is_bpf_fs(path: &Path) -> io::Result<bool> {
    Ok(statfs(path)?.f_type as u64 == BPF_FS)
}

/// Removes what processes of other instances have left behind that died.
fn remove_stale(root: &Path, instance: &str) {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name() != instance) {
        if let Ok(Some(pins)) = Pins::open(&entry.path())
            && pins.must_be_ours().is_ok()
        {
            pins.release();
        }
    }
}

fn remove_contents(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            remove_contents(&path)?;
            fs::remove_dir(path)?;
        } else {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn make_folder(path: &Path) -> Result<(), PinsError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ReadOnlyFilesystem
            ) && path == Path::new(ROOT) =>
        {
            Err(PinsError::NoBpfFs)
        }
        made => made.map_err(|error| system(path, error)),
    }
}

fn system(path: &Path, cause: io::Error) -> PinsError {
    PinsError::System {
        path: path.to_owned(),
        cause,
    }
}
