//! What holds for whatever a plan is made from.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use tidegate_model::{
    CertificateRequest, CertificateWish, HeldSecret, HostPattern, Hostname, Issuance,
    NamespacedName, ObjectRef, SecretOwner, UnixTime,
};

use super::world::{OWN, World, certificate, dns_issuer, issuer, orders, secret, set};
use crate::ledger::{
    DirectoryEntry, FailureKind, InFlight, Ledger, RecordedFailure, Renewal, Seconds, SetEntry,
};
use crate::names::NameSet;
use crate::plan::{Action, plan};
use crate::settings::{CertificateSettings, OnDemandSettings, WantedCertificate};

fn moment() -> impl Strategy<Value = Seconds> {
    prop_oneof![
        8 => 1_800_000_000_i64 - 9_000_000..1_800_000_000 + 9_000_000,
        1 => any::<i64>(),
        1 => Just(i64::MIN),
        1 => Just(i64::MAX),
    ]
}

fn name() -> impl Strategy<Value = HostPattern> {
    let texts = [
        "a.example.com",
        "b.example.com",
        "*.example.com",
        "c.example.org",
        "localhost",
        "co.uk",
        "",
    ];
    prop::sample::select(texts.to_vec())
        .prop_map(|text| HostPattern::parse(text).unwrap_or(HostPattern::Any))
}

fn some_names() -> impl Strategy<Value = BTreeSet<HostPattern>> {
    prop::collection::btree_set(name(), 0..4)
}

fn some_secret() -> impl Strategy<Value = NamespacedName> {
    let own = set(&["a.example.com"]).id().secret_name("tg");
    prop_oneof![
        5 => prop::sample::select(&["one", "two", "three"][..]).prop_map(secret),
        1 => Just(NamespacedName::new(OWN, own)),
    ]
}

fn issuer_name() -> impl Strategy<Value = Option<String>> {
    prop::option::of(
        prop::sample::select(&["first", "dns", "public", "nobody"][..]).prop_map(str::to_owned),
    )
}

prop_compose! {
    fn some_wish()(
        names in some_names(),
        issuer in issuer_name(),
        secret in prop::option::of(some_secret()),
        object in "[ab]",
    ) -> CertificateWish {
        let object = ObjectRef::new("Ingress", NamespacedName::new("default", object));
        CertificateWish { names, issuer, secret, object, field: "spec.tls[0]".to_owned() }
    }
}

prop_compose! {
    fn held()(
        owner in prop::sample::select(&[SecretOwner::Tidegate, SecretOwner::Tidegate, SecretOwner::Other][..]),
        secret in some_secret(),
        names in prop::option::of(some_names()),
        from in moment(),
        to in moment(),
        issuer in issuer_name(),
    ) -> (NamespacedName, HeldSecret) {
        let certificate = names.map(|names| {
            let mut held = certificate(&secret, names.into_iter().collect(), UnixTime(from), 0, 1);
            held.not_after = UnixTime(to);
            Arc::new(held)
        });
        (secret, HeldSecret { owner, certificate, issuer })
    }
}

fn request() -> impl Strategy<Value = (CertificateRequest, String)> {
    let renew = name().prop_map(CertificateRequest::Renew);
    let on_demand = name().prop_filter_map("a host", |name| match name {
        HostPattern::Exact(host) => Some(CertificateRequest::OnDemand(host)),
        _ => None,
    });
    let time = prop::sample::select(
        &[
            "2027-01-01T00:00:00Z",
            "2027-02-01T00:00:00.5Z",
            "yesterday",
            "",
        ][..],
    );
    (prop_oneof![renew, on_demand], time.prop_map(str::to_owned))
}

fn kind() -> impl Strategy<Value = FailureKind> {
    prop::sample::select(
        &[
            FailureKind::Unavailable,
            FailureKind::Validation,
            FailureKind::NotProven,
            FailureKind::Permanent,
        ][..],
    )
}

prop_compose! {
    fn in_flight()(
        issuer in issuer_name(),
        is_rehearsal: bool,
        begun in moment(),
        url in prop::option::of(Just("https://ca/order".to_owned())),
    ) -> InFlight {
        let issuer = issuer.unwrap_or_default();
        let directory = format!("https://{issuer}.ca.example/directory");
        InFlight { issuer, directory, is_rehearsal, begun, url, key: String::new() }
    }
}

prop_compose! {
    fn entry()(
        order in prop::option::of(in_flight()),
        issued in prop::collection::vec(moment(), 0..4),
        failed_validations in prop::collection::vec(moment(), 0..4),
        failures in prop_oneof![0_u32..9, Just(u32::MAX)],
        failed in prop::option::of((moment(), kind(), any::<bool>())),
        retry_at in prop::option::of(moment()),
        rehearsed: bool,
        renewal in prop::option::of((moment(), moment(), moment())),
        unwanted_since in prop::option::of(moment()),
        on_demand in prop::option::of(moment()),
        renewed_for in prop::option::of(Just("2027-01-01T00:00:00Z".to_owned())),
    ) -> SetEntry {
        SetEntry {
            names: Vec::new(),
            order,
            issued,
            failed_validations,
            failures,
            last_failure: failed.map(|(at, kind, is_rehearsal)| RecordedFailure {
                at, kind, message: "no".to_owned(), is_rehearsal, names: Vec::new(),
            }),
            retry_at,
            rehearsed,
            renewal: renewal.map(|(at, end, ask_at)| Renewal {
                certificate: "x".to_owned(), start: at, end, at, ask_at, explanation: None,
            }),
            unwanted_since,
            on_demand,
            on_demand_since: on_demand,
            renewed_for,
        }
    }
}

