//! Text to documents, documents to objects.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use memchr::memmem;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tidegate_model::{Level, NamespacedName, ObjectRef, Reason};

use super::fault::Fault;
use super::field;
use super::name;
use crate::Object;

/// Values in one document; a list of 100,000 objects has fewer.
const MAX_NODES: usize = 8_000_000;

/// What one document says.
#[derive(Debug, Default)]
pub(crate) struct Document {
    /// Objects of the kinds that Tidegate reads, in their order.
    pub(crate) objects: Vec<Object>,
    /// What is wrong with the document, in its order.
    pub(crate) faults: Vec<Fault>,
}

impl Document {
    /// Whether an object is missing because it could not be read.
    pub(crate) fn is_broken(&self) -> bool {
        self.faults.iter().any(|fault| fault.level == Level::Error)
    }
}

/// The text of one document, and where in the file it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk<'a> {
    pub(crate) text: &'a str,
    /// Bytes before it.
    pub(crate) offset: usize,
}

/// The documents of a YAML stream (YAML 1.2 section 9.2), without those that hold only comments. A JSON file is one
/// document.
pub(crate) fn split(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let mut start = text.len() - text.trim_start_matches('\u{feff}').len();
    let mut push = |start: usize, end: usize| {
        let blank = blank_lines(&text[start..end]);
        let chunk = Chunk {
            text: &text[start + blank..end],
            offset: start + blank,
        };
        if !is_nothing(chunk.text) {
            chunks.push(chunk);
        }
    };
    for marker in markers(text, start) {
        push(start, marker);
        start = marker + 3;
    }
    push(start, text.len());
    chunks
}

/// Where a line begins with `---` or `...` and nothing or white space after it. Such a line is never part of a scalar.
fn markers(text: &str, first: usize) -> Vec<usize> {
    let bytes = text.as_bytes();
    let starts = memmem::find_iter(bytes, "\n---").map(|newline| newline + 1);
    let ends = memmem::find_iter(bytes, "\n...").map(|newline| newline + 1);
    let at_first = ["---", "..."]
        .into_iter()
        .filter(|marker| text[first..].starts_with(marker))
        .map(|_| first);
    let mut markers: Vec<_> = at_first.chain(starts).chain(ends).collect();
    markers.retain(|at| matches!(bytes.get(at + 3), None | Some(b' ' | b'\t' | b'\r' | b'\n')));
    markers.sort_unstable();
    markers
}

/// Length of the blank lines at the start.
fn blank_lines(text: &str) -> usize {
    let blank = &text[..text.len() - text.trim_start().len()];
    blank.rfind('\n').map_or(0, |newline| newline + 1)
}

/// Whether there are only comments, directives and blank lines.
fn is_nothing(chunk: &str) -> bool {
    chunk.lines().all(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with(['#', '%'])
    })
}

/// Reads one document. Never fails: what is wrong becomes a [`Fault`], and a list's other items are read.
pub(crate) fn parse(text: &str) -> Document {
    // The parser is foreign code that meets foreign input; a panic in it must not end the source.
    catch_unwind(AssertUnwindSafe(|| read(text))).unwrap_or_else(|_| {
        let error = SyntaxError {
            message: "the parser gave up on it".to_owned(),
            line: None,
        };
        Document {
            objects: Vec::new(),
            faults: vec![syntax_fault(text, &error)],
        }
    })
}

fn read(text: &str) -> Document {
    let mut document = Document::default();
    match values(text) {
        Ok(values) => values
            .into_iter()
            .for_each(|value| read_value(value, None, &mut document)),
        Err(error) => document.faults.push(syntax_fault(text, &error)),
    }
    document
}

