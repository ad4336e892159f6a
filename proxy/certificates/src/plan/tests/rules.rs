//! What is ordered, copied, renewed and removed, and when.

use std::sync::Arc;

use tidegate_model::{CertificateRequest, SecretOwner, UnixTime};

use super::world::{
    OWN, Outcome, START, World, certificate, failed, failure, in_flight, issuer, names, only_order,
    only_outlook, orders, pattern, secret, set, wish,
};
use crate::issuer::Issuer;
use crate::ledger::{DAY, FailureKind, HOUR, MINUTE, Renewal};
use crate::plan::{Action, Environment};

#[test]
fn a_wish_is_ordered_once_and_then_renewed_after_two_thirds_of_its_life() {
    let mut world = World::new().wishing(wish(
        "web",
        &["a.example.com", "b.example.com"],
        Some("web"),
    ));
    let plan = world.plan();
    let task = only_order(&plan);
    assert_eq!(task.into, [secret("web")]);
    assert_eq!(
        (task.environment, task.issuer.name.as_str()),
        (Environment::Production, "first")
    );
    assert_eq!(only_outlook(&plan).next, "order");

    let plan = world.settle(&Outcome::Issued);
    let due = plan.wake_at.map_or(0, |at| at.0 - START);
    assert!((57 * DAY..=60 * DAY).contains(&due), "due after {due} s");
    assert_eq!(only_outlook(&plan).next, "renew");
    world.pass(due - 1);
    assert!(world.plan().actions.is_empty());
    world.pass(1);
    let plan = world.plan();
    assert!(only_order(&plan).replaces.is_some());
    assert_eq!(only_outlook(&plan).next, "renew");
}

#[test]
fn equal_names_are_one_order_and_one_secret_is_one_set() {
    let world = World::new()
        .wishing(wish("one", &["a.example.com"], Some("one")))
        .wishing(wish("two", &["a.example.com"], Some("two")))
        .wishing(wish("three", &["a.example.com"], None));
    let plan = world.plan();
    let task = only_order(&plan);
    assert_eq!(task.into.len(), 3);
    assert!(task.into.iter().any(|into| into.namespace == OWN));
    assert_eq!(task.objects.len(), 3);

    let world = World::new()
        .wishing(wish("one", &["a.example.com"], Some("shared")))
        .wishing(wish("two", &["b.example.com"], Some("shared")));
    assert_eq!(
        only_order(&world.plan()).names,
        set(&["a.example.com", "b.example.com"])
    );
}

#[test]
fn a_secret_of_somebody_else_is_never_written() {
    let mut world = World::new().wishing(wish("web", &["a.example.com"], Some("web")));
    world.hold(&secret("web"), SecretOwner::Other, None);
    let plan = world.plan();
    assert!(
        plan.actions.is_empty() && plan.wake_at.is_none(),
        "{plan:#?}"
    );
    assert!(format!("{:?}", plan.problems).contains("SecretNotOwned"));

    // Another wish for the same names is served, into its own Secret alone.
    world.wish(wish("other", &["a.example.com"], Some("other")));
    assert_eq!(only_order(&world.plan()).into, [secret("other")]);
}

#[test]
fn a_certificate_that_is_held_is_copied_instead_of_ordered() {
    let mut world = World::new().wishing(wish("one", &["a.example.com"], Some("one")));
    world.settle(&Outcome::Issued);
    world.wish(wish("two", &["a.example.com"], Some("two")));
    let plan = world.plan();
    assert!(
        matches!(plan.actions.as_slice(), [Action::Copy { into, .. }] if *into == [secret("two")]),
        "{plan:#?}"
    );
    world.settle(&Outcome::Issued);

    // One that was deleted is copied from the other; when both are gone it is ordered.
    world.issuance.secrets.remove(&secret("one"));
    assert!(matches!(
        world.plan().actions.as_slice(),
        [Action::Copy { .. }]
    ));
    world.issuance.secrets.clear();
    world.pass(MINUTE);
    only_order(&world.plan());
}

