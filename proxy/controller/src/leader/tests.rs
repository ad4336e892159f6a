//! Elections with a scripted API, and a clock that the tests drive.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, advance, sleep, timeout};

use super::*;
use crate::fake_api::{self, Call, Reply};

const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/tidegate/leases";

/// An API server that has at most one Lease, and candidates that see it through connections of their own.
#[derive(Clone, Default)]
struct Api(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    lease: Option<Value>,
    version: u64,
    watches: Vec<mpsc::UnboundedSender<Value>>,
    faults: BTreeMap<&'static str, Fault>,
    calls: Vec<(&'static str, Instant, Call, u16)>,
}

/// What is wrong with a candidate's connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Requests hang; the watch stays, and it tells.
    Hang,
    /// Writes are done, but their answers are lost.
    AnswersLost,
    Forbidden,
}

impl Api {
    fn client(&self, who: &'static str) -> kube::Client {
        let api = self.clone();
        fake_api::client(move |call| api.answer(who, &call))
    }

    fn answer(&self, who: &'static str, call: &Call) -> Reply {
        let mut state = self.0.lock().unwrap();
        let fault = state.faults.get(who).copied();
        if call.query.contains("watch=true") {
            assert!(
                call.query
                    .contains("fieldSelector=metadata.name%3Dtidegate"),
                "{}",
                call.query
            );
            let (sender, receiver) = mpsc::unbounded_channel();
            state.watches.push(sender);
            return Reply::Watch(receiver);
        }
        let reply = match fault {
            Some(Fault::Hang) => Reply::Nothing,
            Some(Fault::Forbidden) => Reply::failure(403, "Forbidden", "leases is forbidden"),
            _ => state.answer(call),
        };
        let code = if let Reply::Json(code, _) = reply {
            code
        } else {
            0
        };
        state.calls.push((who, Instant::now(), call.clone(), code));
        match fault {
            Some(Fault::AnswersLost) if call.method != "GET" => Reply::Nothing,
            _ => reply,
        }
    }

    fn fail(&self, who: &'static str, fault: Option<Fault>) {
        let faults = &mut self.0.lock().unwrap().faults;
        match fault {
            Some(fault) => _ = faults.insert(who, fault),
            None => _ = faults.remove(who),
        }
    }

    /// Puts a Lease there as another program would.
    fn set(&self, spec: &Value) {
        self.0.lock().unwrap().store(json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "name": "tidegate", "namespace": "tidegate" }, "spec": spec,
        }));
    }

    fn delete(&self) {
        let mut state = self.0.lock().unwrap();
        let lease = state.lease.take().unwrap();
        state.tell("DELETED", &lease);
    }

    fn spec(&self) -> Value {
        self.0.lock().unwrap().lease.as_ref().unwrap()["spec"].clone()
    }

    fn holder(&self) -> String {
        self.spec()["holderIdentity"].as_str().unwrap().to_owned()
    }

    /// Method and code of each request by a candidate since then.
    fn calls(&self, who: &str, since: Instant) -> Vec<(String, u16)> {
        let state = self.0.lock().unwrap();
        let calls = state
            .calls
            .iter()
            .filter(|(caller, at, ..)| *caller == who && *at >= since);
        calls
            .map(|(_, _, call, code)| (call.method.clone(), *code))
            .collect()
    }

    fn writes(&self, who: &str, since: Instant) -> usize {
        self.calls(who, since)
            .iter()
            .filter(|(method, _)| method != "GET")
            .count()
    }
}

impl State {
    fn answer(&mut self, call: &Call) -> Reply {
        match (
            call.method.as_str(),
            call.path.strip_prefix(PATH).expect("a lease"),
        ) {
            ("GET", "") => Reply::ok(json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "LeaseList",
                "metadata": { "resourceVersion": self.version.to_string() },
                "items": self.lease.iter().collect::<Vec<_>>(),
            })),
            ("GET", "/tidegate") => match &self.lease {
                Some(lease) => Reply::ok(lease.clone()),
                None => Reply::failure(404, "NotFound", "leases \"tidegate\" not found"),
            },
            ("POST", "") if self.lease.is_some() => {
                Reply::failure(409, "AlreadyExists", "leases \"tidegate\" already exists")
            }
            ("POST", "") => Reply::ok(self.store(call.body.clone())),
            ("PUT", "/tidegate") => match &self.lease {
                None => Reply::failure(404, "NotFound", "leases \"tidegate\" not found"),
                Some(lease)
                    if lease["metadata"]["resourceVersion"]
                        != call.body["metadata"]["resourceVersion"] =>
                {
                    Reply::failure(409, "Conflict", "the object has been modified")
                }
                Some(_) => Reply::ok(self.store(call.body.clone())),
            },
            other => panic!("unexpected request {other:?}"),
        }
    }

    fn store(&mut self, mut lease: Value) -> Value {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let is_new = self.lease.replace(lease.clone()).is_none();
        self.tell(if is_new { "ADDED" } else { "MODIFIED" }, &lease);
        lease
    }

    fn tell(&mut self, what: &str, lease: &Value) {
        let event = json!({ "type": what, "object": lease });
        self.watches
            .retain(|watch| watch.send(event.clone()).is_ok());
    }
}

