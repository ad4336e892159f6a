//! Certificates renewed when the CA suggests it, and in time.

use std::time::Duration;

use crate::support::{World, same};

const HOUR: i64 = 60 * 60;

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_the_ca_moves_is_followed() {
    let mut world = World::new().await;
    world.wish("web", &["a.test"]);
    world.lead();
    let first = world.issued("web", &["a.test"]).await;
    world.settled().await;
    world.skip(Duration::from_secs(60));
    world
        .until("an answer to when to renew", || {
            (world.pebble.count("renewalInfo") >= 1).then_some(())
        })
        .await;
    // For a day nothing is done, for the CA suggests two thirds of 90 days.
    world.skip(Duration::from_secs(24 * 60 * 60));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(world.pebble.orders(), 1);

    let time = |seconds: i64| jiff::Timestamp::from_second(seconds).unwrap().to_string();
    let now = world.now().0;
    world
        .pebble
        .set_renewal(&first.pem, &time(now - 2 * HOUR), &time(now - HOUR))
        .unwrap();
    world.skip(Duration::from_secs(24 * 60 * 60 + 60));
    let second = world
        .until("a new certificate", || {
            let certificates = world.store().certificates();
            let secret = certificates.keys().next()?;
            let parsed = crate::support::Parsed::new(secret, &certificates[secret]);
            (!same(&parsed.certificate, &first.certificate)).then_some(parsed)
        })
        .await;
    world.settled().await;
    assert_eq!(world.pebble.orders(), 2);
    assert!(second.certificate.not_after >= first.certificate.not_after);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_six_days_is_renewed_in_time() {
    let mut world = World::new().await;
    world.set_issuer(|issuer| issuer.profile = Some("shortlived".to_owned()));
    world.wish("web", &["a.test"]);
    world.lead();
    let first = world.issued("web", &["a.test"]).await;
    let life = first.certificate.not_after.0 - first.certificate.not_before.0;
    assert!((life - 6 * 24 * HOUR).abs() < 60, "{life} s");
    world.settled().await;
    let mut renewed_at = None;
    for _ in 0..6 * 8 {
        world.skip(Duration::from_secs(3 * 60 * 60));
        tokio::time::sleep(Duration::from_millis(300)).await;
        if world.pebble.orders() > 1 {
            renewed_at = Some(world.now().0 - first.certificate.not_before.0);
            break;
        }
    }
    let renewed_at = renewed_at.expect("a renewal within the certificate's life");
    println!(
        "renewed {} h after it was issued, of {} h",
        renewed_at / HOUR,
        life / HOUR
    );
    assert!(
        renewed_at >= life / 2 && renewed_at <= life * 9 / 10,
        "{renewed_at} of {life}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_wants_is_not_renewed_and_removed_after_its_grace() {
    let mut world = World::new().await;
    world.wish("web", &["a.test"]);
    world.lead();
    world.issued("web", &["a.test"]).await;
    world.settled().await;
    world.wish_nothing();
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.skip(Duration::from_secs(6 * 24 * 60 * 60));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(
        world.store().certificates().len(),
        1,
        "removed within its grace"
    );
    world.skip(Duration::from_secs(2 * 24 * 60 * 60));
    world
        .until("the Secret's end", || {
            world.store().certificates().is_empty().then_some(())
        })
        .await;
    assert_eq!(world.pebble.orders(), 1);
}
