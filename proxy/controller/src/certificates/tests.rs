//! The store against an API server that keeps Secrets, and that others write to at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_certificates::store::{IssuedCertificate, Put};
use tidegate_certificates::{NameSet, Record, RecordKind, Store, StoreError};
use tidegate_model::{CertificateRequest, HostPattern, Hostname, NamespacedName, UnixTime};
use tokio::sync::watch;

use super::*;
use crate::fake_api::{self, Call, Reply};
use crate::leader::clock::Moment;
use crate::leader::{Holding, Leadership};
use crate::write::{Counts, Kind, Outcome, Writer};

/// What is done to the server's Secrets, or answered, before a request is.
type Meanwhile = Box<dyn FnMut(&Call, &mut Kept) -> Option<Reply> + Send>;

/// An API server with Secrets.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    kept: Kept,
    calls: Vec<Call>,
    meanwhile: Option<Meanwhile>,
}

/// Secrets by namespace and name.
#[derive(Default)]
struct Kept {
    secrets: BTreeMap<(String, String), Value>,
    version: u64,
}

impl Kept {
    fn put(&mut self, namespace: &str, name: &str, mut secret: Value) -> Value {
        self.version += 1;
        for (field, value) in [("namespace", namespace), ("name", name)] {
            secret["metadata"][field] = json!(value);
        }
        secret["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let at = (namespace.to_owned(), name.to_owned());
        self.secrets.insert(at, secret.clone());
        secret
    }

    fn answer(&mut self, call: &Call) -> Reply {
        let parts: Vec<_> = call.path.split('/').collect();
        let (namespace, name) = match parts[..] {
            ["", "api", "v1", "namespaces", namespace, "secrets"] => (namespace, None),
            ["", "api", "v1", "namespaces", namespace, "secrets", name] => (namespace, Some(name)),
            _ => panic!("{}", call.path),
        };
        let name = name.or(call.body["metadata"]["name"].as_str());
        let at = (namespace.to_owned(), name.unwrap_or_default().to_owned());
        let known = self.secrets.get(&at).cloned();
        let absent = || Reply::failure(404, "NotFound", "there is none");
        let conflict = || Reply::failure(409, "Conflict", "it was written since");
        let version = |secret: &Value| secret["metadata"]["resourceVersion"].clone();
        match (call.method.as_str(), known) {
            ("GET", _) if name.is_none() => self.list(namespace, &call.query),
            ("GET", Some(known)) => Reply::ok(known),
            ("POST", Some(_)) => Reply::failure(409, "AlreadyExists", "it is there"),
            ("POST", None) => Reply::Json(201, self.put(namespace, &at.1, call.body.clone())),
            ("PUT", Some(known)) if version(&known) != version(&call.body) => conflict(),
            ("PUT", Some(_)) => Reply::ok(self.put(namespace, &at.1, call.body.clone())),
            ("PATCH", Some(mut known)) => {
                for (key, value) in call.body["stringData"].as_object().expect("entries") {
                    known["stringData"][key] = value.clone();
                }
                Reply::ok(self.put(namespace, &at.1, known))
            }
            ("DELETE", Some(known)) => {
                let wanted = &call.body["preconditions"]["resourceVersion"];
                if !wanted.is_null() && *wanted != version(&known) {
                    return conflict();
                }
                self.secrets.remove(&at);
                Reply::ok(json!({"kind": "Status", "status": "Success"}))
            }
            _ => absent(),
        }
    }

    fn list(&self, namespace: &str, query: &str) -> Reply {
        let query = query
            .replace("%2F", "/")
            .replace("%3D", "=")
            .replace("%2C", ",");
        let selector = query
            .split('&')
            .find_map(|part| part.strip_prefix("labelSelector="));
        let selector: Vec<_> = selector.unwrap().split(',').collect();
        let fits = |secret: &Value| {
            selector.iter().all(|wanted| {
                let (key, value) = wanted.split_once('=').expect("a label");
                secret["metadata"]["labels"][key] == value
            })
        };
        let here = self
            .secrets
            .iter()
            .filter(|((space, _), _)| space == namespace);
        let items: Vec<_> = here
            .map(|(_, secret)| secret)
            .filter(|it| fits(it))
            .collect();
        Reply::ok(json!({"kind": "SecretList", "apiVersion": "v1", "metadata": {}, "items": items}))
    }
}

impl Server {
    fn client(&self) -> kube::Client {
        let state = self.0.clone();
        fake_api::client(move |call| {
            let mut state = state.lock().unwrap();
            state.calls.push(call.clone());
            let State {
                kept, meanwhile, ..
            } = &mut *state;
            let reply = meanwhile.as_mut().and_then(|it| it(&call, kept));
            reply.unwrap_or_else(|| kept.answer(&call))
        })
    }

