//! Certificates, ready to be served, and which of them is for which name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use hashbrown::HashMap;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::{HostPattern, Hostname, NamespacedName, UnixTime, host::parent};

/// SHA-256 over a certificate's chain and key: equal fingerprints serve alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A private key. Never shown: its `Debug` says only that it is there.
pub struct PrivateKey(PrivateKeyDer<'static>);

impl PrivateKey {
    /// Takes a key in.
    pub fn new(key: PrivateKeyDer<'static>) -> Self {
        Self(key)
    }

    /// The key itself, for the TLS library.
    pub fn der(&self) -> &PrivateKeyDer<'static> {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(redacted)")
    }
}

/// A chain with its key, checked to belong together.
#[derive(Debug)]
pub struct Certificate {
    /// The Secret that it came from.
    pub secret: NamespacedName,
    /// Names that the leaf is valid for (its DNS subject alternative names), sorted.
    pub names: Vec<HostPattern>,
    /// First second of its life (RFC 5280 section 4.1.2.5).
    pub not_before: UnixTime,
    /// Last second of its life.
    pub not_after: UnixTime,
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKey,
    /// Identity by content.
    pub fingerprint: Fingerprint,
}

impl Certificate {
    /// Whether the leaf is valid for every host of the pattern.
    pub fn covers(&self, host: &HostPattern) -> bool {
        let is_named = |pattern| self.names.binary_search(pattern).is_ok();
        is_named(host) || host.wildcard_above().as_ref().is_some_and(is_named)
    }
}

/// Certificates by server name. More than one for a name when key types differ: the handshake takes the first that the
/// client can verify.
#[derive(Debug, Default)]
pub struct CertificateIndex {
    exact: HashMap<Hostname, Vec<Arc<Certificate>>>,
    wildcard: HashMap<Hostname, Vec<Arc<Certificate>>>,
    default: Vec<Arc<Certificate>>,
}

impl CertificateIndex {
    /// Builds the index. [`HostPattern::Any`] holds the certificates for clients that name no host, or one that
    /// nothing else is for.
    pub fn new(entries: impl IntoIterator<Item = (HostPattern, Vec<Arc<Certificate>>)>) -> Self {
        let mut index = Self::default();
        for (host, certificates) in entries {
            match host {
                HostPattern::Exact(name) => _ = index.exact.insert(name, certificates),
                HostPattern::Wildcard(suffix) => _ = index.wildcard.insert(suffix, certificates),
                HostPattern::Any => index.default = certificates,
            }
        }
        index
    }

    /// The certificates for a server name (lower case): those of the exact name, else of its wildcard, else the
    /// default. Empty when there is none at all.
    pub fn select(&self, server_name: Option<&str>) -> &[Arc<Certificate>] {
        server_name
            .and_then(|name| {
                self.exact
                    .get(name)
                    .or_else(|| self.wildcard.get(parent(name)?))
            })
            .unwrap_or(&self.default)
    }

    /// Whether a certificate is for this server name (lower case), exactly or by its wildcard: clients that ask for it
    /// are not left with the default.
    pub fn names(&self, server_name: &str) -> bool {
        let wildcard =
            || parent(server_name).is_some_and(|above| self.wildcard.contains_key(above));
        self.exact.contains_key(server_name) || wildcard()
    }

    /// Every entry, sorted by host.
    pub fn entries(&self) -> BTreeMap<HostPattern, &[Arc<Certificate>]> {
        let exact = self
            .exact
            .iter()
            .map(|(name, list)| (HostPattern::Exact(name.clone()), list.as_slice()));
        let wildcard = self
            .wildcard
            .iter()
            .map(|(name, list)| (HostPattern::Wildcard(name.clone()), list.as_slice()));
        let default =
            (!self.default.is_empty()).then_some((HostPattern::Any, self.default.as_slice()));
        exact.chain(wildcard).chain(default).collect()
    }
}