/// The document as plain values: one, or more where JSON objects follow each other.
fn values(text: &str) -> Result<Vec<Value>, SyntaxError> {
    if text.trim_start().starts_with('{') {
        let json: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text)
            .into_iter()
            .collect();
        if let Ok(values) = json {
            return Ok(values);
        }
        // A flow mapping of YAML begins with a brace too.
    }
    match serde_saphyr::from_str_with_options(text, options()) {
        Ok(value) => Ok(vec![value]),
        Err(error) => {
            let error = error.without_snippet();
            let line = error.location().map(|location| location.line());
            Err(SyntaxError {
                message: error.to_string(),
                line: line.and_then(|line| usize::try_from(line).ok()),
            })
        }
    }
}

/// Why a text is neither YAML nor JSON.
#[derive(Debug)]
struct SyntaxError {
    message: String,
    /// Within the document, from 1.
    line: Option<usize>,
}

/// As `kubectl` reads YAML, with limits that a file of the largest size fits in and an alias bomb does not.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 2 * MAX_NODES,
            max_nodes: MAX_NODES,
            max_aliases: 10_000,
            max_anchors: 10_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 200_000,
            max_replay_stack_depth: 32,
        },
        emit_comments: false,
        legacy_octal_numbers: true,
    }
}

fn syntax_fault(text: &str, error: &SyntaxError) -> Fault {
    let guess = guess(text).map(|guess| format!(" (it looks like {guess})"));
    // The message of the parser may end in its own line number, which counts from the document's start.
    let reason = error.message.lines().next().unwrap_or_default();
    let reason = reason
        .rsplit_once(" at line ")
        .map_or(reason, |(reason, _)| reason);
    Fault {
        level: Level::Error,
        reason: Reason::InvalidDocument,
        object: None,
        field: String::new(),
        line: error.line,
        message: format!(
            "the document{} is neither YAML nor JSON: {reason}; correct it there or just above",
            guess.unwrap_or_default()
        ),
    }
}

/// Which object a broken text was meant to be, by its lines `kind:`, `name:` and `namespace:`.
fn guess(text: &str) -> Option<ObjectRef> {
    let value = |key: &str| {
        text.lines().find_map(|line| {
            let value = line.strip_prefix(key)?.strip_prefix(':')?.trim();
            let plain = value.trim_matches(['"', '\'']);
            name::is_subdomain(&plain.to_ascii_lowercase()).then_some(plain)
        })
    };
    let kind = value("kind")?;
    let namespace = value("  namespace").unwrap_or("default");
    let name = NamespacedName::new(namespace, value("  name")?);
    Some(ObjectRef::new(kind, name))
}

/// Which type an object is said to be.
#[derive(Clone, Debug)]
struct TypeMeta {
    api_version: String,
    kind: String,
}

/// Reads an object, or the objects of a list. `inherited` is what an item of a typed list is, unless it says so itself.
fn read_value(value: Value, inherited: Option<&TypeMeta>, document: &mut Document) {
    let mut object = match value {
        Value::Object(object) => object,
        Value::Null => return,
        other => return document.faults.push(not_an_object(&other)),
    };
    let type_meta = match type_meta(&mut object, inherited) {
        Ok(type_meta) => type_meta,
        Err(message) => return document.faults.push(Fault::invalid(None, "", message)),
    };
    if let Some(item_kind) = type_meta.kind.strip_suffix("List")
        && let Some(Value::Array(items)) = object.get_mut("items")
    {
        let items = std::mem::take(items);
        let item = (!item_kind.is_empty()).then(|| TypeMeta {
            api_version: type_meta.api_version.clone(),
            kind: item_kind.to_owned(),
        });
        return items
            .into_iter()
            .for_each(|value| read_value(value, item.as_ref(), document));
    }
    match recognize(&type_meta) {
        Recognized::Kind(kind) => read_object(kind, object, document),
        Recognized::OtherVersion(kind) => {
            document
                .faults
                .push(other_version(kind, &type_meta, &object));
        }
        Recognized::OtherCase(kind) => {
            let message = format!(
                "kind '{}' is not known, because kinds are compared exactly; write '{}'",
                type_meta.kind,
                kind.name()
            );
            let fault = Fault::invalid(Some(reference(kind, &object)), "kind", message);
            document.faults.push(fault);
        }
        Recognized::Other => tracing::debug!(
            api_version = type_meta.api_version,
            kind = type_meta.kind,
            "object of a kind that is not read"
        ),
    }
}

