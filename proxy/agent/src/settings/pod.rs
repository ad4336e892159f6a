//! What a container is told about itself by Kubernetes.

use std::fs;
use std::path::Path;

use super::SettingsError;
use super::data::DataKey;

/// The namespace of the service account, in every pod that has one.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// The namespace where none is known.
const NAMESPACE: &str = "tidegate";

/// The pod that this process runs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// `POD_NAME`, by `fieldRef: metadata.name`.
    pub name: Option<String>,
    /// `POD_NAMESPACE`, by `fieldRef: metadata.namespace`; else the namespace of the service account, else `tidegate`.
    pub namespace: String,
    /// `NODE_NAME`, by `fieldRef: spec.nodeName`.
    pub node: Option<String>,
}

impl Default for Pod {
    /// No pod.
    fn default() -> Self {
        Self {
            name: None,
            namespace: NAMESPACE.to_owned(),
            node: None,
        }
    }
}

/// What the environment says that has no flag.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    pub(super) pod: Pod,
    /// Whether Kubernetes has told where its API is.
    pub(super) is_in_cluster: bool,
    /// `TIDEGATE_DATA_KEY`.
    pub(super) data_key: Option<DataKey>,
}

impl Environment {
    /// The namespace of the pod.
    pub(crate) fn namespace(&self) -> &str {
        &self.pod.namespace
    }

    /// The key in this file, or the one that the environment has.
    ///
    /// # Errors
    /// There are both.
    pub(crate) fn sealing(&self, file: Option<&Path>) -> Result<Option<DataKey>, SettingsError> {
        match (file, &self.data_key) {
            (Some(_), Some(_)) => Err(SettingsError::Conflict(
                "--data-key-file and TIDEGATE_DATA_KEY are both set: drop one, for there is one key"
                    .to_owned(),
            )),
            (Some(path), None) => Ok(Some(DataKey::File(path.to_owned()))),
            (None, key) => Ok(key.clone()),
        }
    }

    /// That of this process.
    pub(crate) fn of_process() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        let own_namespace = || {
            let text = fs::read_to_string(NAMESPACE_FILE).ok()?;
            Some(text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        Self {
            pod: Pod {
                name: variable("POD_NAME"),
                namespace: variable("POD_NAMESPACE")
                    .or_else(own_namespace)
                    .unwrap_or_else(|| NAMESPACE.to_owned()),
                node: variable("NODE_NAME"),
            },
            is_in_cluster: variable("KUBERNETES_SERVICE_HOST").is_some(),
            data_key: variable("TIDEGATE_DATA_KEY").map(DataKey::text),
        }
    }
}
