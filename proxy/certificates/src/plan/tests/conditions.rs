//! What keeps orders back: limits, issuers that cannot, names that cannot be, handshakes that are not allowed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tidegate_model::{
    CertificateRequest, HostPattern, Hostname, Level, Reason, SecretOwner, UnixTime,
};

use super::world::{
    Outcome, START, World, dns_issuer, failed, failure, issuer, only_order, only_outlook, orders,
    pattern, secret, wish,
};
use crate::issuer::Issuer;
use crate::ledger::{DAY, Failure, FailureKind, HOUR, Ledger, MINUTE, ORDERS_WINDOW, WEEK};
use crate::plan::Action;
use crate::settings::OnDemandSettings;
use crate::store::{Record, RecordKind};

fn reasons(world: &World) -> Vec<(Level, Reason)> {
    let problems = world.plan().problems;
    problems
        .iter()
        .map(|problem| (problem.level, problem.reason))
        .collect()
}

#[test]
fn an_issuer_has_to_be_known_and_able() {
    let mut world = World::new().wishing(wish("web", &["*.example.com"], Some("web")));
    assert!(world.plan().actions.is_empty());
    assert_eq!(reasons(&world), [(Level::Error, Reason::InvalidIssuer)]);

    // A fallback that has DNS-01 may do.
    world.settings.issuers.0 = vec![
        Issuer {
            fallback: vec!["dns".to_owned()],
            ..issuer("first")
        },
        dns_issuer("dns"),
    ];
    assert_eq!(only_order(&world.plan()).issuer.name, "dns");

    world.issuance.wishes[0].issuer = Some("nobody".to_owned());
    let plan = world.plan();
    assert!(orders(&plan).is_empty());
    assert!(
        plan.problems[0].message.contains("first, dns"),
        "{:?}",
        plan.problems
    );

    world.settings.issuers.0.clear();
    assert_eq!(reasons(&world), [(Level::Error, Reason::InvalidIssuer)]);
}

#[test]
fn a_mistyped_issuer_costs_no_secret() {
    let mut world = World::new().wishing(wish("web", &["a.example.com"], Some("web")));
    world.settle(&Outcome::Issued);
    world.issuance.wishes[0].issuer = Some("nobody".to_owned());
    world.settle(&Outcome::Issued);
    world.pass(30 * DAY);
    world.settle(&Outcome::Issued);
    assert!(world.issuance.secrets.contains_key(&secret("web")));
}

#[test]
fn the_first_issuer_that_is_named_for_a_set_counts() {
    let mut one = wish("one", &["a.example.com"], Some("one"));
    one.issuer = Some("first".to_owned());
    let mut two = wish("two", &["a.example.com"], Some("two"));
    two.issuer = Some("second".to_owned());
    let mut world = World::new().wishing(two).wishing(one);
    world.settings.issuers.0.push(issuer("second"));
    let plan = world.plan();
    assert_eq!(only_order(&plan).issuer.name, "first");
    assert_eq!(plan.problems[0].object.name.name, "two");
    assert_eq!(plan.problems[0].level, Level::Warning);
}

#[test]
fn names_that_no_public_ca_issues_for_are_left_out_and_told() {
    let mut world = World::new().wishing(wish("web", &["a.example.com", "db.local"], Some("web")));
    // A CA of one's own may issue for anything.
    assert_eq!(only_order(&world.plan()).names.len(), 2);
    world.settings.issuers.0[0].directory =
        "https://acme-v02.api.letsencrypt.org/directory".to_owned();
    assert_eq!(only_order(&world.plan()).names.len(), 1);
    assert_eq!(reasons(&world), [(Level::Error, Reason::InvalidHost)]);
}

#[test]
fn more_than_a_hundred_names_are_not_ordered() {
    let hosts: Vec<_> = (0..101).map(|at| format!("h{at}.example.com")).collect();
    let hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
    let world = World::new().wishing(wish("web", &hosts, Some("web")));
    assert!(world.plan().actions.is_empty());
    assert_eq!(reasons(&world), [(Level::Error, Reason::InvalidIssuer)]);
}