fn not_an_object(value: &Value) -> Fault {
    let found = match value {
        Value::Array(_) => "a sequence",
        Value::String(_) => "a text",
        _ => "a single value",
    };
    let message = format!(
        "the document is {found}, not a Kubernetes object; write one with apiVersion, kind and metadata, or a List"
    );
    Fault::invalid(None, "", message)
}

/// The type that an object says it has, or what is wrong with that.
fn type_meta(
    object: &mut Map<String, Value>,
    inherited: Option<&TypeMeta>,
) -> Result<TypeMeta, String> {
    let mut text = |key: &str, inherited: Option<&String>| match (object.get(key), inherited) {
        (Some(Value::String(text)), _) => Ok(text.clone()),
        (Some(Value::Null) | None, Some(text)) => {
            object.insert(key.to_owned(), Value::String(text.clone()));
            Ok(text.clone())
        }
        (Some(Value::Null) | None, None) => Err(format!(
            "the document has no {key}, so nothing is known of it; add '{key}', or move it out of the folder"
        )),
        (Some(other), _) => Err(format!(
            "{key} is {other}, which is no text; write it as text"
        )),
    };
    Ok(TypeMeta {
        api_version: text("apiVersion", inherited.map(|meta| &meta.api_version))?,
        kind: text("kind", inherited.map(|meta| &meta.kind))?,
    })
}

/// The kinds that Tidegate reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ingress,
    IngressClass,
    Service,
    EndpointSlice,
    Secret,
    Namespace,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::Ingress,
        Self::IngressClass,
        Self::Service,
        Self::EndpointSlice,
        Self::Secret,
        Self::Namespace,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Ingress => "Ingress",
            Self::IngressClass => "IngressClass",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Secret => "Secret",
            Self::Namespace => "Namespace",
        }
    }

    /// The apiVersion that is read.
    fn api_version(self) -> &'static str {
        match self {
            Self::Ingress | Self::IngressClass => "networking.k8s.io/v1",
            Self::Service | Self::Secret | Self::Namespace => "v1",
            Self::EndpointSlice => "discovery.k8s.io/v1",
        }
    }

    /// Whether Kubernetes serves the kind, or once served it, in the group of an apiVersion.
    fn is_of_group(self, api_version: &str) -> bool {
        let group = group(api_version);
        group == group_of(self) || (self == Self::Ingress && group == "extensions")
    }
}

fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

fn group_of(kind: Kind) -> &'static str {
    group(kind.api_version())
}

enum Recognized {
    Kind(Kind),
    OtherVersion(Kind),
    OtherCase(Kind),
    Other,
}

fn recognize(meta: &TypeMeta) -> Recognized {
    let named = |kind: &&Kind| {
        kind.name().eq_ignore_ascii_case(&meta.kind) && kind.is_of_group(&meta.api_version)
    };
    match Kind::ALL.iter().find(named).copied() {
        None => Recognized::Other,
        Some(kind) if kind.name() != meta.kind => Recognized::OtherCase(kind),
        Some(kind) if kind.api_version() != meta.api_version => Recognized::OtherVersion(kind),
        Some(kind) => Recognized::Kind(kind),
    }
}

fn other_version(kind: Kind, meta: &TypeMeta, object: &Map<String, Value>) -> Fault {
    let remedy = match kind {
        Kind::Ingress => {
            "; since then paths need a pathType, and backends are written service.name and service.port.number"
        }
        _ => "",
    };
    Fault {
        reason: Reason::UnsupportedVersion,
        ..Fault::invalid(
            Some(reference(kind, object)),
            "apiVersion",
            format!(
                "apiVersion '{}' of {} is not read, so the object is not served; write '{}'{remedy}",
                meta.api_version,
                kind.name(),
                kind.api_version(),
            ),
        )
    }
}

