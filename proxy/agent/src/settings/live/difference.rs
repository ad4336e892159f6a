//! What new settings change, and what of it waits for a restart.

use std::collections::BTreeSet;

use tidegate_model::NamespacedName;
use tracing::{info, warn};

use crate::settings::effective::{Effective, Entry};
use crate::settings::key::{self, Effect, Key, Part};
use crate::settings::{Settings, Source};

/// What is other than before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Keys with another value, which is in force now.
    pub(super) live: Vec<Changed>,
    /// Keys with another value, which is not in force or was not.
    pub(super) fixed: Vec<Changed>,
    /// All keys whose value in force is another than the one that is written.
    pub(super) restart: BTreeSet<&'static str>,
}

/// A key with another value than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) key: Key,
    /// As settings files have it.
    pub(super) before: String,
    pub(super) after: String,
}

impl Difference {
    /// Between what was wanted and what is now, in a process that was started with `running`.
    pub(super) fn between(running: &Settings, before: &Effective, now: &Settings) -> Self {
        let restart = restart(running, now);
        let (fixed, live) = now
            .effective
            .changed_from(before)
            .map(changed)
            .partition(|changed| {
                changed.key.change == Effect::AfterRestart || restart.contains(changed.key.name)
            });
        Self {
            live,
            fixed,
            restart,
        }
    }

    /// Whether something changed that this part follows.
    pub(super) fn concerns(&self, part: Part) -> bool {
        let mut all = self.live.iter().chain(&self.fixed);
        all.any(|changed| changed.key.change == Effect::Live(part))
    }

    /// Says what changed.
    pub(super) fn log(&self) {
        for Changed { key, before, after } in &self.live {
            info!("settings: {}: {before} -> {after}, in force", key.name);
        }
        for Changed { key, before, after } in &self.fixed {
            let name = key.name;
            match self.restart.contains(name) {
                true => warn!(
                    "settings: {name}: {before} -> {after} is not in force: it needs a restart of this process"
                ),
                false => info!(
                    "settings: {name}: {before} -> {after}, as it runs: no restart is needed for it"
                ),
            }
        }
    }
}

fn changed((before, now): (&Entry, &Entry)) -> Changed {
    Changed {
        key: now.key,
        before: before.written.to_string(),
        after: now.written.to_string(),
    }
}

/// The keys whose values come into force with a restart.
fn restart(running: &Settings, now: &Settings) -> BTreeSet<&'static str> {
    let changed = now.effective.changed_from(&running.effective);
    changed
        .map(|(_, now)| now.key)
        .filter(|key| key.change == Effect::AfterRestart || is_unwatched(*key, running, now))
        .map(|key| key.name)
        .collect()
}

/// Whether the key names a namespace that this process does not watch: with `namespaces` it watches those, and those of
/// the other objects that its settings named at the start.
fn is_unwatched(key: Key, running: &Settings, now: &Settings) -> bool {
    let watched = &running.translation.namespaces;
    if watched.is_empty() || matches!(running.source, Source::Manifests(_)) {
        return false;
    }
    let is_watched = |name: &NamespacedName| {
        let mut named = named(running);
        watched.contains(&name.namespace) || named.any(|other| other.namespace == name.namespace)
    };
    let wanted = &now.translation;
    match key {
        key::NAMESPACES => wanted.namespaces.is_empty() || !wanted.namespaces.is_subset(watched),
        key::DEFAULT_BACKEND => wanted
            .default_backend
            .as_ref()
            .is_some_and(|backend| !is_watched(&backend.service)),
        key::DEFAULT_CERTIFICATE => wanted
            .default_certificate
            .as_ref()
            .is_some_and(|secret| !is_watched(secret)),
        key::CERTIFICATES_NAMES => certificates(now).any(|secret| !is_watched(secret)),
        _ => false,
    }
}

/// The objects that settings name.
fn named(settings: &Settings) -> impl Iterator<Item = &NamespacedName> {
    let backend = settings.translation.default_backend.as_ref();
    let backend = backend.map(|backend| &backend.service);
    let certificate = settings.translation.default_certificate.as_ref();
    [backend, certificate, settings.publish.service.as_ref()]
        .into_iter()
        .flatten()
        .chain(certificates(settings))
}

/// The Secrets that certificates of the settings are put into.
fn certificates(settings: &Settings) -> impl Iterator<Item = &NamespacedName> {
    let certificates = settings.certificates.certificates.iter();
    certificates.filter_map(|certificate| certificate.secret.as_ref())
}
