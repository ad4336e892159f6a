//! One process takes over from another: nobody is turned away, whoever dies on the way.

use std::path::Path;
use std::time::{Duration, Instant};

use tidegate::demo::client::{echo_text, websocket};

use crate::support::client::{Next, Target};
use crate::support::load::{Load, Traffic};
use crate::support::metrics::Metrics;
use crate::support::process::{Process, eventually};
use crate::support::report::milliseconds;
use crate::support::room::{Sys, in_room};
use crate::support::site::{LIVE, PINS, Site, assert_no_pins, pins, ready};

/// What a load goes on for before and after what it is there for.
const AROUND: Duration = Duration::from_millis(500);

/// A load that even a slow machine bears.
pub(crate) fn light(site: &Site) -> Traffic {
    Traffic {
        new: vec![(Site::plain(80), 50), (site.secure(443), 20)],
        kept: vec![(Site::plain(80), 4)],
        websockets: None,
    }
}

#[test]
fn vm_hand_over_loses_nothing() {
    in_room(Sys::WithBpfFs, || async {
        let site = Site::new().await;
        let mut first = site.start(&[]).await;
        let mut socket = websocket(([127, 0, 0, 1], 80).into(), LIVE, "/")
            .await
            .unwrap();
        let load = Load::start(light(&site));
        tokio::time::sleep(AROUND).await;

        let begun = Instant::now();
        let mut second = site.take_over("the second process", &[]).await;
        let took = begun.elapsed();
        first.logs("hand-over: retired").await;
        assert!(!pins(Path::new(PINS)).is_empty(), "no map is pinned");
        tokio::time::sleep(AROUND).await;
        let mut third = site.take_over("the third process", &[]).await;
        assert!(generation_in_force(&third) > generation_in_force(&second));
        tokio::time::sleep(AROUND).await;

        // The WebSocket lives on in the process that accepted it.
        assert_eq!(
            echo_text(&mut socket, "still here").await.unwrap(),
            "still here"
        );
        assert!(first.is_running(), "{}", first.log());
        second.ended_well().await;
        socket.close(None).await.unwrap();
        drop(socket);
        first.ended_well().await;
        let report = load.end().await;
        println!(
            "figure: hand-over, start to flip = {:.0} ms",
            milliseconds(took)
        );
        report.print("hand-over");
        report.assert_nothing_failed();
        assert!(
            report.new.answered > 50,
            "hardly a load: {}",
            report.new.answered
        );
        third.terminate();
        third.ended_well().await;
        assert_no_pins();
    });
}