struct Candidate {
    leadership: watch::Receiver<Option<Leadership>>,
    standing: Standing,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Candidate {
    fn start(api: &Api, identity: &'static str) -> Self {
        let (announce, leadership) = watch::channel(None);
        let (stop, stopped) = oneshot::channel();
        let standing = Standing::default();
        let election = Election {
            lease: NamespacedName::new("tidegate", "tidegate"),
            identity: identity.to_owned(),
            timing: Timing::default(),
            standing: standing.clone(),
        };
        let task = tokio::spawn(run(api.client(identity), election, announce, async {
            _ = stopped.await;
        }));
        Self {
            leadership,
            standing,
            stop: Some(stop),
            task,
        }
    }

    async fn leads_within(&mut self, limit: Duration) -> Leadership {
        let led = timeout(limit, self.leadership.wait_for(Option::is_some)).await;
        led.expect("it leads in time")
            .expect("it runs")
            .clone()
            .expect("it leads")
    }

    async fn ends_within(&mut self, limit: Duration) {
        let ended = timeout(limit, self.leadership.wait_for(Option::is_none)).await;
        ended.expect("it ends in time").expect("it runs");
    }

    fn leads(&self) -> bool {
        self.leadership.borrow().is_some()
    }

    async fn stop(mut self) {
        self.stop
            .take()
            .expect("it runs")
            .send(())
            .expect("it runs");
        timeout(seconds(3), self.task)
            .await
            .expect("bounded")
            .expect("no panic");
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn held_by(holder: &str, renewed: &str) -> Value {
    json!({ "holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 7,
        "acquireTime": "2020-01-01T00:00:00.000000Z", "renewTime": renewed })
}

#[tokio::test(start_paused = true)]
async fn the_first_candidate_makes_the_lease_and_renews_it() {
    let api = Api::default();
    let mut only = Candidate::start(&api, "a");
    let leadership = only.leads_within(seconds(1)).await;
    let spec = api.spec();
    assert_eq!(spec["holderIdentity"], "a");
    assert_eq!(spec["leaseDurationSeconds"], 15);
    assert_eq!(spec["leaseTransitions"], 0);
    assert_eq!(spec["acquireTime"], spec["renewTime"]);

    sleep(seconds(1)).await;
    let start = Instant::now();
    sleep(seconds(60)).await;
    assert_eq!(
        api.writes("a", start),
        12,
        "one renewal in 5 s and nothing else"
    );
    assert_eq!(api.calls("a", start).len(), 12);
    assert_eq!(leadership.check(), Ok(()));
    assert_ne!(api.spec()["renewTime"], spec["renewTime"]);
    assert_eq!(api.spec()["acquireTime"], spec["acquireTime"]);
    let facts = only.standing.facts();
    assert_eq!(
        (
            facts.is_leader,
            facts.holder.as_str(),
            facts.terms,
            facts.lost
        ),
        (true, "a", 1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_follower_asks_nothing_while_there_is_a_leader() {
    let api = Api::default();
    let mut leader = Candidate::start(&api, "a");
    leader.leads_within(seconds(1)).await;
    let follower = Candidate::start(&api, "b");
    sleep(seconds(2)).await;
    let start = Instant::now();
    sleep(seconds(250)).await;
    assert_eq!(api.calls("b", start), []);
    assert!(!follower.leads());
    assert_eq!(follower.standing.facts().holder, "a");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_dies_is_followed_when_it_was_silent_for_the_lease() {
    let api = Api::default();
    let mut first = Candidate::start(&api, "a");
    first.leads_within(seconds(1)).await;
    let mut second = Candidate::start(&api, "b");
    sleep(seconds(12)).await;
    first.task.abort();
    let killed = Instant::now();
    second.leads_within(seconds(16)).await;
    // The last renewal was some 2 s before the end.
    assert!(killed.elapsed() > seconds(12), "{:?}", killed.elapsed());
    assert_eq!(api.spec()["leaseTransitions"], 1);
    assert!(
        first.leadership.borrow().is_none(),
        "the term ends with its task"
    );
}

#[tokio::test(start_paused = true)]
async fn the_holder_s_clock_counts_for_nothing() {
    for renewed in ["1970-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.000000Z"] {
        let api = Api::default();
        api.set(&held_by("other", renewed));
        let start = Instant::now();
        let mut candidate = Candidate::start(&api, "a");
        candidate.leads_within(seconds(17)).await;
        assert!(
            start.elapsed() >= seconds(15),
            "{renewed}: {:?}",
            start.elapsed()
        );
        assert_eq!(api.spec()["leaseTransitions"], 8);
    }
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_renews_keeps_the_lease_whatever_its_clock_says() {
    let api = Api::default();
    api.set(&held_by("other", "1970-01-01T00:00:00.000000Z"));
    let candidate = Candidate::start(&api, "a");
    for second in 0..20 {
        sleep(seconds(5)).await;
        api.set(&held_by(
            "other",
            &format!("1970-01-01T00:00:{second:02}.000000Z"),
        ));
    }
    assert!(!candidate.leads());
    assert_eq!(api.writes("a", Instant::now() - seconds(100)), 0);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_ends_before_another_may_lead() {
    for fault in [Fault::Hang, Fault::Forbidden] {
        let api = Api::default();
        let mut first = Candidate::start(&api, "a");
        let leadership = first.leads_within(seconds(1)).await;
        let mut second = Candidate::start(&api, "b");
        sleep(seconds(7)).await;
        api.fail("a", Some(fault));
        let ended_by = Instant::now() + seconds(8);
        first.ends_within(seconds(9)).await;
        assert!(Instant::now() <= ended_by + Duration::from_millis(100));
        assert_eq!(leadership.check(), Err(Lost));
        assert!(!second.leads());
        let ended = Instant::now();
        second.leads_within(seconds(7)).await;
        assert!(
            ended.elapsed() > seconds(4),
            "{:?} between the two",
            ended.elapsed()
        );
        assert_eq!(first.standing.facts().lost, 1);
        assert!(first.standing.facts().failures > 0);
        let took_over = Instant::now();
        api.fail("a", None);
        sleep(seconds(40)).await;
        assert_eq!(api.holder(), "b");
        assert_eq!(api.writes("a", took_over), 0);
        assert_eq!(first.standing.facts().trouble, None);
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_lost_do_not_end_a_term_when_the_next_one_arrives() {
    let api = Api::default();
    let mut only = Candidate::start(&api, "a");
    let leadership = only.leads_within(seconds(1)).await;
    sleep(seconds(4)).await;
    api.fail("a", Some(Fault::AnswersLost));
    sleep(seconds(3)).await;
    api.fail("a", None);
    sleep(seconds(60)).await;
    assert_eq!(leadership.check(), Ok(()), "the same term");
}

#[tokio::test(start_paused = true)]
async fn a_lease_in_other_hands_ends_the_term_at_once() {
    let api = Api::default();
    let mut first = Candidate::start(&api, "a");
    let leadership = first.leads_within(seconds(1)).await;
    sleep(seconds(2)).await;
    api.set(&held_by("intruder", "2026-01-01T00:00:00.000000Z"));
    first.ends_within(seconds(2)).await;
    assert_eq!(leadership.check(), Err(Lost));
    assert_eq!(api.holder(), "intruder");
    let taken = Instant::now();
    let again = first.leads_within(seconds(18)).await;
    assert!(taken.elapsed() > seconds(14));
    assert_ne!(again, leadership);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_deleted_is_made_again() {
    let api = Api::default();
    let mut only = Candidate::start(&api, "a");
    let leadership = only.leads_within(seconds(1)).await;
    sleep(seconds(2)).await;
    api.delete();
    only.ends_within(seconds(5)).await;
    only.leads_within(seconds(3)).await;
    assert_eq!(leadership.check(), Err(Lost));
    assert_eq!(api.holder(), "a");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_stops_releases_and_another_leads_at_once() {
    let api = Api::default();
    let mut first = Candidate::start(&api, "a");
    let leadership = first.leads_within(seconds(1)).await;
    let mut second = Candidate::start(&api, "b");
    sleep(seconds(3)).await;
    let stopped = Instant::now();
    first.stop().await;
    assert_eq!(leadership.check(), Err(Lost));
    second.leads_within(seconds(1)).await;
    assert!(stopped.elapsed() < seconds(1));
    assert_eq!(api.holder(), "b");
    second.stop().await;
    assert_eq!(api.spec()["holderIdentity"], "");
    assert_eq!(api.spec()["leaseDurationSeconds"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_release_that_hangs_is_given_up_and_a_follower_releases_nothing() {
    let api = Api::default();
    let mut first = Candidate::start(&api, "a");
    first.leads_within(seconds(1)).await;
    let second = Candidate::start(&api, "b");
    sleep(seconds(1)).await;
    let start = Instant::now();
    second.stop().await;
    assert_eq!(api.calls("b", start), []);
    api.fail("a", Some(Fault::Hang));
    first.stop().await;
    assert!(start.elapsed() >= seconds(2));
    assert_eq!(api.holder(), "a");
}

#[tokio::test(start_paused = true)]
async fn the_lease_of_a_process_before_us_is_ours_only_after_a_write() {
    let api = Api::default();
    api.set(&held_by("a", "2026-01-01T00:00:00.000000Z"));
    api.fail("a", Some(Fault::Hang));
    let mut candidate = Candidate::start(&api, "a");
    sleep(seconds(10)).await;
    assert!(!candidate.leads());
    api.fail("a", None);
    candidate.leads_within(seconds(20)).await;
    assert_eq!(api.spec()["leaseTransitions"], 8, "another term");
}

#[tokio::test(start_paused = true)]
async fn one_of_many_takes_a_lease_that_is_released() {
    let api = Api::default();
    api.set(&held_by("", "2026-01-01T00:00:00.000000Z"));
    let names = ["a", "b", "c", "d", "e", "f"];
    let candidates = names.map(|name| Candidate::start(&api, name));
    sleep(seconds(30)).await;
    assert_eq!(
        candidates
            .iter()
            .filter(|candidate| candidate.leads())
            .count(),
        1
    );
    assert_eq!(api.spec()["leaseTransitions"], 8);
}

#[tokio::test(start_paused = true)]
async fn garbage_in_the_lease_neither_stops_nor_speeds_up_the_election() {
    let garbage = [
        (json!(null), 0),
        (json!([1, 2]), 0),
        (json!({}), 0),
        (json!({ "holderIdentity": 7, "leaseTransitions": "x" }), 0),
        (json!({ "holderIdentity": "x" }), 15),
        (
            json!({ "holderIdentity": "x", "leaseDurationSeconds": -5, "leaseTransitions": -9 }),
            15,
        ),
        (
            json!({ "holderIdentity": "x", "leaseDurationSeconds": 0, "renewTime": { "a": 1 } }),
            15,
        ),
        (
            json!({ "holderIdentity": "x", "leaseDurationSeconds": i64::MAX, "leaseTransitions": i64::MAX }),
            60,
        ),
        (
            json!({ "holderIdentity": "ä".repeat(100_000), "leaseDurationSeconds": "15", "strategy": "OldestEmulationVersion" }),
            15,
        ),
    ];
    for (spec, wait) in garbage {
        let api = Api::default();
        api.set(&spec);
        let start = Instant::now();
        let mut candidate = Candidate::start(&api, "a");
        candidate.leads_within(seconds(wait + 2)).await;
        let told: String = spec.to_string().chars().take(80).collect();
        assert!(
            start.elapsed() >= seconds(wait),
            "{told}: {:?}",
            start.elapsed()
        );
        let written = api.spec();
        assert_eq!(written["holderIdentity"], "a", "{told}");
        let transitions = written["leaseTransitions"].as_i64().expect("a number");
        assert!((1..=i64::from(i32::MAX)).contains(&transitions), "{told}");
        assert_eq!(written["strategy"], spec["strategy"], "{told}");
        assert!(candidate.standing.facts().holder.len() <= 128);
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_paused_past_its_lease_writes_nothing_when_it_goes_on() {
    let api = Api::default();
    let mut first = Candidate::start(&api, "a");
    let leadership = first.leads_within(seconds(1)).await;
    sleep(seconds(6)).await;
    // Nothing runs meanwhile, and then another has renewed.
    advance(seconds(20)).await;
    assert_eq!(leadership.check(), Err(Lost), "before any task has run");
    api.set(&held_by("b", "2026-01-01T00:00:00.000000Z"));
    let back = Instant::now();
    sleep(seconds(10)).await;
    assert!(!first.leads());
    assert_eq!(api.writes("a", back), 0, "{:?}", api.calls("a", back));
}
