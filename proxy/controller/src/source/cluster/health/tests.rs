//! What is said when a watch fails and when it is well again.

use super::*;

fn name(kind: Kind) -> WatchName {
    WatchName {
        kind,
        namespace: None,
    }
}

fn failure(sort: FailureSort) -> Failure {
    Failure::new(sort, "why")
}

/// What is logged.
fn fail(health: &Health, kind: Kind, sort: FailureSort) -> Vec<Word> {
    health.with(|state| state.failed(&name(kind), &failure(sort)))
}

fn mend(health: &Health, kind: Kind) -> Vec<Word> {
    health.with(|state| {
        let words = state.over(&name(kind), None);
        state.watch(&name(kind)).failing = None;
        words
    })
}

#[test]
fn a_server_that_is_away_is_one_line_and_one_when_it_is_back() {
    let health = Health::default();
    let kinds = [Kind::Ingress, Kind::Service, Kind::Secret];
    let words: Vec<_> = kinds
        .iter()
        .flat_map(|kind| fail(&health, *kind, FailureSort::Connection))
        .collect();
    let [Word::Begins(text)] = &*words else {
        panic!("{words:?}");
    };
    assert!(
        text.contains("Ingress: why") && text.contains("stays in force"),
        "{text}"
    );
    for _ in 0..10 {
        assert!(fail(&health, Kind::Ingress, FailureSort::Connection).is_empty());
        assert!(
            fail(&health, Kind::Ingress, FailureSort::Server).is_empty(),
            "spoken of as one"
        );
    }
    assert!(mend(&health, Kind::Ingress).is_empty());
    assert!(mend(&health, Kind::Service).is_empty());
    let words = mend(&health, Kind::Secret);
    assert!(
        matches!(&*words, [Word::Over(text)] if text.contains("reached again")),
        "{words:?}"
    );
    assert!(mend(&health, Kind::Secret).is_empty());
    let snapshot = health.snapshot();
    let watch = &snapshot.watches[&name(Kind::Ingress)];
    assert_eq!(watch.failures[&FailureSort::Connection], 11);
    assert!(watch.failing.is_none());
}

#[test]
fn what_is_forbidden_is_said_per_kind_with_what_to_grant() {
    let health = Health::default();
    let words = fail(&health, Kind::Service, FailureSort::Forbidden);
    let [Word::Begins(text)] = &*words else {
        panic!("{words:?}");
    };
    assert!(
        text.starts_with("Service cannot be watched (why)"),
        "{text}"
    );
    assert!(
        text.contains("grant verbs [list, watch] on resource services"),
        "{text}"
    );
    assert!(fail(&health, Kind::Service, FailureSort::Forbidden).is_empty());
    assert_eq!(fail(&health, Kind::Pod, FailureSort::Forbidden).len(), 1);
    assert_eq!(
        mend(&health, Kind::Service),
        [Word::Over("Service is watched again".to_owned())]
    );
}

#[test]
fn one_failure_gives_way_to_another() {
    let health = Health::default();
    assert_eq!(
        fail(&health, Kind::Service, FailureSort::Connection).len(),
        1
    );
    let words = fail(&health, Kind::Service, FailureSort::Unauthorized);
    assert!(
        matches!(&*words, [Word::Over(_), Word::Begins(_)]),
        "{words:?}"
    );
    let since = health.snapshot().watches[&name(Kind::Service)]
        .failing
        .clone()
        .map(|f| f.since);
    let words = fail(&health, Kind::Service, FailureSort::Forbidden);
    assert!(
        matches!(&*words, [Word::Over(_), Word::Begins(_)]),
        "{words:?}"
    );
    let snapshot = health.snapshot();
    let failing = snapshot.watches[&name(Kind::Service)]
        .failing
        .clone()
        .unwrap();
    assert_eq!(
        (failing.sort, Some(failing.since)),
        (FailureSort::Forbidden, since)
    );
}
