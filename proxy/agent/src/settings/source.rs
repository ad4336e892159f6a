//! Where objects come from, and what is told to the cluster.

use std::path::PathBuf;

pub use tidegate_controller::source::cluster::Access;
pub use tidegate_controller::status::{NodeAddresses, Publish};
use tidegate_model::NamespacedName;

use super::effective::{Effective, Written};
use super::file::File;
use super::key::{self, Key};
use super::merge::Layers;
use super::pod::Environment;
use super::{SettingsError, value};
use crate::cli::{ClusterFlags, ServeFlags};

/// Where objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Folders and files with manifests, at least one.
    Manifests(Vec<PathBuf>),
    /// The API server of a cluster.
    Cluster(ClusterSettings),
}

/// Which cluster is watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterSettings {
    /// How its API server is reached.
    pub access: Access,
    /// The ConfigMap whose key `settings.yaml` stands in the place of the settings file.
    pub config_map: Option<NamespacedName>,
}

/// Where objects are to come from.
pub(super) fn source(
    flags: &ServeFlags,
    file: &File,
    environment: &Environment,
    layers: &mut Layers<'_>,
) -> Result<Source, SettingsError> {
    let manifests = layers.list(
        key::MANIFESTS,
        &flags.manifests,
        file.manifests.as_ref(),
        &[],
        value::path,
    )?;
    let cluster = cluster(&flags.cluster, file, layers)?;
    let named = [key::KUBECONFIG, key::CONTEXT]
        .into_iter()
        .find(|key| is_set(layers.effective(), *key));
    match (manifests.is_empty(), named) {
        (false, None) => Ok(Source::Manifests(manifests)),
        (true, Some(_)) => Ok(Source::Cluster(cluster)),
        (true, None) if environment.is_in_cluster => Ok(Source::Cluster(cluster)),
        (true, None) => Err(SettingsError::Conflict(
            "nothing says where objects come from: name folders or files with --manifests DIR (`manifests:` in the \
             settings file), or a cluster with --kubeconfig FILE or --context NAME; in a pod of a cluster, neither is \
             needed"
                .to_owned(),
        )),
        (false, Some(named)) => {
            let from = |key| layers.effective().origin(key);
            Err(SettingsError::Conflict(format!(
                "manifests ({}) and {} ({}) are both set, and objects come from one of them: drop manifests to serve the \
                 cluster, or {} to serve the manifests",
                from(key::MANIFESTS),
                named.name,
                from(named),
                named.name,
            )))
        }
    }
}

fn is_set(effective: &Effective, key: Key) -> bool {
    let entry = effective.entry(key);
    entry.is_some_and(|entry| entry.written != Written::Nothing)
}

fn cluster(
    flags: &ClusterFlags,
    file: &File,
    layers: &mut Layers<'_>,
) -> Result<ClusterSettings, SettingsError> {
    let kubeconfig = layers.optional(
        key::KUBECONFIG,
        flags.kubeconfig.clone(),
        file.kubeconfig.as_ref(),
        value::path,
    )?;
    let context = layers.optional(
        key::CONTEXT,
        flags.context.clone(),
        file.context.as_ref(),
        value::text,
    )?;
    let config_map = layers.optional(
        key::CONFIG_MAP,
        flags.config_map.clone(),
        file.config_map.as_ref(),
        value::namespaced_name,
    )?;
    Ok(ClusterSettings {
        access: Access {
            kubeconfig,
            context,
        },
        config_map,
    })
}

/// What the status of Ingresses is to show.
pub(super) fn publish(
    flags: &ClusterFlags,
    file: &File,
    layers: &mut Layers<'_>,
) -> Result<Publish, SettingsError> {
    let addresses = layers.list(
        key::PUBLISH_ADDRESS,
        &flags.publish_address,
        file.publish_address.as_ref(),
        &[],
        value::published_address,
    )?;
    let service = layers.optional(
        key::PUBLISH_SERVICE,
        flags.publish_service.clone(),
        file.publish_service.as_ref(),
        value::namespaced_name,
    )?;
    let nodes = layers.one(
        key::PUBLISH_NODE_ADDRESSES,
        flags.publish_node_addresses,
        file.publish_node_addresses.as_ref(),
        "internal",
        value::node_addresses,
    )?;
    if !addresses.is_empty() && service.is_some() {
        let from = |key| layers.effective().origin(key);
        return Err(SettingsError::Conflict(format!(
            "publishAddress ({}) and publishService ({}) are both set, and the status of an Ingress shows one of them: \
             drop the other",
            from(key::PUBLISH_ADDRESS),
            from(key::PUBLISH_SERVICE),
        )));
    }
    Ok(Publish {
        addresses,
        service,
        nodes,
    })
}
