//! What becomes an Event, once.

use std::sync::Mutex;
use std::time::Duration;

use serde_json::json;
use tidegate_model::{NamespacedName, ObjectRef, Reason};
use tokio::time::sleep;

use super::*;
use crate::fake_api::{self, Call, Reply};
use crate::leader::Holding;
use crate::leader::clock::Moment;
use crate::write::Counts;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn problem(level: Level, kind: &str, name: &str, message: &str) -> Problem {
    Problem {
        level,
        object: ObjectRef::new(kind, NamespacedName::new("shop", name)),
        field: String::new(),
        reason: Reason::InvalidHost,
        message: message.to_owned(),
    }
}

/// An API server that keeps the names of Events.
struct Cluster {
    inventory: Inventory,
    announced: watch::Sender<Option<Leadership>>,
    published: watch::Sender<Option<Arc<Translation>>>,
    others: watch::Sender<Arc<Vec<Problem>>>,
    calls: Arc<Mutex<Vec<(Call, u16)>>>,
    names: Arc<Mutex<BTreeSet<String>>>,
    failure: Arc<Mutex<Option<(u16, &'static str)>>>,
}

impl Cluster {
    fn start() -> Self {
        let cluster = Self {
            inventory: Inventory::default(),
            announced: watch::Sender::new(None),
            published: watch::Sender::new(None),
            others: watch::Sender::default(),
            calls: Arc::default(),
            names: Arc::default(),
            failure: Arc::default(),
        };
        cluster.inventory.set_complete();
        cluster.spawn();
        cluster
    }

    /// Another process that tells.
    fn spawn(&self) {
        let (calls, names, failure) =
            (self.calls.clone(), self.names.clone(), self.failure.clone());
        let client = fake_api::client(move |call: Call| {
            let name = call.body["metadata"]["name"]
                .as_str()
                .expect("a name")
                .to_owned();
            let (code, reply) = match *failure.lock().unwrap() {
                Some((code, reason)) => {
                    (code, Reply::failure(code, reason, "as the test wants it"))
                }
                None if names.lock().unwrap().insert(name) => (201, Reply::Json(201, json!({}))),
                None => (409, Reply::failure(409, "AlreadyExists", "it is there")),
            };
            calls.lock().unwrap().push((call, code));
            reply
        });
        tokio::spawn(run(
            Writer::new(client, "tidegate", Counts::default()),
            self.announced.subscribe(),
            self.published.subscribe(),
            self.others.subscribe(),
            self.inventory.clone(),
            Reporter {
                instance: "tidegate".to_owned(),
                identity: "pod_1".to_owned(),
            },
        ));
    }

    fn lead(&self) -> Holding<'_> {
        Holding::begin(&self.announced, Moment::now().after(seconds(100_000)))
    }

    fn publish(&self, problems: &[Problem]) {
        let translation = Translation {
            problems: problems.to_vec(),
            ..Translation::default()
        };
        self.published.send_replace(Some(Arc::new(translation)));
    }