/// What an object that could not be read is called, as far as it says.
fn reference(kind: Kind, object: &Map<String, Value>) -> ObjectRef {
    let text = |key: &str| object.get("metadata")?.get(key)?.as_str();
    let namespace = match kind {
        Kind::IngressClass | Kind::Namespace => "",
        _ => text("namespace").unwrap_or("default"),
    };
    ObjectRef::new(
        kind.name(),
        NamespacedName::new(namespace, text("name").unwrap_or_default()),
    )
}

fn read_object(kind: Kind, map: Map<String, Value>, document: &mut Document) {
    let named = name::check(
        match kind {
            Kind::Service | Kind::Namespace => name::Rule::Label,
            _ => name::Rule::Subdomain,
        },
        &map,
    );
    let reference = reference(kind, &map);
    if let Err(error) = named {
        let object = (!reference.name.name.is_empty()).then_some(reference);
        let message = format!("{} has {}", kind.name(), error.message);
        let fault = Fault::invalid(object, error.field, message);
        return document.faults.push(fault);
    }
    let value = Value::Object(map);
    let mut unknown = Vec::new();
    let object = match kind {
        Kind::Ingress => typed(value, &mut unknown).map(Object::Ingress),
        Kind::IngressClass => typed(value, &mut unknown).map(Object::IngressClass),
        Kind::Service => typed(value, &mut unknown).map(Object::Service),
        Kind::EndpointSlice => typed(value, &mut unknown).map(Object::EndpointSlice),
        Kind::Secret => typed(value, &mut unknown)
            .map(merge_string_data)
            .map(Object::Secret),
        Kind::Namespace => typed(value, &mut unknown).map(Object::Namespace),
    };
    let unknown = unknown
        .into_iter()
        .map(|path| field::unknown_field(kind.name(), &reference, path));
    document.faults.extend(unknown);
    match object {
        Ok(object) => document.objects.push(object),
        Err(error) => {
            let message = match kind {
                // What stands there may be secret.
                Kind::Secret => "the value is not what a Secret has there; data takes base64, stringData plain text"
                    .to_owned(),
                _ => error.advice(),
            };
            let fault = Fault::invalid(Some(reference), &error.path, message);
            document.faults.push(fault);
        }
    }
}

/// Why a value does not fit its type.
struct TypeError {
    path: String,
    message: String,
}

impl TypeError {
    /// What is wrong and what to do.
    fn advice(&self) -> String {
        let what = self.message.replace("i32", "a whole number");
        // YAML has several words for true and false, and takes what looks like a number for one.
        if what.ends_with("expected a string") {
            format!("{what}; put the value in quotes")
        } else {
            format!("{what}; correct the value")
        }
    }
}

fn typed<T: DeserializeOwned>(
    value: Value,
    unknown: &mut Vec<String>,
) -> Result<Arc<T>, TypeError> {
    let mut note = |path: serde_ignored::Path<'_>| unknown.push(field::path(&path));
    let deserializer = serde_ignored::Deserializer::new(value, &mut note);
    serde_path_to_error::deserialize(deserializer)
        .map(Arc::new)
        .map_err(|error| TypeError {
            path: match error.path().to_string() {
                path if path == "." => String::new(),
                path => path,
            },
            message: error.into_inner().to_string(),
        })
}

/// As the API server does: `stringData` is written over `data` and then dropped.
fn merge_string_data(mut secret: Arc<Secret>) -> Arc<Secret> {
    let merged = Arc::make_mut(&mut secret);
    if let Some(texts) = merged.string_data.take() {
        let texts = texts
            .into_iter()
            .map(|(key, text)| (key, k8s_openapi::ByteString(text.into_bytes())));
        merged.data.get_or_insert_default().extend(texts);
    }
    secret
}

#[cfg(test)]
mod tests;
