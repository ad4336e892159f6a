//! The requests about the one Lease.

use std::future::ready;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, PostParams, TypeMeta};
use kube::runtime::{WatchStreamExt, watcher};
use tidegate_model::NamespacedName;

use super::record::{Found, first};

/// The one Lease, by name.
#[derive(Clone, Debug)]
pub(super) struct LeaseApi {
    api: Api<DynamicObject>,
    kind: ApiResource,
    name: String,
}

/// Why the Lease was not written.
#[derive(Debug)]
pub(super) enum Unwritten {
    /// It is not as it was when it was read, or was made by another meanwhile.
    Conflict,
    /// It is not there any more.
    Gone,
    Failed(kube::Error),
}

impl LeaseApi {
    pub(super) fn new(client: kube::Client, lease: &NamespacedName) -> Self {
        let kind = ApiResource::erase::<Lease>(&());
        Self {
            // Read as plain JSON, so that nothing in it can make it unreadable.
            api: Api::namespaced_with(client, &lease.namespace, &kind),
            kind,
            name: lease.name.clone(),
        }
    }

    /// The Lease now and whenever it changes; `None` while it does not exist. Goes on after errors, with waits that
    /// grow.
    pub(super) fn watch(
        &self,
    ) -> impl Stream<Item = watcher::Result<Option<Found>>> + Send + use<> {
        let mut is_listed = false;
        let only = watcher::Config::default().fields(&format!("metadata.name={}", self.name));
        watcher(self.api.clone(), only)
            .default_backoff()
            .filter_map(move |event| {
                ready(match event {
                    Ok(watcher::Event::Init) => {
                        is_listed = false;
                        None
                    }
                    Ok(watcher::Event::InitApply(object)) => {
                        is_listed = true;
                        Some(Ok(Some(Found::new(object))))
                    }
                    Ok(watcher::Event::InitDone) => (!is_listed).then_some(Ok(None)),
                    Ok(watcher::Event::Apply(object)) => Some(Ok(Some(Found::new(object)))),
                    Ok(watcher::Event::Delete(_)) => Some(Ok(None)),
                    Err(error) => Some(Err(error)),
                })
            })
    }

    /// The Lease as it is, from the storage and not from a cache.
    pub(super) async fn look(&self) -> Result<Option<Found>, kube::Error> {
        Ok(self.api.get_opt(&self.name).await?.map(Found::new))
    }

    /// Takes the Lease, which is as it was `found`.
    pub(super) async fn claim(
        &self,
        found: Option<&Found>,
        identity: &str,
        duration: Duration,
    ) -> Result<Found, Unwritten> {
        let now = Timestamp::now();
        match found {
            Some(found) => self.replace(found.claimed(identity, duration, now)).await,
            None => {
                let lease = first(&self.name, &self.kind, identity, duration, now);
                let created = self.api.create(&PostParams::default(), &lease).await;
                created.map(Found::new).map_err(Unwritten::from)
            }
        }
    }

    /// Renews the Lease, which is as it was `found`.
    pub(super) async fn renew(
        &self,
        found: &Found,
        duration: Duration,
    ) -> Result<Found, Unwritten> {
        self.replace(found.renewed(duration, Timestamp::now()))
            .await
    }

    /// Gives up the Lease, which is as it was `found`.
    pub(super) async fn release(&self, found: &Found) -> Result<Found, Unwritten> {
        self.replace(found.released(Timestamp::now())).await
    }

    /// Writes it if it still has the resourceVersion that it was read with.
    async fn replace(&self, mut lease: DynamicObject) -> Result<Found, Unwritten> {
        lease.types = Some(TypeMeta {
            api_version: self.kind.api_version.clone(),
            kind: self.kind.kind.clone(),
        });
        let replaced = self
            .api
            .replace(&self.name, &PostParams::default(), &lease)
            .await;
        replaced.map(Found::new).map_err(Unwritten::from)
    }
}

impl From<kube::Error> for Unwritten {
    fn from(error: kube::Error) -> Self {
        match &error {
            kube::Error::Api(status) if status.code == 409 => Self::Conflict,
            kube::Error::Api(status) if status.code == 404 => Self::Gone,
            _ => Self::Failed(error),
        }
    }
}
