//! Names of objects, as the API server validates them.

use serde_json::{Map, Value};

/// What a kind demands of its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A DNS label (RFC 1123): at most 63 bytes of a-z, 0-9 and `-`.
    Label,
    /// Labels joined by dots, at most 253 bytes.
    Subdomain,
}

/// A name that the API server would refuse.
#[derive(Debug)]
pub(crate) struct NameError {
    pub(crate) field: &'static str,
    /// Continues a sentence that ends in "has".
    pub(crate) message: String,
}

/// Checks `metadata.name` and `metadata.namespace`.
pub(crate) fn check(rule: Rule, object: &Map<String, Value>) -> Result<(), NameError> {
    let text = |key: &str| match object.get("metadata").and_then(|meta| meta.get(key)) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(other) => Some(other.to_string()),
    };
    let name = text("name").unwrap_or_default();
    let fits = match rule {
        Rule::Label => is_label(&name),
        Rule::Subdomain => is_subdomain(&name),
    };
    if name.is_empty() {
        return Err(NameError {
            field: "metadata.name",
            message: "no metadata.name, so nothing can refer to it; give it one".to_owned(),
        });
    }
    if !fits {
        return Err(refusal("metadata.name", &name, rule));
    }
    match text("namespace") {
        Some(namespace) if !is_label(&namespace) => {
            Err(refusal("metadata.namespace", &namespace, Rule::Label))
        }
        _ => Ok(()),
    }
}

fn refusal(field: &'static str, value: &str, rule: Rule) -> NameError {
    let allowed = match rule {
        Rule::Label => "1 to 63 of a-z, 0-9 and '-'",
        Rule::Subdomain => "1 to 253 of a-z, 0-9, '-' and '.'",
    };
    let message = format!(
        "the {field} '{}', which Kubernetes refuses; use {allowed}, with a letter or digit at both ends",
        value.escape_debug()
    );
    NameError { field, message }
}

/// Whether a text is a DNS label in lower case.
pub(crate) fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let letter_or_digit = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    bytes.len() <= 63
        && bytes.iter().all(|b| letter_or_digit(b) || *b == b'-')
        && bytes.first().is_some_and(letter_or_digit)
        && bytes.last().is_some_and(letter_or_digit)
}

/// Whether a text is a DNS name in lower case; numbers alone are fine, unlike in host names.
pub(crate) fn is_subdomain(text: &str) -> bool {
    let letter_or_digit = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let element = |element: &str| {
        let bytes = element.as_bytes();
        bytes.iter().all(|b| letter_or_digit(b) || *b == b'-')
            && bytes.first().is_some_and(letter_or_digit)
            && bytes.last().is_some_and(letter_or_digit)
    };
    text.len() <= 253 && text.split('.').all(element)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_subdomains() {
        assert!(is_label("web-1") && is_label("1"));
        assert!(!is_label("Web") && !is_label("web-") && !is_label("") && !is_label("a.b"));
        assert!(!is_label(&"a".repeat(64)) && is_label(&"a".repeat(63)));
        assert!(is_subdomain("a.b-c") && is_subdomain("1.2.3.4") && is_subdomain(&"a".repeat(200)));
        assert!(!is_subdomain("a..b") && !is_subdomain("a_b") && !is_subdomain(&"a".repeat(254)));
    }
}