    fn put(&self, namespace: &str, name: &str, secret: Value) {
        self.0.lock().unwrap().kept.put(namespace, name, secret);
    }

    fn meanwhile(&self, step: impl FnMut(&Call, &mut Kept) -> Option<Reply> + Send + 'static) {
        self.0.lock().unwrap().meanwhile = Some(Box::new(step));
    }

    /// Once, before the first request of this method.
    fn once(
        &self,
        method: &'static str,
        step: impl Fn(&mut Kept) -> Option<Reply> + Send + 'static,
    ) {
        let mut is_done = false;
        self.meanwhile(move |call, kept| {
            if is_done || call.method != method {
                return None;
            }
            is_done = true;
            step(kept)
        });
    }

    fn secret(&self, namespace: &str, name: &str) -> Option<Value> {
        let at = (namespace.to_owned(), name.to_owned());
        self.0.lock().unwrap().kept.secrets.get(&at).cloned()
    }

    fn names(&self) -> BTreeSet<String> {
        let state = self.0.lock().unwrap();
        let names = state.kept.secrets.keys();
        names
            .map(|(namespace, name)| format!("{namespace}/{name}"))
            .collect()
    }

    /// Methods of the requests since the last time this was asked.
    fn methods(&self) -> Vec<String> {
        let mut state = self.0.lock().unwrap();
        state.calls.drain(..).map(|call| call.method).collect()
    }
}

fn announced() -> watch::Sender<Option<Leadership>> {
    watch::Sender::new(None)
}

fn begin(announced: &watch::Sender<Option<Leadership>>) -> Holding<'_> {
    Holding::begin(announced, Moment::now().after(Duration::from_secs(1000)))
}

fn owner() -> Owner {
    Owner {
        namespace: "edge".to_owned(),
        instance: "internal".to_owned(),
        lease_name: "tidegate-internal".to_owned(),
    }
}

/// The store of the instance `internal`, and its counts.
fn store(server: &Server, term: &Leadership) -> (ClusterStore, Counts) {
    let counts = Counts::default();
    let writer = Writer::new(server.client(), "tidegate-internal", counts.clone());
    let store = ClusterStore::new(writer, term.clone(), owner());
    (store, counts)
}

fn issued(chain: &str) -> IssuedCertificate {
    let names = ["a.example", "*.a.example"].map(|name| HostPattern::parse(name).unwrap());
    IssuedCertificate {
        chain: chain.to_owned(),
        key: "key".to_owned(),
        issuer: "le".to_owned(),
        names: NameSet::new(names).unwrap(),
    }
}

fn web() -> NamespacedName {
    NamespacedName::new("shop", "web-tls")
}

fn record(kind: RecordKind, name: &str, text: &str) -> Record {
    let mut record = Record::new(kind, name);
    record.entries.insert("ledger.json".to_owned(), text.into());
    record
}

const OURS: &str = "tidegate.dev/certificate";

