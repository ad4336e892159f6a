//! Kubernetes label selectors: which labels an object has to carry.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use thiserror::Error;

/// A label selector in the syntax of `kubectl --selector`: requirements joined by commas, all of which must hold.
/// The default one has no requirements and matches everything.
///
/// A requirement is `key=value` (or `==`), `key!=value`, `key in (a,b)`, `key notin (a,b)`, `key` or `!key`. As in
/// Kubernetes, `!=` and `notin` also hold for objects without the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    condition: Condition,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    Absent,
}

/// Why a text is no label selector.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("label selector requirement '{requirement}': {fault}")]
pub struct SelectorError {
    requirement: String,
    fault: SelectorFault,
}

/// What is wrong with one requirement of a selector.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SelectorFault {
    /// Nothing between two commas.
    #[error("it is empty; remove the extra comma")]
    Empty,
    /// Not a label key.
    #[error(
        "'{0}' is no label key; a key is an optional DNS prefix with '/', and 1 to 63 of A-Z, a-z, 0-9, '-', '_' and '.'"
    )]
    Key(String),
    /// Not a label value.
    #[error("'{0}' is no label value; a value has up to 63 of A-Z, a-z, 0-9, '-', '_' and '.'")]
    Value(String),
    /// Parentheses without `in` or `notin`, or not closed.
    #[error("write a set as 'key in (a,b)' or 'key notin (a,b)'")]
    Set,
}

impl Selector {
    /// Whether nothing is required, so that every object is selected.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.requirements.iter().all(|requirement| {
            let value = labels.and_then(|labels| labels.get(&requirement.key));
            match &requirement.condition {
                Condition::In(values) => value.is_some_and(|value| values.contains(value)),
                Condition::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                Condition::Exists => value.is_some(),
                Condition::Absent => value.is_none(),
            }
        })
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let requirements = split_requirements(text)
            .into_iter()
            .map(|part| {
                requirement(part.trim()).map_err(|fault| SelectorError {
                    requirement: part.trim().to_owned(),
                    fault,
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { requirements })
    }
}

/// Splits at the commas outside of parentheses.
fn split_requirements(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut depth) = (0, 0usize);
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn requirement(part: &str) -> Result<Requirement, SelectorFault> {
    if part.is_empty() {
        return Err(SelectorFault::Empty);
    }
    if part.contains(['(', ')']) {
        return set_requirement(part);
    }
    if let Some((key, value)) = part.split_once("!=") {
        return one_value(key, value, Condition::NotIn);
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return one_value(key, value, Condition::In);
    }
    let (key, condition) = match part.strip_prefix('!') {
        Some(key) => (key, Condition::Absent),
        None => (part, Condition::Exists),
    };
    let key = label_key(key)?;
    Ok(Requirement { key, condition })
}

fn one_value(
    key: &str,
    value: &str,
    condition: fn(BTreeSet<String>) -> Condition,
) -> Result<Requirement, SelectorFault> {
    Ok(Requirement {
        key: label_key(key)?,
        condition: condition(BTreeSet::from([label_value(value)?])),
    })
}

/// `key in (a,b)` or `key notin (a,b)`.
fn set_requirement(part: &str) -> Result<Requirement, SelectorFault> {
    let (head, rest) = part.split_once('(').ok_or(SelectorFault::Set)?;
    let values = rest.strip_suffix(')').ok_or(SelectorFault::Set)?;
    let mut words = head.split_whitespace();
    let (Some(key), Some(operator), None) = (words.next(), words.next(), words.next()) else {
        return Err(SelectorFault::Set);
    };
    let values = values.split(',').map(label_value).collect::<Result<_, _>>();
    let condition = match operator {
        "in" => Condition::In(values?),
        "notin" => Condition::NotIn(values?),
        _ => return Err(SelectorFault::Set),
    };
    let key = label_key(key)?;
    Ok(Requirement { key, condition })
}

fn label_key(text: &str) -> Result<String, SelectorFault> {
    let text = text.trim();
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    let prefix_fits = prefix.is_none_or(|prefix| tidegate_model::Hostname::parse(prefix).is_ok());
    if prefix_fits && !name.is_empty() && is_label_text(name) {
        Ok(text.to_owned())
    } else {
        Err(SelectorFault::Key(text.to_owned()))
    }
}

fn label_value(text: &str) -> Result<String, SelectorFault> {
    let text = text.trim();
    if is_label_text(text) {
        Ok(text.to_owned())
    } else {
        Err(SelectorFault::Value(text.to_owned()))
    }
}

fn is_label_text(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    bytes.len() <= 63
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
        && ends.into_iter().flatten().all(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selects(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels: BTreeMap<_, _> = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let selector: Selector = selector.parse().expect("selector");
        selector.matches(Some(&labels))
    }

    #[test]
    fn each_form_of_requirement() {
        let labels = [("tier", "web"), ("example.com/stage", "prod")];
        for (selector, wanted) in [
            ("", true),
            ("tier=web", true),
            ("tier==web", true),
            ("tier=db", false),
            ("tier!=db", true),
            ("missing!=x", true),
            ("tier in (db, web)", true),
            ("tier in (db)", false),
            ("tier notin (db)", true),
            ("missing notin (db)", true),
            ("tier", true),
            ("missing", false),
            ("!missing", true),
            ("!tier", false),
            ("example.com/stage=prod,tier in (a,web),!x", true),
            ("example.com/stage=prod,tier in (a,b)", false),
        ] {
            assert_eq!(selects(selector, &labels), wanted, "{selector}");
        }
    }

    #[test]
    fn an_object_without_labels_meets_negative_requirements_only() {
        let parse = |text: &str| text.parse::<Selector>().expect("selector");
        assert!(parse("!a,b!=c").matches(None));
        assert!(!parse("a").matches(None));
    }

    #[test]
    fn errors_name_the_requirement() {
        for (text, wanted) in [
            ("a=b,,c", "requirement '': it is empty"),
            ("a b", "requirement 'a b': 'a b' is no label key"),
            ("a=b=c", "'b=c' is no label value"),
            ("a in x)", "write a set as"),
            ("a of (x)", "write a set as"),
            ("-a", "'-a' is no label key"),
        ] {
            let error = text.parse::<Selector>().expect_err(text).to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
