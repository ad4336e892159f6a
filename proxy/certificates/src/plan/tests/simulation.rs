//! Months in a moment: plans and what comes of them, with failures of every kind, and with the CA counting along.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use tidegate_model::{NamespacedName, UnixTime};

use super::world::{
    Outcome, START, World, alive, failed, failure, issuer, orders, secret, set, wish,
};
use crate::issuer::Issuer;
use crate::ledger::{DAY, Failure, FailureKind, HOUR, Ledger, ORDERS_WINDOW, Seconds, WEEK};
use crate::names::NameSet;
use crate::plan::{Environment, Plan};
use crate::settings::Limits;

/// What the CA has counted.
#[derive(Default)]
struct Counted {
    orders: BTreeMap<String, Vec<Seconds>>,
    certificates: BTreeMap<NameSet, Vec<Seconds>>,
    domains: BTreeMap<String, Vec<Seconds>>,
    failures: BTreeMap<String, Vec<Seconds>>,
}

struct Simulation {
    world: World,
    counted: Counted,
    wanted: BTreeMap<NamespacedName, NameSet>,
}

impl Simulation {
    fn new(sets: usize, life: i64, limits: Limits, staging: bool) -> Self {
        let mut world = World::new();
        world.life = life;
        world.settings.limits = limits;
        let staging = staging.then(|| "https://staging.ca.example/directory".to_owned());
        let fallback = vec!["second".to_owned()];
        world.settings.issuers.0 = vec![
            Issuer {
                staging,
                fallback,
                ..issuer("first")
            },
            issuer("second"),
        ];
        let mut wanted = BTreeMap::new();
        for at in 0..sets {
            let (name, host) = (format!("s{at}"), format!("h{at}.example.com"));
            world.wish(wish(&name, &[&host, "shared.example.com"], Some(&name)));
            wanted.insert(secret(&name), set(&[&host, "shared.example.com"]));
        }
        Self {
            world,
            counted: Counted::default(),
            wanted,
        }
    }

    /// Plans, carries out and passes time until a moment. Outcomes are used up in turn, and then the CA issues.
    fn run(&mut self, until: Seconds, outcomes: &[Outcome], mut look: impl FnMut(&World)) {
        let mut outcomes = outcomes.iter();
        for _ in 0..100_000 {
            self.world.ledger.prune(self.world.now);
            let plan = self.world.plan();
            look(&self.world);
            if plan.actions.is_empty() {
                let wake = plan.wake_at.map_or(until, |at| at.0);
                assert!(
                    wake > self.world.now.0,
                    "it wakes at once and does nothing: {plan:#?}"
                );
                if wake >= until {
                    self.world.now = UnixTime(until);
                    return;
                }
                self.world.now = UnixTime(wake);
                continue;
            }
            self.check_orders(&plan);
            for action in &plan.actions {
                let is_order = matches!(action, crate::plan::Action::Order(_));
                let outcome = if is_order { outcomes.next() } else { None };
                let outcome = outcome.unwrap_or(&Outcome::Issued);
                self.count(action, outcome);
                self.world.carry_out_one(action, outcome);
            }
            self.restart();
        }
        panic!("it never comes to rest: {:#?}", self.world.plan());
    }

    fn check_orders(&self, plan: &Plan) {
        let mut seen = std::collections::BTreeSet::new();
        for task in orders(plan) {
            assert!(
                seen.insert(task.names.id()),
                "two orders for {}",
                task.names
            );
            let closed = self
                .world
                .ledger
                .directories
                .get(task.directory())
                .and_then(|entry| entry.closed_until);
            assert!(
                closed.is_none_or(|until| until <= self.world.now.0),
                "the CA is closed: {plan:#?}"
            );
        }
    }

    /// Counts as the CA does, and is angry where a limit is passed.
    fn count(&mut self, action: &crate::plan::Action, outcome: &Outcome) {
        let crate::plan::Action::Order(task) = action else {
            return;
        };
        let limits = &self.world.settings.limits;
        let now = self.world.now.0;
        let url = self
            .world
            .ledger
            .sets
            .get(&task.names.id())
            .and_then(|entry| entry.order.as_ref()?.url.clone());
        if url.is_none() {
            let placed = self
                .counted
                .orders
                .entry(task.directory().to_owned())
                .or_default();
            push(
                placed,
                now,
                ORDERS_WINDOW,
                limits.orders_per_3_hours,
                "orders",
            );
        }
        if task.environment == Environment::Staging {
            return;
        }
        match outcome {
            Outcome::Issued => {
                let certificates = self
                    .counted
                    .certificates
                    .entry(task.names.clone())
                    .or_default();
                push(
                    certificates,
                    now,
                    WEEK,
                    limits.duplicates_per_week,
                    "duplicates",
                );
                if task.replaces.is_none() {
                    let domain = format!("{} example.com", task.directory());
                    let domain = self.counted.domains.entry(domain).or_default();
                    push(
                        domain,
                        now,
                        WEEK,
                        limits.per_domain_per_week,
                        "certificates of the domain",
                    );
                }
            }
            Outcome::Failed(failure) if failure.kind == FailureKind::Validation => {
                let name = task
                    .names
                    .iter()
                    .next()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                let failures = self.counted.failures.entry(name).or_default();
                push(
                    failures,
                    now,
                    HOUR,
                    limits.failures_per_hour,
                    "failed validations",
                );
            }
            _ => {}
        }
    }

