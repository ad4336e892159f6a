//! What goes wrong, and comes right again without a restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Response;
use tidegate_certificates::ledger::FailureKind;
use tidegate_certificates::{RecordKind, Store};

use crate::support::{Gate, Trapped, Verdict, World, set};

const HOUR: Duration = Duration::from_secs(60 * 60);

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_is_down_is_asked_again_until_it_is_up() {
    let mut world = World::new().await;
    world.pebble.kill();
    world.wish("web", &["a.test"]);
    world.lead();
    let error = world.failure("cannot reach").await;
    assert!(error.contains("refused"), "{error}");
    assert_eq!(kind(&world, "a.test").await, FailureKind::Unavailable);
    world.pebble.start().unwrap();
    world.skip(Duration::from_secs(120));
    world.issued("web", &["a.test"]).await;
    assert_eq!(world.pebble.orders(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_does_not_resolve_is_validated_again_once_it_does() {
    let mut world = World::new().await;
    world.pebble.set_broken("a.test", true).unwrap();
    world.wish("web", &["a.test"]);
    world.lead();
    let error = world.failure("a.test").await;
    assert!(error.contains("let the CA reach the nodes: DNS"), "{error}");
    assert_eq!(kind(&world, "a.test").await, FailureKind::Validation);
    world.pebble.set_broken("a.test", false).unwrap();
    world.skip(Duration::from_secs(120));
    world.issued("web", &["a.test"]).await;
    assert_eq!(world.pebble.orders(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn nonces_that_are_refused_cost_no_order() {
    let mut world = World::with(|options| options.refused_nonces = 30, 1).await;
    world.lead();
    let hosts: Vec<_> = (0..5).map(|number| format!("host-{number}.test")).collect();
    for host in &hosts {
        world.wish(host, &[host]);
    }
    let clock = async {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            world.skip(Duration::from_secs(30));
        }
    };
    let issued = async {
        for host in &hosts {
            world.issued(host, &[host]).await;
        }
    };
    tokio::select! {
        () = issued => {}
        () = clock => {}
    }
    assert_eq!(world.pebble.orders(), hosts.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_obeyed_whoever_says_it_and_however() {
    let mut world = World::new().await;
    let gate = Gate::new(&world.pebble).await;
    world.set_issuer(|issuer| {
        issuer.directory = gate.directory();
        issuer.ca_bundle = Some(gate.authority());
    });
    let answers: [(&str, u16, &str, &'static str); 3] = [
        (
            "busy",
            503,
            "/dir",
            "<html><h1>Service Unavailable</h1></html>",
        ),
        (
            "limited",
            429,
            "/order-plz",
            r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many new orders"}"#,
        ),
        ("broken", 500, "/finalize-order/", ""),
    ];
    world.lead();
    for (name, status, path, body) in answers {
        let host = format!("{name}.test");
        gate.judge(move |asked| match asked.starts_with(path) {
            true => Verdict::Answer(
                Response::builder()
                    .status(status)
                    .header("retry-after", "600")
                    .header("replay-nonce", "none")
                    .body(body)
                    .unwrap(),
            ),
            false => Verdict::Pass,
        });
        world.wish(name, &[&host]);
        let error = world.failure("Retry-After: 600 s").await;
        assert!(
            error.contains("127.0.0.1") && !error.contains("JSON"),
            "{error}"
        );
        gate.judge(|_| Verdict::Pass);
        let before = gate.seen("/");
        world.skip(Duration::from_secs(590));
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(gate.seen("/"), before, "asked before the time: {name}");
        world.skip(Duration::from_secs(120));
        world.issued(name, &[&host]).await;
        world.settled().await;
    }
    assert_eq!(world.pebble.orders(), answers.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_gives_no_answer_is_named_and_the_ca_is_not_told() {
    let mut world = World::with(|_| {}, 3).await;
    world.fleet.set_silent(1, true);
    world.wish("web", &["a.test"]);
    world.lead();
    let error = world.failure("node-1").await;
    assert!(
        error.contains("404") && error.contains(&world.fleet.address(1).to_string()),
        "{error}"
    );
    assert!(
        !error.contains("node-0") && !error.contains("node-2"),
        "{error}"
    );
    assert_eq!(kind(&world, "a.test").await, FailureKind::NotProven);
    assert_eq!(told(&world), 0);
    world.skip(Duration::from_secs(120));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(told(&world), 0);
    world.fleet.set_silent(1, false);
    world.skip(Duration::from_secs(120));
    world.issued("web", &["a.test"]).await;
    assert_eq!((world.pebble.orders(), told(&world)), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_ready_node_the_order_waits() {
    let mut world = World::new().await;
    let nodes = world.fleet.take_ready();
    world.wish("web", &["a.test"]);
    world.lead();
    world.failure("no node is ready").await;
    assert_eq!(told(&world), 0);
    world.fleet.set_ready(nodes);
    world.skip(Duration::from_secs(120));
    world.issued("web", &["a.test"]).await;
    assert_eq!(world.pebble.orders(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_the_ca_refuses_waits_long_and_its_neighbour_does_not() {
    let mut world = World::new().await;
    world.wish("bad", &["refused.test"]);
    world.wish("good", &["a.test"]);
    world.lead();
    world.issued("good", &["a.test"]).await;
    let error = world.failure("rejectedIdentifier").await;
    assert!(error.contains("refused.test"), "{error}");
    assert_eq!(kind(&world, "refused.test").await, FailureKind::Permanent);
    let ledger = world.ledger().await;
    let entry = &ledger.sets[&set(&["refused.test"]).id()];
    assert!(entry.retry_at.unwrap() >= world.now().0 + 24 * 60 * 60);
    assert!(entry.order.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failure_staging_is_tried_first() {
    let mut world = World::new().await;
    let staging = Gate::new(&world.pebble).await;
    let mut issuer = world.issuer("pebble");
    issuer.staging = Some(staging.directory());
    // Both are verified with one bundle.
    issuer.ca_bundle = Some([world.pebble.authority().as_bytes(), &staging.authority()].concat());
    world.set_issuers(vec![issuer]);
    world.pebble.set_broken("a.test", true).unwrap();
    world.wish("web", &["a.test"]);
    world.lead();
    world.failure("a.test").await;
    assert_eq!(staging.seen("/order-plz"), 0);
    world.skip(Duration::from_secs(120));
    world
        .until("a failure at staging", || {
            (world.pebble.count("set INVALID by invalid authz") >= 2).then_some(())
        })
        .await;
    assert_eq!(staging.seen("/order-plz"), 1);
    world.pebble.set_broken("a.test", false).unwrap();
    let clock = async {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            world.skip(Duration::from_secs(120));
        }
    };
    tokio::select! {
        _ = world.issued("web", &["a.test"]) => {}
        () = clock => {}
    }
    world.settled().await;
    let at_staging = staging.seen("/finalize-order/");
    assert!(at_staging >= 1, "production was asked without a rehearsal");
    assert_eq!(
        world.ledger().await.sets[&set(&["a.test"]).id()].failures,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn when_an_issuer_keeps_failing_the_next_one_is_asked() {
    let mut world = World::new().await;
    let down = Gate::new(&world.pebble).await;
    down.judge(|_| Verdict::Lose);
    let mut first = world.issuer("first");
    first.directory = down.directory();
    first.ca_bundle = Some(down.authority());
    first.fallback = vec!["second".to_owned()];
    world.set_issuers(vec![first, world.issuer("second")]);
    world.wish("web", &["a.test"]);
    world.lead();
    world.failure("cannot reach").await;
    let is_done = Arc::new(AtomicBool::new(false));
    let clock = async {
        while !is_done.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(500)).await;
            world.skip(Duration::from_secs(300));
        }
    };
    let issued = async {
        let issued = world.issued("web", &["a.test"]).await;
        is_done.store(true, Ordering::SeqCst);
        issued
    };
    let (issued, ()) = tokio::join!(issued, clock);
    assert_eq!(issued.issuer, "second");
    assert_eq!(world.pebble.orders(), 1);
    world.skip(HOUR);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_costs_only_its_own_certificate() {
    let mut world = World::new().await;
    world.wish("bad", &["bad.test"]);
    world.wish("good", &["good.test"]);
    world.lead_through(Trapped {
        store: world.store(),
        after_put: |_, secret| assert!(secret.name != "bad", "a defect"),
    });
    world.issued("good", &["good.test"]).await;
    let error = world.failure("a defect").await;
    assert!(error.contains("please report it"), "{error}");
    assert_eq!(kind(&world, "bad.test").await, FailureKind::Internal);
    world.wish("later", &["later.test"]);
    world.issued("later", &["later.test"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_somebody_else_has_written_is_read_again() {
    let mut world = World::new().await;
    world.wish("one", &["one.test"]);
    world.lead();
    world.issued("one", &["one.test"]).await;
    world.settled().await;
    for mut record in world.store().load(RecordKind::Ledger).await.unwrap() {
        record
            .entries
            .insert("by-hand".to_owned(), b"touched".to_vec());
        world.store().save(&record).await.unwrap();
    }
    world.wish("two", &["two.test"]);
    world.issued("two", &["two.test"]).await;
    world.settled().await;
    let ledger = world.ledger().await;
    assert_eq!(ledger.sets.len(), 2);
    assert_eq!(world.pebble.orders(), 2);
}

async fn kind(world: &World, host: &str) -> FailureKind {
    let ledger = world.ledger().await;
    let entry = &ledger.sets[&set(&[host]).id()];
    entry.last_failure.as_ref().expect("a failure").kind
}

/// Challenges that the CA was told of.
fn told(world: &World) -> usize {
    world.pebble.count("Pulled a task from the Tasks queue")
}
