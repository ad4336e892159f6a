//! Everything that a plan is made from.

use std::sync::Arc;

use tidegate_model::{Issuance, NamespacedName, UnixTime};

use crate::issuer::{ChallengeSettings, Issuer};
use crate::ledger::{Ledger, SetEntry};
use crate::names::SetId;
use crate::settings::CertificateSettings;

/// The arguments of a plan.
pub(super) struct Moment<'a> {
    pub(super) now: UnixTime,
    pub(super) settings: &'a CertificateSettings,
    pub(super) issuance: &'a Issuance,
    pub(super) ledger: &'a Ledger,
    issuers: Vec<Arc<Issuer>>,
    instance: &'a str,
    own_namespace: &'a str,
    nothing: SetEntry,
}

impl<'a> Moment<'a> {
    pub(super) fn new(
        now: UnixTime,
        settings: &'a CertificateSettings,
        instance: &'a str,
        own_namespace: &'a str,
        issuance: &'a Issuance,
        ledger: &'a Ledger,
    ) -> Self {
        Self {
            now,
            settings,
            issuance,
            ledger,
            issuers: settings.issuers.0.iter().cloned().map(Arc::new).collect(),
            instance,
            own_namespace,
            nothing: SetEntry::default(),
        }
    }

    /// The issuer of this name, or the first one.
    pub(super) fn issuer(&self, name: Option<&str>) -> Option<&Arc<Issuer>> {
        match name {
            None => self.issuers.first(),
            Some(name) => self.issuers.iter().find(|issuer| issuer.name == name),
        }
    }

    /// An issuer and those that it falls back to, each once.
    pub(super) fn with_fallbacks(&self, first: &Arc<Issuer>) -> Vec<Arc<Issuer>> {
        let mut ring = vec![Arc::clone(first)];
        for name in &first.fallback {
            if let Some(issuer) = self.issuer(Some(name))
                && !ring.iter().any(|known| known.name == issuer.name)
            {
                ring.push(Arc::clone(issuer));
            }
        }
        ring
    }

    /// Names of the issuers, for people.
    pub(super) fn issuer_names(&self) -> String {
        let names: Vec<_> = self
            .issuers
            .iter()
            .map(|issuer| issuer.name.as_str())
            .collect();
        names.join(", ")
    }

    /// What is remembered of a set; nothing, when it was never heard of.
    pub(super) fn entry(&self, id: &SetId) -> &SetEntry {
        self.ledger.sets.get(id).unwrap_or(&self.nothing)
    }

    /// The Secret of a set for which nobody names one.
    pub(super) fn own_secret(&self, id: &SetId) -> NamespacedName {
        NamespacedName::new(self.own_namespace, id.secret_name(self.instance))
    }

    /// Until when the CA at a directory wants nothing of us.
    pub(super) fn closed_until(&self, directory: &str) -> Option<UnixTime> {
        let until = self.ledger.directories.get(directory)?.closed_until?;
        (until > self.now.0).then_some(UnixTime(until))
    }
}

/// Whether an issuer can prove wildcards.
pub(super) fn proves_wildcards(issuer: &Issuer) -> bool {
    matches!(issuer.challenge, ChallengeSettings::Dns01(_))
}
