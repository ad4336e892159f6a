//! Slices of Services that are referred to, from lists and watches at once.

use super::*;

fn name(text: &str) -> NamespacedName {
    NamespacedName::new("a", text)
}

fn referenced(names: &[&str]) -> Arc<Referenced> {
    Arc::new(Referenced {
        services: names.iter().map(|text| name(text)).collect(),
        ..Referenced::default()
    })
}

/// One watch of everything.
fn watched(begun: bool) -> Watches {
    Watches::from([(None, (3, begun))])
}

#[test]
fn a_watch_that_has_not_begun_needs_no_list_beside_it() {
    let mut slices = Slices::default();
    slices.refer(referenced(&["web"]), &watched(false));
    assert!(slices.jobs().is_empty() && slices.are_listed());
    slices.refer(referenced(&["web", "api"]), &watched(true));
    let jobs: Vec<_> = slices.jobs().into_iter().map(|job| job.task).collect();
    assert_eq!(
        jobs,
        [Task::SlicesOf {
            list: 1,
            service: name("api")
        }]
    );
    assert!(!slices.are_listed());
}

#[test]
fn a_list_ends_with_the_reference() {
    let mut slices = Slices::default();
    slices.refer(referenced(&["web"]), &watched(true));
    let mut jobs = slices.jobs();
    slices.refer(referenced(&[]), &watched(true));
    assert!(slices.are_listed());
    assert!(
        jobs[0]
            .wanted
            .try_recv()
            .is_err_and(|e| e == oneshot::error::TryRecvError::Closed)
    );
    assert!(slices.listed(1, Vec::new()).is_empty());
}

#[test]
fn hostile_names_and_other_namespaces_are_not_asked_for() {
    let mut slices = Slices::default();
    let elsewhere = Watches::from([(Some("b".to_owned()), (0, true))]);
    slices.refer(referenced(&["web"]), &elsewhere);
    assert!(slices.jobs().is_empty());
    let mut slices = Slices::default();
    slices.refer(referenced(&["a,b", "x=y", ""]), &watched(true));
    assert!(slices.jobs().is_empty());
}
