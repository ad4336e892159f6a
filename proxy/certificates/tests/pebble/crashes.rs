//! The process that leads ends at some step of an order; another goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidegate_certificates::Store;

use crate::support::{Gate, Trapped, Verdict, World, set};

/// Where a process ends.
struct Step {
    name: &'static str,
    /// Begin of the path of the request at which it ends.
    at: &'static str,
    /// Whether the CA gets that request.
    is_told: bool,
    /// Orders that there are in the end.
    orders: usize,
}

const STEPS: [Step; 9] = [
    Step {
        name: "before-the-order",
        at: "/order-plz",
        is_told: false,
        orders: 1,
    },
    Step {
        name: "before-its-url-is-known",
        at: "/order-plz",
        is_told: true,
        orders: 2,
    },
    Step {
        name: "after-the-order",
        at: "/authZ/",
        is_told: false,
        orders: 1,
    },
    Step {
        name: "after-answers-are-out",
        at: "/chalZ/",
        is_told: false,
        orders: 1,
    },
    Step {
        name: "after-ready",
        at: "/chalZ/",
        is_told: true,
        orders: 1,
    },
    Step {
        name: "before-finalize",
        at: "/finalize-order/",
        is_told: false,
        orders: 1,
    },
    Step {
        name: "after-finalize",
        at: "/finalize-order/",
        is_told: true,
        orders: 1,
    },
    Step {
        name: "before-the-chain",
        at: "/certZ/",
        is_told: false,
        orders: 1,
    },
    Step {
        name: "before-the-secret",
        at: "/certZ/",
        is_told: true,
        orders: 1,
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_step_a_leader_ends_at_the_next_one_finishes() {
    let mut world = World::new().await;
    let gate = Gate::new(&world.pebble).await;
    world.set_issuer(|issuer| {
        issuer.directory = gate.directory();
        issuer.ca_bundle = Some(gate.authority());
    });
    for step in STEPS {
        let before = world.pebble.orders();
        let host = format!("{}.test", step.name);
        let (store, at, is_told) = (world.store(), step.at, step.is_told);
        gate.judge(move |path| {
            if !path.starts_with(at) {
                return Verdict::Pass;
            }
            store.lose();
            if is_told {
                Verdict::LoseAnswer
            } else {
                Verdict::Lose
            }
        });
        world.wish(step.name, &[&host]);
        world.lead();
        world.lost().await;
        gate.judge(|_| Verdict::Pass);
        assert!(
            world
                .store()
                .certificates()
                .keys()
                .all(|secret| secret.name != step.name)
        );
        world.lead();
        world.issued(step.name, &[&host]).await;
        world.settled().await;
        let orders = world.pebble.orders() - before;
        println!("{}: {orders} orders", step.name);
        assert_eq!(orders, step.orders, "{}", step.name);
        world.kill().await;
    }
    assert_eq!(world.accounts(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_ends_after_the_secret_is_written_costs_no_order() {
    let mut world = World::new().await;
    world.wish("web", &["a.test"]);
    world.lead_through(Trapped {
        store: world.store(),
        after_put: |store, _| store.lose(),
    });
    world.lost().await;
    let first = world.issued("web", &["a.test"]).await;
    world.lead();
    world.settled().await;
    let ledger = world.ledger().await;
    assert_eq!(ledger.sets[&set(&["a.test"]).id()].issued.len(), 1);
    let second = world.issued("web", &["a.test"]).await;
    assert_eq!(first.pem, second.pem);
    assert_eq!(world.pebble.orders(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_leaders_one_after_another_place_one_order() {
    let mut world = World::new().await;
    let gate = Gate::new(&world.pebble).await;
    world.set_issuer(|issuer| {
        issuer.directory = gate.directory();
        issuer.ca_bundle = Some(gate.authority());
    });
    let requests = Arc::new(AtomicUsize::new(0));
    world.wish("web", &["a.test", "b.test"]);
    for leader in 0..100 {
        // Each gets a little further than those before, and is gone when it asks for more; the order is never lost.
        let (store, counted) = (world.store(), requests.clone());
        counted.store(0, Ordering::SeqCst);
        gate.judge(move |path| {
            let is_over = counted.fetch_add(1, Ordering::SeqCst) >= leader / 8 + 5;
            if !is_over || path == "/order-plz" {
                return Verdict::Pass;
            }
            store.lose();
            Verdict::LoseAnswer
        });
        world.lead();
        let is_issued = || world.store().certificates().len() == 1;
        while world.store().check().is_ok() && !is_issued() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        world.kill().await;
    }
    gate.judge(|_| Verdict::Pass);
    world.lead();
    world.issued("web", &["a.test", "b.test"]).await;
    world.settled().await;
    assert_eq!((world.pebble.orders(), world.accounts()), (1, 1));
}