prop_compose! {
    fn ledger()(
        sets in prop::collection::vec((some_names(), entry()), 0..5),
        orders in prop::collection::vec(moment(), 0..4),
        issued in prop::collection::vec(moment(), 0..4),
        closed_until in prop::option::of(moment()),
    ) -> Ledger {
        let mut ledger = Ledger::default();
        for (names, mut entry) in sets {
            let Some(names) = NameSet::new(names) else { continue };
            entry.names = names.iter().map(ToString::to_string).collect();
            ledger.sets.insert(names.id(), entry);
        }
        let issued = [("example.com".to_owned(), issued)].into();
        let directory = DirectoryEntry { orders, closed_until, issued };
        ledger.directories.insert("https://first.ca.example/directory".to_owned(), directory);
        ledger
    }
}

prop_compose! {
    fn settings()(
        issuers in 0_usize..4,
        listed in prop::collection::vec((some_names(), issuer_name(), prop::option::of(some_secret())), 0..2),
        per_hour in prop::option::of(0_u32..3),
        limits in (0_u32..4, 0_u32..4, 0_u32..4, 0_u32..4),
        grace in prop_oneof![0_u64..1_000_000, Just(u64::MAX)],
    ) -> CertificateSettings {
        let mut settings = World::new().settings;
        let mut first = issuer("first");
        first.staging = Some("https://staging.ca.example/directory".to_owned());
        first.fallback = vec!["dns".to_owned()];
        let mut public = issuer("public");
        public.directory = "https://acme-v02.api.letsencrypt.org/directory".to_owned();
        settings.issuers.0 = vec![first, dns_issuer("dns"), public];
        settings.issuers.0.truncate(issuers);
        settings.grace = std::time::Duration::from_secs(grace);
        settings.certificates = listed
            .into_iter()
            .map(|(names, issuer, secret)| WantedCertificate { names, issuer, secret })
            .collect();
        settings.limits.duplicates_per_week = limits.0;
        settings.limits.per_domain_per_week = limits.1;
        settings.limits.failures_per_hour = limits.2;
        settings.limits.orders_per_3_hours = limits.3;
        settings.on_demand = per_hour.map(|per_hour| OnDemandSettings {
            suffixes: Hostname::parse("example.com").into_iter().collect(),
            routes: true,
            ask: None,
            issuer: None,
            per_hour,
            wait: std::time::Duration::ZERO,
            forget_after: std::time::Duration::from_secs(grace),
        });
        settings
    }
}

prop_compose! {
    fn issuance()(
        wishes in prop::collection::vec(some_wish(), 0..6),
        secrets in prop::collection::btree_map(some_secret(), held(), 0..5),
        requests in prop::collection::btree_map(request().prop_map(|(request, _)| request), "2027-0[1-3]-01T00:00:00Z", 0..3),
        hosts in some_names(),
    ) -> Issuance {
        let secrets = secrets.into_values().collect();
        Issuance { wishes, secrets, requests, hosts: Arc::new(hosts) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_plan_is_total_and_keeps_its_promises(
        now in moment(),
        settings in settings(),
        issuance in issuance(),
        mut ledger in ledger(),
        prune: bool,
    ) {
        let now = UnixTime(now);
        if prune {
            ledger.prune(now);
        }
        let made = plan(now, &settings, "tg", OWN, &issuance, &ledger);

        // The order of wishes does not matter.
        let mut turned = issuance.clone();
        turned.wishes.reverse();
        let again = plan(now, &settings, "tg", OWN, &turned, &ledger);
        prop_assert_eq!(format!("{made:?}"), format!("{again:?}"));

        prop_assert!(made.wake_at.is_none_or(|at| at > now));
        let is_ours = |secret: &NamespacedName| {
            issuance.secrets.get(secret).is_none_or(|held| held.owner == SecretOwner::Tidegate)
        };
        let mut ordered = BTreeSet::new();
        let mut written = BTreeSet::new();
        for action in &made.actions {
            match action {
                Action::Order(task) => {
                    prop_assert!(ordered.insert(task.names.id()), "two orders for one set");
                    prop_assert!(!task.into.is_empty());
                    prop_assert!(task.into.iter().all(is_ours));
                    prop_assert!(task.into.iter().all(|secret| written.insert(secret.clone())), "two sets in one Secret");
                    let directory = ledger.directories.get(task.directory());
                    prop_assert!(directory.and_then(|entry| entry.closed_until).is_none_or(|until| until <= now.0));
                }
                Action::Copy { into, .. } => prop_assert!(into.iter().all(is_ours)),
                Action::Remove { secrets, .. } => {
                    let is_free = |secret: &NamespacedName| {
                        let held = issuance.secrets.get(secret);
                        held.is_some_and(|held| held.owner == SecretOwner::Tidegate)
                            && !issuance.wishes.iter().any(|wish| wish.secret.as_ref() == Some(secret))
                    };
                    prop_assert!(secrets.iter().all(is_free), "removed, but ours no more or wanted");
                }
                _ => {}
            }
        }
        let abandoned = made.actions.iter().filter_map(|action| match action {
            Action::Abandon(id) => Some(id),
            _ => None,
        });
        prop_assert!(abandoned.into_iter().all(|id| !ordered.contains(id)), "ordered and abandoned");
        prop_assert!(orders(&made).len() <= made.outlook.len());
    }
}
