//! `status.loadBalancer.ingress` of the Ingresses that are served, written by the leader.
//!
//! What is to be there is compared with what the watch has shown, so a new leader writes nothing when nothing differs.

mod addresses;
mod nodes;
mod pace;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tidegate_model::NamespacedName;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use self::addresses::{Missing, choose};
use self::nodes::Nodes;
use self::pace::Pace;
use crate::Translation;
use crate::inventory::{Inventory, PublishedAddress};
use crate::leader::{Interrupted, Leadership, term};
use crate::trouble::Trouble;
use crate::write::{WriteError, Writer};

/// How long changes are gathered.
const COALESCE: Duration = Duration::from_millis(200);
/// Writes at once.
const AT_ONCE: usize = 4;
/// Time in which the watch shows what was written.
const CONFIRMED: Duration = Duration::from_secs(1);
/// The same written so often in a row: another program writes something else.
const CONTESTED: u32 = 4;

/// Where the published addresses come from; the first that is given counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    /// These.
    pub addresses: Vec<PublishedAddress>,
    /// Those of a Service, as the [`Inventory`] knows them.
    pub service: Option<NamespacedName>,
    /// Those of the nodes whose agent is ready.
    pub nodes: NodeAddresses,
}

/// Which addresses of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodeAddresses {
    /// `status.hostIPs` of the agent's pod.
    #[default]
    Internal,
    /// `status.addresses` of type ExternalIP of the Node; the internal ones for a Node that has none.
    External,
}

/// Keeps the statuses right whenever this process leads, until it cannot lead any more.
pub async fn run(
    writer: Writer,
    mut leadership: watch::Receiver<Option<Leadership>>,
    published: watch::Receiver<Option<Arc<Translation>>>,
    inventory: Inventory,
    publish: watch::Receiver<Publish>,
) {
    let mut keeper = Keeper {
        writer,
        published,
        inventory,
        publish,
        pace: Pace::default(),
        trouble: Trouble::default(),
        missing: None,
        queue: VecDeque::new(),
        writing: BTreeSet::new(),
    };
    while let Some(term) = term::begin(&mut leadership).await {
        tokio::select! {
            () = term::end(&mut leadership, &term) => {}
            () = keeper.lead(&term) => return,
        }
    }
}

struct Keeper {
    writer: Writer,
    published: watch::Receiver<Option<Arc<Translation>>>,
    inventory: Inventory,
    publish: watch::Receiver<Publish>,
    pace: Pace,
    trouble: Trouble,
    /// Why no addresses are published, as was logged.
    missing: Option<Missing>,
    /// What is to be looked at, in this order.
    queue: VecDeque<NamespacedName>,
    /// What is being written.
    writing: BTreeSet<NamespacedName>,
}

/// What the statuses should be, as of one moment.
struct Wanted {
    translation: Arc<Translation>,
    /// `None`: not known, what is there stays.
    addresses: Option<Vec<PublishedAddress>>,
}

impl Keeper {
    /// Keeps the statuses right; ends when nothing is published any more.
    async fn lead(&mut self, term: &Leadership) {
        self.writing.clear();
        self.queue.clear();
        let writer = self.writer.clone();
        let mut changes = self.inventory.changes();
        let mut writes = FuturesUnordered::new();
        let mut wanted = None;
        let mut nodes: Option<Nodes> = None;
        let mut look_at = Some(Instant::now());
        loop {
            let soon = Instant::now() + COALESCE;
            tokio::select! {
                changed = self.published.changed() => match changed {
                    Ok(()) => look_at = earlier(look_at, Some(soon)),
                    Err(_) => return,
                },
                Ok(()) = changes.changed() => look_at = earlier(look_at, Some(soon)),
                Ok(()) = self.publish.changed() => look_at = earlier(look_at, Some(soon)),
                () = node_changed(nodes.as_mut()) => look_at = earlier(look_at, Some(soon)),
                Some((name, addresses, outcome)) = writes.next() => {
                    self.writing.remove(&name);
                    look_at = earlier(look_at, self.conclude(&name, addresses, outcome));
                }
                () = sleep(look_at) => {
                    self.follow_nodes(&mut nodes);
                    wanted = self.wanted(nodes.as_ref());
                    look_at = wanted.as_ref().and_then(|wanted| self.plan(wanted));
                }
            }
            let Some(wanted) = &wanted else { continue };
            while writes.len() < AT_ONCE && self.trouble.pause().is_none() {
                let Some(name) = self.queue.pop_front() else {
                    break;
                };
                // It may have become right while it waited.
                let Some(addresses) = self.missing_write(wanted, &name) else {
                    continue;
                };
                self.writing.insert(name.clone());
                let writer = &writer;
                writes.push(async move {
                    let outcome = writer.apply_ingress_status(term, &name, &addresses).await;
                    (name, addresses, outcome)
                });
            }
        }
    }

