//! Which Secrets are fetched, and when.

use super::super::failure::{Failure, FailureSort};
use super::*;

fn name(text: &str) -> NamespacedName {
    NamespacedName::new("a", text)
}

fn found(text: &str, version: &str, content: u64) -> Fetched {
    let object = Object::Secret(Arc::default());
    Fetched::Found(Box::new(Arrival {
        name: name(text),
        uid: None,
        version: Some(version.to_owned()),
        content: Content::Secret(super::super::arrival::Held {
            object,
            hash: content,
        }),
    }))
}

/// Secrets of which some are referred to, everything watched.
fn referred(names: &[&str]) -> Secrets {
    let mut secrets = Secrets::default();
    secrets.refer(referenced(names), BTreeSet::from([None]));
    secrets
}

fn referenced(names: &[&str]) -> Arc<Referenced> {
    Arc::new(Referenced {
        secrets: names.iter().map(|text| name(text)).collect(),
        ..Referenced::default()
    })
}

fn asked(secrets: &mut Secrets) -> usize {
    secrets.jobs().len()
}

fn notice(secrets: &mut Secrets, text: &str, version: &str) {
    let steps = secrets.noticed(&name(text), Some(version.to_owned()), Label::Other, false);
    assert!(steps.is_empty());
}

#[test]
fn what_the_watch_lists_is_not_fetched_twice() {
    let mut secrets = referred(&["web"]);
    assert_eq!(asked(&mut secrets), 1);
    assert!(!secrets.are_answered());
    notice(&mut secrets, "web", "5");
    notice(&mut secrets, "other", "6");
    let steps = secrets.fetched(&name("web"), found("web", "5", 1));
    assert!(
        matches!(&*steps, [Step::Settled(_), Step::Put(..)]),
        "{steps:?}"
    );
    notice(&mut secrets, "web", "5");
    assert_eq!(asked(&mut secrets), 0);
    assert!(secrets.are_answered());
    assert_eq!(
        (
            secrets.held(None),
            secrets.held(Some("a")),
            secrets.held(Some("b"))
        ),
        (1, 1, 0)
    );
}

#[test]
fn an_answer_from_before_the_last_word_is_asked_for_again() {
    let mut secrets = referred(&["web"]);
    notice(&mut secrets, "web", "6");
    secrets.fetched(&name("web"), found("web", "5", 1));
    assert_eq!(asked(&mut secrets), 2);
    let steps = secrets.fetched(&name("web"), found("web", "7", 1));
    assert!(
        matches!(&*steps, [Step::Settled(_)]),
        "the same content: {steps:?}"
    );
    notice(&mut secrets, "web", "7");
    assert_eq!(asked(&mut secrets), 0, "later than the last word is fine");
}

#[test]
fn a_secret_that_was_deleted_meanwhile_is_asked_for_again() {
    let mut secrets = referred(&["web"]);
    secrets.deleted(&name("web"), Some("6"));
    let steps = secrets.fetched(&name("web"), found("web", "5", 1));
    assert!(steps.is_empty(), "{steps:?}");
    assert_eq!(asked(&mut secrets), 2);
    secrets.fetched(&name("web"), Fetched::Absent);
    assert_eq!((asked(&mut secrets), secrets.are_answered()), (0, true));
}

#[test]
fn a_late_word_of_a_former_secret_takes_nothing_away() {
    let mut secrets = referred(&["web"]);
    secrets.fetched(&name("web"), found("web", "9", 1));
    assert!(secrets.deleted(&name("web"), Some("8")).is_empty());
    assert_eq!(secrets.held(None), 1);
    let steps = secrets.deleted(&name("web"), Some("10"));
    assert!(matches!(&*steps, [Step::Remove(_)]), "{steps:?}");
}

#[test]
fn absent_is_asked_again_once_for_each_word_of_the_watch() {
    let mut secrets = referred(&["web"]);
    notice(&mut secrets, "web", "6");
    asked(&mut secrets);
    secrets.fetched(&name("web"), Fetched::Absent);
    assert_eq!(asked(&mut secrets), 1);
    secrets.fetched(&name("web"), Fetched::Absent);
    assert_eq!(asked(&mut secrets), 0);
}

