//! What a CA sees, for dry runs.

use std::collections::BTreeSet;

use tidegate_certificates::dns::{CaaVerdict, DnsError, Lookup, Names};
use tidegate_model::Hostname;

use crate::site::{Secondary, Site, host};

#[tokio::test(flavor = "multi_thread")]
async fn addresses_zones_and_challenges_are_found() {
    let records = "www A 192.0.2.1\nwww AAAA 2001:db8::1\nalias CNAME www\n\
                   _acme-challenge.www CNAME x.acme.test.";
    let site = Site::new(records, &[("acme.test", "")], Secondary::Runs);
    let lookup = Lookup::new(&site.resolvers()).expect("resolvers");
    let name = |text: &str| Hostname::parse(text).expect("a name");
    let both = BTreeSet::from(["192.0.2.1", "2001:db8::1"].map(|one| one.parse().expect("one")));
    for alias in ["www.example.test", "alias.example.test"] {
        let found = lookup.addresses(&name(alias)).await;
        assert_eq!(found.expect("found"), both, "{alias}");
    }
    let none = lookup.addresses(&name("none.example.test")).await;
    assert!(none.expect("an answer").is_empty());
    let zone = lookup
        .zone(&name("a.b.example.test"))
        .await
        .expect("a zone");
    assert_eq!(zone.zone(), "example.test.");
    let servers: Vec<String> = zone.servers().iter().map(ToString::to_string).collect();
    assert_eq!(
        servers,
        [
            format!("ns1.example.test. ({})", site.primary.address()),
            format!("ns2.example.test. ({})", site.secondary.address()),
        ]
    );
    let challenge = lookup.challenge(&host("*.www.example.test")).await;
    assert_eq!(
        challenge.expect("a place").to_string(),
        "x.acme.test. (where _acme-challenge.www.example.test. points by CNAME)"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn caa_records_are_climbed_to() {
    let records = "@ CAA 0 issue \"one.example\"\n@ CAA 0 issuewild \"two.example\"\n\
                   own CAA 0 issue \";\"\na.own A 192.0.2.1\nto CNAME own";
    let site = Site::new(records, &[], Secondary::IsDown);
    let lookup = Lookup::new(&site.resolvers()).expect("resolvers");
    let one = ["one.example".to_owned()];
    for (name, owner, may) in [
        ("example.test", "example.test.", true),
        ("a.b.example.test", "example.test.", true),
        ("own.example.test", "own.example.test.", false),
        ("a.own.example.test", "own.example.test.", false),
        // The records of the alias' target count for the alias (RFC 8659 section 3).
        ("to.example.test", "to.example.test.", false),
    ] {
        let caa = lookup.caa(&host(name)).await.expect(name);
        assert_eq!(caa.owner(), Some(owner), "{name}");
        let verdict = caa.verdict(Names::Exact, &one, "http-01");
        let is_allowed = matches!(verdict, CaaVerdict::Allowed { .. });
        assert_eq!(is_allowed, may, "{name}: {verdict:?}");
    }
    let wildcard = lookup
        .caa(&host("*.a.example.test"))
        .await
        .expect("records");
    let verdict = wildcard.verdict(Names::Wildcard, &one, "dns-01");
    let CaaVerdict::Refused {
        owner,
        records,
        remedy,
    } = verdict
    else {
        panic!("{verdict:?}");
    };
    assert_eq!(owner, "example.test.");
    assert_eq!(records, ["0 issuewild \"two.example\""]);
    assert!(remedy.contains("0 issuewild \"one.example\""), "{remedy}");
}

#[tokio::test(flavor = "multi_thread")]
async fn resolvers_that_do_not_tell_are_an_error() {
    let site = Site::new("", &[], Secondary::IsDown);
    site.primary.kill();
    let lookup = Lookup::new(&site.resolvers()).expect("resolvers");
    let error = lookup.caa(&host("example.test")).await.unwrap_err();
    assert!(matches!(error, DnsError::LookUp { .. }), "{error}");
    assert!(
        error.to_string().contains("CAA of example.test."),
        "{error}"
    );
}