#[test]
fn what_is_unusable_or_expired_or_of_another_issuer_is_ordered_again() {
    let wished = || World::new().wishing(wish("web", &["a.example.com"], Some("web")));
    let mut world = wished();
    world.hold(&secret("web"), SecretOwner::Tidegate, None);
    assert_eq!(only_order(&world.plan()).why, "there is no certificate");

    let mut world = wished();
    let expired = certificate(
        &secret("web"),
        vec![pattern("a.example.com")],
        UnixTime(START - 90 * DAY),
        90 * DAY,
        1,
    );
    world.hold(&secret("web"), SecretOwner::Tidegate, Some(expired));
    assert_eq!(only_order(&world.plan()).why, "the certificate has expired");

    let mut world = wished();
    world.settle(&Outcome::Issued);
    world.settings.issuers.0.insert(0, issuer("new"));
    world.pass(MINUTE);
    let plan = world.plan();
    assert_eq!(only_order(&plan).issuer.name, "new");
    assert!(only_order(&plan).replaces.is_none());
    // An issuer that the settings do not know any more says nothing.
    world.settings.issuers.0.truncate(1);
    assert!(world.plan().actions.is_empty());
}

#[test]
fn a_certificate_that_covers_more_than_is_wanted_serves() {
    let mut world = World::new().wishing(wish("web", &["a.example.com"], Some("web")));
    let wide = certificate(
        &secret("web"),
        vec![pattern("*.example.com")],
        UnixTime(START),
        90 * DAY,
        1,
    );
    world.hold(&secret("web"), SecretOwner::Tidegate, Some(wide));
    assert!(orders(&world.plan()).is_empty());
}

#[test]
fn short_lives_are_renewed_in_time() {
    let mut world = World::new().wishing(wish("web", &["a.example.com"], None));
    world.life = 6 * DAY;
    let plan = world.settle(&Outcome::Issued);
    let due = plan.wake_at.map_or(0, |at| at.0 - START);
    assert!((3 * DAY..=4 * DAY).contains(&due), "due after {due} s");
}

#[test]
fn the_ca_decides_when_to_renew() -> Result<(), rcgen::Error> {
    let mut world = World::new().wishing(wish("web", &["a.example.com"], Some("web")));
    let mut real = certificate(
        &secret("web"),
        vec![pattern("a.example.com")],
        UnixTime(START),
        90 * DAY,
        1,
    );
    real.chain = vec![leaf()?];
    world.hold(&secret("web"), SecretOwner::Tidegate, Some(real));
    let plan = world.plan();
    let [
        Action::AskRenewal {
            names,
            certificate,
            issuer,
        },
    ] = plan.actions.as_slice()
    else {
        panic!("{plan:#?}");
    };
    assert_eq!(issuer.name, "first");
    let id = super::super::renewal_id(certificate).unwrap_or_default();
    let renewal = Renewal {
        certificate: id.clone(),
        start: START + 10 * DAY,
        end: START + 12 * DAY,
        at: START + 11 * DAY,
        ask_at: START + 6 * HOUR,
        explanation: None,
    };
    world.ledger.renewal(&names.id(), renewal.clone());
    let plan = world.plan();
    assert!(plan.actions.is_empty());
    assert_eq!(plan.wake_at, Some(UnixTime(START + 6 * HOUR)));
    assert_eq!(only_outlook(&plan).at, Some(UnixTime(START + 11 * DAY)));

    // Asked again, the window has moved here.
    world.pass(6 * HOUR);
    assert!(matches!(
        world.plan().actions.as_slice(),
        [Action::AskRenewal { .. }]
    ));
    let moved = Renewal {
        start: START,
        end: START + HOUR,
        at: START + 30 * MINUTE,
        ..renewal.clone()
    };
    world.ledger.renewal(&names.id(), moved);
    let plan = world.plan();
    assert_eq!(only_order(&plan).why, "the CA suggests it (ARI)");

    // What was said of another certificate does not count, nor a window after the end of life.
    let other = Renewal {
        certificate: "another".to_owned(),
        at: START,
        ..renewal.clone()
    };
    world.ledger.renewal(&names.id(), other);
    assert!(orders(&world.plan()).is_empty());
    let late = Renewal {
        at: START + 400 * DAY,
        end: START + 500 * DAY,
        ask_at: START + 400 * DAY,
        ..renewal
    };
    world.ledger.renewal(&names.id(), late);
    assert_eq!(
        only_outlook(&world.plan()).at,
        Some(UnixTime(START + 81 * DAY))
    );
    Ok(())
}

