//! Every write to the cluster but those of the Lease itself, and a [request](crate::certificates::request()), which any
//! process may make. Each one asks for the leadership it is made under.
//!
//! A request is driven only while the term lasts, which is looked at before each step that it takes, and for 5 s at most.
//! What no client can rule out: bytes that the kernel already has, and an API server that is slow. The server is told the
//! same limit, and all kinds of writes bear it: a status that is overwritten shows in the watch of the new leader, who
//! puts it right; an Event is named after what it says, so that it cannot be there twice; a Secret is created or written over
//! the version that was read, so that what a new leader has written stays.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Request;
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;
use tidegate_model::NamespacedName;

use crate::inventory::PublishedAddress;
use crate::leader::{Interrupted, Leadership};

/// Longest time for one write.
pub(crate) const LIMIT: Duration = Duration::from_secs(5);

/// Writes to the cluster, and counts it. Clones share their counts.
#[derive(Clone)]
pub struct Writer {
    client: kube::Client,
    field_manager: String,
    counts: Counts,
}

/// Why nothing was written, or it is not known whether it was.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The term ended, or there was no answer in time.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// The object, or its namespace, does not exist or is being deleted.
    #[error("it does not exist any more")]
    Gone,
    /// Another has created it, or written it since it was read.
    #[error("another has written it since")]
    Conflict,
    /// The service account may not do this.
    #[error("forbidden: {0}")]
    Forbidden(String),
    /// The API server says that it can never be written like this.
    #[error("refused: {0}")]
    Refused(String),
    /// Anything else, which may pass.
    #[error(transparent)]
    Failed(kube::Error),
}

/// What came of creating an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It is there now.
    New,
    /// It was there already.
    Already,
}

/// A kind of write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Of an Ingress' status.
    IngressStatus,
    /// Of an Event.
    Event,
    /// Of a Secret with what an instance keeps for itself.
    Record,
    /// Of a Secret with a certificate.
    Certificate,
}

impl Kind {
    /// As metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::IngressStatus => "ingress-status",
            Self::Event => "event",
            Self::Record => "record",
            Self::Certificate => "certificate",
        }
    }
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Done.
    Written,
    /// It was there already.
    Already,
    /// Not sent, or given up, because the term had ended.
    NotLeading,
    /// No answer in time.
    TimedOut,
    /// The object is gone.
    Gone,
    /// Another was faster.
    Conflict,
    /// The service account may not.
    Forbidden,
    /// Refused for good.
    Refused,
    /// Anything else.
    Failed,
}

impl Outcome {
    /// As metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Already => "already",
            Self::NotLeading => "not-leading",
            Self::TimedOut => "timed-out",
            Self::Gone => "gone",
            Self::Conflict => "conflict",
            Self::Forbidden => "forbidden",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// How many writes ended how. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Counts(Arc<Mutex<BTreeMap<(Kind, Outcome), u64>>>);

impl Counts {
    /// Those that happened, by kind and outcome.
    pub fn all(&self) -> BTreeMap<(Kind, Outcome), u64> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn add(&self, kind: Kind, outcome: Outcome) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((kind, outcome)).or_default() += 1;
    }
}

impl Writer {
    /// Writes with this client, statuses in the name of `field_manager`, and counts it there.
    pub fn new(client: kube::Client, field_manager: impl Into<String>, counts: Counts) -> Self {
        Self {
            client,
            field_manager: field_manager.into(),
            counts,
        }
    }

    /// The client, for what has to be read while writing.
    pub(crate) fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// Makes `status.loadBalancer.ingress` these addresses, whoever wrote it before; without any, takes away what was
    /// written in our name.
    pub async fn apply_ingress_status(
        &self,
        leadership: &Leadership,
        name: &NamespacedName,
        addresses: &[PublishedAddress],
    ) -> Result<(), WriteError> {
        let parameters = PatchParams::apply(&self.field_manager).force();
        let patch = Patch::Apply(status_patch(name, addresses));
        let request = Request::new(Ingress::url_path(&(), Some(&name.namespace)))
            .patch_subresource("status", &name.name, &parameters, &patch)
            .map_err(unbuildable)?;
        let outcome = self.send::<Value>(leadership, request).await;
        self.count(Kind::IngressStatus, &outcome);
        outcome.map(drop)
    }

    /// Creates an Event in its namespace, unless one of its name is there.
    pub async fn create_event(
        &self,
        leadership: &Leadership,
        event: &Event,
    ) -> Result<Created, WriteError> {
        let body =
            serde_json::to_vec(event).map_err(|error| WriteError::Refused(error.to_string()))?;
        let namespace = event.metadata.namespace.as_deref();
        let request = Request::new(Event::url_path(&(), namespace))
            .create(&self.post_parameters(), body)
            .map_err(unbuildable)?;
        match self.send::<Value>(leadership, request).await {
            Err(WriteError::Conflict) => {
                self.counts.add(Kind::Event, Outcome::Already);
                Ok(Created::Already)
            }
            outcome => {
                self.count(Kind::Event, &outcome);
                outcome.map(|_| Created::New)
            }
        }
    }

