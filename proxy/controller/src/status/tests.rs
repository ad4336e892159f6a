//! Which statuses are written, when, and which are left alone.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::{Value, json};
use tidegate_model::NamespacedName;
use tokio::task::JoinHandle;
use tokio::time::{advance, sleep};

use super::*;
use crate::fake_api::{self, Call, Reply};
use crate::inventory::{Agent, IngressRecord};
use crate::leader::Holding;
use crate::leader::clock::Moment;
use crate::translate::IngressStatus;
use crate::write::Counts;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn name(name: &str) -> NamespacedName {
    NamespacedName::new("shop", name)
}

fn ip(text: &str) -> PublishedAddress {
    PublishedAddress::Ip(text.parse().unwrap())
}

/// A cluster in which what is written shows in the inventory, as the watch would do it.
struct Cluster {
    inventory: Inventory,
    announced: watch::Sender<Option<Leadership>>,
    published: watch::Sender<Option<Arc<Translation>>>,
    publish: watch::Sender<Publish>,
    calls: Arc<Mutex<Vec<(Instant, Call)>>>,
    /// What requests are answered; none: they succeed.
    failure: Arc<Mutex<Option<(u16, &'static str)>>>,
    /// Whether what is written shows.
    shows: Arc<Mutex<bool>>,
    task: JoinHandle<()>,
}

impl Cluster {
    fn start() -> Self {
        let inventory = Inventory::default();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let failure = Arc::new(Mutex::new(None));
        let shows = Arc::new(Mutex::new(true));
        let answer = {
            let (inventory, calls, failure, shows) = (
                inventory.clone(),
                calls.clone(),
                failure.clone(),
                shows.clone(),
            );
            move |call: Call| {
                calls.lock().unwrap().push((Instant::now(), call.clone()));
                if call.path == "/api/v1/nodes" {
                    return nodes(&call);
                }
                if let Some((code, reason)) = *failure.lock().unwrap() {
                    return Reply::failure(code, reason, "as the test wants it");
                }
                if *shows.lock().unwrap() {
                    inventory.set_ingress(&name(&ingress_of(&call)), Some(record_of(&call.body)));
                }
                Reply::ok(json!({}))
            }
        };
        let writer = Writer::new(fake_api::client(answer), "tidegate", Counts::default());
        let announced = watch::Sender::new(None);
        let published = watch::Sender::new(None);
        let publish = watch::Sender::new(Publish::default());
        let task = tokio::spawn(run(
            writer,
            announced.subscribe(),
            published.subscribe(),
            inventory.clone(),
            publish.subscribe(),
        ));
        Self {
            inventory,
            announced,
            published,
            publish,
            calls,
            failure,
            shows,
            task,
        }
    }

    fn lead(&self) -> Holding<'_> {
        Holding::begin(&self.announced, Moment::now().after(seconds(100_000)))
    }

    /// These are served now.
    fn serve(&self, names: &[&str]) {
        let status = IngressStatus {
            routes: 1,
            tls: false,
        };
        let statuses: BTreeMap<_, _> = names
            .iter()
            .map(|served| (name(served), status.clone()))
            .collect();
        let translation = Translation {
            statuses: Arc::new(statuses),
            ..Translation::default()
        };
        self.published.send_replace(Some(Arc::new(translation)));
    }

    fn exists(&self, ingress: &str, addresses: &[&str], is_ours: bool) {
        let addresses = addresses.iter().map(|text| ip(text)).collect();
        self.inventory
            .set_ingress(&name(ingress), Some(IngressRecord { addresses, is_ours }));
    }

    fn agent(&self, node: &str, address: &str, is_ready: bool) {
        let agent = Agent {
            node: node.to_owned(),
            is_ready,
            host_addresses: BTreeSet::from([address.parse().unwrap()]),
            pod_addresses: BTreeSet::new(),
        };
        self.inventory
            .set_agent(&NamespacedName::new("tidegate", node), Some(agent));
    }

    /// What was written since the last time this was asked: Ingress and addresses.
    fn written(&self) -> Vec<(String, Vec<PublishedAddress>)> {
        let mut written: Vec<_> = self
            .calls
            .lock()
            .unwrap()
            .drain(..)
            .filter(|(_, call)| call.method == "PATCH")
            .map(|(_, call)| (ingress_of(&call), record_of(&call.body).addresses))
            .collect();
        written.sort();
        written
    }

    fn addresses(&self, ingress: &str) -> Vec<PublishedAddress> {
        self.inventory
            .ingress(&name(ingress))
            .expect("it exists")
            .addresses
    }
}

fn ingress_of(call: &Call) -> String {
    call.path.split('/').nth_back(1).expect("a name").to_owned()
}

