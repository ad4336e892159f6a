//! Asking the leader for a certificate, which any process may.

use std::future::Future;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tidegate_certificates::plan::request_key;
use tidegate_certificates::{Record, RecordKind, StoreError};
use tidegate_model::{CertificateRequest, UnixTime};

use super::object::Owner;
use crate::write::LIMIT;

/// Leaves a request for the leader of an instance, in an entry of its own that says when it was made.
///
/// # Errors
/// The API server refuses it, or does not answer in time.
pub async fn request(
    client: kube::Client,
    owner: &Owner,
    request: &CertificateRequest,
    time: UnixTime,
) -> Result<(), StoreError> {
    let time = jiff::Timestamp::from_second(time.0)
        .map_err(|error| StoreError::Refused(error.to_string()))?
        .to_string();
    let secrets: Api<Secret> = Api::namespaced(client, &owner.namespace);
    let entry = Entry {
        name: owner.object(RecordKind::Requests, "").name,
        key: request_key(request),
        time,
    };
    // Between two steps another may have made it, or removed it.
    for _ in 0..3 {
        if let Step::Done = entry.add(&secrets).await? {
            return Ok(());
        }
        if let Step::Done = entry.create(&secrets, owner).await? {
            return Ok(());
        }
    }
    Err(StoreError::Conflict)
}

/// What is to be written.
struct Entry {
    /// Of the Secret.
    name: String,
    key: String,
    time: String,
}

enum Step {
    Done,
    /// There is no Secret to add to, or there is one already.
    Otherwise,
}

impl Entry {
    async fn add(&self, secrets: &Api<Secret>) -> Result<Step, StoreError> {
        let patch = Patch::Merge(json!({ "stringData": { &self.key: self.time } }));
        let parameters = PatchParams::default();
        let patched = secrets.patch(&self.name, &parameters, &patch);
        self.step(404, patched).await
    }

    async fn create(&self, secrets: &Api<Secret>, owner: &Owner) -> Result<Step, StoreError> {
        let mut record = Record::new(RecordKind::Requests, "");
        let time = self.time.clone().into_bytes();
        record.entries.insert(self.key.clone(), time);
        let secret = owner.secret(&record);
        let parameters = PostParams::default();
        let created = secrets.create(&parameters, &secret);
        self.step(409, created).await
    }

    async fn step(
        &self,
        otherwise: u16,
        answer: impl Future<Output = Result<Secret, kube::Error>>,
    ) -> Result<Step, StoreError> {
        let name = &self.name;
        match tokio::time::timeout(LIMIT, answer).await {
            Err(_) => Err(StoreError::Failed(format!(
                "Secret '{name}': no answer in time"
            ))),
            Ok(Ok(_)) => Ok(Step::Done),
            Ok(Err(kube::Error::Api(status))) if status.code == otherwise => Ok(Step::Otherwise),
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 400 | 403 | 422) => Err(
                StoreError::Refused(format!("Secret '{name}': {}", status.message)),
            ),
            Ok(Err(error)) => Err(StoreError::Failed(format!("Secret '{name}': {error}"))),
        }
    }
}
