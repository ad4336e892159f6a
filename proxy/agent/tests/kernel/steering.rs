//! Each mode steers as it says.

use std::process::Command;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::support::client::{KeptAlive, Target};
use crate::support::metrics::Metrics;
use crate::support::process::{Process, command, eventually};
use crate::support::room::{Sys, in_room};
use crate::support::site::{INSTANCE, PINS, Site, assert_no_pins, pins};

const WORKERS: usize = 4;
/// Connections that are held open.
const HELD: usize = 400;
/// Most that a worker may have more or less than its share. Of two workers chosen at random the less loaded gets a
/// connection, which keeps this many at 1 or 2: 5 comes once in some thousand runs, and each one more six times as seldom.
const LEAST_LOADED_IMBALANCE: u64 = 8;
/// Connections for each CPU.
const PER_CPU: usize = 50;

const STEERED: &str = "tidegate_steering_connections_total";

async fn hold(target: &Target, count: usize) -> Vec<KeptAlive> {
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(target.open().await.unwrap());
    }
    held
}

/// How many connections each worker has in fact.
fn open(metrics: &Metrics) -> Vec<u64> {
    metrics.by_worker("tidegate_worker_connections_open", &[], WORKERS)
}

fn imbalance(counts: &[u64]) -> u64 {
    let share = counts.iter().sum::<u64>() / counts.len() as u64;
    counts
        .iter()
        .map(|count| count.abs_diff(share))
        .max()
        .unwrap()
}

fn print(mode: &str, counts: &[u64]) {
    for (worker, count) in counts.iter().enumerate() {
        println!("figure: steering {mode}, worker {worker} = {count} connections");
    }
    println!(
        "figure: steering {mode}, most off an even share = {} connections",
        imbalance(counts)
    );
}

async fn ends_without_a_trace(mut process: Process) {
    process.terminate();
    process.ended_well().await;
    assert_no_pins();
}

#[test]
fn vm_steering_least_loaded_spreads_held_connections() {
    in_room(Sys::WithBpfFs, || async {
        let site = Site::new().await;
        let mut process = site.start(&["--workers", "4"]).await;
        let held = hold(&Site::plain(80), HELD).await;
        let metrics = Metrics::read().await;

        let steered = metrics.by_worker(STEERED, &[("outcome", "steered")], WORKERS);
        let open = open(&metrics);
        print("least-loaded", &steered);
        assert_eq!(steered, open, "a worker has others than were steered to it");
        assert_eq!(steered.iter().sum::<u64>(), HELD as u64);
        assert_eq!(metrics.count(STEERED, &[("outcome", "fell_back")]), 0);
        assert!(imbalance(&steered) <= LEAST_LOADED_IMBALANCE, "{steered:?}");
        assert_eq!(
            metrics.steering(),
            ("least-loaded".to_owned(), "asked".to_owned())
        );
        process.logs("mode=\"least-loaded\"").await;
        assert!(!pins(PINS.as_ref()).is_empty(), "no map is pinned");
        drop(held);
        ends_without_a_trace(process).await;
    });
}

/// Opens connections on a thread that stays on one CPU, so that their packets do.
fn hold_from_cpu(cpu: usize) -> Vec<KeptAlive> {
    let within = move || {
        let mut one = CpuSet::new();
        one.set(cpu);
        sched_setaffinity(None, &one).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let held = runtime.block_on(hold(&Site::plain(80), PER_CPU));
        // The connections stay open; nothing is asked of them any more.
        std::mem::forget(runtime);
        held
    };
    std::thread::spawn(within).join().unwrap()
}

#[test]
fn vm_steering_cpu_follows_the_packets() {
    in_room(Sys::WithBpfFs, || async {
        let site = Site::new().await;
        let mut process = site.start(&["--workers", "4", "--steering", "cpu"]).await;
        let allowed = sched_getaffinity(None).unwrap();
        let cpus: Vec<_> = (0..CpuSet::MAX_CPU)
            .filter(|cpu| allowed.is_set(*cpu))
            .take(WORKERS)
            .collect();
        let mut expected = vec![0; WORKERS];
        let mut held = Vec::new();
        for (worker, cpu) in cpus.iter().copied().enumerate() {
            // The backends answer meanwhile.
            let connections = tokio::task::spawn_blocking(move || hold_from_cpu(cpu));
            held.push(connections.await.unwrap());
            expected[worker] = PER_CPU as u64;
            let metrics = Metrics::read().await;
            let steered = metrics.by_worker(STEERED, &[("outcome", "steered")], WORKERS);
            assert_eq!(steered, expected, "after connections from CPU {cpu}");
            assert_eq!(open(&metrics), expected, "after connections from CPU {cpu}");
        }
        print("cpu", &expected);
        let metrics = Metrics::read().await;
        assert_eq!(metrics.steering(), ("cpu".to_owned(), "asked".to_owned()));
        process.logs("mode=\"cpu\"").await;
        drop(held);
        ends_without_a_trace(process).await;
    });
}

#[test]
fn vm_steering_kernel_loads_no_program() {
    in_room(Sys::WithBpfFs, || async {
        let site = Site::new().await;
        let mut process = site
            .start(&["--workers", "4", "--steering", "kernel"])
            .await;
        let held = hold(&Site::plain(80), HELD).await;
        let metrics = Metrics::read().await;
        let open = open(&metrics);
        print("kernel", &open);
        assert_eq!(open.iter().sum::<u64>(), HELD as u64);
        assert_eq!(metrics.count(STEERED, &[]), 0, "something steered");
        assert_eq!(
            metrics.steering(),
            ("kernel".to_owned(), "asked".to_owned())
        );
        process.logs("mode=\"kernel\"").await;
        assert!(pins(PINS.as_ref()).is_empty(), "maps are pinned");
        drop(held);
        ends_without_a_trace(process).await;
    });
}

#[test]
fn vm_tls_through_the_steered_port() {
    in_room(Sys::WithBpfFs, || async {
        let site = Site::new().await;
        let process = site.start(&[]).await;
        let secure = site.secure(443);
        secure.once().await.unwrap();
        let metrics = Metrics::read().await;
        assert_eq!(metrics.steering().0, "least-loaded");
        assert_eq!(metrics.count(STEERED, &[("outcome", "steered")]), 1);
        assert_eq!(metrics.count(STEERED, &[("outcome", "fell_back")]), 0);
        ends_without_a_trace(process).await;
    });
}

/// The program and its maps are one instance's: another one beside it, on other ports, has its own.
#[test]
fn vm_instances_do_not_meet() {
    in_room(Sys::WithBpfFs, || async {
        let site = Site::new().await;
        let one = site.start(&[]).await;
        let other = site.serve(&[
            "--http",
            "8080",
            "--https",
            "off",
            "--admin",
            "127.0.0.1:9091",
        ]);
        let mut other = Process::start("the other instance", renamed(&other));
        other.logs("configuration in force").await;
        Site::plain(80).once().await.unwrap();
        let there = Site::plain(8080);
        eventually(
            "the other instance serves",
            async || there.once().await.is_ok(),
            || other.log(),
        )
        .await;
        assert!(!one.has_logged("hand-over: retired"), "{}", one.log());
        other.terminate();
        other.ended_well().await;
        Site::plain(80).once().await.unwrap();
        ends_without_a_trace(one).await;
    });
}

/// The same command for another instance.
fn renamed(one: &Command) -> Command {
    let mut other = command(one.get_program());
    other.args(one.get_args().map(|argument| {
        if argument == INSTANCE {
            "kernel-test-2".as_ref()
        } else {
            argument
        }
    }));
    other
}