    /// The next leader has nothing but the records.
    fn restart(&mut self) {
        let mut records = Vec::new();
        for record in self.world.ledger.unsaved() {
            self.world.ledger.saved(&record, "1");
            records.push(record);
        }
        assert!(self.world.ledger.unsaved().is_empty());
        // What is written reads back as it was.
        let (read, complaints) = Ledger::load(records);
        assert!(complaints.is_empty());
        for (id, entry) in &read.sets {
            assert_eq!(self.world.ledger.sets.get(id), Some(entry));
        }
    }
}

fn push(moments: &mut Vec<Seconds>, now: Seconds, window: Seconds, limit: u32, what: &str) {
    moments.push(now);
    let counted = moments
        .iter()
        .filter(|moment| **moment > now - window)
        .count();
    assert!(
        counted <= limit as usize,
        "{counted} {what}, {limit} are allowed"
    );
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        3 => Just(Outcome::Issued),
        3 => Just(failed(FailureKind::Validation)),
        2 => Just(failed(FailureKind::Unavailable)),
        2 => Just(failed(FailureKind::NotProven)),
        1 => Just(failed(FailureKind::Permanent)),
        1 => Just(failed(FailureKind::Settings)),
        1 => Just(Outcome::Failed(Failure { keep_order: true, ..failure(FailureKind::Internal) })),
        2 => (0_u64..200_000).prop_map(|seconds| Outcome::Failed(Failure {
            retry_after: Some(Duration::from_secs(seconds)),
            ..failure(FailureKind::RateLimited)
        })),
        2 => Just(Outcome::Killed),
    ]
}

fn tight() -> impl Strategy<Value = Limits> {
    (1_u32..4, 1_u32..5, 1_u32..4, 1_u32..5).prop_map(|(duplicates, domain, failures, orders)| {
        Limits {
            duplicates_per_week: duplicates,
            per_domain_per_week: domain,
            failures_per_hour: failures,
            orders_per_3_hours: orders,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn limits_are_kept_and_everything_is_issued_in_the_end(
        sets in 1_usize..7,
        limits in tight(),
        staging: bool,
        outcomes in prop::collection::vec(outcome(), 0..80),
    ) {
        let mut simulation = Simulation::new(sets, 90 * DAY, limits, staging);
        simulation.run(START + 100 * DAY, &outcomes, |_| {});
        simulation.run(START + 150 * DAY, &[], |_| {});
        prop_assert!(alive(&simulation.world, &simulation.wanted), "{:#?}", simulation.world.plan().outlook);
        let failing: Vec<_> =
            simulation.world.ledger.sets.values().filter(|entry| entry.last_failure.is_some()).collect();
        prop_assert!(failing.is_empty(), "{:#?} {:#?}", failing, simulation.world.plan().outlook);
    }

    #[test]
    fn short_lives_never_end_while_the_ca_works(sets in 1_usize..20) {
        let mut simulation = Simulation::new(sets, 6 * DAY, Limits::default(), true);
        let wanted = simulation.wanted.clone();
        simulation.run(START + 60 * DAY, &[], |world| {
            let is_first = world.issued < wanted.len() as u64;
            assert!(is_first || alive(world, &wanted), "one has expired: {:#?}", world.plan().outlook);
        });
        // Not much more often than is needed.
        prop_assert!(simulation.world.issued <= sets as u64 * 19, "{}", simulation.world.issued);
    }
}

#[test]
fn an_outage_of_days_is_survived() {
    let mut simulation = Simulation::new(10, 90 * DAY, Limits::default(), false);
    simulation.run(START + 55 * DAY, &[], |_| {});
    let outage = vec![failed(FailureKind::Unavailable); 200];
    let wanted = simulation.wanted.clone();
    simulation.run(START + 120 * DAY, &outage, |world| {
        assert!(
            alive(world, &wanted),
            "one has expired: {:#?}",
            world.plan().outlook
        );
    });
    assert!(simulation.world.issued >= 20);
}