/// A certificate with a serial number and the identifier of its issuer's key.
fn leaf() -> Result<rustls_pki_types::CertificateDer<'static>, rcgen::Error> {
    let key = rcgen::KeyPair::generate()?;
    let mut ca = rcgen::CertificateParams::new(Vec::new())?;
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = rcgen::Issuer::new(ca, key);
    let mut leaf = rcgen::CertificateParams::new(vec!["a.example.com".to_owned()])?;
    leaf.use_authority_key_identifier_extension = true;
    let signed = leaf.signed_by(&rcgen::KeyPair::generate()?, &issuer)?;
    Ok(signed.der().clone())
}

#[test]
fn failures_back_off_and_are_never_final() {
    let mut world = World::new().wishing(wish("web", &["a.example.com"], None));
    let mut waits = Vec::new();
    for _ in 0..12 {
        let plan = world.settle(&failed(FailureKind::Unavailable));
        let wait = plan.wake_at.map_or(0, |at| at.0 - world.now.0);
        assert_eq!(only_outlook(&plan).next, "retry");
        waits.push(wait);
        world.pass(wait);
    }
    assert!((MINUTE..=MINUTE * 5 / 4).contains(&waits[0]), "{waits:?}");
    assert!(
        waits.iter().all(|wait| (MINUTE..=8 * HOUR).contains(wait)),
        "{waits:?}"
    );
    assert!(waits.last() > Some(&(6 * HOUR)), "{waits:?}");
    let plan = world.settle(&Outcome::Issued);
    assert!(plan.problems.is_empty());
    assert_eq!(only_outlook(&plan).next, "renew");
}

#[test]
fn a_permanent_error_waits_for_days_and_says_so() {
    let mut world = World::new().wishing(wish("web", &["a.example.com"], None));
    let plan = world.settle(&failed(FailureKind::Permanent));
    let wait = plan.wake_at.map_or(0, |at| at.0 - START);
    assert!((DAY..=2 * DAY).contains(&wait), "{wait}");
    let problems = format!("{:?}", plan.problems);
    assert!(
        problems.contains("OrderFailed") && problems.contains("tried again at 20"),
        "{problems}"
    );
}

#[test]
fn an_order_that_is_not_proven_is_kept_and_looked_at_every_minute() {
    let mut world = World::new().wishing(wish("web", &["a.example.com"], None));
    for _ in 0..5 {
        let plan = world.settle(&failed(FailureKind::NotProven));
        assert_eq!(plan.wake_at, Some(UnixTime(world.now.0 + MINUTE)));
        assert!(format!("{:?}", plan.problems).contains("ChallengeNotServed"));
        world.pass(MINUTE);
        assert_eq!(only_outlook(&world.plan()).next, "finish");
    }
    assert_eq!(
        world
            .ledger
            .directories
            .values()
            .map(|entry| entry.orders.len())
            .sum::<usize>(),
        1
    );
}

#[test]
fn after_a_failure_staging_is_tried_first() {
    let staging = Issuer {
        staging: Some("https://staging.example/directory".to_owned()),
        ..issuer("first")
    };
    let mut world = World::new().wishing(wish("web", &["a.example.com"], None));
    world.settings.issuers.0 = vec![staging];
    let environment = |world: &World| only_order(&world.plan()).environment;
    assert_eq!(environment(&world), Environment::Production);
    world.settle(&failed(FailureKind::Validation));
    world.pass(8 * HOUR);
    assert_eq!(environment(&world), Environment::Staging);
    let plan = world.plan();
    world.carry_out(&plan, &Outcome::Issued);
    assert_eq!(environment(&world), Environment::Production);

    // A staging directory that is down does not stand in the way.
    world.settle(&failed(FailureKind::Validation));
    world.pass(8 * HOUR);
    assert_eq!(environment(&world), Environment::Staging);
    world.settle(&failed(FailureKind::Unavailable));
    world.pass(8 * HOUR);
    assert_eq!(environment(&world), Environment::Production);
}

#[test]
fn after_three_failures_the_next_issuer_is_asked_and_after_the_last_the_first() {
    let fallback = vec!["second".to_owned(), "nobody".to_owned(), "first".to_owned()];
    let first = Issuer {
        fallback,
        ..issuer("first")
    };
    let mut world = World::new().wishing(wish("web", &["a.example.com"], None));
    world.settings.issuers.0 = vec![first, issuer("second")];
    let mut asked = Vec::new();
    for _ in 0..7 {
        asked.push(only_order(&world.plan()).issuer.name.clone());
        world.settle(&failed(FailureKind::Unavailable));
        world.pass(9 * HOUR);
    }
    assert_eq!(
        asked,
        [
            "first", "first", "first", "second", "second", "second", "first"
        ]
    );
}