fn generation_in_force(process: &Process) -> u64 {
    let log = process.log();
    let line = log
        .lines()
        .find(|line| line.contains("hand-over: in force"))
        .unwrap_or_else(|| panic!("it is not in force\n{log}"));
    let field = line
        .split("generation=")
        .nth(1)
        .unwrap_or_else(|| panic!("no generation: {line}"));
    let digits: String = field.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

/// The admin port moves at the flip as well.
#[test]
fn vm_hand_over_moves_the_admin_pages() {
    in_room(Sys::WithBpfFs, || async {
        let site = Site::new().await;
        let mut first = site.start(&[]).await;
        assert_eq!(state().await, "serving");
        let mut second = site.take_over("the second process", &[]).await;
        first.ended_well().await;
        let is_serving = async || state().await == "serving";
        eventually("the second process has the admin port", is_serving, || {
            second.log()
        })
        .await;
        second.terminate();
        second.ended_well().await;
        assert_no_pins();
    });
}

/// Of whoever has the admin port; empty while it moves.
async fn state() -> String {
    let Ok(metrics) = Metrics::try_read().await else {
        return String::new();
    };
    let states = ["preparing", "serving", "retired", "draining"];
    let in_force = states
        .into_iter()
        .find(|state| metrics.count("tidegate_hand_over_state", &[("state", state)]) == 1);
    in_force.unwrap_or_default().to_owned()
}

#[test]
fn vm_hand_over_newcomer_killed_before_the_flip() {
    in_room(Sys::WithBpfFs, || async {
        let site = Site::new().await;
        let slow = site.slow_manifests();
        let mut first = site.start(&[]).await;
        let load = Load::start(light(&site));
        tokio::time::sleep(AROUND).await;
        let mut newcomer = site.prepare(&slow, &[]).await;
        newcomer.kill();
        assert!(
            !newcomer.has_logged("hand-over: in force"),
            "{}",
            newcomer.log()
        );
        tokio::time::sleep(AROUND).await;
        let report = load.end().await;
        report.assert_nothing_failed();
        assert!(!first.has_logged("hand-over: retired"), "{}", first.log());

        // Another one can still take over.
        let mut second = site.take_over("the second process", &[]).await;
        first.ended_well().await;
        Site::plain(80).once().await.unwrap();
        second.terminate();
        second.ended_well().await;
        assert_no_pins();
    });
}

#[test]
fn vm_hand_over_newcomer_killed_after_the_flip() {
    in_room(Sys::WithBpfFs, || async {
        let site = Site::new().await;
        let mut first = site.start(&[]).await;
        let mut socket = websocket(([127, 0, 0, 1], 80).into(), LIVE, "/")
            .await
            .unwrap();
        let load = Load::start(light(&site));
        let mut second = site.take_over("the second process", &[]).await;
        first.logs("hand-over: retired").await;
        tokio::time::sleep(AROUND).await;

        let death = load.kill(&mut second);
        first.logs("hand-over: takes back").await;
        println!(
            "figure: taking back = {:.0} ms",
            milliseconds(death.at().elapsed())
        );
        tokio::time::sleep(AROUND).await;
        let report = load.end().await;
        report.print("newcomer killed after the flip");
        report.assert_only_theirs_failed(&[death]);
        assert!(report.unopened.is_empty(), "{:?}", report.unopened);

        // It is as before: it answers, keeps connections, and another one can take over.
        assert_eq!(
            echo_text(&mut socket, "still here").await.unwrap(),
            "still here"
        );
        let mut kept = Site::plain(80).open().await.unwrap();
        let next = kept.request().await.unwrap();
        assert_eq!(next, Next::Possible);
        drop((kept, socket));
        let mut third = site.take_over("the third process", &[]).await;
        first.ended_well().await;
        third.terminate();
        third.ended_well().await;
        assert_no_pins();
    });
}

/// Nobody has the ports for a moment; connections wait for the process that is about to have them.
#[test]
fn vm_hand_over_owner_killed_while_another_prepares() {
    in_room(Sys::WithBpfFs, || async {
        let site = Site::new().await;
        let slow = site.slow_manifests();
        let mut first = site.start(&[]).await;
        let mut second = site.prepare(&slow, &[]).await;
        first.kill();
        second.logs("hand-over: the old process has ended").await;
        ready(&mut second).await;
        serves_steered(&Site::plain(80)).await;
        site.secure(443).once().await.unwrap();

        let mut third = site.take_over("the third process", &[]).await;
        second.ended_well().await;
        third.terminate();
        third.ended_well().await;
        assert_no_pins();
    });
}

/// As a container does, that is started again when it ends by itself.
#[test]
fn vm_hand_over_a_process_that_waits_stays_in_reserve() {
    in_room(Sys::WithBpfFs, || async {
        let waits = ["--after-hand-over", "wait"];
        let site = Site::new().await;
        let mut first = site.start(&waits).await;
        let load = Load::start(light(&site));
        let mut second = site.take_over("the second process", &waits).await;
        first.logs("hand-over: retired").await;
        tokio::time::sleep(2 * AROUND).await;
        assert!(first.is_running(), "{}", first.log());

        // Nothing is open there any more, but its ports are.
        let death = load.kill(&mut second);
        first.logs("hand-over: takes back").await;
        tokio::time::sleep(AROUND).await;
        load.end().await.assert_only_theirs_failed(&[death]);

        let mut third = site.take_over("the third process", &waits).await;
        first.logs("hand-over: retired").await;
        first.terminate();
        first.ended_well().await;
        Site::plain(80).once().await.unwrap();
        third.terminate();
        third.ended_well().await;
        assert_no_pins();
    });
}

#[test]
fn vm_hand_over_stale_pins_are_cleaned() {
    in_room(Sys::WithBpfFs, || async {
        let site = Site::new().await;
        let mut first = site.start(&[]).await;
        first.kill();
        assert!(!pins(Path::new(PINS)).is_empty(), "nothing was left behind");

        let mut second = site.start(&[]).await;
        assert!(
            !second.has_logged("hand-over: takes over"),
            "{}",
            second.log()
        );
        assert_eq!(Metrics::read().await.steering().0, "least-loaded");
        site.secure(443).once().await.unwrap();
        serves_steered(&Site::plain(80)).await;
        second.terminate();
        second.ended_well().await;
        assert_no_pins();
    });
}

async fn serves_steered(target: &Target) {
    const STEERED: &str = "tidegate_steering_connections_total";
    let steered = [("outcome", "steered")];
    let before = Metrics::read().await.count(STEERED, &steered);
    for _ in 0..20 {
        target.once().await.unwrap();
    }
    let after = Metrics::read().await.count(STEERED, &steered);
    assert_eq!(after - before, 20, "not every connection was steered");
}

/// A process that shares no address with the owner is another instance that has the same name by mistake.
#[test]
fn vm_hand_over_leaves_other_addresses_alone() {
    in_room(Sys::WithBpfFs, || async {
        let site = Site::new().await;
        let mut first = site.start(&[]).await;
        let elsewhere = [
            "--http",
            "8080",
            "--https",
            "off",
            "--admin",
            "127.0.0.1:9091",
        ];
        let mut stranger = Process::start("the stranger", site.serve(&elsewhere));
        let says = async || stranger.has_logged("give it one of its own with --instance");
        eventually("it says what to do", says, || stranger.log()).await;
        let serves = async || Site::plain(8080).once().await.is_ok();
        eventually("it serves beside the first", serves, || stranger.log()).await;
        Site::plain(80).once().await.unwrap();
        stranger.terminate();
        stranger.ended_well().await;
        Site::plain(80).once().await.unwrap();
        first.terminate();
        first.ended_well().await;
        assert_no_pins();
    });
}
