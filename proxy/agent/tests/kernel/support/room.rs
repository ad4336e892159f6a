//! A room for a test: a network and a mount namespace that end with it.
#![allow(
    unsafe_code,
    reason = "namespaces and the flags of an interface have no safe interface"
)]

use std::ffi::CStr;
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Tests measure and pin threads to CPUs, so they take turns.
static TURN: Mutex<()> = Mutex::new(());

/// What a process in the room finds at /sys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sys {
    /// A BPF file system, where a node has it.
    WithBpfFs,
    /// None.
    WithoutBpfFs,
    /// None, and all of /sys can only be read, as in a container that is not privileged.
    ReadOnly,
}

/// Runs a test in a room whose loopback is up and where nobody listens. Processes that the test starts are in the room as
/// well, and killed when the test ends.
pub(crate) fn in_room<F: Future<Output = ()>>(sys: Sys, test: impl FnOnce() -> F + Send + 'static) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let within = move || {
        enter(sys);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test());
    };
    let room = std::thread::Builder::new().name("room".to_owned());
    if let Err(panic) = room.spawn(within).unwrap().join() {
        std::panic::resume_unwind(panic);
    }
}

/// A path that bears the file of another one in this room alone, so that users who cannot reach the other one can use it.
pub(crate) fn also_at(file: &Path, other: &Path) {
    std::fs::write(other, "").unwrap();
    mount_bind(file, other).unwrap();
}

fn enter(sys: Sys) {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test needs root, for namespaces and BPF: run it as root"
    );
    let namespaces = UnshareFlags::NEWNS | UnshareFlags::NEWNET;
    // SAFETY: descriptors stay shared; only namespaces are left, by this thread alone.
    unsafe { unshare_unsafe(namespaces) }
        .expect("this test needs namespaces (CAP_SYS_ADMIN, CONFIG_NET_NS)");
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .expect("cannot keep mounts to this room");
    // A new one shows the interfaces of this room.
    mount_at("sysfs", "/sys", flags(sys));
    if sys == Sys::WithBpfFs {
        mount_at("bpf", "/sys/fs/bpf", MountFlags::empty());
    }
    loopback_up().expect("cannot set loopback up");
}

fn flags(sys: Sys) -> MountFlags {
    match sys {
        Sys::ReadOnly => MountFlags::RDONLY,
        Sys::WithBpfFs | Sys::WithoutBpfFs => MountFlags::empty(),
    }
}

fn mount_at(kind: &str, at: &str, flags: MountFlags) {
    mount(kind, at, kind, flags, None::<&CStr>)
        .unwrap_or_else(|error| panic!("this test needs a {kind} file system at {at}: {error}"));
}

/// As `ip link set lo up`, which is not everywhere.
fn loopback_up() -> io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: all zeros is a value of this structure of integers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, byte) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *to = *byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the request is an `ifreq` with a name that ends with a zero, and outlives the call.
    match unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS as _,
            &raw mut request,
        )
    } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
