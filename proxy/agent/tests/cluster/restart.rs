//! A node without an API server: what was served is served again.

use std::collections::BTreeSet;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use tidegate_testbed::Part;

use crate::support::bed::{Bed, SYSTEM, with_tidegate};
use crate::support::{eventually, figure, make, web};

const HOSTS: usize = 200;

/// Kills a process without warning.
pub(crate) fn kill(process: u32) {
    signal(process, Signal::KILL);
}

pub(crate) fn signal(process: u32, signal: Signal) {
    let process = Pid::from_raw(i32::try_from(process).unwrap()).unwrap();
    kill_process(process, signal).unwrap();
}

#[test]
fn an_agent_that_is_killed_serves_again_without_the_api_server() {
    with_tidegate(1, async |bed: Bed| {
        bed.backend("web", 2).await;
        let pair = make::Pair::new("tls.test");
        bed.create(&pair.secret("tls")).await;
        bed.create(&make::tls_ingress("tls", "tls.test", "web", "tls"))
            .await;
        for number in 0..HOSTS {
            let (name, host) = (format!("host-{number}"), format!("host-{number}.test"));
            bed.create(&make::ingress(&name, &host, "web")).await;
        }
        for number in (0..HOSTS).rev() {
            bed.everywhere(&format!("host-{number}.test"), 200).await;
        }
        let node = bed.testbed.nodes()[0].name.clone();
        let before = bed.process(&node).await;
        let agent = bed
            .agents()
            .await
            .remove(&node)
            .unwrap()
            .metadata
            .name
            .unwrap();

        let control_plane = bed.testbed.control_plane();
        control_plane.kill(Part::ApiServer).unwrap();
        control_plane.kill(Part::Etcd).unwrap();
        kill(before);
        let killed = Instant::now();
        let http = bed.http()[0];
        let answers = async || web::status(http, "host-0.test").await == Some(200);
        eventually("the agent serves again", answers).await;
        figure(
            "first answer after kill -9 without an API server, with the kubelet's pause",
            killed.elapsed(),
        );

        let processes: BTreeSet<_> = bed.testbed.processes(SYSTEM, &agent).into_iter().collect();
        assert!(!processes.contains(&before), "another process serves");
        for number in 0..HOSTS {
            let host = format!("host-{number}.test");
            assert_eq!(web::status(http, &host).await, Some(200), "{host}");
        }
        assert_eq!(
            web::tls_status(bed.https()[0], "tls.test", &pair).await,
            Some(200)
        );
        assert_eq!(web::status(http, "other.test").await, Some(404));

        // And it goes on from there once the API server is back.
        let control_plane = bed.testbed.control_plane();
        control_plane.start(Part::Etcd).unwrap();
        control_plane.start(Part::ApiServer).unwrap();
        bed.create(&make::ingress("late", "late.test", "web")).await;
        bed.everywhere("late.test", 200).await;
    });
}
