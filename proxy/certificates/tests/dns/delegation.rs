//! CNAME records into other zones, zones below zones, and what leads nowhere.

use tidegate_certificates::dns::DnsError;

use crate::site::{Secondary, Site, ZONE, host, solver};

#[tokio::test(flavor = "multi_thread")]
async fn a_cname_leads_into_another_zone() {
    let records = "_acme-challenge.www CNAME one.acme.test.";
    let others = [("acme.test", "one CNAME two\nother TXT \"theirs\"")];
    let site = Site::new(records, &others, Secondary::Runs);
    let solver = solver(&site.settings()).await.expect("good settings");
    let placed = solver.present(&host("*.www.example.test"), "v").await;
    let placed = placed.expect("made");
    assert_eq!(placed.place().record(), "two.acme.test.");
    assert_eq!(placed.place().zone(), "acme.test.");
    assert_eq!(site.values("acme.test", "two"), ["v"]);
    assert_eq!(site.values(ZONE, "_acme-challenge.www"), [""; 0]);
    solver.propagated(&placed).await.expect("on both servers");
    solver.remove(&placed).await.expect("removed");
    assert_eq!(site.values("acme.test", "two"), [""; 0]);
    assert_eq!(site.values("acme.test", "other"), ["theirs"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_below_is_found_on_the_same_servers_and_by_referral() {
    // One zone for a whole subtree, one that is for nothing but the challenge.
    let delegated =
        "sub NS ns1\nsub NS ns2\n_acme-challenge.own NS ns1\n_acme-challenge.own NS ns2";
    let others = [
        ("sub.example.test", ""),
        ("_acme-challenge.own.example.test", ""),
    ];
    let site = Site::new(delegated, &others, Secondary::Runs);
    let solver = solver(&site.settings()).await.expect("good settings");
    for (name, zone) in [
        ("a.b.sub.example.test", "sub.example.test."),
        ("sub.example.test", "sub.example.test."),
        ("own.example.test", "_acme-challenge.own.example.test."),
    ] {
        let placed = solver.present(&host(name), "v").await.expect(name);
        assert_eq!(placed.place().zone(), zone, "{name}");
        solver.propagated(&placed).await.expect(name);
        solver.remove(&placed).await.expect(name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_an_alias_keeps_its_own_zone() {
    // The SOA record that a resolver shows for such a host is that of the alias' target.
    let others = [("elsewhere.test", "")];
    let site = Site::new("www CNAME elsewhere.test.", &others, Secondary::Runs);
    let solver = solver(&site.settings()).await.expect("good settings");
    let placed = solver.present(&host("www.example.test"), "v").await;
    let placed = placed.expect("made");
    assert_eq!(placed.place().zone(), "example.test.");
    solver.remove(&placed).await.expect("removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn circles_and_long_chains_end() {
    let mut records =
        "_acme-challenge.loop CNAME a.loop\na.loop CNAME _acme-challenge.loop\n".to_owned();
    records.push_str("_acme-challenge.long CNAME c0\n");
    for number in 0..12 {
        records.push_str(&format!("c{number} CNAME c{}\n", number + 1));
    }
    let site = Site::new(&records, &[], Secondary::IsDown);
    let solver = solver(&site.settings()).await.expect("good settings");
    for (name, trouble) in [("loop", "in a circle"), ("long", "too many")] {
        let name = format!("{name}.example.test");
        let error = solver.present(&host(&name), "v").await.unwrap_err();
        assert!(matches!(error, DnsError::Chain { .. }), "{error}");
        assert!(error.to_string().contains(trouble), "{error}");
    }
}