fn record_of(body: &Value) -> IngressRecord {
    let entries = body["status"]["loadBalancer"]["ingress"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let addresses: Vec<_> = entries
        .iter()
        .map(|entry| ip(entry["ip"].as_str().expect("an address")))
        .collect();
    IngressRecord {
        is_ours: !addresses.is_empty(),
        addresses,
    }
}

fn nodes(call: &Call) -> Reply {
    if call.query.contains("watch=true") {
        return Reply::Nothing;
    }
    Reply::ok(
        json!({ "apiVersion": "v1", "kind": "NodeList", "metadata": { "resourceVersion": "1" }, "items": [
        { "metadata": { "name": "n1" }, "spec": { "podCIDR": "x" }, "status": { "addresses": [
            { "type": "ExternalIP", "address": "203.0.113.1" }, { "type": "InternalIP", "address": "10.9.9.9" },
            { "type": "ExternalIP", "address": "no address" } ] } },
        { "metadata": { "name": "n2" }, "spec": {}, "status": { "addresses": null } },
        { "metadata": { "name": "n3" }, "spec": {} },
    ] }),
    )
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_before_everything_is_known_and_without_leadership() {
    let cluster = Cluster::start();
    cluster.exists("a", &[], false);
    cluster.agent("n1", "10.0.0.1", true);
    cluster.serve(&["a"]);
    cluster.inventory.set_complete();
    sleep(seconds(5)).await;
    assert_eq!(cluster.written(), [], "it does not lead");

    let cluster = Cluster::start();
    let _term = cluster.lead();
    cluster.exists("a", &[], false);
    cluster.exists("old", &["10.0.0.9"], true);
    cluster.agent("n1", "10.0.0.1", true);
    cluster.inventory.set_complete();
    sleep(seconds(5)).await;
    assert_eq!(cluster.written(), [], "nothing is published");

    let cluster = Cluster::start();
    let _term = cluster.lead();
    cluster.exists("a", &[], false);
    cluster.exists("old", &["10.0.0.9"], true);
    cluster.agent("n1", "10.0.0.1", true);
    cluster.serve(&["a"]);
    sleep(seconds(5)).await;
    assert_eq!(cluster.written(), [], "not every kind was seen whole");
    cluster.inventory.set_complete();
    sleep(seconds(1)).await;
    assert_eq!(
        cluster.written(),
        [
            ("a".to_owned(), vec![ip("10.0.0.1")]),
            ("old".to_owned(), vec![])
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn statuses_follow_the_agents_and_what_is_served() {
    let cluster = Cluster::start();
    let _term = cluster.lead();
    cluster.exists("a", &[], false);
    cluster.exists("b", &["10.0.0.1"], true);
    cluster.exists("foreign", &["192.0.2.7"], false);
    cluster.agent("n1", "10.0.0.1", true);
    cluster.serve(&["a", "b"]);
    cluster.inventory.set_complete();
    sleep(seconds(1)).await;
    assert_eq!(
        cluster.written(),
        [("a".to_owned(), vec![ip("10.0.0.1")])],
        "b is right, the other is not ours"
    );

    cluster.agent("n2", "10.0.0.2", true);
    cluster.agent("n3", "10.0.0.3", false);
    sleep(seconds(1)).await;
    let both = vec![ip("10.0.0.1"), ip("10.0.0.2")];
    assert_eq!(
        cluster.written(),
        [("a".to_owned(), both.clone()), ("b".to_owned(), both)]
    );

    cluster.agent("n1", "10.0.0.1", false);
    cluster.serve(&["a"]);
    sleep(seconds(1)).await;
    assert_eq!(
        cluster.written(),
        [
            ("a".to_owned(), vec![ip("10.0.0.2")]),
            ("b".to_owned(), vec![])
        ]
    );

    cluster.agent("n2", "10.0.0.2", false);
    sleep(seconds(1)).await;
    assert_eq!(
        cluster.written(),
        [],
        "no agent is ready: the last addresses stay"
    );

    cluster.inventory.set_ingress(&name("a"), None);
    cluster.agent("n2", "10.0.0.2", true);
    sleep(seconds(1)).await;
    assert_eq!(cluster.written(), [], "it is gone");
}

#[tokio::test(start_paused = true)]
async fn an_ingress_of_ours_that_serves_nothing_has_no_address() {
    let cluster = Cluster::start();
    let _term = cluster.lead();
    cluster.exists("a", &["10.0.0.1"], true);
    cluster.agent("n1", "10.0.0.1", true);
    let statuses = BTreeMap::from([(name("a"), IngressStatus::default())]);
    let translation = Translation {
        statuses: Arc::new(statuses),
        ..Translation::default()
    };
    cluster.published.send_replace(Some(Arc::new(translation)));
    cluster.inventory.set_complete();
    sleep(seconds(1)).await;
    assert_eq!(cluster.written(), [("a".to_owned(), vec![])]);
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_writes_nothing_when_nothing_differs() {
    let cluster = Cluster::start();
    let names: Vec<String> = (0..500).map(|number| format!("i{number}")).collect();
    for served in &names {
        // In another order, which makes no difference.
        cluster.exists(served, &["10.0.0.2", "10.0.0.1"], true);
    }
    cluster.agent("n1", "10.0.0.1", true);
    cluster.agent("n2", "10.0.0.2", true);
    cluster.serve(&names.iter().map(String::as_str).collect::<Vec<_>>());
    cluster.inventory.set_complete();
    for _ in 0..3 {
        let term = cluster.lead();
        sleep(seconds(5)).await;
        drop(term);
        sleep(seconds(1)).await;
    }
    assert_eq!(cluster.written(), []);
}

#[tokio::test(start_paused = true)]
async fn what_is_written_but_does_not_show_is_written_again_ever_less_often() {
    let cluster = Cluster::start();
    let _term = cluster.lead();
    *cluster.shows.lock().unwrap() = false;
    cluster.exists("a", &[], false);
    cluster.agent("n1", "10.0.0.1", true);
    cluster.serve(&["a"]);
    cluster.inventory.set_complete();
    sleep(seconds(60)).await;
    let times = cluster.written().len();
    assert!((5..=7).contains(&times), "{times}");
    sleep(seconds(3600)).await;
    let times = cluster.written().len();
    assert!((10..=16).contains(&times), "{times}");
}

#[tokio::test(start_paused = true)]
async fn two_that_write_the_same_status_do_not_race() {
    let cluster = Cluster::start();
    let _term = cluster.lead();
    cluster.exists("a", &[], false);
    cluster.agent("n1", "10.0.0.1", true);
    cluster.serve(&["a"]);
    cluster.inventory.set_complete();
    for _ in 0..600 {
        sleep(Duration::from_millis(100)).await;
        cluster.exists("a", &["192.0.2.1"], false);
    }
    let times = cluster.written().len();
    assert!((3..=8).contains(&times), "{times} in a minute");
}

#[tokio::test(start_paused = true)]
async fn failures_are_waited_out_and_do_not_flood() {
    for failure in [
        (403, "Forbidden"),
        (500, "InternalError"),
        (429, "TooManyRequests"),
    ] {
        let cluster = Cluster::start();
        let _term = cluster.lead();
        *cluster.failure.lock().unwrap() = Some(failure);
        let names: Vec<String> = (0..100).map(|number| format!("i{number}")).collect();
        for served in &names {
            cluster.exists(served, &[], false);
        }
        cluster.agent("n1", "10.0.0.1", true);
        cluster.serve(&names.iter().map(String::as_str).collect::<Vec<_>>());
        cluster.inventory.set_complete();
        sleep(seconds(60)).await;
        let times = cluster.written().len();
        assert!(times < 40, "{failure:?}: {times} requests in a minute");
        *cluster.failure.lock().unwrap() = None;
        sleep(seconds(61)).await;
        assert_eq!(cluster.written().len(), 100, "{failure:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_refused_does_not_stop_the_others() {
    let cluster = Cluster::start();
    let _term = cluster.lead();
    *cluster.failure.lock().unwrap() = Some((422, "Invalid"));
    cluster.exists("a", &[], false);
    cluster.agent("n1", "10.0.0.1", true);
    cluster.serve(&["a", "b"]);
    cluster.inventory.set_complete();
    sleep(seconds(1)).await;
    *cluster.failure.lock().unwrap() = None;
    cluster.exists("b", &[], false);
    sleep(seconds(5)).await;
    assert_eq!(cluster.addresses("b"), [ip("10.0.0.1")]);
    assert_eq!(cluster.addresses("a"), [ip("10.0.0.1")]);
}

#[tokio::test(start_paused = true)]
async fn publication_changes_live_and_nodes_are_watched_only_when_asked_for() {
    let cluster = Cluster::start();
    let _term = cluster.lead();
    cluster.exists("a", &[], false);
    cluster.agent("n1", "10.0.0.1", true);
    cluster.agent("n2", "10.0.0.2", true);
    cluster.serve(&["a"]);
    cluster.inventory.set_complete();
    sleep(seconds(1)).await;
    assert!(
        cluster
            .calls
            .lock()
            .unwrap()
            .iter()
            .all(|(_, call)| call.method == "PATCH")
    );
    cluster.publish.send_replace(Publish {
        nodes: NodeAddresses::External,
        ..Publish::default()
    });
    sleep(seconds(2)).await;
    assert_eq!(cluster.addresses("a"), [ip("10.0.0.2"), ip("203.0.113.1")]);
    cluster.publish.send_replace(Publish {
        addresses: vec![ip("198.51.100.1")],
        ..Publish::default()
    });
    sleep(seconds(2)).await;
    assert_eq!(cluster.addresses("a"), [ip("198.51.100.1")]);
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_what_it_follows() {
    let Cluster {
        announced,
        published,
        task,
        inventory,
        publish,
        ..
    } = Cluster::start();
    inventory.set_complete();
    drop(publish);
    let term = Holding::begin(&announced, Moment::now().after(seconds(1000)));
    advance(seconds(1)).await;
    sleep(seconds(1)).await;
    assert!(!task.is_finished());
    drop(published);
    tokio::time::timeout(seconds(1), task)
        .await
        .expect("it ends")
        .expect("no panic");
    drop(term);

    let Cluster {
        announced,
        published: _published,
        task,
        ..
    } = Cluster::start();
    drop(announced);
    tokio::time::timeout(seconds(1), task)
        .await
        .expect("it ends")
        .expect("no panic");
}
