//! The parts of the control plane that know a cluster: the watches on every node, and what the leader writes.

use std::sync::Arc;

use futures_util::FutureExt;
use tidegate_certificates::demand::Requests;
use tidegate_certificates::proof::Node;
use tidegate_certificates::{RecordKind, Store};
use tidegate_controller::certificates::{self, ClusterStore, Owner};
use tidegate_controller::events::{self, Reporter};
use tidegate_controller::inventory::Inventory;
use tidegate_controller::leader::{self, Election, Leadership};
use tidegate_controller::source::cluster::{self, Access, Cluster, Health, Scope};
use tidegate_controller::status::{self, Publish};
use tidegate_controller::write::{Counts, Writer};
use tidegate_model::CertificateRequest;
use tokio::sync::watch;

use super::SourceChannels;
use super::certificates::{CertificateInputs, Certificates};
use crate::app::Phase;
use crate::clock;

/// What is needed to be one agent of a cluster.
pub(crate) struct ClusterInputs {
    pub(crate) access: Access,
    pub(crate) scope: Scope,
    pub(crate) election: Election,
    pub(crate) publish: watch::Receiver<Publish>,
    /// Text of the ConfigMap with settings.
    pub(crate) settings_text: watch::Sender<Option<String>>,
    /// Only a process that has the ports stands for election.
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) shared: Shared,
}

/// What others look at while the control plane works.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared {
    pub(crate) inventory: Inventory,
    pub(crate) health: Health,
    pub(crate) leadership: watch::Sender<Option<Leadership>>,
    pub(crate) election: leader::Standing,
    pub(crate) writes: Counts,
    /// Whether this process stands for election, or holds the Lease.
    pub(crate) is_standing: watch::Sender<bool>,
}

impl ClusterInputs {
    pub(super) async fn start(
        self,
        channels: SourceChannels,
        certificates: CertificateInputs,
    ) -> anyhow::Result<()> {
        let connection = cluster::connect(&self.access).await?;
        let client = connection.client.clone();
        let Shared {
            inventory,
            health,
            leadership,
            is_standing,
            writes,
            ..
        } = self.shared;
        let writer = Writer::new(client.clone(), self.scope.field_manager.clone(), writes);
        let reporter = Reporter {
            instance: self.scope.instance.clone(),
            identity: self.election.identity.clone(),
        };
        let known = inventory.clone();
        let mut keeping = Certificates::new(certificates, channels.published.clone(), move || {
            ready_nodes(&known)
        });
        let owner = Owner {
            namespace: self.scope.own_namespace.clone(),
            instance: self.scope.instance.clone(),
            lease_name: self.scope.field_manager.clone(),
        };
        keeping.demand(Wishes {
            client: client.clone(),
            owner: owner.clone(),
        });
        let reading = certificates::read_only(client.clone(), owner.clone());
        let published = inventory.clone();
        keeping.answer(
            Arc::new(move || {
                let reading = reading.clone();
                async move {
                    let records = reading.load(RecordKind::Ledger).await;
                    records.map_err(|error| error.to_string())
                }
                .boxed()
            }),
            Wishes {
                client: client.clone(),
                owner: owner.clone(),
            },
            move || {
                let addresses = published.published().unwrap_or_default();
                addresses.iter().map(ToString::to_string).collect()
            },
        );
        let problems = keeping.problems();
        tokio::spawn(keep_certificates(
            keeping,
            writer.clone(),
            leadership.subscribe(),
            owner,
        ));
        let source = Cluster::new(connection, self.scope, inventory.clone(), health);
        tokio::spawn(source.run(channels.referenced, channels.updates, self.settings_text));
        tokio::spawn(status::run(
            writer.clone(),
            leadership.subscribe(),
            channels.published.clone(),
            inventory.clone(),
            self.publish,
        ));
        tokio::spawn(events::run(
            writer,
            leadership.subscribe(),
            channels.published,
            problems,
            inventory,
            reporter,
        ));
        tokio::spawn(stand_for_election(
            client,
            self.election,
            self.phase,
            leadership,
            is_standing,
        ));
        Ok(())
    }
}

/// Stands for election whenever this process has the ports; a leader that gives them away gives up its term, too.
async fn stand_for_election(
    client: cluster::Client,
    election: Election,
    mut phase: watch::Receiver<Phase>,
    leadership: watch::Sender<Option<Leadership>>,
    is_standing: watch::Sender<bool>,
) {
    loop {
        let serving = phase.wait_for(|phase| *phase == Phase::Serving);
        if serving.await.is_err() {
            return;
        }
        let mut watched = phase.clone();
        let over = async move {
            // An error says that the instance is gone, which ends the term, too.
            _ = watched.wait_for(|phase| *phase != Phase::Serving).await;
        };
        is_standing.send_replace(true);
        leader::run(client.clone(), election.clone(), leadership.clone(), over).await;
        is_standing.send_replace(false);
    }
}

/// The nodes whose agent takes requests.
fn ready_nodes(inventory: &Inventory) -> Vec<Node> {
    let agents = inventory.agents().into_values();
    let ready = agents.filter(|agent| agent.is_ready);
    ready
        .map(|agent| Node {
            name: agent.node,
            addresses: agent.pod_addresses,
        })
        .collect()
}

/// Keeps certificates whenever this process leads.
async fn keep_certificates(
    mut certificates: Certificates,
    writer: Writer,
    mut leadership: watch::Receiver<Option<Leadership>>,
    owner: Owner,
) {
    loop {
        let term = match leadership.wait_for(Option::is_some).await {
            Ok(term) => term.clone(),
            // The instance is gone.
            Err(_) => return,
        };
        let Some(term) = term else { continue };
        let store = ClusterStore::new(writer.clone(), term.clone(), owner.clone());
        certificates.keep(store).await;
        // It is over, and may be announced a moment later.
        let over = leadership.wait_for(|current| current.as_ref() != Some(&term));
        if over.await.is_err() {
            return;
        }
    }
}

/// Leaves the wishes of clients where the leader finds them.
struct Wishes {
    client: cluster::Client,
    owner: Owner,
}

impl Requests for Wishes {
    async fn request(&self, request: &CertificateRequest) -> Result<(), String> {
        let made = certificates::request(self.client.clone(), &self.owner, request, clock::now());
        made.await.map_err(|error| error.to_string())
    }
}