#[test]
fn an_order_under_way_is_finished_or_abandoned() {
    let mut world = World::new().wishing(wish("web", &["a.example.com"], Some("web")));
    world.carry_out(&world.plan(), &Outcome::Killed);
    let plan = world.plan();
    assert_eq!(only_outlook(&plan).next, "finish");
    assert_eq!(only_order(&plan).into, [secret("web")]);
    let abandons = |world: &World| {
        let plan = world.plan();
        assert!(orders(&plan).is_empty(), "{plan:#?}");
        plan.actions
            .iter()
            .any(|action| matches!(action, Action::Abandon(_)))
    };

    // It is too old; its directory is not asked any more; nobody wants it.
    world.pass(7 * DAY);
    assert!(abandons(&world));
    world.pass(-7 * DAY);
    world.settings.issuers.0[0].directory = "https://elsewhere.example/directory".to_owned();
    assert!(abandons(&world));
    world.settings.issuers.0 = vec![issuer("first")];
    world.issuance.wishes.clear();
    assert!(abandons(&world));
}

#[test]
fn what_nobody_wants_is_not_renewed_and_removed_after_the_grace() {
    let mut world = World::new().wishing(wish("web", &["a.example.com"], Some("web")));
    world.settle(&Outcome::Issued);
    let wishes = std::mem::take(&mut world.issuance.wishes);
    world.pass(DAY);
    let plan = world.settle(&Outcome::Issued);
    assert_eq!(plan.wake_at, Some(UnixTime(START + 8 * DAY)));
    assert_eq!(only_outlook(&plan).next, "remove");

    // Wanted again, and not any more: the time begins anew.
    world.issuance.wishes = wishes;
    world.settle(&Outcome::Issued);
    world.issuance.wishes.clear();
    world.pass(DAY);
    assert_eq!(
        world.settle(&Outcome::Issued).wake_at,
        Some(UnixTime(START + 9 * DAY))
    );
    world.pass(7 * DAY);
    assert!(
        matches!(world.plan().actions.as_slice(), [Action::Remove { secrets, .. }] if *secrets == [secret("web")])
    );
    let plan = world.settle(&Outcome::Issued);
    assert!(world.issuance.secrets.is_empty());
    assert_eq!(plan.wake_at, None);
    world.ledger.prune(UnixTime(world.now.0 + 7 * DAY));
    assert!(world.ledger.sets.is_empty());
}

#[test]
fn a_secret_without_a_certificate_that_nobody_names_goes_too() {
    let mut world = World::new().wishing(wish("web", &["a.example.com"], Some("web")));
    world.settle(&Outcome::Issued);
    world.hold(&secret("garbage"), SecretOwner::Tidegate, None);
    let same = certificate(
        &secret("same"),
        names(&["a.example.com"]).into_iter().collect(),
        world.now,
        DAY,
        9,
    );
    world.hold(&secret("same"), SecretOwner::Tidegate, Some(same));
    world.settle(&Outcome::Issued);
    world.pass(7 * DAY);
    world.settle(&Outcome::Issued);
    let left: Vec<_> = world.issuance.secrets.keys().cloned().collect();
    assert_eq!(left, [secret("web")]);
}

#[test]
fn a_request_to_renew_is_carried_out_once() {
    let mut world = World::new().wishing(wish(
        "web",
        &["a.example.com", "b.example.com"],
        Some("web"),
    ));
    world.settle(&Outcome::Issued);
    world.pass(MINUTE);
    let ask = |world: &mut World, name: &str, time: &str| {
        let request = CertificateRequest::Renew(pattern(name));
        world.issuance.requests.insert(request, time.to_owned());
    };
    ask(&mut world, "a.example.com", "2027-01-01T00:00:00Z");
    ask(&mut world, "b.example.com", "2027-01-02T00:00:00Z");
    ask(&mut world, "unknown.example.com", "2027-01-02T00:00:00Z");
    let plan = world.plan();
    assert_eq!(
        only_order(&plan).requested.as_deref(),
        Some("2027-01-02T00:00:00Z")
    );
    world.settle(&Outcome::Issued);
    assert_eq!(world.issued, 2);
    assert!(world.issuance.requests.is_empty());

    // A back-off does not hold it up, but the CA's word does.
    world.pass(60 * DAY);
    world.settle(&failed(FailureKind::Validation));
    assert!(orders(&world.plan()).is_empty());
    ask(&mut world, "a.example.com", "2027-03-01T00:00:00Z");
    world.ledger.directory_closed(
        "https://first.ca.example/directory",
        UnixTime(world.now.0 + HOUR),
    );
    let plan = world.plan();
    assert!(orders(&plan).is_empty());
    assert_eq!(plan.wake_at, Some(UnixTime(world.now.0 + HOUR)));
    world.pass(HOUR);
    world.settle(&failed(FailureKind::Validation));
    assert!(world.issuance.requests.is_empty());
}

