//! From settings to what control plane and cache are started with.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};

use anyhow::Context;
use tidegate_controller::access;
use tidegate_controller::leader::{Election, Timing};
use tidegate_controller::source::cluster::Scope;
use tidegate_model::NamespacedName;
use tokio::sync::watch;

use super::Phase;
use super::control::{ClusterInputs, Shared, SourceInputs};
use crate::cache::{self, Cache, CacheSettings, KeySource};
use crate::settings::live::Live;
use crate::settings::{ClusterSettings, DataKey, Settings, Source};

/// What keeps the last good snapshot; `None` when the settings name no folder for it.
///
/// # Errors
/// `TIDEGATE_DATA_KEY` holds no key.
pub(super) fn cache(settings: &Settings) -> anyhow::Result<Option<Cache>> {
    let Some(folder) = &settings.data.folder else {
        return Ok(None);
    };
    let key = match &settings.data.key {
        None => None,
        Some(DataKey::File(path)) => Some(KeySource::File(path.clone())),
        Some(DataKey::Text(text)) => {
            let key = cache::DataKey::parse(text.as_bytes()).context("TIDEGATE_DATA_KEY")?;
            Some(KeySource::Bytes(key))
        }
    };
    Ok(Some(Cache::new(CacheSettings {
        file: folder.join(format!("{}.redb", settings.instance)),
        instance: settings.instance.to_string(),
        key,
    })))
}

/// Where objects come from.
pub(super) fn source(
    settings: &Settings,
    live: &Live,
    phase: &watch::Sender<Phase>,
    shared: &Shared,
) -> SourceInputs {
    match &settings.source {
        Source::Manifests(paths) => SourceInputs::Manifests(paths.clone()),
        Source::Cluster(cluster) => SourceInputs::Cluster(Box::new(self::cluster(
            settings,
            cluster,
            live,
            phase.subscribe(),
            shared.clone(),
        ))),
    }
}

/// What a node of a cluster watches and, when it leads, writes.
fn cluster(
    settings: &Settings,
    cluster: &ClusterSettings,
    live: &Live,
    phase: watch::Receiver<Phase>,
    shared: Shared,
) -> ClusterInputs {
    let own_namespace = settings.pod.namespace.clone();
    let name = access::lease_name(settings.instance.as_str());
    ClusterInputs {
        access: cluster.access.clone(),
        scope: Scope {
            namespaces: settings.translation.namespaces.clone(),
            extra: named_namespaces(settings),
            own_namespace: own_namespace.clone(),
            instance: settings.instance.to_string(),
            publish_service: settings.publish.service.clone(),
            config_map: cluster.config_map.clone(),
            field_manager: name.clone(),
        },
        election: Election {
            lease: NamespacedName::new(own_namespace, name),
            identity: identity(settings.pod.name.as_deref()),
            timing: Timing::default(),
            standing: shared.election.clone(),
        },
        publish: live.publish.clone(),
        settings_text: live.config_map.clone(),
        phase,
        shared,
    }
}

/// Namespaces that settings name besides those that are served.
fn named_namespaces(settings: &Settings) -> BTreeSet<String> {
    let translation = &settings.translation;
    let backend = translation.default_backend.as_ref();
    let named = [
        backend.map(|backend| &backend.service),
        translation.default_certificate.as_ref(),
        settings.publish.service.as_ref(),
    ];
    let namespaces = named.into_iter().flatten().map(|name| &name.namespace);
    namespaces.cloned().collect()
}

/// A name that no other process has, for people to recognise: the pod or host, and a number of its own.
fn identity(pod: Option<&str>) -> String {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    let number = RandomState::new().hash_one(std::process::id());
    format!("{}_{number:016x}", pod.unwrap_or(&host))
}
