//! RFC 2136 with Knot.

use std::time::{Duration, Instant};

use tidegate_certificates::dns::DnsError;
use tidegate_certificates::issuer::{DnsProvider, TsigAlgorithm};
use tidegate_certificates::ledger::FailureKind;
use tidegate_testbed::knot::KEY;

use crate::site::{Secondary, Site, ZONE, host, solver, store};

#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_and_its_name_have_their_values_side_by_side() {
    let site = Site::new("_acme-challenge TXT \"theirs\"", &[], Secondary::Runs);
    let solver = solver(&site.settings()).await.expect("good settings");
    let name = solver.present(&host(ZONE), "for-the-name").await;
    let name = name.expect("the name's record");
    let pattern = host("*.example.test");
    let wildcard = solver.present(&pattern, "for-the-wildcard").await;
    let wildcard = wildcard.expect("the wildcard's record");
    assert_eq!(name.place().record(), "_acme-challenge.example.test.");
    assert_eq!(name.place().zone(), "example.test.");
    assert_eq!(name.place().servers().len(), 2);
    let both = ["for-the-name", "for-the-wildcard", "theirs"];
    assert_eq!(site.values(ZONE, "_acme-challenge"), both);
    solver.propagated(&name).await.expect("on both servers");
    solver.propagated(&wildcard).await.expect("on both servers");

    // Twice is once, in both directions.
    solver
        .present(&host(ZONE), "for-the-name")
        .await
        .expect("it is there");
    assert_eq!(site.values(ZONE, "_acme-challenge"), both);
    for _ in 0..2 {
        solver.remove(&name).await.expect("it goes");
        let left = ["for-the-wildcard", "theirs"];
        assert_eq!(site.values(ZONE, "_acme-challenge"), left);
    }
    solver.remove(&wildcard).await.expect("it goes");
    assert_eq!(site.values(ZONE, "_acme-challenge"), ["theirs"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_slowest_server_is_waited_for() {
    let site = Site::new("", &[], Secondary::IsDown);
    let solver = solver(&site.settings()).await.expect("good settings");
    let placed = solver.present(&host("www.example.test"), "v").await;
    let placed = placed.expect("the primary is enough to make it");
    let begun = Instant::now();
    let delay = Duration::from_secs(2);
    let late = async {
        tokio::time::sleep(delay).await;
        tokio::task::block_in_place(|| site.start_secondary());
    };
    let (propagated, ()) = tokio::join!(solver.propagated(&placed), late);
    propagated.expect("it is on both once both run");
    assert!(begun.elapsed() >= delay, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_lack_the_record_are_named() {
    let site = Site::new("", &[], Secondary::IsDown);
    let mut settings = site.settings();
    settings.propagation_timeout = Duration::from_secs(2);
    let solver = solver(&settings).await.expect("good settings");
    let placed = solver.present(&host("www.example.test"), "v").await;
    let error = solver.propagated(&placed.expect("made")).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::NotProven);
    let text = error.to_string();
    let lacks = format!("ns2.example.test. ({})", site.secondary.address());
    assert!(text.contains(&lacks), "{text}");
    assert!(!text.contains("ns1.example.test."), "{text}");
    assert!(text.contains("_acme-challenge.www.example.test."), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_looked_for_before_it_was_made_is_found() {
    // 300 s: how long a resolver may remember that the name was not there.
    let site = Site::new("", &[], Secondary::Runs);
    let solver = solver(&site.settings()).await.expect("good settings");
    for value in ["first", "second"] {
        let placed = solver.present(&host("new.example.test"), value).await;
        let placed = placed.expect("made");
        solver.propagated(&placed).await.expect("seen");
        solver.remove(&placed).await.expect("removed");
        assert_eq!(site.values(ZONE, "_acme-challenge.new"), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_told_from_a_wrong_name_and_shown_neither() {
    let site = Site::new("", &[], Secondary::IsDown);
    let other = "b3RoZXIgc2VjcmV0IG90aGVyIHNlY3JldCBvdGhlciBzZWM=";
    let wrong_key = store(&[("key", other)]);
    let error = present(&site, KEY.0, &wrong_key).await;
    let text = error.to_string();
    assert_eq!(error.kind(), FailureKind::Settings);
    assert!(text.contains("another secret for the TSIG key"), "{text}");
    assert!(
        text.contains("rfc2136") && text.contains("zone example.test."),
        "{text}"
    );
    assert!(!text.contains(other) && !text.contains(KEY.1), "{text}");

    let error = present(&site, "nobody", &store(&[("key", KEY.1)])).await;
    let text = error.to_string();
    assert!(
        text.contains("does not know the TSIG key 'nobody.'"),
        "{text}"
    );

    let error = present(&site, KEY.0, &store(&[])).await;
    let text = error.to_string();
    assert!(
        text.contains("the entry 'key' of Secret 'dns' is not there"),
        "{text}"
    );
    assert_eq!(site.values(ZONE, "_acme-challenge"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_down_may_be_up_later() {
    let site = Site::new("", &[], Secondary::Runs);
    let mut settings = site.settings();
    let nowhere = "127.78.0.0:1".parse().expect("an address");
    if let DnsProvider::Rfc2136 { server, .. } = &mut settings.provider {
        *server = nowhere;
    }
    let solver = solver(&settings).await.expect("good settings");
    let error = solver.present(&host(ZONE), "v").await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::NotProven);
    assert!(error.to_string().contains("127.78.0.0:1"), "{error}");
}

async fn present(
    site: &Site,
    key_name: &str,
    store: &tidegate_certificates::MemoryStore,
) -> DnsError {
    let mut settings = site.settings();
    if let DnsProvider::Rfc2136 {
        key_name: name,
        algorithm,
        ..
    } = &mut settings.provider
    {
        *name = key_name.to_owned();
        *algorithm = TsigAlgorithm::HmacSha256;
    }
    let solver = tidegate_certificates::dns::Dns01Solver::new(&settings, store).await;
    match solver {
        Ok(solver) => solver.present(&host(ZONE), "v").await.unwrap_err(),
        Err(error) => error,
    }
}