    /// Creates a Secret where it says, or writes it over the version that it has. Returns its new version.
    pub async fn put_secret(
        &self,
        leadership: &Leadership,
        kind: Kind,
        secret: &Secret,
    ) -> Result<String, WriteError> {
        let body =
            serde_json::to_vec(secret).map_err(|error| WriteError::Refused(error.to_string()))?;
        let metadata = &secret.metadata;
        let request = Request::new(Secret::url_path(&(), metadata.namespace.as_deref()));
        let name = metadata.name.as_deref().unwrap_or_default();
        let request = match metadata.resource_version {
            None => request.create(&self.post_parameters(), body),
            Some(_) => request.replace(name, &self.post_parameters(), body),
        };
        let request = request.map_err(unbuildable)?;
        let outcome = self.send::<Written>(leadership, request).await;
        self.count(kind, &outcome);
        Ok(outcome?.metadata.resource_version.unwrap_or_default())
    }

    /// Deletes a Secret, as it was when it was read if that is given.
    pub async fn delete_secret(
        &self,
        leadership: &Leadership,
        kind: Kind,
        name: &NamespacedName,
        as_read: Option<&ObjectMeta>,
    ) -> Result<(), WriteError> {
        let parameters = DeleteParams {
            preconditions: as_read.map(|metadata| Preconditions {
                resource_version: metadata.resource_version.clone(),
                uid: metadata.uid.clone(),
            }),
            ..DeleteParams::default()
        };
        let request = Request::new(Secret::url_path(&(), Some(&name.namespace)))
            .delete(&name.name, &parameters)
            .map_err(unbuildable)?;
        let outcome = self.send::<Value>(leadership, request).await;
        self.count(kind, &outcome);
        outcome.map(drop)
    }

    fn post_parameters(&self) -> PostParams {
        PostParams {
            field_manager: Some(self.field_manager.clone()),
            ..PostParams::default()
        }
    }

    /// Sends a request while the term lasts.
    async fn send<T: serde::de::DeserializeOwned>(
        &self,
        leadership: &Leadership,
        mut request: http::Request<Vec<u8>>,
    ) -> Result<T, WriteError> {
        leadership.check().map_err(Interrupted::from)?;
        let limit = LIMIT.min(leadership.remaining());
        limit_at_server(&mut request, limit);
        match leadership
            .cover(limit, self.client.request(request))
            .await?
        {
            Ok(answer) => Ok(answer),
            Err(error) => Err(classify(error)),
        }
    }

    fn count<T>(&self, kind: Kind, outcome: &Result<T, WriteError>) {
        self.counts.add(
            kind,
            match outcome {
                Ok(_) => Outcome::Written,
                Err(error) => error.outcome(),
            },
        );
    }
}

/// What is read of an object that was written.
#[derive(Deserialize)]
struct Written {
    metadata: ObjectMeta,
}

impl WriteError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Interrupted(Interrupted::Lost(_)) => Outcome::NotLeading,
            Self::Interrupted(Interrupted::TimedOut) => Outcome::TimedOut,
            Self::Gone => Outcome::Gone,
            Self::Conflict => Outcome::Conflict,
            Self::Forbidden(_) => Outcome::Forbidden,
            Self::Refused(_) => Outcome::Refused,
            Self::Failed(_) => Outcome::Failed,
        }
    }
}

/// What server-side apply is given: only what is ours.
fn status_patch(name: &NamespacedName, addresses: &[PublishedAddress]) -> Value {
    let mut patch = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": { "name": name.name, "namespace": name.namespace },
    });
    if !addresses.is_empty() {
        let entries: Vec<Value> = addresses
            .iter()
            .map(|address| match address {
                PublishedAddress::Ip(ip) => json!({ "ip": ip }),
                PublishedAddress::Hostname(hostname) => json!({ "hostname": hostname }),
            })
            .collect();
        patch["status"] = json!({ "loadBalancer": { "ingress": entries } });
    }
    patch
}

/// Tells the API server how long it may take: `timeout`, which it reads for every request that is no watch.
fn limit_at_server(request: &mut http::Request<Vec<u8>>, limit: Duration) {
    let uri = request.uri().to_string();
    let separator = match uri.split_once('?') {
        None => "?",
        Some((_, "")) => "",
        Some(_) => "&",
    };
    // At least one, for 0 stands for the server's own limit.
    let milliseconds = limit.as_millis().max(1);
    if let Ok(limited) = format!("{uri}{separator}timeout={milliseconds}ms").parse() {
        *request.uri_mut() = limited;
    }
}

/// A request that cannot even be built, for a name that no object can have.
#[allow(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn unbuildable(error: kube::core::request::Error) -> WriteError {
    WriteError::Refused(error.to_string())
}

fn classify(error: kube::Error) -> WriteError {
    let kube::Error::Api(status) = &error else {
        return WriteError::Failed(error);
    };
    let is_terminating = status.details.as_ref().is_some_and(|details| {
        details
            .causes
            .iter()
            .any(|cause| cause.reason == "NamespaceTerminating")
    });
    match status.code {
        404 => WriteError::Gone,
        409 => WriteError::Conflict,
        403 if is_terminating => WriteError::Gone,
        403 => WriteError::Forbidden(status.message.clone()),
        400 | 413 | 422 => WriteError::Refused(status.message.clone()),
        _ => WriteError::Failed(error),
    }
}

#[cfg(test)]
mod tests;
