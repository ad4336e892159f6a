//! Writes under a term, and after it.

use std::sync::Mutex;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::sync::watch;
use tokio::time::{Instant, advance};

use super::*;
use crate::fake_api::{self, Call, Reply};
use crate::leader::Holding;
use crate::leader::clock::Moment;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A writer whose requests are answered like this, and those requests.
fn writer(answer: impl Fn() -> Reply + Send + Sync + 'static) -> (Writer, Arc<Mutex<Vec<Call>>>) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let (log, answer) = (calls.clone(), Arc::new(answer));
    let client = fake_api::client(move |call| {
        log.lock().unwrap().push(call);
        answer()
    });
    (
        Writer::new(client, "tidegate-internal", Counts::default()),
        calls,
    )
}

fn shop() -> NamespacedName {
    NamespacedName::new("shop", "web")
}

fn addresses() -> Vec<PublishedAddress> {
    vec![
        PublishedAddress::Ip("10.0.0.1".parse().unwrap()),
        PublishedAddress::Hostname("lb.example".to_owned()),
    ]
}

fn event() -> Event {
    let metadata = ObjectMeta {
        name: Some("web.1".to_owned()),
        namespace: Some("shop".to_owned()),
        ..ObjectMeta::default()
    };
    Event {
        metadata,
        ..Event::default()
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_status_is_applied_and_only_what_is_ours() {
    let (writer, calls) = writer(|| Reply::ok(json!({})));
    let announced = watch::Sender::new(None);
    let holding = Holding::begin(&announced, Moment::now().after(seconds(3)));
    let term = holding.leadership();
    writer
        .apply_ingress_status(term, &shop(), &addresses())
        .await
        .unwrap();
    writer
        .apply_ingress_status(term, &shop(), &[])
        .await
        .unwrap();
    let calls = calls.lock().unwrap();
    let [set, clear] = &calls[..] else {
        panic!("{calls:?}")
    };
    assert_eq!(set.method, "PATCH");
    assert_eq!(
        set.path,
        "/apis/networking.k8s.io/v1/namespaces/shop/ingresses/web/status"
    );
    assert!(
        set.query.contains("force=true") && set.query.contains("fieldManager=tidegate-internal")
    );
    let timeout = set
        .query
        .split('&')
        .find_map(|pair| pair.strip_prefix("timeout="))
        .expect("a limit");
    let milliseconds: u64 = timeout.strip_suffix("ms").unwrap().parse().unwrap();
    assert!(
        (2000..=3000).contains(&milliseconds),
        "no longer than the term: {milliseconds}"
    );
    let head = json!({ "name": "web", "namespace": "shop" });
    assert_eq!(
        set.body,
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": head,
            "status": { "loadBalancer": { "ingress": [{ "ip": "10.0.0.1" }, { "hostname": "lb.example" }] } },
        })
    );
    assert_eq!(
        clear.body,
        json!({ "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": head })
    );
    assert_eq!(
        writer.counts.all(),
        BTreeMap::from([((Kind::IngressStatus, Outcome::Written), 2)])
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_under_a_term_that_has_ended() {
    let (writer, calls) = writer(|| Reply::ok(json!({})));
    let announced = watch::Sender::new(None);
    let holding = Holding::begin(&announced, Moment::now().after(seconds(10)));
    let term = holding.leadership().clone();
    advance(seconds(11)).await;
    let refused = writer
        .apply_ingress_status(&term, &shop(), &addresses())
        .await;
    assert!(
        matches!(refused, Err(WriteError::Interrupted(Interrupted::Lost(_)))),
        "{refused:?}"
    );
    drop(holding);
    // Another term of the same process does not make the old value good.
    let _next = Holding::begin(&announced, Moment::now().after(seconds(10)));
    let refused = writer.create_event(&term, &event()).await;
    assert!(
        matches!(refused, Err(WriteError::Interrupted(Interrupted::Lost(_)))),
        "{refused:?}"
    );
    assert_eq!(calls.lock().unwrap().len(), 0);
    let counts = writer.counts.all();
    assert_eq!(counts[&(Kind::IngressStatus, Outcome::NotLeading)], 1);
    assert_eq!(counts[&(Kind::Event, Outcome::NotLeading)], 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_given_up_after_five_seconds_and_with_its_term() {
    let (writer, _) = writer(|| Reply::Nothing);
    let announced = watch::Sender::new(None);
    let holding = Holding::begin(&announced, Moment::now().after(seconds(7)));
    let term = holding.leadership();
    let start = Instant::now();
    let outcome = writer.create_event(term, &event()).await;
    assert!(
        matches!(outcome, Err(WriteError::Interrupted(Interrupted::TimedOut))),
        "{outcome:?}"
    );
    assert!(start.elapsed() >= seconds(5) && start.elapsed() < seconds(6));
    let outcome = writer.create_event(term, &event()).await;
    assert!(
        matches!(outcome, Err(WriteError::Interrupted(Interrupted::Lost(_)))),
        "{outcome:?}"
    );
    assert!(start.elapsed() < seconds(8));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_about_to_be_sent_is_not_sent_after_a_pause() {
    let (writer, calls) = writer(|| Reply::ok(json!({})));
    let announced = watch::Sender::new(None);
    let holding = Holding::begin(&announced, Moment::now().after(seconds(10)));
    let term = holding.leadership().clone();
    let (shop, addresses) = (shop(), addresses());
    let mut write = std::pin::pin!(writer.apply_ingress_status(&term, &shop, &addresses));
    // It is under way, and the client has not come to send it, when everything stands still.
    assert!(futures_util::poll!(write.as_mut()).is_pending());
    advance(seconds(20)).await;
    let outcome = write.await;
    assert!(
        matches!(outcome, Err(WriteError::Interrupted(Interrupted::Lost(_)))),
        "{outcome:?}"
    );
    tokio::task::yield_now().await;
    assert_eq!(calls.lock().unwrap().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn answers_are_told_apart() {
    let terminating = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "it is being terminated", "reason": "Forbidden", "code": 403,
        "details": { "causes": [{ "reason": "NamespaceTerminating" }] } });
    let cases = [
        (
            Reply::failure(409, "AlreadyExists", "there"),
            Outcome::Already,
        ),
        (
            Reply::failure(404, "NotFound", "no namespace"),
            Outcome::Gone,
        ),
        (Reply::Json(403, terminating), Outcome::Gone),
        (Reply::failure(403, "Forbidden", "no"), Outcome::Forbidden),
        (Reply::failure(422, "Invalid", "no"), Outcome::Refused),
        (
            Reply::failure(500, "InternalError", "etcd"),
            Outcome::Failed,
        ),
        (Reply::Json(502, json!("bad gateway")), Outcome::Failed),
        (Reply::ok(json!({})), Outcome::Written),
    ];
    for (reply, outcome) in cases {
        let reply = Mutex::new(Some(reply));
        let (writer, _) = writer(move || reply.lock().unwrap().take().expect("one request"));
        let announced = watch::Sender::new(None);
        let holding = Holding::begin(&announced, Moment::now().after(seconds(10)));
        _ = writer.create_event(holding.leadership(), &event()).await;
        assert_eq!(
            writer.counts.all(),
            BTreeMap::from([((Kind::Event, outcome), 1)])
        );
    }
}
