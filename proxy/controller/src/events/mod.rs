//! Every Problem as an Event on its object, created by the leader: those of the translation, and those that whoever keeps
//! certificates has found.
//!
//! An Event is named after what it says, so neither another leader nor a restart repeats it. Problems of level Info have
//! no Event: nothing is amiss. Those of files have none, for the cluster knows no such object.

mod budget;
mod event;

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use tidegate_model::{Level, Problem};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use self::budget::Budget;
use crate::Translation;
use crate::inventory::Inventory;
use crate::leader::{Interrupted, Leadership, term};
use crate::trouble::Trouble;
use crate::write::{WriteError, Writer};

/// In whose name Events are created.
#[derive(Clone, Debug)]
pub struct Reporter {
    /// The instance, so that two that serve the same object both tell.
    pub instance: String,
    /// The process: `reportingInstance`, of which 128 bytes are kept.
    pub identity: String,
}

/// Creates Events whenever this process leads, until it cannot lead any more. `others` has problems beside those of the
/// translation; it may end before that.
pub async fn run(
    writer: Writer,
    mut leadership: watch::Receiver<Option<Leadership>>,
    published: watch::Receiver<Option<Arc<Translation>>>,
    others: watch::Receiver<Arc<Vec<Problem>>>,
    inventory: Inventory,
    reporter: Reporter,
) {
    let mut teller = Teller {
        writer,
        published,
        others,
        inventory,
        reporter,
        told: HashSet::new(),
        queue: VecDeque::new(),
        budget: Budget::full(),
        trouble: Trouble::default(),
    };
    while let Some(term) = term::begin(&mut leadership).await {
        tokio::select! {
            () = term::end(&mut leadership, &term) => {}
            () = teller.lead(&term) => return,
        }
    }
}

struct Teller {
    writer: Writer,
    published: watch::Receiver<Option<Arc<Translation>>>,
    /// Problems that no translation has.
    others: watch::Receiver<Arc<Vec<Problem>>>,
    inventory: Inventory,
    reporter: Reporter,
    /// Problems that are there still, and have their Event.
    told: HashSet<Digest>,
    /// Problems that have none yet.
    queue: VecDeque<Problem>,
    budget: Budget,
    trouble: Trouble,
}

/// A Problem in short, for this process alone.
type Digest = u64;

impl Teller {
    /// Creates the Events that are missing; ends when nothing is published any more.
    async fn lead(&mut self, leadership: &Leadership) {
        self.until_complete().await;
        self.look();
        loop {
            let next = match self.queue.front() {
                Some(_) => self.trouble.pause().max(self.budget.next()),
                None => None,
            };
            tokio::select! {
                changed = self.published.changed() => match changed {
                    Ok(()) => self.look(),
                    Err(_) => return,
                },
                () = changed(&mut self.others) => self.look(),
                () = until(next), if !self.queue.is_empty() => self.tell(leadership).await,
            }
        }
    }

    /// Waits until the identities of all objects are known, which Events carry.
    async fn until_complete(&self) {
        let mut changes = self.inventory.changes();
        while !self.inventory.is_complete() {
            // It cannot fail: the inventory is held here too.
            _ = changes.changed().await;
        }
    }

    /// Looks for problems without an Event.
    fn look(&mut self) {
        let Some(translation) = self.published.borrow_and_update().clone() else {
            return;
        };
        let others = self.others.borrow_and_update().clone();
        let problems = || {
            let all = translation.problems.iter().chain(others.iter());
            all.filter(|problem| has_event(problem))
        };
        let there: HashSet<Digest> = problems().map(digest).collect();
        self.told.retain(|told| there.contains(told));
        let missing: BTreeSet<&Problem> = problems()
            .filter(|problem| !self.told.contains(&digest(problem)))
            .collect();
        self.queue = missing.into_iter().cloned().collect();
    }

    /// Creates the next Event.
    async fn tell(&mut self, leadership: &Leadership) {
        let Some(problem) = self.queue.pop_front() else {
            return;
        };
        self.budget.spend();
        let uid = self.inventory.uid(&problem.object);
        let event = event::about(&problem, uid, &self.reporter);
        let outcome = self.writer.create_event(leadership, &event).await;
        match outcome {
            Ok(_) => {
                if self.trouble.ends() {
                    info!("Events are created again");
                }
            }
            Err(WriteError::Gone) => {
                debug!(object = %problem.object, "its namespace was deleted before an Event was created");
            }
            Err(WriteError::Refused(message)) => {
                debug!(object = %problem.object, message, "the API server refuses an Event");
            }
            Err(WriteError::Interrupted(Interrupted::Lost(_))) => {
                self.queue.push_front(problem);
                // Whoever ends the term ends this too.
                return std::future::pending().await;
            }
            Err(error) => {
                if self.trouble.begins() {
                    let advice = match error {
                        WriteError::Forbidden(_) => {
                            "grant create on events in the group events.k8s.io"
                        }
                        _ => "it is tried again",
                    };
                    warn!(object = %problem.object, %error, "Events cannot be created; {advice}");
                }
                self.queue.push_front(problem);
                return;
            }
        }
        self.told.insert(digest(&problem));
    }
}

fn has_event(problem: &Problem) -> bool {
    problem.level != Level::Info && event::api_version(&problem.object.kind).is_some()
}

fn digest(problem: &Problem) -> Digest {
    let mut hasher = DefaultHasher::new();
    problem.hash(&mut hasher);
    hasher.finish()
}

/// Waits for a change; for ever when there can be none any more.
async fn changed(others: &mut watch::Receiver<Arc<Vec<Problem>>>) {
    if others.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn until(moment: Option<Instant>) {
    if let Some(moment) = moment {
        sleep_until(moment).await;
    }
}

#[cfg(test)]
mod tests;
