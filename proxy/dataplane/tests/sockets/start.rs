//! The start of a data plane, step by step: bound, listening, accepting.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity};
use tidegate_dataplane::{Dataplane, ListenerProtocol, Listeners, Settings};

use crate::support::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn started(workers: usize) -> (Dataplane, Listeners) {
    let bound = tidegate_dataplane::bind(settings(workers)).unwrap();
    bound.start(Vec::new()).unwrap()
}

fn http(listeners: &Listeners) -> std::net::SocketAddr {
    let mut sockets = listeners.sockets();
    let found = sockets.find(|(bound, _)| bound.protocol == ListenerProtocol::Http);
    found.unwrap().0.address
}

#[test]
fn connections_queue_between_listen_and_accept() {
    let backend = Backend::saying("served");
    let (dataplane, mut listeners) = started(3);
    for (bound, sockets) in listeners.sockets() {
        assert_eq!(sockets.len(), 3, "one for each worker");
        for socket in sockets {
            assert_eq!(socket.local_addr().unwrap(), bound.address);
        }
    }
    dataplane
        .publisher()
        .publish(everything_to(backend.address));
    let address = http(&listeners);
    let refused = TcpStream::connect(address).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "only bound");
    listeners.listen().unwrap();
    let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(address)).collect();
    for client in &mut clients {
        client.send(GET);
    }
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(dataplane.open_connections(), 0);
    assert_eq!(backend.opened(), 0);
    dataplane.accept(listeners);
    for client in &mut clients {
        assert_eq!(client.response().text(), "served");
    }
    assert_eq!(dataplane.open_connections(), 20);
}

#[test]
fn sockets_may_come_before_the_snapshot_and_an_order_right_behind_them() {
    let backend = Backend::saying("served");
    let (dataplane, mut listeners) = started(2);
    let address = http(&listeners);
    listeners.listen().unwrap();
    dataplane.accept(listeners);
    let mut early = Client::connect(address);
    early.send(GET);
    dataplane
        .publisher()
        .publish(everything_to(backend.address));
    assert_eq!(early.response().text(), "served");

    let (dataplane, mut listeners) = started(2);
    let address = http(&listeners);
    dataplane
        .publisher()
        .publish(everything_to(backend.address));
    listeners.listen().unwrap();
    let mut queued: Vec<Client> = (0..20).map(|_| Client::connect(address)).collect();
    for client in &mut queued {
        client.send(GET);
    }
    // So that the workers have their snapshot: a drain without one ends at once.
    std::thread::sleep(Duration::from_millis(200));
    dataplane.accept(listeners);
    // Who is answered before the order comes is idle for half of it.
    assert_eq!(drain(dataplane, Duration::from_secs(3)).cut, 0);
    for client in &mut queued {
        assert_eq!(client.response().text(), "served");
    }
}

#[test]
fn sockets_that_nobody_accepts_from_are_closed_with_their_owner() {
    let (dataplane, mut listeners) = started(1);
    let address = http(&listeners);
    listeners.listen().unwrap();
    drop(listeners);
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(drain(dataplane, PATIENCE).cut, 0);
}

/// The CPUs that a thread of this process may run on, as the kernel lists them.
fn allowed_cpus(thread: &str) -> Option<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let mut tasks = tasks.filter_map(Result::ok).map(|task| task.path());
    let task = tasks.find(|task| {
        let name = std::fs::read_to_string(task.join("comm"));
        name.is_ok_and(|name| name.trim_end() == thread)
    })?;
    let status = std::fs::read_to_string(task.join("status")).unwrap();
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.map(|list| list.trim().to_owned())
}

#[test]
fn a_worker_is_bound_to_its_cpu() {
    let backend = Backend::saying("served");
    let ours = sched_getaffinity(None).unwrap();
    let cpu = (0..CpuSet::MAX_CPU).find(|cpu| ours.is_set(*cpu)).unwrap();
    // More workers than any other test has, so that the name of the last one's thread is its own. One CPU does not exist:
    // its worker serves all the same.
    let gate = Gate::start_with(
        Settings {
            pin: Some(vec![cpu, cpu, cpu, usize::MAX, cpu]),
            ..settings(5)
        },
        Vec::new(),
    );
    gate.publish(everything_to(backend.address));
    assert_eq!(allowed_cpus("worker-4"), Some(cpu.to_string()));
    assert_ne!(allowed_cpus("worker-3"), None, "it runs");
    for _ in 0..20 {
        assert_eq!(gate.ask(GET).text(), "served");
    }
}
