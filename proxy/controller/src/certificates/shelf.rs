//! Reading what is kept, which takes no leadership.

use std::future::Future;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::ListParams;
use tidegate_certificates::{Record, RecordKind, StoreError};
use tidegate_model::NamespacedName;

use super::object::Owner;
use crate::write::LIMIT;

/// Where an instance keeps its records.
#[derive(Clone)]
pub(super) struct Shelf {
    pub(super) client: kube::Client,
    pub(super) owner: Owner,
}

impl Shelf {
    /// Every record of a kind, as the API server has it at this moment.
    pub(super) async fn load(&self, kind: RecordKind) -> Result<Vec<Record>, StoreError> {
        let namespace = &self.owner.namespace;
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let parameters = ListParams::default().labels(&self.owner.selector(kind));
        let listed = within_limit(secrets.list(&parameters)).await;
        let listed = listed.map_err(|error| failure(&error, "list secrets", namespace))?;
        let records = listed.items.into_iter();
        Ok(records
            .filter_map(|secret| self.owner.record(kind, secret))
            .collect())
    }

    /// A Secret; `None` when there is none.
    pub(super) async fn secret(&self, name: &NamespacedName) -> Result<Option<Secret>, StoreError> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &name.namespace);
        within_limit(secrets.get_opt(&name.name))
            .await
            .map_err(|error| failure(&error, "get secrets", &name.namespace))
    }

    /// An entry of a Secret in our own namespace.
    pub(super) async fn entry(&self, name: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let name = NamespacedName::new(&self.owner.namespace, name);
        let secret = self.secret(&name).await?;
        let data = secret.and_then(|secret| secret.data);
        Ok(data
            .and_then(|mut data| data.remove(key))
            .map(|value| value.0))
    }
}

async fn within_limit<T>(
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Option<kube::Error>> {
    match tokio::time::timeout(LIMIT, request).await {
        Ok(outcome) => outcome.map_err(Some),
        Err(_) => Err(None),
    }
}

/// What went wrong while reading; no error stands for no answer in time.
fn failure(error: &Option<kube::Error>, verb: &str, namespace: &str) -> StoreError {
    match error {
        None => StoreError::Failed(format!(
            "{verb} in namespace '{namespace}': no answer in time"
        )),
        Some(kube::Error::Api(status)) if status.code == 403 => StoreError::Refused(format!(
            "{}; grant {verb} in namespace '{namespace}'",
            status.message
        )),
        Some(error) => StoreError::Failed(format!("{verb} in namespace '{namespace}': {error}")),
    }
}
