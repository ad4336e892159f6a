//! Every listener of an instance is steered, of either family.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::support::client::Target;
use crate::support::metrics::Metrics;
use crate::support::room::{Sys, in_room};
use crate::support::site::{Site, WEB, assert_no_pins};

const EACH: u64 = 20;

#[test]
fn vm_listeners_of_both_families_are_steered() {
    in_room(Sys::WithBpfFs, || async {
        let site = Site::new().await;
        let listeners = [
            "--http",
            "127.0.0.1:80",
            "--http",
            "[::1]:80",
            "--https",
            "127.0.0.1:443",
            "--https",
            "[::1]:443",
        ];
        let mut first = site.start(&listeners).await;
        serve_steered(&site).await;
        let mut second = site.take_over("the second process", &listeners).await;
        first.ended_well().await;
        serve_steered(&site).await;
        second.terminate();
        second.ended_well().await;
        assert_no_pins();
    });
}

/// One listener for both families, as with a port alone.
#[test]
fn vm_listener_of_both_families_is_steered() {
    in_room(Sys::WithBpfFs, || async {
        let site = Site::new().await;
        let mut process = site.start(&[]).await;
        serve_steered(&site).await;
        process.terminate();
        process.ended_well().await;
        assert_no_pins();
    });
}

async fn serve_steered(site: &Site) {
    let at = |ip: std::net::IpAddr, port| SocketAddr::new(ip, port);
    let (four, six) = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
    let targets = [
        Target::plain(at(four, 80), WEB),
        Target::plain(at(six, 80), WEB),
        site.secure_at(at(four, 443)),
        site.secure_at(at(six, 443)),
    ];
    for (number, target) in targets.iter().enumerate() {
        let before = steered().await;
        for _ in 0..EACH {
            target.once().await.unwrap();
        }
        assert_eq!(
            steered().await - before,
            EACH,
            "listener {number} is not steered"
        );
    }
}

async fn steered() -> u64 {
    let metrics = Metrics::read().await;
    metrics.count(
        "tidegate_steering_connections_total",
        &[("outcome", "steered")],
    )
}
