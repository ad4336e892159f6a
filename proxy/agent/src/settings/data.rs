//! Where the last good configuration is kept, and what encrypts the private keys in it.

use std::fmt;
use std::path::PathBuf;

use anyhow::Context;

use super::file::File;
use super::key;
use super::merge::Layers;
use super::pod::Environment;
use super::source::Source;
use super::{SettingsError, value};
use crate::cache::{self, KeySource};
use crate::cli::ServeFlags;

/// Where it is kept for a cluster, unless a setting says otherwise.
const FOLDER: &str = "/var/lib/tidegate";

/// What is kept over a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataSettings {
    /// The folder; `None` for nowhere.
    pub folder: Option<PathBuf>,
    /// What private keys are encrypted with; `None` for nothing.
    pub key: Option<DataKey>,
}

impl DataSettings {
    /// What private keys are sealed with; `None` for nothing.
    ///
    /// # Errors
    /// `TIDEGATE_DATA_KEY` holds no key.
    pub(crate) fn sealing(&self) -> anyhow::Result<Option<KeySource>> {
        Ok(match &self.key {
            None => None,
            Some(DataKey::File(path)) => Some(KeySource::File(path.clone())),
            Some(DataKey::Text(text)) => {
                let key = cache::DataKey::parse(text.as_bytes()).context("TIDEGATE_DATA_KEY")?;
                Some(KeySource::Bytes(key))
            }
        })
    }
}

/// A key, or where it is.
#[derive(Clone, PartialEq, Eq)]
pub enum DataKey {
    /// In a file.
    File(PathBuf),
    /// The text of `TIDEGATE_DATA_KEY`.
    Text(String),
}

impl DataKey {
    pub(super) fn text(text: String) -> Self {
        Self::Text(text)
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Text(_) => f.write_str("Text(..)"),
        }
    }
}

/// What is to be kept over a restart.
pub(super) fn data(
    flags: &ServeFlags,
    file: &File,
    source: &Source,
    environment: &Environment,
    layers: &mut Layers<'_>,
) -> Result<DataSettings, SettingsError> {
    let (flag, written) = (flags.data_dir.clone(), file.data_dir.as_ref());
    let folder = match source {
        Source::Cluster(_) => {
            Some(layers.one(key::DATA_DIR, flag, written, FOLDER, value::path)?)
        }
        Source::Manifests(_) => layers.optional(key::DATA_DIR, flag, written, value::path)?,
    };
    let key_file = layers.optional(
        key::DATA_KEY_FILE,
        flags.data_key_file.clone(),
        file.data_key_file.as_ref(),
        value::path,
    )?;
    let key = match (key_file, &environment.data_key) {
        (Some(_), Some(_)) => {
            return Err(SettingsError::Conflict(format!(
                "dataKeyFile ({}) and TIDEGATE_DATA_KEY are both set: drop one, for there is one key",
                layers.effective().origin(key::DATA_KEY_FILE)
            )));
        }
        (Some(path), None) => Some(DataKey::File(path)),
        (None, text) => text.clone(),
    };
    Ok(DataSettings { folder, key })
}
