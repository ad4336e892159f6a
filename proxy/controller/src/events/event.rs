//! An Event (events.k8s.io/v1) that says what a Problem says.

use std::fmt::Write;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use sha2::{Digest, Sha256};
use tidegate_model::Problem;

use super::Reporter;
use crate::translate::CONTROLLER;

/// Longest `note`, in bytes; the API server refuses more.
const NOTE_MAX: usize = 1024;
/// Longest `reportingInstance`, in bytes.
const INSTANCE_MAX: usize = 128;
/// Longest `metadata.name`, in bytes.
const NAME_MAX: usize = 253;
/// What controllers do when they find a problem of ours.
const ACTION: &str = "Translate";
/// Where Events about objects of the whole cluster are.
const DEFAULT_NAMESPACE: &str = "default";

/// The API version of a kind that problems are about; `None` for what is no object of the cluster.
pub(super) fn api_version(kind: &str) -> Option<&'static str> {
    match kind {
        "Ingress" | "IngressClass" => Some("networking.k8s.io/v1"),
        "Service" | "Secret" | "ConfigMap" | "Namespace" | "Pod" | "Node" => Some("v1"),
        "EndpointSlice" => Some("discovery.k8s.io/v1"),
        _ => None,
    }
}

/// The Event about a problem of the object with this `metadata.uid`.
pub(super) fn about(problem: &Problem, uid: Option<String>, reporter: &Reporter) -> Event {
    let object = &problem.object;
    let namespace = Some(object.name.namespace.clone()).filter(|namespace| !namespace.is_empty());
    let name = name(problem, uid.as_deref(), &reporter.instance);
    Event {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(
                namespace
                    .clone()
                    .unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
            ),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(Timestamp::now())),
        type_: Some("Warning".to_owned()),
        reason: Some(problem.reason.to_string()),
        action: Some(ACTION.to_owned()),
        note: Some(note(problem)),
        regarding: Some(ObjectReference {
            api_version: api_version(&object.kind).map(str::to_owned),
            kind: Some(object.kind.clone()),
            namespace,
            name: Some(object.name.name.clone()),
            uid,
            ..ObjectReference::default()
        }),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(cut(&reporter.identity, INSTANCE_MAX).to_owned()),
        ..Event::default()
    }
}

/// The object's name and a digest of everything that makes this Event another than the last.
fn name(problem: &Problem, uid: Option<&str>, instance: &str) -> String {
    let Problem {
        level,
        object,
        field,
        reason,
        message,
    } = problem;
    let mut digest = Sha256::new();
    let parts = [
        instance,
        &format!("{level:?}"),
        &object.kind,
        &object.name.namespace,
        &object.name.name,
        uid.unwrap_or_default(),
        field,
        &reason.to_string(),
        message,
    ];
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let mut suffix = String::from(".");
    for byte in digest.finalize().iter().take(8) {
        // Writing to a String does not fail.
        _ = write!(suffix, "{byte:02x}");
    }
    let prefix = cut(&object.name.name, NAME_MAX - suffix.len());
    // A label of a DNS name ends with a letter or a digit.
    format!("{}{suffix}", prefix.trim_end_matches(['-', '.']))
}

fn note(problem: &Problem) -> String {
    let text = if problem.field.is_empty() {
        problem.message.clone()
    } else {
        format!("{}: {}", problem.field, problem.message)
    };
    cut(&text, NOTE_MAX).to_owned()
}

/// The start of a text, of at most so many bytes.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tidegate_model::{Level, NamespacedName, ObjectRef, Reason};

    use super::*;

    fn problem(kind: &str, namespace: &str, name: &str) -> Problem {
        Problem {
            level: Level::Error,
            object: ObjectRef::new(kind, NamespacedName::new(namespace, name)),
            field: "spec.rules[0].host".to_owned(),
            reason: Reason::InvalidHost,
            message: "\"a b\" is no host".to_owned(),
        }
    }

    fn reporter(instance: &str) -> Reporter {
        Reporter {
            instance: instance.to_owned(),
            identity: "pod_1".to_owned(),
        }
    }

    #[test]
    fn an_event_says_what_the_problem_says() {
        let event = about(
            &problem("Ingress", "shop", "web"),
            Some("u-1".to_owned()),
            &reporter("tidegate"),
        );
        let json = serde_json::to_value(&event).expect("JSON");
        assert_eq!(json["metadata"]["namespace"], "shop");
        let regarding = serde_json::json!({ "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "namespace": "shop", "name": "web", "uid": "u-1" });
        assert_eq!(json["regarding"], regarding);
        assert_eq!(json["note"], "spec.rules[0].host: \"a b\" is no host");
        assert_eq!(json["reason"], "InvalidHost");
        assert_eq!(json["type"], "Warning");
        assert_eq!(json["action"], "Translate");
        assert_eq!(
            json["reportingController"],
            "tidegate.dev/ingress-controller"
        );
        assert_eq!(json["reportingInstance"], "pod_1");
    }

    #[test]
    fn names_tell_one_problem_from_another_and_do_not_change() {
        let problem_of_web = problem("Ingress", "shop", "web");
        let name_of = |problem: &Problem, uid: &str, instance: &str| {
            about(problem, Some(uid.to_owned()), &reporter(instance))
                .metadata
                .name
                .expect("a name")
        };
        let name = name_of(&problem_of_web, "1", "tidegate");
        assert!(
            name.starts_with("web.") && name.len() == "web.".len() + 16,
            "{name}"
        );
        assert_eq!(name, name_of(&problem_of_web, "1", "tidegate"));
        let worded = Problem {
            message: "other".to_owned(),
            ..problem_of_web.clone()
        };
        let elsewhere = Problem {
            field: "spec.rules[1].host".to_owned(),
            ..problem_of_web.clone()
        };
        let names = BTreeSet::from([
            name,
            name_of(&worded, "1", "tidegate"),
            name_of(&elsewhere, "1", "tidegate"),
            name_of(&problem_of_web, "2", "tidegate"),
            name_of(&problem_of_web, "1", "internal"),
        ]);
        assert_eq!(names.len(), 5);
    }

    #[test]
    fn what_is_too_long_is_cut_and_still_a_name() {
        let mut long = problem(
            "Service",
            "shop",
            &format!("{}-.{}", "a".repeat(234), "b".repeat(17)),
        );
        long.message = "ä".repeat(2000);
        let event = about(
            &long,
            None,
            &Reporter {
                instance: "i".to_owned(),
                identity: "p".repeat(300),
            },
        );
        let name = event.metadata.name.expect("a name");
        assert_eq!(name, format!("{}.{}", "a".repeat(234), &name[235..]));
        assert!(name.len() <= NAME_MAX);
        let note = event.note.expect("a note");
        assert!(note.len() <= NOTE_MAX && note.len() > NOTE_MAX - 2);
        assert_eq!(
            event.reporting_instance.map(|instance| instance.len()),
            Some(128)
        );
    }

    #[test]
    fn objects_of_the_whole_cluster_have_their_events_in_the_default_namespace() {
        let event = about(
            &problem("IngressClass", "", "tidegate"),
            None,
            &reporter("tidegate"),
        );
        assert_eq!(event.metadata.namespace.as_deref(), Some("default"));
        assert_eq!(
            event.regarding.and_then(|regarding| regarding.namespace),
            None
        );
        assert_eq!(api_version("File"), None);
    }
}