#[test]
fn a_request_hurries_an_order_under_way() {
    let mut world = World::new().wishing(wish("web", &["a.example.com"], None));
    world.settle(&failed(FailureKind::NotProven));
    assert!(world.plan().actions.is_empty());
    let request = CertificateRequest::Renew(pattern("a.example.com"));
    world
        .issuance
        .requests
        .insert(request, "2027-03-01T00:00:00Z".to_owned());
    only_order(&world.plan());
    world.settle(&failed(FailureKind::NotProven));
    assert!(world.issuance.requests.is_empty());
}

#[test]
fn a_certificate_just_issued_is_waited_for() {
    let mut world = World::new().wishing(wish("web", &["a.example.com"], Some("web")));
    world.settle(&Outcome::Issued);
    // The watch has not seen the Secret yet.
    world.issuance.secrets.clear();
    let plan = world.plan();
    assert!(plan.actions.is_empty());
    assert_eq!(plan.wake_at, Some(UnixTime(START + MINUTE / 2)));
    world.pass(MINUTE / 2);
    only_order(&world.plan());
}

#[test]
fn a_url_that_was_not_kept_counts_as_an_order() {
    let mut world = World::new().wishing(wish("web", &["a.example.com"], None));
    world.carry_out(&world.plan(), &Outcome::Killed);
    let plan = world.plan();
    let task = only_order(&plan).clone();
    world.ledger.resumed(&task, world.now);
    world
        .ledger
        .placed(&task.names.id(), "https://ca/order/2", world.now);
    assert_eq!(world.ledger.directories[task.directory()].orders.len(), 2);
    // With a URL there is nothing to count again.
    world.ledger.resumed(&task, world.now);
    assert_eq!(world.ledger.directories[task.directory()].orders.len(), 2);
}

#[test]
fn the_most_urgent_comes_first() {
    let mut world = World::new();
    for (at, name) in ["ending", "soon", "later", "new", "running"]
        .into_iter()
        .enumerate()
    {
        let host = format!("{name}.example.com");
        world.wish(wish(name, &[&host], Some(name)));
        let left = match name {
            "ending" => DAY,
            "soon" => 10 * DAY,
            "later" => 20 * DAY,
            _ => continue,
        };
        let from = UnixTime(START + left - 90 * DAY);
        let held = certificate(
            &secret(name),
            vec![pattern(&host)],
            from,
            90 * DAY,
            at as u64,
        );
        world.hold(&secret(name), SecretOwner::Tidegate, Some(held));
    }
    let plan = world.plan();
    let running = orders(&plan)
        .into_iter()
        .find(|task| task.into == [secret("running")])
        .cloned();
    let running = running.unwrap_or_else(|| panic!("{plan:#?}"));
    world.ledger.begin(&running, in_flight(&running, world.now));
    let plan = world.plan();
    let first: Vec<_> = orders(&plan)
        .iter()
        .map(|task| task.into[0].name.clone())
        .collect();
    assert_eq!(first, ["running", "ending", "new", "soon", "later"]);
}

#[test]
fn settings_ask_too() {
    let mut world = World::new();
    world
        .settings
        .certificates
        .push(crate::settings::WantedCertificate {
            names: names(&["a.example.com", "b.example.com"]),
            issuer: None,
            secret: None,
        });
    let plan = world.plan();
    let task = only_order(&plan);
    assert_eq!(task.into[0].namespace, OWN);
    assert_eq!(task.objects[0].kind, "Settings");
    assert!(task.into[0].name.starts_with("tg-certificate-"));
    let _: &Arc<Issuer> = &task.issuer;
    world.carry_out(&plan, &Outcome::Failed(failure(FailureKind::Settings)));
    assert_eq!(world.plan().problems[0].field, "certificates[0]");
}
