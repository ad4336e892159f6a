//! The guard: whom it lets through, and whom it leaves alone.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use crate::support::client::Target;
use crate::support::load::{Load, Traffic};
use crate::support::metrics::Metrics;
use crate::support::process::Process;
use crate::support::report::milliseconds;
use crate::support::room::{Sys, in_room};
use crate::support::site::{Site, assert_no_pins};

/// The guarded port, and another one that is served.
const PORT: u16 = 80;
const OTHER_PORT: u16 = 8080;

/// SYNs a second from one address, and at once.
const RATE: u32 = 20;
const BURST: u32 = 40;
/// Connections a second of the flood, and how long it lasts.
const FLOOD: u32 = 400;
const FLOOD_TIME: Duration = Duration::from_secs(3);
/// Time for a connection; one that is denied or limited does not come about.
const PATIENCE: Duration = Duration::from_millis(500);

const USUAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const FLOODING: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const DENIED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 3, 1));
const EXCEPTED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 3, 2));

/// Settings whose limit spares the usual address, which has a load of its own.
fn settings(site: &Site) -> PathBuf {
    let path = site.path("guard.yaml");
    let text = format!(
        "http: [{PORT}, {OTHER_PORT}]
guard:
  interfaces: [lo]
  mode: generic
  listeners:
    - port: {PORT}
      synRate: {RATE}
      synBurst: {BURST}
      deny: [127.0.3.0/24]
      allow: [127.0.3.2/32]
"
    );
    std::fs::write(&path, text).unwrap();
    path
}

async fn guarded(site: &Site) -> Process {
    let settings = settings(site);
    site.start(&["--config", settings.to_str().unwrap()]).await
}

/// Whether a connection comes about.
async fn connects(from: IpAddr, port: u16) -> bool {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let connecting = socket.connect(([127, 0, 0, 1], port).into());
    matches!(tokio::time::timeout(PATIENCE, connecting).await, Ok(Ok(_)))
}

/// Connections from one address at a rate of their own; how many came about.
async fn flood(from: IpAddr) -> u64 {
    let mut attempts = JoinSet::new();
    let started = Instant::now();
    let mut sent = 0;
    while started.elapsed() < FLOOD_TIME {
        let due = (started.elapsed().as_secs_f64() * f64::from(FLOOD)) as u64;
        for _ in sent..due {
            attempts.spawn(connects(from, PORT));
        }
        sent = sent.max(due);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let outcomes = attempts.join_all().await;
    println!(
        "figure: guard, connections tried by the flood = {} connections",
        outcomes.len()
    );
    outcomes
        .into_iter()
        .filter(|came_about| *came_about)
        .count() as u64
}

fn verdicts(metrics: &Metrics, verdict: &str) -> u64 {
    metrics.count("tidegate_guard_packets_total", &[("verdict", verdict)])
}

#[test]
fn vm_guard_limits_a_flood_and_leaves_others_alone() {
    in_room(Sys::WithBpfFs, || async {
        let site = Site::new().await;
        let mut process = guarded(&site).await;
        let others = Traffic {
            // Within the limit of new connections; the other port has none.
            new: vec![
                (Site::plain(PORT).from(USUAL), RATE / 2),
                (Site::plain(OTHER_PORT).from(FLOODING), 100),
            ],
            kept: vec![(Site::plain(PORT).from(USUAL), 4)],
            websockets: None,
        };
        let load = Load::start(others);
        let through = flood(FLOODING).await;
        let report = load.end().await;
        let metrics = Metrics::read().await;

        println!("figure: guard, connections of the flood let through = {through} connections");
        println!(
            "figure: guard, p99 of others meanwhile = {:.1} ms",
            milliseconds(report.kept.latency(0.99))
        );
        println!(
            "figure: guard, p99 of others' new connections meanwhile = {:.1} ms",
            milliseconds(report.new.latency(0.99))
        );
        report.assert_nothing_failed();
        // What is tried again by the client's kernel counts as well, so there may be fewer.
        let most = f64::from(BURST) + f64::from(RATE) * (FLOOD_TIME + PATIENCE).as_secs_f64();
        assert!(
            through >= u64::from(BURST) / 2,
            "{through} of the flood came through"
        );
        assert!(
            through as f64 <= most * 1.1,
            "{through} of the flood came through, not {most}"
        );
        assert!(verdicts(&metrics, "limited") > 500, "{metrics:?}");
        assert!(verdicts(&metrics, "passed") >= through, "{metrics:?}");
        assert_eq!(verdicts(&metrics, "denied"), 0);
        process.terminate();
        process.ended_well().await;
        assert_no_pins();
    });
}

#[test]
fn vm_guard_denies_a_prefix_and_goes_with_its_process() {
    in_room(Sys::WithBpfFs, || async {
        let site = Site::new().await;
        let process = guarded(&site).await;
        assert!(
            !connects(DENIED, PORT).await,
            "an address that is denied came through"
        );
        assert!(connects(EXCEPTED, PORT).await, "the exception was denied");
        assert!(
            connects(USUAL, PORT).await,
            "an address that no rule names was denied"
        );
        assert!(
            connects(DENIED, OTHER_PORT).await,
            "another port was touched"
        );
        let metrics = Metrics::read().await;
        assert!(verdicts(&metrics, "denied") > 0, "{metrics:?}");

        // The guard goes on in the next process, without a gap and after the end of the first.
        let mut first = process;
        let settings = settings(&site);
        let mut second = site
            .take_over(
                "the second process",
                &["--config", settings.to_str().unwrap()],
            )
            .await;
        first.ended_well().await;
        assert!(
            !connects(DENIED, PORT).await,
            "the guard went with the first process"
        );
        assert!(connects(EXCEPTED, PORT).await);
        second.terminate();
        second.ended_well().await;
        assert_no_pins();
        assert_unguarded().await;
    });
}

/// A process that is killed leaves no guard behind for longer than until the next start.
#[test]
fn vm_guard_of_a_killed_process_is_cleaned() {
    in_room(Sys::WithBpfFs, || async {
        let site = Site::new().await;
        let mut killed = guarded(&site).await;
        killed.kill();
        // The next one has none.
        let mut process = site.start(&[]).await;
        Target::from(Site::plain(PORT), DENIED)
            .once()
            .await
            .unwrap();
        process.terminate();
        process.ended_well().await;
        assert_no_pins();
        assert_unguarded().await;
    });
}

/// Whoever listens on the port now is reached from everywhere.
async fn assert_unguarded() {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", PORT))
        .await
        .unwrap();
    assert!(
        connects(DENIED, PORT).await,
        "the guard outlived its processes"
    );
    drop(listener);
}
