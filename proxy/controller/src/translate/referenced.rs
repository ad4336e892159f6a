//! What Ingresses and settings refer to: the objects whose contents are needed.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidegate_model::NamespacedName;

use super::Settings;
use super::challenges::Challenges;
use super::index::Index;
use super::own_secrets::OwnSecrets;

/// The objects whose contents are needed. Whoever holds objects may leave out the contents of all others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Referenced {
    /// Services whose endpoints are needed.
    pub services: BTreeSet<NamespacedName>,
    /// Secrets, whether or not they exist: those named for TLS, those known to hold
    /// [challenge answers](super::CHALLENGE_ANSWERS_LABEL), and those that the instance keeps for itself.
    pub secrets: BTreeSet<NamespacedName>,
}

/// What is referred to, made again only when it changed.
#[derive(Debug, Default)]
pub(super) struct Kept {
    current: Arc<Referenced>,
    /// Of the indexes that it was made of; `None` before the first time.
    versions: Option<[u64; 4]>,
}

impl Kept {
    pub(super) fn current(&self) -> &Arc<Referenced> {
        &self.current
    }

    pub(super) fn update(
        &mut self,
        settings: &Settings,
        services: &Index<NamespacedName>,
        secrets: &Index<NamespacedName>,
        challenges: &Challenges,
        own: &OwnSecrets,
    ) {
        let versions = Some([
            services.version(),
            secrets.version(),
            challenges.version(),
            own.version(),
        ]);
        if self.versions == versions {
            return;
        }
        self.versions = versions;
        let default_backend = settings.default_backend.iter();
        let default_backend = default_backend.map(|backend| &backend.service);
        self.current = Arc::new(Referenced {
            services: services.keys().chain(default_backend).cloned().collect(),
            secrets: secrets
                .keys()
                .chain(&settings.default_certificate)
                .chain(challenges.secrets())
                .chain(own.names())
                .cloned()
                .collect(),
        });
    }
}
