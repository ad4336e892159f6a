//! Which namespaces' Ingresses are served: by name, and by the namespace's own labels.

use tidegate_model::{NamespacedName, Problem, Reason};

use super::Settings;
use super::objects::Objects;
use super::report::Report;

/// Whether the settings name a namespace, or none at all.
pub(super) fn names(settings: &Settings, namespace: &str) -> bool {
    settings.namespaces.is_empty() || settings.namespaces.contains(namespace)
}

/// What is wrong with a namespace that is selected by labels and has Ingresses: that it is not there to have any.
pub(super) fn problems(settings: &Settings, namespace: &str, objects: &Objects) -> Vec<Problem> {
    let is_missing = !objects.namespaces.contains_key(namespace)
        && !settings.namespace_selector.matches(None)
        && names(settings, namespace)
        && objects.ingresses_of(namespace).next().is_some();
    if !is_missing {
        return Vec::new();
    }
    let mut report = Report::about("Namespace", &NamespacedName::new("", namespace));
    report.warning(
        Reason::NamespaceNotFound,
        "",
        format!(
            "there is no object for the namespace '{namespace}', so it has no labels for the namespace selector, and its \
             Ingresses are not served; add a Namespace with labels that the selector asks for"
        ),
    );
    report.into_problems()
}