#[test]
fn the_limits_of_the_ca_are_kept_and_told() {
    let many = |count: usize| {
        (0..count).fold(World::new(), |world, at| {
            let host = format!("h{at}.example.com");
            world.wishing(wish(&format!("w{at}"), &[&host], None))
        })
    };
    let mut world = many(10);
    world.settings.limits.orders_per_3_hours = 4;
    let plan = world.settle(&Outcome::Issued);
    assert_eq!(world.issued, 4);
    assert_eq!(plan.wake_at, Some(UnixTime(START + ORDERS_WINDOW)));
    let waiting = plan.outlook.iter().filter(|outlook| outlook.next == "wait");
    assert_eq!(
        waiting
            .filter(|outlook| outlook.why.contains("takes 4 orders in 3 hours"))
            .count(),
        6
    );
    world.pass(ORDERS_WINDOW);
    world.settle(&Outcome::Issued);
    assert_eq!(world.issued, 8);

    let mut world = many(10);
    world.settings.limits.per_domain_per_week = 3;
    let plan = world.settle(&Outcome::Issued);
    assert_eq!(world.issued, 3);
    assert_eq!(plan.wake_at, Some(UnixTime(START + WEEK)));
}

#[test]
fn duplicates_are_kept_within_the_limit() {
    let mut world = World::new().wishing(wish("web", &["a.example.com"], Some("web")));
    for _ in 0..20 {
        world.settle(&Outcome::Issued);
        world.issuance.secrets.clear();
        world.pass(HOUR);
    }
    assert_eq!(world.issued, 5);
    let plan = world.plan();
    assert_eq!(only_outlook(&plan).next, "wait");
    assert_eq!(plan.wake_at, Some(UnixTime(START + WEEK)));
}

#[test]
fn renewals_are_not_counted_by_domain() {
    let mut world = World::new().wishing(wish("web", &["a.example.com"], Some("web")));
    world.settings.limits.per_domain_per_week = 1;
    world.life = 6 * DAY;
    world.settle(&Outcome::Issued);
    world.pass(4 * DAY);
    world.settle(&Outcome::Issued);
    assert_eq!(world.issued, 2);
}

#[test]
fn failed_validations_are_counted_by_name_over_sets() {
    let mut world = World::new().wishing(wish("web", &["a.example.com"], None));
    world.settings.limits.failures_per_hour = 2;
    for _ in 0..2 {
        world.settle(&failed(FailureKind::Validation));
        world.pass(3 * MINUTE);
    }
    let until = Some(UnixTime(START + HOUR));
    assert_eq!(world.plan().wake_at, until);
    assert!(
        only_outlook(&world.plan())
            .why
            .contains("validation of a.example.com")
    );
    // Another set with the same name waits as well.
    world.issuance.wishes.clear();
    world.wish(wish(
        "other",
        &["a.example.com", "b.example.com"],
        Some("other"),
    ));
    assert!(orders(&world.plan()).is_empty());
    world.pass(HOUR);
    only_order(&world.plan());
}

#[test]
fn a_ca_that_wants_to_be_left_alone_is() {
    let mut world = World::new()
        .wishing(wish("a", &["a.example.com"], None))
        .wishing(wish("b", &["b.example.org"], None));
    let plan = world.plan();
    let limited = Failure {
        retry_after: Some(Duration::from_secs(600)),
        ..failure(FailureKind::RateLimited)
    };
    world.carry_out_one(&plan.actions[0], &Outcome::Failed(limited));
    let plan = world.plan();
    assert!(orders(&plan).is_empty());
    assert_eq!(plan.wake_at, Some(UnixTime(START + 600)));
    world.pass(600);
    assert!(!orders(&world.plan()).is_empty());
}

#[test]
fn an_unreadable_record_holds_orders_back_for_a_day() {
    let mut world = World::new().wishing(wish("web", &["a.example.com"], None));
    let id = super::world::set(&["a.example.com"]).id();
    for name in [id.shard(), "directories"] {
        let mut record = Record::new(RecordKind::Ledger, name);
        record
            .entries
            .insert("ledger.json".to_owned(), b"{".to_vec());
        let (ledger, complaints) = Ledger::load(vec![record]);
        assert_eq!(complaints.len(), 1);
        world.ledger = ledger;
        world.ledger.prune(world.now);
        let plan = world.plan();
        assert!(plan.actions.is_empty(), "{plan:#?}");
        assert_eq!(plan.wake_at, Some(UnixTime(world.now.0 + DAY)));
        assert!(only_outlook(&plan).why.contains("cannot be read"));
        world.pass(DAY);
        world.ledger.prune(world.now);
        only_order(&world.plan());
    }
}

