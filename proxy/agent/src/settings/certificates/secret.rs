//! Where something secret is.

use tidegate_certificates::issuer::SecretSource;

use crate::settings::file::SecretBlock;
use crate::settings::merge::one;
use crate::settings::{SettingsError, value};

const REMEDY: &str = "say where it is by one of {env: VARIABLE}, {file: PATH} and {secret: NAME, key: ENTRY}, an entry of a \
                      Secret in Tidegate's own namespace";

/// What a mapping of this key names.
pub(super) fn source(key: &str, written: &SecretBlock) -> Result<SecretSource, SettingsError> {
    let part = |name: &str| format!("{key}.{name}");
    let environment = one(&part("env"), written.env.as_ref(), variable)?;
    let file = one(&part("file"), written.file.as_ref(), value::path)?;
    let secret = one(&part("secret"), written.secret.as_ref(), value::text)?;
    let entry = one(&part("key"), written.key.as_ref(), value::text)?;
    match (environment, file, secret, entry) {
        (Some(name), None, None, None) => Ok(SecretSource::Environment(name)),
        (None, Some(path), None, None) => Ok(SecretSource::File(path)),
        (None, None, Some(name), Some(key)) => Ok(SecretSource::Secret { name, key }),
        (None, None, Some(name), None) => Err(SettingsError::value(
            part("secret"),
            name,
            "the entry of the Secret is not named: add `key: ENTRY` beside it",
        )),
        _ => Err(SettingsError::Conflict(format!("{key}: {REMEDY}"))),
    }
}

/// The same, for one that has to be there.
pub(super) fn required(
    key: &str,
    written: Option<&SecretBlock>,
) -> Result<SecretSource, SettingsError> {
    match written {
        Some(written) => source(key, written),
        None => Err(SettingsError::Conflict(format!(
            "{key} is missing: {REMEDY}"
        ))),
    }
}

fn variable(text: &str) -> Result<String, String> {
    match text.is_empty() || text.contains(['=', '\0']) {
        true => Err("write the name of an environment variable".to_owned()),
        false => Ok(text.to_owned()),
    }
}
