//! Events of watches folded to changes.

use std::hash::RandomState;

use serde_json::{Value, json};

use super::super::arrival::Reader;
use super::*;

struct Folded {
    view: View,
    reader: Reader,
}

/// A view with watches of these kinds.
fn folded(kinds: &[Kind]) -> Folded {
    let scope = Scope::default();
    let mut view = View::new(&scope, Inventory::default(), Health::default());
    for kind in kinds {
        let name = WatchName {
            kind: *kind,
            namespace: None,
        };
        view.add(name, Need::Whole);
    }
    Folded {
        view,
        reader: Reader {
            field_manager: "tidegate".into(),
            instance: "tidegate".into(),
            hashes: RandomState::new(),
        },
    }
}

impl Folded {
    fn arrival(&self, kind: Kind, value: &Value) -> Arrival {
        self.reader.read(kind, &value.to_string()).unwrap()
    }

    fn put(&mut self, number: usize, kind: Kind, value: &Value) {
        let arrival = self.arrival(kind, value);
        self.view.take(number, Event::Put(arrival));
    }

    fn delete(&mut self, number: usize, kind: Kind, value: &Value) {
        let arrival = self.arrival(kind, value);
        self.view.take(number, Event::Delete(arrival));
    }

    /// The changes in short: `+` and `-` before the names.
    fn changes(&mut self) -> Vec<String> {
        let (changes, _) = self.view.news();
        let short = |change: &Change| match change {
            Change::Put(object) => format!("+{}", object.reference().name.name),
            Change::Remove(object) => format!("-{}", object.name.name),
            Change::Resolved(..) => panic!("no source resolves"),
        };
        changes.iter().map(short).collect()
    }
}

fn service(name: &str, port: u16) -> Value {
    json!({"metadata": {"name": name, "namespace": "a"}, "spec": {"ports": [{"port": port}]}})
}

fn slice(name: &str, service: &str, version: u64) -> Value {
    json!({"addressType": "IPv4", "endpoints": [{"addresses": [format!("10.0.0.{version}")]}], "metadata": {
        "name": name, "namespace": "a", "resourceVersion": version.to_string(),
        "labels": {"kubernetes.io/service-name": service}}})
}

#[test]
fn a_list_removes_at_its_end_and_never_before() {
    let mut folded = folded(&[Kind::Service]);
    folded.view.take(0, Event::Begin);
    assert_eq!(folded.view.standing(), Standing::Begun);
    folded.put(0, Kind::Service, &service("one", 80));
    folded.put(0, Kind::Service, &service("two", 80));
    folded.view.take(0, Event::End);
    assert_eq!(folded.view.standing(), Standing::Complete);
    assert_eq!(folded.changes(), ["+one", "+two"]);

    folded.view.take(0, Event::Begin);
    folded.put(0, Kind::Service, &service("two", 80));
    assert!(folded.changes().is_empty());
    // Broken off and begun again.
    folded.view.take(0, Event::Begin);
    folded.put(0, Kind::Service, &service("one", 81));
    assert_eq!(folded.changes(), ["+one"]);
    folded.view.take(0, Event::End);
    assert_eq!(folded.changes(), ["-two"]);
}

#[test]
fn a_deletion_of_what_is_not_known_is_no_change() {
    let mut folded = folded(&[Kind::Service]);
    folded.delete(0, Kind::Service, &service("one", 80));
    assert!(!folded.view.has_news());
    folded.put(0, Kind::Service, &service("one", 80));
    folded.delete(0, Kind::Service, &service("one", 80));
    assert_eq!(folded.changes(), ["+one", "-one"]);
}

#[test]
fn a_problem_goes_with_its_object() {
    let mut folded = folded(&[Kind::Service]);
    let bad = json!({"metadata": {"name": "one", "namespace": "a"}, "spec": {"ports": 7}});
    folded.put(0, Kind::Service, &bad);
    assert!(folded.view.has_news());
    assert_eq!(folded.view.news().1.len(), 1);
    folded.put(0, Kind::Service, &bad);
    assert!(!folded.view.has_news(), "it has been told");
    folded.delete(0, Kind::Service, &bad);
    let (changes, problems) = folded.view.news();
    assert!(changes.is_empty() && problems.is_empty());
    folded.put(0, Kind::Service, &bad);
    folded.put(0, Kind::Service, &service("one", 80));
    assert!(folded.view.news().1.is_empty());
}

#[test]
fn a_word_from_before_what_a_list_beside_the_watch_had_is_passed_over() {
    let mut folded = folded(&[Kind::EndpointSlice]);
    folded.view.take(0, Event::Begin);
    folded.view.take(0, Event::End);
    folded.view.refer(Arc::new(Referenced {
        services: [NamespacedName::new("a", "web")].into(),
        ..Referenced::default()
    }));
    let jobs = folded.view.jobs();
    assert_eq!(jobs.len(), 1);
    assert_eq!(folded.view.standing(), Standing::Watched);
    let slices = vec![folded.arrival(Kind::EndpointSlice, &slice("one", "web", 10))];
    folded.view.fetched(Outcome::Slices { list: 1, slices });
    assert_eq!(folded.view.standing(), Standing::Complete);
    assert_eq!(folded.changes(), ["+one"]);
    folded.put(0, Kind::EndpointSlice, &slice("one", "web", 9));
    folded.delete(0, Kind::EndpointSlice, &slice("one", "web", 8));
    assert!(folded.changes().is_empty());
    folded.put(0, Kind::EndpointSlice, &slice("one", "web", 11));
    assert_eq!(folded.changes(), ["+one"]);
    folded.delete(0, Kind::EndpointSlice, &slice("one", "web", 12));
    assert_eq!(folded.changes(), ["-one"]);
}

#[test]
fn a_list_is_right_though_its_versions_are_lower() {
    let mut folded = folded(&[Kind::EndpointSlice]);
    let services = [NamespacedName::new("a", "web")].into();
    folded.view.refer(Arc::new(Referenced {
        services,
        ..Referenced::default()
    }));
    folded.put(0, Kind::EndpointSlice, &slice("one", "web", 100));
    folded.changes();
    folded.view.take(0, Event::Begin);
    folded.put(0, Kind::EndpointSlice, &slice("one", "web", 5));
    folded.view.take(0, Event::End);
    assert_eq!(folded.changes(), ["+one"]);
    folded.put(0, Kind::EndpointSlice, &slice("one", "web", 6));
    assert_eq!(folded.changes(), ["+one"]);
}
