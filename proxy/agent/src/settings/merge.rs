//! Values of the settings file, and flags that win over them.

use super::SettingsError;
use super::file::{Scalar, Scalars};

/// The flag when given, else the file's value when written.
pub(super) fn one<T>(
    key: &str,
    flag: Option<T>,
    file: Option<&Scalar>,
    parser: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, SettingsError> {
    match (flag, file) {
        (Some(flag), _) => Ok(Some(flag)),
        (None, Some(written)) => parse(key, written, parser).map(Some),
        (None, None) => Ok(None),
    }
}

/// The values of a list, none when it is not written.
pub(super) fn list<T>(
    key: &str,
    file: Option<&Scalars>,
    parser: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, SettingsError> {
    let written = file.map(|scalars| scalars.0.as_slice()).unwrap_or_default();
    written
        .iter()
        .map(|scalar| parse(key, scalar, &parser))
        .collect()
}

/// A written value as what it means.
pub(super) fn parse<T>(
    key: &str,
    written: &Scalar,
    parser: impl Fn(&str) -> Result<T, String>,
) -> Result<T, SettingsError> {
    parser(&written.0).map_err(|problem| SettingsError::Value {
        key: key.to_owned(),
        value: written.0.clone(),
        problem,
    })
}
