//! The parts of the control plane that know a cluster: the watches on every node, and what the leader writes.

use tidegate_controller::events::{self, Reporter};
use tidegate_controller::inventory::Inventory;
use tidegate_controller::leader::{self, Election, Leadership};
use tidegate_controller::source::cluster::{self, Access, Cluster, Health, Scope};
use tidegate_controller::status::{self, Publish};
use tidegate_controller::write::{Counts, Writer};
use tokio::sync::watch;

use super::SourceChannels;
use crate::app::Phase;

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
    pub(super) async fn start(self, channels: SourceChannels) -> anyhow::Result<()> {
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
