//! The settings file: YAML whose every key is known, read as text values first so that an error can name key and value.

use std::fmt;
use std::path::Path;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use thiserror::Error;

/// Why a settings file cannot be used.
#[derive(Debug, Error)]
pub enum FileError {
    /// It cannot be read.
    #[error(
        "cannot read settings file {path}: {cause}; check --config and the permissions of the file"
    )]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// It is no YAML, or has a key that does not exist.
    #[error("settings file {path}: {message}")]
    Syntax {
        /// The file.
        path: String,
        /// Where and what.
        message: String,
    },
}

/// One value as it was written: text, a number or a boolean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scalar(pub(crate) String);

/// One value or a list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scalars(pub(crate) Vec<Scalar>);

/// The keys of a settings file; those that are not there have no value.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct File {
    pub(crate) instance: Option<Scalar>,
    pub(crate) http: Option<Scalars>,
    pub(crate) https: Option<Scalars>,
    pub(crate) admin: Option<Scalar>,
    pub(crate) workers: Option<Scalar>,
    pub(crate) max_connections: Option<Scalar>,
    pub(crate) manifests: Option<Scalars>,
    pub(crate) ingress_class: Option<Scalars>,
    pub(crate) watch_ingress_without_class: Option<Scalar>,
    pub(crate) selector: Option<Scalar>,
    pub(crate) namespaces: Option<Scalars>,
    pub(crate) default_backend: Option<DefaultBackend>,
    pub(crate) default_certificate: Option<Scalar>,
    pub(crate) ssl_redirect: SslRedirect,
    pub(crate) trusted_proxies: Option<Scalars>,
    pub(crate) timeouts: Timeouts,
    pub(crate) accept: Option<Scalar>,
    pub(crate) access_log: Option<Scalar>,
    pub(crate) steering: Option<Scalar>,
    pub(crate) after_hand_over: Option<Scalar>,
    pub(crate) guard: Option<Guard>,
    pub(crate) log: Log,
    pub(crate) resolver: Resolver,
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DefaultBackend {
    pub(crate) namespace: Scalar,
    pub(crate) name: Scalar,
    pub(crate) port: Scalar,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct SslRedirect {
    pub(crate) mode: Option<Scalar>,
    pub(crate) status: Option<Scalar>,
    pub(crate) port: Option<Scalar>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Timeouts {
    pub(crate) handshake: Option<Scalar>,
    pub(crate) request_head: Option<Scalar>,
    pub(crate) idle: Option<Scalar>,
    pub(crate) connect: Option<Scalar>,
    pub(crate) response_head: Option<Scalar>,
    pub(crate) upstream_idle: Option<Scalar>,
    pub(crate) drain: Option<Scalar>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Log {
    pub(crate) level: Option<Scalar>,
    pub(crate) format: Option<Scalar>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Resolver {
    pub(crate) servers: Option<Scalars>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Guard {
    pub(crate) interfaces: Option<Scalars>,
    pub(crate) mode: Option<Scalar>,
    pub(crate) listeners: Vec<GuardListener>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct GuardListener {
    pub(crate) port: Option<Scalar>,
    pub(crate) address: Option<Scalar>,
    pub(crate) syn_rate: Option<Scalar>,
    pub(crate) syn_burst: Option<Scalar>,
    pub(crate) deny: Option<Scalars>,
    pub(crate) allow: Option<Scalars>,
    pub(crate) default: Option<Scalar>,
}

impl File {
    /// Reads a file; without one, no key has a value.
    pub(crate) fn read(path: Option<&Path>) -> Result<Self, FileError> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).map_err(|message| FileError::Syntax {
                path: name,
                message,
            }),
            Err(cause) => Err(FileError::Read { path: name, cause }),
        }
    }

    /// Parses the text of a file. One that is empty, or holds nothing but comments, has no keys.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        serde_saphyr::from_str::<Option<Self>>(text)
            .map(Option::unwrap_or_default)
            .map_err(|error| first_line(&error.to_string()))
    }
}

/// Place and trouble, without the excerpt that follows them.
fn first_line(error: &str) -> String {
    let line = error.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a single value")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar(text.to_owned()))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Scalar, E> {
        Ok(Scalar(number.to_string()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Scalar, E> {
        Ok(Scalar(number.to_string()))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Scalar, E> {
        Ok(Scalar(number.to_string()))
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarsVisitor;

impl<'de> Visitor<'de> for ScalarsVisitor {
    type Value = Scalars;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a single value or a list of values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Scalars, A::Error> {
        let mut scalars = Vec::new();
        while let Some(scalar) = list.next_element()? {
            scalars.push(scalar);
        }
        Ok(Scalars(scalars))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Scalars, E> {
        ScalarVisitor.visit_str(text).map(Scalars::one)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Scalars, E> {
        ScalarVisitor.visit_bool(value).map(Scalars::one)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Scalars, E> {
        ScalarVisitor.visit_i64(number).map(Scalars::one)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Scalars, E> {
        ScalarVisitor.visit_u64(number).map(Scalars::one)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Scalars, E> {
        ScalarVisitor.visit_f64(number).map(Scalars::one)
    }
}

impl<'de> Deserialize<'de> for Scalars {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarsVisitor)
    }
}

impl Scalars {
    fn one(scalar: Scalar) -> Self {
        Self(vec![scalar])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalars(list: &[&str]) -> Option<Scalars> {
        Some(Scalars(
            list.iter().map(|text| Scalar((*text).to_owned())).collect(),
        ))
    }

    #[test]
    fn one_value_or_a_list() -> Result<(), String> {
        let file =
            File::parse("http: 80\nhttps: [443, '127.0.0.1:8443']\ningressClass: internal\n")?;
        assert_eq!(file.http, scalars(&["80"]));
        assert_eq!(file.https, scalars(&["443", "127.0.0.1:8443"]));
        assert_eq!(file.ingress_class, scalars(&["internal"]));
        Ok(())
    }

    #[test]
    fn nothing_is_a_file_without_keys() -> Result<(), String> {
        assert_eq!(File::parse("")?.http, None);
        assert_eq!(File::parse("# nothing yet\n")?.http, None);
        Ok(())
    }

    #[test]
    fn an_unknown_key_is_named_beside_those_that_exist() {
        let error = File::parse("timeouts:\n  idel: 10s\n").unwrap_err();
        for part in ["idel", "idle", "2"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_list_where_one_value_stands_is_refused() {
        let error = File::parse("workers: [1, 2]\n").unwrap_err();
        assert!(error.contains("single value"), "{error}");
    }
}
