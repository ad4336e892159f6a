//! The nodes' external addresses, watched only while they are published.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::pin::Pin;

use futures_util::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Node;
use kube::api::ApiResource;
use kube::core::{NotUsed, Object};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use serde::Deserialize;
use tracing::{info, warn};

use super::addresses::External;

/// What is read of a Node.
type Slim = Object<NotUsed, Addresses>;

#[derive(Clone, Debug, Default, Deserialize)]
struct Addresses {
    #[serde(default)]
    addresses: Option<Vec<Address>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Address {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

type Events = Pin<Box<dyn Stream<Item = watcher::Result<watcher::Event<Slim>>> + Send>>;

/// Watches Nodes.
pub(super) struct Nodes {
    events: Events,
    external: External,
    /// What is listed so far.
    listed: External,
    is_synced: bool,
    is_failing: bool,
}

impl Nodes {
    pub(super) fn new(client: kube::Client) -> Self {
        let kind = ApiResource::erase::<Node>(&());
        let api = Api::<Slim>::all_with(client, &kind);
        Self {
            events: watcher(api, watcher::Config::default())
                .default_backoff()
                .boxed(),
            external: External::new(),
            listed: External::new(),
            is_synced: false,
            is_failing: false,
        }
    }

    /// The external addresses of every node; `None` before all are known.
    pub(super) fn external(&self) -> Option<&External> {
        self.is_synced.then_some(&self.external)
    }

    /// Waits until an address is different. Safe to cancel.
    pub(super) async fn changed(&mut self) {
        while let Some(event) = self.events.next().await {
            if self.take(event) {
                return;
            }
        }
        std::future::pending::<()>().await;
    }

    /// True when something is different.
    fn take(&mut self, event: watcher::Result<watcher::Event<Slim>>) -> bool {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    warn!(%error, "Nodes cannot be watched, whose external addresses are published; grant list and watch on nodes, or set --publish-node-addresses internal");
                }
                return false;
            }
        };
        if std::mem::take(&mut self.is_failing) {
            info!("Nodes are watched again");
        }
        match event {
            watcher::Event::Init => {
                self.listed.clear();
                false
            }
            watcher::Event::InitApply(node) => {
                self.listed.insert(node.name_any(), external(&node));
                false
            }
            watcher::Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let differs = !self.is_synced || listed != self.external;
                self.external = listed;
                self.is_synced = true;
                differs
            }
            watcher::Event::Apply(node) => {
                let addresses = external(&node);
                self.external.insert(node.name_any(), addresses.clone()) != Some(addresses)
            }
            watcher::Event::Delete(node) => self.external.remove(&node.name_any()).is_some(),
        }
    }
}

/// `status.addresses` of type ExternalIP.
fn external(node: &Slim) -> BTreeSet<IpAddr> {
    let addresses = node
        .status
        .iter()
        .flat_map(|status| &status.addresses)
        .flatten();
    addresses
        .filter(|address| address.kind == "ExternalIP")
        .filter_map(|address| address.address.parse().ok())
        .collect()
}
