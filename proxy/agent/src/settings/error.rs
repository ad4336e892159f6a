//! Why settings cannot be used, with what to write instead.

use thiserror::Error;

use super::effective::Place;
use super::file::FileError;

/// Why settings cannot be used.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// The settings file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A key of the settings file has a value that is none.
    #[error("{place}: {key}: {value:?} cannot be used: {problem}")]
    Value {
        /// Which text it is in.
        place: String,
        /// The key, with those that it stands under.
        key: String,
        /// What is written there.
        value: String,
        /// What is wrong with it and what to write.
        problem: String,
    },
    /// Settings that are each fine but do not go together.
    #[error("{0}")]
    Conflict(String),
    /// Manifests that are not there.
    #[error(
        "cannot read manifests {path}: {cause}; name a folder or file that exists, with --manifests or `manifests:` in the settings file"
    )]
    Manifests {
        /// The folder or file.
        path: String,
        /// What the system said.
        cause: std::io::Error,
    },
}

impl SettingsError {
    /// A value of a file that is none.
    pub(super) fn value(
        key: impl Into<String>,
        value: impl Into<String>,
        problem: impl Into<String>,
    ) -> Self {
        Self::Value {
            place: "settings file".to_owned(),
            key: key.into(),
            value: value.into(),
            problem: problem.into(),
        }
    }

    /// The same, with the text that the value is in.
    pub(super) fn at(self, text: &Place) -> Self {
        match self {
            Self::Value {
                key,
                value,
                problem,
                ..
            } => Self::Value {
                place: text.to_string(),
                key,
                value,
                problem,
            },
            other => other,
        }
    }
}
