//! What a process may and may not do, and what it does about it.

use std::process::Command;
use std::time::Duration;

use crate::hand_over::light;
use crate::support::client::Kind;
use crate::support::load::Load;
use crate::support::metrics::Metrics;
use crate::support::process::{Process, command, program};
use crate::support::room::{Sys, also_at, in_room};
use crate::support::site::{PINS, Site, assert_no_pins, pins, ready};

/// What an instance needs besides root's right to be root.
const ALL: &str = "-all,+bpf,+net_admin,+net_bind_service";
const PORTS_ALONE: &str = "-all,+net_bind_service";
/// The user `nobody`.
const USER: &str = "65534";

/// `tidegate serve` as a user with capabilities, all of which it has from its start.
fn as_user(site: &Site, capabilities: &str, more: &[&str]) -> Command {
    let reachable = site.path("tidegate");
    if !reachable.exists() {
        also_at(&program(), &reachable);
    }
    // From util-linux.
    let mut setpriv = command("setpriv");
    setpriv.args(["--reuid", USER, "--regid", USER, "--clear-groups"]);
    for set in ["--inh-caps", "--ambient-caps", "--bounding-set"] {
        setpriv.args([set, capabilities]);
    }
    setpriv.args(["--pdeathsig", "KILL", "--no-new-privs"]);
    setpriv.arg(reachable).args(site.arguments(more));
    setpriv
}

async fn start(site: &Site, capabilities: &str, more: &[&str]) -> Process {
    let name = format!("the process of user {USER} with {capabilities}");
    let mut process = Process::start(name, as_user(site, capabilities, more));
    ready(&mut process).await;
    process
}

async fn take_over(site: &Site, capabilities: &str, more: &[&str]) -> Process {
    let name = format!("the newcomer of user {USER} with {capabilities}");
    let mut process = Process::start(name, as_user(site, capabilities, more));
    process.logs("hand-over: in force").await;
    process
}

async fn end(mut process: Process) {
    process.terminate();
    process.ended_well().await;
    assert_no_pins();
}

#[test]
fn three_capabilities_are_enough() {
    in_room(Sys::WithBpfFs, || async {
        let site = Site::new().await;
        let first = start(&site, ALL, &[]).await;
        assert_eq!(Metrics::read().await.steering(), asked(), "{}", first.log());
        assert!(
            !pins(PINS.as_ref()).is_empty(),
            "no map is pinned\n{}",
            first.log()
        );

        hands_over_whole(&site, first, "hand-over with three capabilities").await;
    });
}

#[test]
fn without_capabilities_the_kernel_chooses() {
    in_room(Sys::WithBpfFs, || async {
        let site = Site::new().await;
        let mut first = start(&site, PORTS_ALONE, &[]).await;
        let (mode, reason) = Metrics::read().await.steering();
        assert_eq!(
            (&*mode, &*reason),
            ("kernel", "no-capability"),
            "{}",
            first.log()
        );
        for said in ["mode=\"kernel\"", "no-capability", "BPF"] {
            first.logs(said).await;
        }
        Site::plain(80).once().await.unwrap();
        site.secure(443).once().await.unwrap();

        // One process still takes over from another; what that loses is the kernel's to say.
        let load = Load::start(light(&site));
        let second = take_over(&site, PORTS_ALONE, &[]).await;
        first.ended_well().await;
        let report = load.end().await;
        report.print("hand-over without capabilities");
        assert_eq!(report.failed(Kind::Refused), 0);
        end(second).await;
    });
}

/// Steering as the settings ask for.
fn asked() -> (String, String) {
    ("least-loaded".to_owned(), "asked".to_owned())
}

/// A second process takes over from the first under load: nothing is lost, and it steers.
async fn hands_over_whole(site: &Site, mut first: Process, name: &str) {
    let load = Load::start(light(site));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let second = take_over(site, ALL, &[]).await;
    first.ended_well().await;
    assert_eq!(
        Metrics::read().await.steering(),
        asked(),
        "{}",
        second.log()
    );
    let report = load.end().await;
    report.print(name);
    report.assert_nothing_failed();
    end(second).await;
}

/// Steering and hand-over without pins.
async fn serves_without_pins() {
    let site = Site::new().await;
    let mut first = start(&site, ALL, &[]).await;
    assert_eq!(Metrics::read().await.steering(), asked(), "{}", first.log());
    first.logs("/sys/fs/bpf").await;

    hands_over_whole(&site, first, "hand-over without pins").await;
}

#[test]
fn without_bpffs_hand_over_loses_nothing() {
    in_room(Sys::WithoutBpfFs, serves_without_pins);
}

#[test]
fn with_a_read_only_sys_hand_over_loses_nothing() {
    in_room(Sys::ReadOnly, serves_without_pins);
}

fn guard(site: &Site) -> String {
    let path = site.path("guard.yaml");
    let text = "guard:\n  interfaces: [lo]\n  mode: generic\n  listeners: [{port: 80, deny: [127.0.3.0/24]}]\n";
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_guard_without_its_capability_says_so_and_the_rest_serves_on() {
    in_room(Sys::WithBpfFs, || async {
        let site = Site::new().await;
        let settings = guard(&site);
        let mut first = start(&site, ALL, &["--config", &settings]).await;
        first.logs("PERFMON").await;
        assert_eq!(Metrics::read().await.steering().0, "least-loaded");
        Site::plain(80).once().await.unwrap();
        end(first).await;
    });
}

#[test]
fn a_guard_with_its_capability_is_in_force() {
    in_room(Sys::WithBpfFs, || async {
        let site = Site::new().await;
        let settings = guard(&site);
        let capabilities = format!("{ALL},+perfmon");
        let process = start(&site, &capabilities, &["--config", &settings]).await;
        let denied = Site::plain(80).from([127, 0, 3, 1].into());
        let attempt = tokio::time::timeout(Duration::from_millis(500), denied.once());
        assert!(
            attempt.await.is_err(),
            "an address that is denied came through\n{}",
            process.log()
        );
        Site::plain(80).once().await.unwrap();
        end(process).await;
    });
}
