//! Fields of objects: how their paths are written, and which one was probably meant.

use tidegate_model::{Level, ObjectRef, Reason};

use super::fault::Fault;

/// Fields of the kinds that are read, wherever they stand, without those that every object has.
const KNOWN: &[&str] = &[
    "addresses",
    "addressType",
    "annotations",
    "apiGroup",
    "apiVersion",
    "appProtocol",
    "backend",
    "clusterIP",
    "clusterIPs",
    "conditions",
    "controller",
    "data",
    "defaultBackend",
    "endpoints",
    "externalName",
    "finalizers",
    "host",
    "hostname",
    "hosts",
    "http",
    "ingressClassName",
    "kind",
    "labels",
    "metadata",
    "name",
    "namespace",
    "nodeName",
    "number",
    "parameters",
    "path",
    "pathType",
    "paths",
    "port",
    "ports",
    "protocol",
    "ready",
    "resource",
    "rules",
    "secretName",
    "selector",
    "service",
    "serving",
    "spec",
    "status",
    "stringData",
    "targetPort",
    "targetRef",
    "terminating",
    "tls",
    "type",
];

/// Fields of former versions, and where their meaning went.
const MOVED: &[(&str, &str)] = &[
    ("serviceName", "service.name"),
    ("servicePort", "service.port.number or service.port.name"),
];

/// A path within an object as Kubernetes writes it: `spec.rules[0].host`.
pub(crate) fn path(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    let (parent, step) = match path {
        Path::Root => return String::new(),
        Path::Seq { parent, index } => (parent, format!("[{index}]")),
        Path::Map { parent, key } => (parent, key.clone()),
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => return self::path(parent),
    };
    let mut text = self::path(parent);
    if !text.is_empty() && !step.starts_with('[') {
        text.push('.');
    }
    text + &step
}

/// The fault that a field of this path does not exist.
pub(crate) fn unknown_field(kind: &str, object: &ObjectRef, path: String) -> Fault {
    let last = path.rsplit('.').next().unwrap_or_default();
    let remedy = match meant(last) {
        Some(meant) => format!("did you mean '{meant}'?"),
        None => "correct its name or remove it".to_owned(),
    };
    Fault {
        level: Level::Warning,
        reason: Reason::UnknownField,
        object: Some(object.clone()),
        line: None,
        message: format!("'{last}' is no field that {kind} has there, so it is ignored; {remedy}"),
        field: path,
    }
}

/// The field that a wrong name was probably meant to be.
fn meant(wrong: &str) -> Option<&'static str> {
    if let Some((_, now)) = MOVED.iter().find(|(old, _)| *old == wrong) {
        return Some(now);
    }
    let limit = if wrong.len() < 4 { 1 } else { 2 };
    let distance =
        |known: &str| edit_distance(&wrong.to_ascii_lowercase(), &known.to_ascii_lowercase());
    KNOWN
        .iter()
        .filter(|known| **known != wrong)
        .map(|known| (distance(known), *known))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, known)| known)
}

/// How many bytes to insert, remove or replace to make one text of the other (Levenshtein).
fn edit_distance(a: &str, b: &str) -> usize {
    if a.len().abs_diff(b.len()) > 2 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_finds_the_field_that_was_meant() {
        assert_eq!(meant("hots"), Some("hosts"));
        assert_eq!(meant("tsl"), None);
        assert_eq!(meant("hosst"), Some("host"));
        assert_eq!(meant("pathtype"), Some("pathType"));
        assert_eq!(meant("secretname"), Some("secretName"));
        assert_eq!(meant("ingressClasName"), Some("ingressClassName"));
        assert_eq!(meant("serviceName"), Some("service.name"));
        assert_eq!(meant("rewriteTarget"), None);
    }

    #[test]
    fn distances() {
        assert_eq!(edit_distance("", "ab"), 2);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("path", "path"), 0);
    }
}