#[tokio::test(start_paused = true)]
async fn a_record_is_kept_in_a_secret_of_its_own() {
    let (server, announced) = (Server::default(), announced());
    let term = begin(&announced);
    let (store, counts) = store(&server, term.leadership());
    let mut shard = record(RecordKind::Ledger, "a", "one");
    shard.version = Some(store.save(&shard).await.unwrap());
    let secret = server.secret("edge", "tidegate-internal-ledger-a").unwrap();
    assert_eq!(secret["type"], "Opaque");
    assert_eq!(
        secret["metadata"]["labels"],
        json!({"app.kubernetes.io/managed-by": "tidegate", "tidegate.dev/ledger": "internal"})
    );
    shard.entries.insert("ledger.json".to_owned(), "two".into());
    let second = store.save(&shard).await.unwrap();
    assert_eq!(
        store.save(&shard).await,
        Err(StoreError::Conflict),
        "an old version"
    );
    let again = record(RecordKind::Ledger, "a", "three");
    assert_eq!(
        store.save(&again).await,
        Err(StoreError::Conflict),
        "it is there"
    );
    let fresh = store
        .save(&record(RecordKind::Ledger, "b", "other"))
        .await
        .unwrap();
    // Another instance's, and one that somebody else has labelled.
    let foreign = |labels: Value| json!({"metadata": {"labels": labels}});
    server.put(
        "edge",
        "tidegate-ledger-a",
        foreign(json!({"tidegate.dev/ledger": "tidegate"})),
    );
    server.put(
        "edge",
        "by-hand",
        foreign(json!({"tidegate.dev/ledger": "internal"})),
    );
    let loaded = store.load(RecordKind::Ledger).await.unwrap();
    let found: Vec<_> = loaded
        .iter()
        .map(|it| {
            (
                it.name.as_str(),
                it.entries["ledger.json"].as_slice(),
                it.version.clone(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("a", b"two".as_slice(), Some(second)),
            ("b", b"other", Some(fresh))
        ]
    );
    store.remove(RecordKind::Ledger, "a").await.unwrap();
    store.remove(RecordKind::Ledger, "a").await.unwrap();
    assert_eq!(
        store.save(&shard).await,
        Err(StoreError::Conflict),
        "it is gone"
    );
    assert_eq!(counts.all()[&(Kind::Record, Outcome::Written)], 4);
    assert_eq!(counts.all()[&(Kind::Record, Outcome::Conflict)], 2);
    assert_eq!(counts.all()[&(Kind::Record, Outcome::Gone)], 2);
}

#[tokio::test(start_paused = true)]
async fn challenge_answers_have_the_label_that_every_node_looks_for() {
    let (server, announced) = (Server::default(), announced());
    let term = begin(&announced);
    let (store, _) = store(&server, term.leadership());
    store
        .save(&record(RecordKind::ChallengeAnswers, "1", "x"))
        .await
        .unwrap();
    let keys = record(RecordKind::TicketKeys, "", "x");
    store.save(&keys).await.unwrap();
    let labels = |name: &str| server.secret("edge", name).unwrap()["metadata"]["labels"].clone();
    let answers = labels("tidegate-internal-challenge-answers-1");
    assert_eq!(answers["tidegate.dev/challenge-answers"], "true");
    assert_eq!(answers["tidegate.dev/instance"], "internal");
    let keys = labels("tidegate-internal-ticket-keys");
    assert_eq!(keys["tidegate.dev/ticket-keys"], "internal");
    // Those of another instance are served as well, but they are no record of ours.
    let others =
        json!({"tidegate.dev/challenge-answers": "true", "tidegate.dev/instance": "other"});
    server.put(
        "edge",
        "other-challenge-answers-2",
        json!({"metadata": {"labels": others}}),
    );
    assert_eq!(
        store
            .load(RecordKind::ChallengeAnswers)
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_put_and_put_again_and_removed() {
    let (server, announced) = (Server::default(), announced());
    let term = begin(&announced);
    let (store, counts) = store(&server, term.leadership());
    assert_eq!(
        store.put_certificate(&web(), &issued("one")).await,
        Ok(Put::Done)
    );
    let mut secret = server.secret("shop", "web-tls").unwrap();
    assert_eq!(secret["type"], "kubernetes.io/tls");
    assert_eq!(secret["metadata"]["labels"][OURS], "internal");
    let annotations =
        json!({"tidegate.dev/issuer": "le", "tidegate.dev/names": "a.example,*.a.example"});
    assert_eq!(secret["metadata"]["annotations"], annotations);
    assert_eq!(
        secret["data"],
        json!({"tls.crt": "b25l", "tls.key": "a2V5"})
    );

    server.methods();
    assert_eq!(
        store.put_certificate(&web(), &issued("one")).await,
        Ok(Put::Done)
    );
    assert_eq!(server.methods(), ["GET"], "it is there");
    // What others have added stays.
    secret["metadata"]["labels"]["team"] = json!("shop");
    secret["data"]["ca.crt"] = json!("Y2E=");
    server.put("shop", "web-tls", secret);
    assert_eq!(
        store.put_certificate(&web(), &issued("two")).await,
        Ok(Put::Done)
    );
    let secret = server.secret("shop", "web-tls").unwrap();
    assert_eq!(secret["metadata"]["labels"]["team"], "shop");
    let data = json!({"ca.crt": "Y2E=", "tls.crt": "dHdv", "tls.key": "a2V5"});
    assert_eq!(secret["data"], data);

    assert_eq!(store.remove_certificate(&web()).await, Ok(Put::Done));
    assert_eq!(store.remove_certificate(&web()).await, Ok(Put::Gone));
    assert_eq!(server.names(), BTreeSet::new());
    assert_eq!(counts.all()[&(Kind::Certificate, Outcome::Written)], 3);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_ours_is_as_it_was() {
    let (server, announced) = (Server::default(), announced());
    let term = begin(&announced);
    let (store, counts) = store(&server, term.leadership());
    for labels in [json!({}), json!({OURS: "tidegate"}), json!({OURS: ""})] {
        server.put(
            "shop",
            "web-tls",
            json!({"metadata": {"labels": labels}, "data": {"tls.crt": "YQ=="}}),
        );
        let before = server.secret("shop", "web-tls");
        assert_eq!(
            store.put_certificate(&web(), &issued("one")).await,
            Ok(Put::NotOurs)
        );
        assert_eq!(store.remove_certificate(&web()).await, Ok(Put::NotOurs));
        assert_eq!(server.secret("shop", "web-tls"), before);
    }
    // Somebody makes one between the question and the write, and takes the label off another.
    server.0.lock().unwrap().kept.secrets.clear();
    let theirs = || json!({"metadata": {"labels": {}}, "data": {"tls.crt": "YQ=="}});
    server.once("POST", move |kept| {
        kept.put("shop", "web-tls", theirs());
        None
    });
    assert_eq!(
        store.put_certificate(&web(), &issued("one")).await,
        Ok(Put::NotOurs)
    );
    server.put(
        "shop",
        "web-tls",
        json!({"metadata": {"labels": {OURS: "internal"}}}),
    );
    server.once("DELETE", move |kept| {
        kept.put("shop", "web-tls", theirs());
        None
    });
    assert_eq!(store.remove_certificate(&web()).await, Ok(Put::NotOurs));
    assert_eq!(
        server.secret("shop", "web-tls").unwrap()["data"],
        json!({"tls.crt": "YQ=="})
    );
    assert_eq!(
        counts.all().get(&(Kind::Certificate, Outcome::Written)),
        None
    );
}

#[tokio::test(start_paused = true)]
async fn one_that_changes_all_the_time_is_given_up_for_now() {
    let (server, announced) = (Server::default(), announced());
    let term = begin(&announced);
    let (store, _) = store(&server, term.leadership());
    let ours = |number: u64| {
        let annotations = json!({"number": number.to_string()});
        json!({"metadata": {"labels": {OURS: "internal"}, "annotations": annotations}})
    };
    server.put("shop", "web-tls", ours(0));
    let mut number = 0;
    server.meanwhile(move |call, kept| {
        number += 1;
        if call.method == "PUT" {
            kept.put("shop", "web-tls", ours(number));
        }
        None
    });
    let put = store.put_certificate(&web(), &issued("one")).await;
    assert_eq!(put, Err(StoreError::Conflict));
    server.meanwhile(|_, _| None);
    assert_eq!(
        store.put_certificate(&web(), &issued("one")).await,
        Ok(Put::Done)
    );
}

#[tokio::test(start_paused = true)]
async fn a_type_that_cannot_be_changed_is_told() {
    let (server, announced) = (Server::default(), announced());
    let term = begin(&announced);
    let (store, _) = store(&server, term.leadership());
    let typed = |kind: &str| json!({"metadata": {"labels": {OURS: "internal"}}, "type": kind});
    server.put("shop", "web-tls", typed("example.com/other"));
    let Err(StoreError::Refused(message)) = store.put_certificate(&web(), &issued("one")).await
    else {
        panic!("it was taken");
    };
    assert!(
        message.contains("'shop/web-tls'") && message.contains("example.com/other"),
        "{message}"
    );
    server.put("shop", "web-tls", typed("Opaque"));
    assert_eq!(
        store.put_certificate(&web(), &issued("one")).await,
        Ok(Put::Done)
    );
    assert_eq!(server.secret("shop", "web-tls").unwrap()["type"], "Opaque");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_goes_and_rights_that_are_missing() {
    let (server, announced) = (Server::default(), announced());
    let term = begin(&announced);
    let (store, counts) = store(&server, term.leadership());
    server.once("POST", |_| {
        Some(Reply::failure(
            404,
            "NotFound",
            "namespaces \"shop\" not found",
        ))
    });
    assert_eq!(
        store.put_certificate(&web(), &issued("one")).await,
        Ok(Put::Gone)
    );
    server.once("POST", |_| {
        let causes = json!({"causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]});
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 403,
            "reason": "Forbidden", "message": "it is being terminated", "details": causes});
        Some(Reply::Json(403, status))
    });
    assert_eq!(
        store.put_certificate(&web(), &issued("one")).await,
        Ok(Put::Gone)
    );
    for method in ["GET", "POST"] {
        server.once(method, |_| {
            Some(Reply::failure(403, "Forbidden", "secrets is forbidden"))
        });
        let Err(StoreError::Refused(message)) = store.put_certificate(&web(), &issued("one")).await
        else {
            panic!("{method} was allowed");
        };
        assert!(
            message.contains("grant") && message.contains("namespace 'shop'"),
            "{message}"
        );
    }
    server.once("GET", |_| {
        Some(Reply::failure(403, "Forbidden", "secrets is forbidden"))
    });
    assert!(matches!(
        store.load(RecordKind::Account).await,
        Err(StoreError::Refused(_))
    ));
    server.once("GET", |_| {
        Some(Reply::failure(500, "InternalError", "etcd"))
    });
    assert!(matches!(
        store.load(RecordKind::Account).await,
        Err(StoreError::Failed(_))
    ));
    server.once("GET", |_| Some(Reply::Nothing));
    assert!(matches!(
        store.load(RecordKind::Account).await,
        Err(StoreError::Failed(_))
    ));
    assert_eq!(counts.all()[&(Kind::Certificate, Outcome::Gone)], 2);
    assert_eq!(counts.all()[&(Kind::Certificate, Outcome::Forbidden)], 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_when_the_term_has_ended() {
    let (server, announced) = (Server::default(), announced());
    let term = begin(&announced);
    let (store, _) = store(&server, term.leadership());
    server.put(
        "shop",
        "web-tls",
        json!({"metadata": {"labels": {OURS: "internal"}}}),
    );
    let before = server.secret("shop", "web-tls");
    assert_eq!(store.check(), Ok(()));
    let over = tokio::spawn({
        let store = store.clone();
        async move { store.over().await }
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!over.is_finished());
    drop(term);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(over.is_finished());
    let lost = Err(StoreError::NotLeading);
    assert_eq!(store.check(), Err(StoreError::NotLeading));
    assert_eq!(
        store.save(&record(RecordKind::Ledger, "a", "x")).await,
        lost
    );
    assert_eq!(
        store.remove(RecordKind::Ledger, "a").await,
        Err(StoreError::NotLeading)
    );
    let lost = Err(StoreError::NotLeading);
    assert_eq!(store.put_certificate(&web(), &issued("one")).await, lost);
    assert_eq!(store.remove_certificate(&web()).await, lost);
    assert_eq!(server.secret("shop", "web-tls"), before);
    assert_eq!(
        server.methods(),
        Vec::<String>::new(),
        "nothing was even asked"
    );
}

#[tokio::test(start_paused = true)]
async fn a_term_that_ends_between_the_question_and_the_write_leaves_it_unwritten() {
    let (server, announced) = (Server::default(), Arc::new(announced()));
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let (leads, leading) = tokio::sync::oneshot::channel();
    // Holds the term until it is told, on a thread of its own: the server's answer is no place to wait in.
    let held = announced.clone();
    let holder = std::thread::spawn(move || {
        let term = Holding::begin(&held, Moment::now().after(Duration::from_secs(1000)));
        _ = leads.send(term.leadership().clone());
        _ = ended.recv();
    });
    let term = leading.await.unwrap();
    let (store, _) = store(&server, &term);
    let mut holder = Some(holder);
    server.meanwhile(move |call, _| {
        if call.method == "GET" {
            _ = end.send(());
            _ = holder.take().map(std::thread::JoinHandle::join);
        }
        None
    });
    let put = store.put_certificate(&web(), &issued("one")).await;
    assert_eq!(put, Err(StoreError::NotLeading));
    assert_eq!(server.methods(), ["GET"]);
    assert_eq!(server.names(), BTreeSet::new());
}

#[tokio::test(start_paused = true)]
async fn a_request_is_an_entry_of_its_own_whoever_makes_it() {
    let server = Server::default();
    let ask = async |asked: &CertificateRequest, time| {
        let client = server.client();
        request(client, &owner(), asked, UnixTime(time)).await
    };
    let wildcard = HostPattern::parse("*.a.example").unwrap();
    ask(&CertificateRequest::Renew(wildcard), 0).await.unwrap();
    assert_eq!(server.methods(), ["PATCH", "POST"]);
    let host = Hostname::parse("new.a.example").unwrap();
    ask(&CertificateRequest::OnDemand(host.clone()), 60)
        .await
        .unwrap();
    assert_eq!(server.methods(), ["PATCH"]);
    let secret = server
        .secret("edge", "tidegate-internal-certificate-requests")
        .unwrap();
    assert_eq!(
        secret["metadata"]["labels"]["tidegate.dev/certificate-requests"],
        "internal"
    );
    assert_eq!(
        secret["data"]["renew._.a.example"],
        "MTk3MC0wMS0wMVQwMDowMDowMFo="
    );
    assert_eq!(
        secret["stringData"]["on-demand.new.a.example"],
        "1970-01-01T00:01:00Z"
    );

    // Two processes make the first request at the same time.
    server.0.lock().unwrap().kept.secrets.clear();
    server.once("POST", |kept| {
        kept.put(
            "edge",
            "tidegate-internal-certificate-requests",
            json!({"metadata": {}, "data": {"x": ""}}),
        );
        None
    });
    let asked = CertificateRequest::Renew(HostPattern::Exact(host));
    ask(&asked, 0).await.unwrap();
    assert_eq!(server.methods(), ["PATCH", "POST", "PATCH"]);
    server.once("PATCH", |_| Some(Reply::failure(403, "Forbidden", "no")));
    assert!(matches!(ask(&asked, 0).await, Err(StoreError::Refused(_))));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_lead_reads_and_writes_nothing() {
    let (server, announced) = (Server::default(), announced());
    let term = begin(&announced);
    let (writing, _) = store(&server, term.leadership());
    let shard = record(RecordKind::Ledger, "0", "x");
    writing.save(&shard).await.unwrap();
    server.put(
        "edge",
        "eab",
        json!({"metadata": {}, "data": {"key": "YWJj"}}),
    );
    let reading = read_only(server.client(), owner());
    assert_eq!(reading.load(RecordKind::Ledger).await.unwrap().len(), 1);
    let entry = async |name, key| reading.secret_entry(name, key).await.unwrap();
    assert_eq!(
        entry("eab", "key").await.as_deref(),
        Some(b"abc".as_slice())
    );
    assert_eq!(entry("eab", "other").await, None);
    assert_eq!(entry("missing", "key").await, None);
    assert_eq!(reading.check(), Err(StoreError::NotLeading));
    reading.over().await;
    assert_eq!(reading.save(&shard).await, Err(StoreError::NotLeading));
    let lost = Err(StoreError::NotLeading);
    assert_eq!(reading.put_certificate(&web(), &issued("one")).await, lost);
    assert_eq!(reading.remove_certificate(&web()).await, lost);
}

#[tokio::test(start_paused = true)]
async fn an_import_makes_secrets_and_changes_none() {
    let server = Server::default();
    let owner = Owner {
        namespace: "edge".to_owned(),
        instance: "internal".to_owned(),
        lease_name: "tidegate-internal".to_owned(),
    };
    let importer = Importer::new(server.client(), owner);
    assert_eq!(importer.has(&web()).await, Ok(Imported::Made));
    let issued = issued("one");
    assert_eq!(
        importer.certificate(&web(), &issued).await,
        Ok(Imported::Made)
    );
    let secret = server.secret("shop", "web-tls").unwrap();
    assert_eq!(secret["metadata"]["labels"][OURS], "internal");
    assert_eq!(
        importer.certificate(&web(), &issued).await,
        Ok(Imported::There)
    );
    let account = record(RecordKind::Account, "0011", "x");
    assert_eq!(importer.record(&account).await, Ok(Imported::Made));
    assert_eq!(importer.record(&account).await, Ok(Imported::There));
    let name = importer.record_name(&account).to_string();
    assert_eq!(name, "edge/tidegate-internal-account-0011");

    // Somebody makes it between the question and the write.
    server.0.lock().unwrap().kept.secrets.clear();
    server.once("POST", |kept| {
        kept.put(
            "shop",
            "web-tls",
            json!({"metadata": {}, "data": {"tls.crt": "YQ=="}}),
        );
        None
    });
    assert_eq!(
        importer.certificate(&web(), &issued).await,
        Ok(Imported::There)
    );
    server.0.lock().unwrap().kept.secrets.clear();
    server.once("POST", |_| Some(Reply::failure(403, "Forbidden", "no")));
    let Err(StoreError::Refused(message)) = importer.certificate(&web(), &issued).await else {
        panic!("it was allowed");
    };
    assert!(
        message.contains("create secrets in namespace 'shop'"),
        "{message}"
    );
    server.once("GET", |_| {
        Some(Reply::failure(500, "InternalError", "etcd"))
    });
    assert!(matches!(
        importer.record(&account).await,
        Err(StoreError::Failed(_))
    ));
}
