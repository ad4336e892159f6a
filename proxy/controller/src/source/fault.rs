//! What is wrong with a document, before it is known where in which file the document stands.

use std::path::Path;

use tidegate_model::{Level, NamespacedName, ObjectRef, Problem, Reason};

/// A [`Problem`] that lacks only its place. Documents move within a file while they stay the same, so the place is added
/// when the file is read.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) level: Level,
    pub(crate) reason: Reason,
    /// `None` when the document names no object.
    pub(crate) object: Option<ObjectRef>,
    /// Path within the object; empty for the whole.
    pub(crate) field: String,
    /// Line within the document, from 1.
    pub(crate) line: Option<usize>,
    /// The value found and what to do.
    pub(crate) message: String,
}

/// What is served in place of a document that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// Objects of the file's last good version.
    LastGood,
    /// Nothing: there is no good version.
    Nothing,
}

impl Fallback {
    fn consequence(self) -> &'static str {
        match self {
            Self::LastGood => "Until then the last good version stays in force.",
            Self::Nothing => "Until then it is not served.",
        }
    }
}

/// Where a document stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) path: &'a Path,
    /// From 1; documents of nothing but comments are not counted.
    pub(crate) document: usize,
    /// The document's first line, from 1.
    pub(crate) line: usize,
}

impl Fault {
    /// A document that is no object of its kind.
    pub(crate) fn invalid(object: Option<ObjectRef>, field: &str, message: String) -> Self {
        Self {
            level: Level::Error,
            reason: Reason::InvalidDocument,
            object,
            field: field.to_owned(),
            line: None,
            message,
        }
    }

    /// The fault at its place.
    pub(crate) fn problem(&self, place: Place<'_>, fallback: Fallback) -> Problem {
        let Place { path, document, .. } = place;
        let position = match self.line {
            Some(line) => format!(
                "line {} (document {document})",
                place.line + line.max(1) - 1
            ),
            None => format!("document {document} (from line {})", place.line),
        };
        let consequence = match self.level {
            Level::Error => format!(". {}", fallback.consequence()),
            Level::Warning | Level::Info => ".".to_owned(),
        };
        let message = format!(
            "{} {position}: {}{consequence}",
            path.display(),
            self.message
        );
        let (object, field) = match &self.object {
            Some(object) => (object.clone(), self.field.clone()),
            None => (file(path), format!("document {document}")),
        };
        let problem = Problem {
            level: self.level,
            object,
            field,
            reason: self.reason,
            message,
        };
        problem.bounded()
    }
}

/// A file or folder as the object of a [`Problem`].
pub(crate) fn file(path: &Path) -> ObjectRef {
    let name = NamespacedName::new("", path.display().to_string());
    ObjectRef::new("File", name)
}
