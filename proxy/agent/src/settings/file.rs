//! The settings file: YAML whose every key is known, read as text values first so that an error can name key and value.

mod certificates;

use std::fmt;
use std::path::Path;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, Serializer};
use thiserror::Error;

use super::effective::Place;
pub(crate) use certificates::{
    Acme, AwsKeyBlock, CertificateBlock, Certificates, CloudflareBlock, DnsBlock, ExecBlock,
    ExternalAccountBlock, IssuerBlock, LimitsBlock, OnDemandBlock, Rfc2136Block, Route53Block,
    SecretBlock, Tls, WebhookBlock,
};

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
    #[error("{place}: {message}")]
    Syntax {
        /// Which text it is.
        place: String,
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
    pub(crate) kubeconfig: Option<Scalar>,
    pub(crate) context: Option<Scalar>,
    pub(crate) config_map: Option<Scalar>,
    pub(crate) data_dir: Option<Scalar>,
    pub(crate) data_key_file: Option<Scalar>,
    pub(crate) bind_address: Option<Scalars>,
    pub(crate) probe_socket: Option<Scalar>,
    pub(crate) publish_address: Option<Scalars>,
    pub(crate) publish_service: Option<Scalar>,
    pub(crate) publish_node_addresses: Option<Scalar>,
    pub(crate) namespace_selector: Option<Scalar>,
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
    pub(crate) issuers: Option<Vec<IssuerBlock>>,
    #[serde(deserialize_with = "or_nothing")]
    pub(crate) acme: Acme,
    #[serde(deserialize_with = "or_nothing")]
    pub(crate) certificates: Certificates,
    #[serde(deserialize_with = "or_nothing")]
    pub(crate) tls: Tls,
}

/// A mapping, or a key with nothing behind it, as `--print-config` writes one whose keys are not set.
fn or_nothing<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A Service and one of its ports, in either form.
#[derive(Debug)]
pub(crate) enum DefaultBackend {
    /// `namespace/name:port`
    Text(Scalar),
    /// A key for each of them.
    Parts(BackendParts),
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BackendParts {
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

#[derive(Debug, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Guard {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) interfaces: Option<Scalars>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mode: Option<Scalar>,
    pub(crate) listeners: Vec<GuardListener>,
}

#[derive(Debug, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct GuardListener {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) port: Option<Scalar>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<Scalar>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) syn_rate: Option<Scalar>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) syn_burst: Option<Scalar>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deny: Option<Scalars>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) allow: Option<Scalars>,
    #[serde(skip_serializing_if = "Option::is_none")]
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
            Ok(text) => Self::parse_at(&text, &Place::Path(name)),
            Err(cause) => Err(FileError::Read { path: name, cause }),
        }
    }

    /// Parses a text that is at this place.
    pub(crate) fn parse_at(text: &str, place: &Place) -> Result<Self, FileError> {
        Self::parse(text).map_err(|message| FileError::Syntax {
            place: place.to_string(),
            message,
        })
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

impl Serialize for Scalar {
    /// A number as one, so that it is written without quotes.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.parse::<u64>() {
            Ok(number) if number.to_string() == self.0 => serializer.serialize_u64(number),
            _ => serializer.serialize_str(&self.0),
        }
    }
}

impl Serialize for Scalars {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.0)
    }
}

struct BackendVisitor;

impl<'de> Visitor<'de> for BackendVisitor {
    type Value = DefaultBackend;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NAMESPACE/NAME:PORT, or the keys namespace, name and port")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<DefaultBackend, E> {
        ScalarVisitor.visit_str(text).map(DefaultBackend::Text)
    }

    fn visit_map<A: MapAccess<'de>>(self, keys: A) -> Result<DefaultBackend, A::Error> {
        BackendParts::deserialize(MapAccessDeserializer::new(keys)).map(DefaultBackend::Parts)
    }
}

impl<'de> Deserialize<'de> for DefaultBackend {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BackendVisitor)
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