#[test]
fn what_a_list_does_not_name_is_asked_for_before_it_is_dropped() {
    let mut secrets = referred(&["web", "gone"]);
    for text in ["web", "gone"] {
        secrets.fetched(&name(text), found(text, "5", 1));
    }
    asked(&mut secrets);
    secrets.listed(&HashSet::from([name("web")]), None);
    let jobs = secrets.jobs();
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].task, Task::Secret(name("gone")));
    let steps = secrets.fetched(&name("gone"), Fetched::Absent);
    assert!(
        matches!(&*steps, [Step::Settled(_), Step::Remove(_)]),
        "{steps:?}"
    );
}

#[test]
fn many_are_asked_for_at_once_and_the_rest_singly() {
    let names: Vec<String> = (0..40).map(|number| format!("s{number}")).collect();
    let mut secrets = referred(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let jobs = secrets.jobs();
    assert!(
        matches!(&jobs[..], [Job { task: Task::Secrets { namespace: None, names }, .. }] if names.len() == 40)
    );
    secrets.fetched(&name("s1"), found("s1", "1", 1));
    secrets.not_listed(&BTreeSet::from([name("s1"), name("s2"), name("never")]));
    let jobs: Vec<_> = secrets.jobs().into_iter().map(|job| job.task).collect();
    assert_eq!(jobs, [Task::Secret(name("s2"))]);
}

#[test]
fn a_job_ends_when_the_last_that_wanted_it_is_gone() {
    let mut secrets = referred(&["web"]);
    let mut jobs = secrets.jobs();
    assert!(
        jobs[0]
            .wanted
            .try_recv()
            .is_err_and(|e| e == oneshot::error::TryRecvError::Empty)
    );
    let steps = secrets.refer(referenced(&[]), BTreeSet::from([None]));
    assert!(matches!(&*steps, [Step::Settled(_)]), "{steps:?}");
    assert!(
        jobs[0]
            .wanted
            .try_recv()
            .is_err_and(|e| e == oneshot::error::TryRecvError::Closed)
    );
    assert!(
        secrets
            .fetched(&name("web"), found("web", "1", 1))
            .is_empty()
    );
}

#[test]
fn a_refusal_is_an_answer_and_so_is_failing_again_and_again() {
    let mut secrets = referred(&["forbidden", "broken"]);
    let failing = |sort| Fetched::Failing(Failure::new(sort, "why"));
    let steps = secrets.fetched(&name("forbidden"), failing(FailureSort::Forbidden));
    assert!(matches!(&*steps, [Step::Failing(_, Some(_))]), "{steps:?}");
    for attempt in 0..PATIENCE {
        assert!(!secrets.are_answered(), "{attempt}");
        secrets.fetched(&name("broken"), failing(FailureSort::Server));
    }
    assert!(secrets.are_answered());
    let steps = secrets.fetched(&name("broken"), found("broken", "1", 1));
    assert!(
        steps
            .iter()
            .any(|step| matches!(step, Step::Failing(_, None))),
        "{steps:?}"
    );
}

#[test]
fn names_that_cannot_be_are_absent_without_a_question() {
    let mut secrets = referred(&["../web", "", "UPPER", "a b"]);
    assert_eq!(asked(&mut secrets), 0);
    assert!(secrets.are_answered());
}

#[test]
fn many_that_are_found_by_their_label_are_fetched_together() {
    let mut secrets = referred(&[]);
    for number in 0..100 {
        let found = name(&format!("web-{number}"));
        let version = Some("5".to_owned());
        assert!(
            secrets
                .noticed(&found, version, Label::Certificate, false)
                .is_empty()
        );
    }
    assert_eq!(asked(&mut secrets), 0, "a list is under way");
    assert!(!secrets.are_answered());
    secrets.fetch_found();
    assert_eq!(asked(&mut secrets), 1);
    secrets.fetch_found();
    assert_eq!(asked(&mut secrets), 0);

    let record = |secrets: &mut Secrets, text: &str, is_own| {
        let version = Some("6".to_owned());
        secrets.noticed(&name(text), version, Label::Record, is_own);
        secrets.fetch_found();
        asked(secrets)
    };
    assert_eq!(record(&mut secrets, "keys", true), 1);
    assert_eq!(record(&mut secrets, "theirs", false), 0);
}