fn on_demand() -> OnDemandSettings {
    OnDemandSettings {
        suffixes: vec![host("example.com")],
        routes: true,
        ask: None,
        issuer: None,
        per_hour: 2,
        wait: Duration::from_secs(10),
        forget_after: Duration::from_secs(30 * 24 * 3600),
    }
}

fn host(text: &str) -> Hostname {
    Hostname::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn ask(world: &mut World, name: &str) {
    let request = CertificateRequest::OnDemand(host(name));
    world
        .issuance
        .requests
        .insert(request, "2027-01-01T00:00:00Z".to_owned());
}

#[test]
fn handshakes_cause_orders_for_allowed_names_alone() {
    let mut world = World::new();
    world.settings.on_demand = Some(on_demand());
    world.issuance.hosts = Arc::new(BTreeSet::from([
        pattern("shop.example.org"),
        HostPattern::Any,
    ]));
    for name in ["example.com.evil.net", "notexample.com", "x.example.org"] {
        ask(&mut world, name);
    }
    world.settle(&Outcome::Issued);
    assert_eq!(world.issued, 0);
    assert!(world.issuance.requests.is_empty() && world.ledger.sets.is_empty());
    ask(&mut world, "a.example.com");
    ask(&mut world, "shop.example.org");
    world.settle(&Outcome::Issued);
    assert_eq!(world.issued, 2);

    // Without the settings nobody is asked.
    world.settings.on_demand = None;
    ask(&mut world, "b.example.com");
    world.settle(&Outcome::Issued);
    assert_eq!(world.issued, 2);
}

#[test]
fn the_budget_of_an_hour_is_kept() {
    let mut world = World::new();
    world.settings.on_demand = Some(on_demand());
    let mut begun = 0;
    for at in 0..12 {
        ask(&mut world, &format!("h{at}.example.com"));
        ask(&mut world, &format!("i{at}.example.com"));
        world.settle(&Outcome::Issued);
        assert!(world.issuance.requests.is_empty());
        begun += 1;
        world.pass(10 * MINUTE);
    }
    assert_eq!(begun, 12);
    assert_eq!(world.issued, 4);
}

#[test]
fn a_name_that_nobody_asks_for_is_forgotten() {
    let mut world = World::new();
    world.settings.on_demand = Some(on_demand());
    world.life = 20 * DAY;
    ask(&mut world, "a.example.com");
    world.settle(&Outcome::Issued);
    let end = START + 60 * DAY;
    while world.now.0 < end {
        let plan = world.settle(&Outcome::Issued);
        world.now = plan.wake_at.unwrap_or(UnixTime(end));
    }
    // Renewed twice within the 30 days, then left alone and removed.
    assert_eq!(world.issued, 3);
    assert!(world.issuance.secrets.is_empty());
}

#[test]
fn a_wish_covers_what_handshakes_ask_for() {
    let mut world = World::new().wishing(wish("web", &["*.example.com"], Some("web")));
    world.settings.issuers.0 = vec![dns_issuer("first")];
    world.settings.on_demand = Some(on_demand());
    ask(&mut world, "a.example.com");
    world.settle(&Outcome::Issued);
    assert_eq!(world.issued, 1);
    assert_eq!(world.ledger.sets.len(), 1);
}

#[test]
fn a_foreign_secret_in_our_own_namespace_is_left_alone_too() {
    let mut world = World::new().wishing(wish("web", &["a.example.com"], None));
    let own = only_order(&world.plan()).into[0].clone();
    world.hold(&own, SecretOwner::Other, None);
    assert!(
        world
            .plan()
            .actions
            .iter()
            .all(|action| !matches!(action, Action::Order(_)))
    );
    assert_eq!(reasons(&world), [(Level::Info, Reason::SecretNotOwned)]);
}
