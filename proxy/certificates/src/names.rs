//! Sets of names that one certificate is for.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tidegate_model::{Certificate, HostPattern, NamespacedName};

/// The names of one certificate: never empty, never "any host".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameSet(BTreeSet<HostPattern>);

impl NameSet {
    /// Takes names in; `None` when there is none, or one of them stands for every host.
    pub fn new(names: impl IntoIterator<Item = HostPattern>) -> Option<Self> {
        let names: BTreeSet<_> = names.into_iter().collect();
        let is_usable = !names.is_empty() && !names.contains(&HostPattern::Any);
        is_usable.then_some(Self(names))
    }

    /// The names, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &HostPattern> {
        self.0.iter()
    }

    /// How many.
    #[allow(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether a wildcard is among them, which only DNS-01 can prove (RFC 8555 section 7.1.3).
    pub fn has_wildcard(&self) -> bool {
        self.0
            .iter()
            .any(|name| matches!(name, HostPattern::Wildcard(_)))
    }

    /// Whether this very name is among them.
    pub fn contains(&self, name: &HostPattern) -> bool {
        self.0.contains(name)
    }

    /// Whether they are valid for every host of the pattern.
    pub fn covers(&self, host: &HostPattern) -> bool {
        self.0.iter().any(|name| name.covers(host))
    }

    /// Whether a certificate is valid for all of them.
    pub fn are_covered_by(&self, certificate: &Certificate) -> bool {
        self.0.iter().all(|name| certificate.covers(name))
    }

    /// Whether a certificate is for these names and no others.
    pub fn are_exactly(&self, certificate: &Certificate) -> bool {
        self.0.iter().eq(&certificate.names)
    }

    /// A short text that is the same for the same names: 32 hexadecimal digits of a SHA-256.
    pub fn id(&self) -> SetId {
        SetId::of_names(&self.0)
    }
}

impl fmt::Display for NameSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&names.join(", "))
    }
}

/// Identifies a [`NameSet`] in records and names of objects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SetId(String);

/// A text that identifies no set of names.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("'{0}' is no identity of a set of names: those are 32 hexadecimal digits in lower case")]
pub struct SetIdError(String);

impl TryFrom<String> for SetId {
    type Error = SetIdError;

    fn try_from(text: String) -> Result<Self, SetIdError> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        match text.len() == 32 && text.bytes().all(is_digit) {
            true => Ok(Self(text)),
            false => Err(SetIdError(text)),
        }
    }
}

impl From<SetId> for String {
    fn from(id: SetId) -> Self {
        id.0
    }
}

impl SetId {
    /// Stands for what is in a Secret whose names are not known, or are another Secret's too.
    pub fn of_secret(secret: &NamespacedName) -> Self {
        Self::of_digest(&Sha256::digest(format!("Secret {secret}")))
    }

    /// Identity of the set that these names make, which are sorted and each there once.
    pub(crate) fn of_names<'a>(names: impl IntoIterator<Item = &'a HostPattern>) -> Self {
        let mut hash = Sha256::new();
        for name in names {
            hash.update(name.to_string());
            hash.update(b"\n");
        }
        Self::of_digest(&hash.finalize())
    }

    fn of_digest(digest: &[u8]) -> Self {
        Self(
            digest
                .iter()
                .take(16)
                .map(|byte| format!("{byte:02x}"))
                .collect(),
        )
    }

    /// Name of the ledger's part that it belongs to: its first digit.
    pub fn shard(&self) -> &str {
        self.0.get(..1).unwrap_or_default()
    }

    /// The names of all parts.
    pub fn shards() -> impl Iterator<Item = &'static str> {
        (0..16).filter_map(|at| "0123456789abcdef".get(at..=at))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the Secret that a certificate for these names is in when nobody names another.
    pub fn secret_name(&self, instance: &str) -> String {
        format!("{instance}-certificate-{}", self.0)
    }
}

impl fmt::Display for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
