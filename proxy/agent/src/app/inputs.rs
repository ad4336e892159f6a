//! From settings to what control plane and cache are started with.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use tidegate_certificates::proof::Ports;
use tidegate_certificates::report::Report;
use tidegate_controller::access;
use tidegate_controller::certificates::Owner;
use tidegate_controller::leader::{Election, Timing};
use tidegate_controller::source::cluster::Scope;
use tidegate_dataplane::{BoundAddress, ListenerProtocol};
use tidegate_model::{Hostname, NamespacedName};
use tokio::sync::{mpsc, watch};

use super::Phase;
use super::control::{CertificateInputs, ClusterInputs, ManifestInputs, Shared, SourceInputs};
use crate::cache::{Cache, CacheSettings};
use crate::certificates::{self, LocalSettings};
use crate::settings::live::Live;
use crate::settings::{ClusterSettings, Settings, Source};

/// What keeps the last good snapshot; `None` when the settings name no folder for it.
///
/// # Errors
/// `TIDEGATE_DATA_KEY` holds no key.
pub(super) fn cache(settings: &Settings) -> anyhow::Result<Option<Cache>> {
    let Some(folder) = &settings.data.folder else {
        return Ok(None);
    };
    Ok(Some(Cache::new(CacheSettings {
        file: folder.join(format!("{}.redb", settings.instance)),
        instance: settings.instance.to_string(),
        key: settings.data.sealing()?,
    })))
}

/// What certificates need where there is no cluster to keep it.
///
/// # Errors
/// `TIDEGATE_DATA_KEY` holds no key.
fn local(settings: &Settings) -> anyhow::Result<LocalSettings> {
    let instance = settings.instance.to_string();
    let file = match &settings.data.folder {
        Some(folder) => Some(certificates::file(
            folder,
            &instance,
            settings.data.sealing()?,
        )),
        None => None,
    };
    Ok(LocalSettings {
        file,
        owner: owner(settings),
    })
}

/// Whose records and certificates are meant.
pub(super) fn owner(settings: &Settings) -> Owner {
    let instance = settings.instance.to_string();
    Owner {
        namespace: settings.pod.namespace.clone(),
        lease_name: access::lease_name(&instance),
        instance,
    }
}

/// Where objects come from.
///
/// # Errors
/// `TIDEGATE_DATA_KEY` holds no key.
pub(super) fn source(
    settings: &Settings,
    live: &Live,
    phase: &watch::Sender<Phase>,
    shared: &Shared,
) -> anyhow::Result<SourceInputs> {
    Ok(match &settings.source {
        Source::Manifests(paths) => SourceInputs::Manifests(Box::new(ManifestInputs {
            paths: paths.clone(),
            local: local(settings)?,
            phase: phase.subscribe(),
        })),
        Source::Cluster(cluster) => SourceInputs::Cluster(Box::new(self::cluster(
            settings,
            cluster,
            live,
            phase.subscribe(),
            shared.clone(),
        ))),
    })
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

/// What certificates are kept by.
pub(super) fn certificates(
    settings: &Settings,
    live: &Live,
    addresses: &[BoundAddress],
    names: mpsc::Receiver<Hostname>,
    report: watch::Sender<Arc<Report>>,
) -> CertificateInputs {
    let port = |protocol| {
        let mut bound = addresses.iter().filter(|bound| bound.protocol == protocol);
        bound.next().map(|bound| bound.address.port())
    };
    CertificateInputs {
        settings: live.certificates.clone(),
        names,
        lease_name: access::lease_name(settings.instance.as_str()),
        own_namespace: settings.pod.namespace.clone(),
        listeners: addresses.iter().map(|bound| bound.address.ip()).collect(),
        ports: Ports {
            http: port(ListenerProtocol::Http),
            https: port(ListenerProtocol::Https),
        },
        report,
        desk: Arc::default(),
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
    let certificates = settings.certificates.certificates.iter();
    let certificates = certificates.filter_map(|wanted| wanted.secret.as_ref());
    let named = named.into_iter().flatten().chain(certificates);
    named.map(|name| name.namespace.clone()).collect()
}

/// A name that no other process has, for people to recognise: the pod or host, and a number of its own.
fn identity(pod: Option<&str>) -> String {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    let number = RandomState::new().hash_one(std::process::id());
    format!("{}_{number:016x}", pod.unwrap_or(&host))
}