    /// Note and code of each request since the last time this was asked.
    fn told(&self) -> Vec<(String, u16)> {
        let note = |call: &Call| call.body["note"].as_str().expect("a note").to_owned();
        self.calls
            .lock()
            .unwrap()
            .drain(..)
            .map(|(call, code)| (note(&call), code))
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn problems_of_others_are_told_beside_those_of_the_translation() {
    let cluster = Cluster::start();
    let one = problem(Level::Error, "Ingress", "a", "one");
    let two = problem(Level::Error, "Ingress", "b", "two");
    let _term = cluster.lead();
    cluster.publish(std::slice::from_ref(&one));
    sleep(seconds(1)).await;
    cluster
        .others
        .send_replace(Arc::new(vec![one.clone(), two.clone()]));
    sleep(seconds(1)).await;
    let told = [("one".to_owned(), 201), ("two".to_owned(), 201)];
    assert_eq!(cluster.told(), told, "each once, whoever found it");
    cluster.publish(&[]);
    sleep(seconds(1)).await;
    assert_eq!(cluster.told(), [], "it is a problem still");
}

#[tokio::test(start_paused = true)]
async fn it_goes_on_when_nobody_else_finds_problems_any_more() {
    let mut cluster = Cluster::start();
    drop(std::mem::take(&mut cluster.others));
    let _term = cluster.lead();
    cluster.publish(&[problem(Level::Error, "Ingress", "a", "one")]);
    sleep(seconds(1)).await;
    assert_eq!(cluster.told(), [("one".to_owned(), 201)]);
}

#[tokio::test(start_paused = true)]
async fn a_problem_is_told_once_until_it_changes() {
    let cluster = Cluster::start();
    let one = problem(Level::Error, "Ingress", "a", "one");
    let two = problem(Level::Warning, "Service", "b", "two");
    cluster.publish(&[one.clone(), two.clone()]);
    sleep(seconds(1)).await;
    assert_eq!(cluster.told(), [], "it does not lead");
    let term = cluster.lead();
    sleep(seconds(1)).await;
    assert_eq!(
        cluster.told(),
        [("one".to_owned(), 201), ("two".to_owned(), 201)]
    );
    cluster.publish(&[one.clone(), two.clone()]);
    sleep(seconds(1)).await;
    assert_eq!(cluster.told(), []);
    cluster.publish(&[
        problem(Level::Error, "Ingress", "a", "another"),
        two.clone(),
    ]);
    sleep(seconds(1)).await;
    assert_eq!(cluster.told(), [("another".to_owned(), 201)]);
    cluster.publish(&[one.clone(), two.clone()]);
    sleep(seconds(1)).await;
    assert_eq!(
        cluster.told(),
        [("one".to_owned(), 409)],
        "its Event is still there"
    );

    drop(term);
    cluster.spawn();
    let _term = cluster.lead();
    sleep(seconds(1)).await;
    let again = [("one".to_owned(), 409), ("two".to_owned(), 409)];
    assert_eq!(
        cluster.told(),
        again,
        "the process that has told them asks no more, the new one once"
    );
}

#[tokio::test(start_paused = true)]
async fn notes_and_files_have_no_event() {
    let cluster = Cluster::start();
    let _term = cluster.lead();
    cluster.publish(&[
        problem(Level::Info, "Ingress", "a", "nothing amiss"),
        problem(Level::Error, "File", "a.yaml", "of a file"),
        problem(Level::Error, "Ingress", "a", "told"),
    ]);
    sleep(seconds(1)).await;
    assert_eq!(cluster.told(), [("told".to_owned(), 201)]);
}

#[tokio::test(start_paused = true)]
async fn many_problems_are_told_slowly() {
    let cluster = Cluster::start();
    let _term = cluster.lead();
    let problems: Vec<_> = (0..10_000)
        .map(|number| problem(Level::Error, "Ingress", &format!("i{number:05}"), "wrong"))
        .collect();
    cluster.publish(&problems);
    sleep(seconds(10)).await;
    let told = cluster.told().len();
    assert!((140..=155).contains(&told), "{told} in 10 s");
    cluster.publish(&problems);
    sleep(seconds(10)).await;
    let told = cluster.told();
    assert!((95..=105).contains(&told.len()), "{} in 10 s", told.len());
    assert!(
        told.iter().all(|(_, code)| *code == 201),
        "none is told twice"
    );
}

#[tokio::test(start_paused = true)]
async fn failures_are_waited_out_and_what_is_gone_is_dropped() {
    let cluster = Cluster::start();
    let _term = cluster.lead();
    *cluster.failure.lock().unwrap() = Some((403, "Forbidden"));
    let problems = ["one", "two"].map(|message| problem(Level::Error, "Ingress", "a", message));
    cluster.publish(&problems);
    sleep(seconds(60)).await;
    let times = cluster.told().len();
    assert!((4..=8).contains(&times), "{times}");
    *cluster.failure.lock().unwrap() = None;
    sleep(seconds(61)).await;
    assert_eq!(
        cluster.told(),
        [("one".to_owned(), 201), ("two".to_owned(), 201)]
    );

    *cluster.failure.lock().unwrap() = Some((404, "NotFound"));
    cluster.publish(&[problem(Level::Error, "Ingress", "gone", "three")]);
    sleep(seconds(60)).await;
    assert_eq!(cluster.told(), [("three".to_owned(), 404)]);
}

#[tokio::test(start_paused = true)]
async fn an_event_carries_the_identity_that_is_known_when_all_is_known() {
    let cluster = Cluster::start();
    let problem = problem(Level::Error, "Ingress", "a", "one");
    cluster
        .inventory
        .set_uid(&problem.object, Some("u-1".to_owned()));
    let _term = cluster.lead();
    cluster.publish(std::slice::from_ref(&problem));
    sleep(seconds(1)).await;
    let calls = cluster.calls.lock().unwrap();
    let [(call, _)] = &calls[..] else {
        panic!("{calls:?}")
    };
    assert_eq!(
        (call.method.as_str(), call.path.as_str()),
        ("POST", "/apis/events.k8s.io/v1/namespaces/shop/events")
    );
    assert_eq!(call.body["regarding"]["uid"], "u-1");
    assert_eq!(call.body["reportingInstance"], "pod_1");
}
