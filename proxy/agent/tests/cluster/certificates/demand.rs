//! Certificates that a first handshake asks for.

use std::time::{Duration, Instant};

use super::with_ca;
use crate::leader::leader;
use crate::support::bed::Bed;
use crate::support::ca::{Ca, trusted_status};
use crate::support::{eventually, figure, make};

const SETTINGS: &str = "certificates:\n  onDemand:\n    suffixes: [guests.test]\n    wait: 20s\n";

#[test]
fn the_first_handshake_for_an_allowed_name_gets_a_certificate() {
    with_ca(2, "http-01", SETTINGS, async |bed: Bed, ca: Ca| {
        let mut wild = make::ingress("guests", "*.guests.test", "web");
        wild.metadata.name = Some("guests".to_owned());
        bed.create(&wild).await;
        bed.everywhere("one.guests.test", 200).await;
        let mut leading = None;
        eventually("somebody leads", async || {
            leading = leader(&bed).await;
            leading.is_some()
        })
        .await;
        let leading = leading.unwrap().1;
        let client = ca.client();
        for (node, host) in bed.testbed.nodes().iter().zip(["one", "two"]) {
            let host = format!("{host}.guests.test");
            ca.resolve(&host, &bed.node_addresses());
            let begun = Instant::now();
            let at = (node.address, 443).into();
            let status = trusted_status(&client, at, &host).await;
            let role = if node.name == leading {
                "leader"
            } else {
                "follower"
            };
            figure(
                &format!("first handshake on demand at the {role}"),
                begun.elapsed(),
            );
            assert_eq!(status, Some(200), "{host} at the {role}");
        }
        let orders = ca.pebble.orders();
        assert_eq!(orders, 2);

        // Names that are not allowed: whatever the rate, nothing happens.
        let target = bed.https()[0];
        let begun = Instant::now();
        let mut shaken = 0_u32;
        while begun.elapsed() < Duration::from_secs(3) {
            let flood = (0..50).map(|index| {
                let host = format!("{index}-{shaken}.strangers.test");
                let client = client.clone();
                async move { trusted_status(&client, target, &host).await }
            });
            for status in futures_util::future::join_all(flood).await {
                assert_eq!(status, None);
            }
            shaken += 50;
        }
        println!(
            "{:.0} handshakes a second for strangers",
            f64::from(shaken) / begun.elapsed().as_secs_f64()
        );
        assert_eq!(
            trusted_status(&client, target, "one.guests.test").await,
            Some(200)
        );
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(ca.pebble.orders(), orders);
    });
}
