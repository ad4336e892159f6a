//! What can go wrong on the way to a TXT record, as people are told of it.

use std::time::Duration;

use thiserror::Error;

use super::provider::ProviderError;
use crate::ledger::FailureKind;
use crate::secret::SecretError;

/// Why a record was not made, seen or removed, or a name not looked up. Each says what to do; none shows a secret.
#[derive(Debug, Error)]
pub enum DnsError {
    /// A secret of the provider cannot be read.
    #[error("dns provider {provider}: {source}")]
    Secret {
        /// The provider, as settings call it.
        provider: &'static str,
        /// Why.
        source: SecretError,
    },
    /// The provider's settings cannot be right.
    #[error("settings of the dns provider {provider}: {reason}")]
    Settings {
        /// The provider, as settings call it.
        provider: &'static str,
        /// What is wrong and what to write instead.
        reason: String,
    },
    /// The system names no resolvers.
    #[error(
        "cannot tell the system's DNS resolvers from /etc/resolv.conf ({0}); name some in the issuer's dns.resolvers"
    )]
    NoResolvers(String),
    /// A pattern that no record can be made for.
    #[error("'{0}' has no DNS-01 record; only a name, or '*.' and a name, has one")]
    NoRecord(String),
    /// The resolvers do not tell.
    #[error(
        "cannot look up {kind} of {name}: {reason}; check that this node reaches its DNS resolvers, or name others in the issuer's dns.resolvers"
    )]
    LookUp {
        /// The name.
        name: String,
        /// Type of the records.
        kind: String,
        /// What happened.
        reason: String,
    },
    /// There is no zone above the name.
    #[error(
        "no zone is found above {0}: no name above it has an SOA record; register the domain, or name resolvers that know its zone in the issuer's dns.resolvers"
    )]
    NoZone(String),
    /// No authoritative server tells where the record belongs.
    #[error(
        "no authoritative name server of zone {zone} answers for {name} ({tried}); check that this node reaches them on port 53 by UDP and TCP"
    )]
    Unanswered {
        /// The name that was asked for.
        name: String,
        /// The zone.
        zone: String,
        /// Each server and what became of it.
        tried: String,
    },
    /// CNAME records lead nowhere.
    #[error(
        "the CNAME records from {start} {trouble} at {at}; point {start} straight at the name that holds the TXT records"
    )]
    Chain {
        /// Where they begin.
        start: String,
        /// `lead in a circle` or `are too many`.
        trouble: &'static str,
        /// The last name.
        at: String,
    },
    /// The provider did not do it.
    #[error("dns provider {provider} cannot {task} TXT record {record} of zone {zone}: {source}")]
    Provider {
        /// The provider, as settings call it.
        provider: &'static str,
        /// What it was to do.
        task: Task,
        /// The record, and what points to it.
        record: String,
        /// The zone.
        zone: String,
        /// Why it did not.
        source: ProviderError,
    },
    /// Some servers lack the record.
    #[error(
        "TXT record {record} of zone {zone} is not on every authoritative name server after {} s: {lacking}; check that these servers get the zone's changes, or raise the issuer's dns.propagationTimeout",
        waited.as_secs()
    )]
    NotPropagated {
        /// The record, and what points to it.
        record: String,
        /// The zone.
        zone: String,
        /// How long was waited.
        waited: Duration,
        /// The servers without it, and why each is thought to be.
        lacking: String,
    },
}

/// What a provider is to do with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Make it.
    Make,
    /// Put it on every server of the provider.
    Publish,
    /// Remove it.
    Remove,
}

impl std::fmt::Display for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Make => "make",
            Self::Publish => "publish",
            Self::Remove => "remove",
        })
    }
}

impl DnsError {
    /// How an order that met this waits.
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Secret { .. } | Self::Settings { .. } | Self::NoResolvers(_) => {
                FailureKind::Settings
            }
            Self::Provider {
                source: ProviderError::Refused(_),
                ..
            } => FailureKind::Settings,
            Self::NoRecord(_) => FailureKind::Permanent,
            Self::Provider { .. }
            | Self::LookUp { .. }
            | Self::NoZone(_)
            | Self::Unanswered { .. }
            | Self::Chain { .. }
            | Self::NotPropagated { .. } => FailureKind::NotProven,
        }
    }
}
