//! Network namespaces that belong to threads: nothing is left when the threads end, however that is.

use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use rustix::thread::{Pid, UnshareFlags, gettid, unshare_unsafe};

type Job = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace of its own, with the loopback interface up.
pub(crate) struct Namespace {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    id: Pid,
}

impl Namespace {
    pub(crate) fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "the tests of the guard need root, for network namespaces and XDP programs"
        );
        let (jobs, queue) = channel::<Job>();
        let (started, id) = channel();
        let thread = thread::spawn(move || {
            // SAFETY: only the network namespace is left, no table of file descriptors.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
                .expect("a network namespace needs CAP_SYS_ADMIN");
            ip("link set lo up");
            started.send(gettid()).unwrap();
            for job in queue {
                job();
            }
        });
        Self {
            jobs: Some(jobs),
            thread: Some(thread),
            id: id.recv().unwrap(),
        }
    }

    /// Runs something there, and waits for it. Threads and programs that it starts are there too.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        let job = Box::new(move || {
            let work = std::panic::AssertUnwindSafe(work);
            // Whoever waits may have gone.
            _ = done.send(std::panic::catch_unwind(work));
        });
        self.jobs.as_ref().unwrap().send(job).unwrap();
        match result.recv().unwrap() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

/// `ip`, in the namespace of the calling thread.
pub(crate) fn ip(arguments: &str) {
    let mut command = Command::new("ip");
    let output = command
        .args(arguments.split_whitespace())
        .output()
        .expect("the tests of the guard need `ip` (Debian's iproute2)");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {said}");
}

/// Interface of the server.
pub(crate) const SERVER: &str = "server0";
pub(crate) const SERVER_V4: &str = "10.77.0.1";
pub(crate) const SERVER_V6: &str = "2001:db8:77::1";
/// Addresses of the client. The IPv6 ones are in two networks of 64 bits.
pub(crate) const ONE_V4: &str = "10.77.0.2";
pub(crate) const OTHER_V4: &str = "10.77.0.3";
pub(crate) const ONE_V6: &str = "2001:db8:77::2";
pub(crate) const OTHER_V6: &str = "2001:db8:78::2";

/// Two namespaces with a wire between them.
pub(crate) struct Wire {
    pub(crate) server: Namespace,
    pub(crate) client: Namespace,
}

impl Wire {
    pub(crate) fn new() -> Self {
        let (server, client) = (Namespace::new(), Namespace::new());
        let there = client.id.as_raw_nonzero();
        server.run(move || {
            ip(&format!(
                "link add {SERVER} type veth peer name client0 netns {there}"
            ));
            ip(&format!("address add {SERVER_V4}/24 dev {SERVER}"));
            ip(&format!("address add {SERVER_V6}/64 dev {SERVER} nodad"));
            ip(&format!("link set {SERVER} up"));
            ip(&format!("route add 2001:db8:78::/64 dev {SERVER}"));
        });
        client.run(|| {
            for address in [ONE_V4, OTHER_V4] {
                ip(&format!("address add {address}/24 dev client0"));
            }
            for address in [ONE_V6, OTHER_V6] {
                ip(&format!("address add {address}/64 dev client0 nodad"));
            }
            ip("link set client0 up");
        });
        Self { server, client }
    }
}