    /// What the statuses should be; `None` before everything is known.
    fn wanted(&mut self, nodes: Option<&Nodes>) -> Option<Wanted> {
        let translation = self.published.borrow_and_update().clone()?;
        let publish = self.publish.borrow_and_update().clone();
        if !self.inventory.is_complete() {
            return None;
        }
        let chosen = choose(&publish, &self.inventory, nodes.and_then(Nodes::external));
        let missing = chosen.as_ref().err().cloned();
        if self.missing != missing {
            match &missing {
                Some(missing) => {
                    info!("no addresses are published, and statuses stay as they are: {missing}");
                }
                None => info!("addresses are published in the status of Ingresses"),
            }
            self.missing = missing;
        }
        Some(Wanted {
            translation,
            addresses: chosen.ok(),
        })
    }

    /// Watches Nodes if their addresses are asked for.
    fn follow_nodes(&self, nodes: &mut Option<Nodes>) {
        let publish = self.publish.borrow();
        let asks = publish.addresses.is_empty()
            && publish.service.is_none()
            && publish.nodes == NodeAddresses::External;
        if !asks {
            *nodes = None;
        } else if nodes.is_none() {
            *nodes = Some(Nodes::new(self.writer.client()));
        }
    }

    /// Queues what is to be written. Returns when to look again, if something has to wait.
    fn plan(&mut self, wanted: &Wanted) -> Option<Instant> {
        self.pace.forget();
        self.queue.clear();
        let mut again = None;
        let ours = wanted.translation.statuses.keys().cloned();
        let names: BTreeSet<NamespacedName> = ours.chain(self.inventory.written()).collect();
        for name in names {
            let Some(addresses) = self.missing_write(wanted, &name) else {
                continue;
            };
            match self.pace.not_before(&name, &addresses) {
                at @ Some(_) => again = earlier(again, at),
                None => self.queue.push_back(name),
            }
        }
        let pause = self.trouble.pause().filter(|_| !self.queue.is_empty());
        earlier(again, pause)
    }

    /// What is to be written to an Ingress, if anything.
    fn missing_write(
        &self,
        wanted: &Wanted,
        name: &NamespacedName,
    ) -> Option<Vec<PublishedAddress>> {
        if self.writing.contains(name) {
            return None;
        }
        let record = self.inventory.ingress(name)?;
        let status = wanted.translation.statuses.get(name);
        let addresses = if status.is_some_and(|status| status.routes > 0 || status.tls) {
            wanted.addresses.clone()?
        } else {
            Vec::new()
        };
        let differs = if addresses.is_empty() {
            // What others wrote is theirs to take away.
            record.is_ours && !record.addresses.is_empty()
        } else {
            let there: BTreeSet<_> = record.addresses.iter().collect();
            there != addresses.iter().collect()
        };
        differs.then_some(addresses)
    }

    /// Takes in how a write ended. Returns when to look again, if something is left to do.
    fn conclude(
        &mut self,
        name: &NamespacedName,
        addresses: Vec<PublishedAddress>,
        outcome: Result<(), WriteError>,
    ) -> Option<Instant> {
        match outcome {
            Ok(()) => {
                if self.trouble.ends() {
                    info!("the status of Ingresses is written again");
                }
                let times = self.pace.wrote(name, addresses);
                if times == CONTESTED {
                    warn!(ingress = %name, "the status of this Ingress does not stay as it is written: another program writes it too; let only one of them serve it");
                }
                // In case that the watch never shows it.
                Some(Instant::now() + CONFIRMED)
            }
            Err(WriteError::Interrupted(Interrupted::Lost(_))) => {
                self.queue.clear();
                None
            }
            Err(WriteError::Gone) => {
                debug!(ingress = %name, "it was deleted before its status was written");
                None
            }
            Err(WriteError::Refused(message)) => {
                if self.pace.wrote(name, addresses) == 1 {
                    warn!(ingress = %name, message, "the API server refuses the status of this Ingress");
                }
                Some(Instant::now() + CONFIRMED)
            }
            Err(error) => {
                if self.trouble.begins() {
                    let advice = match error {
                        WriteError::Forbidden(_) => "grant patch on ingresses/status",
                        _ => "it is tried again",
                    };
                    warn!(ingress = %name, %error, "the status of an Ingress cannot be written; {advice}");
                }
                self.trouble.pause()
            }
        }
    }
}

/// The earlier of two moments, of which either may be missing.
fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

async fn node_changed(nodes: Option<&mut Nodes>) {
    match nodes {
        Some(nodes) => nodes.changed().await,
        None => std::future::pending().await,
    }
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
