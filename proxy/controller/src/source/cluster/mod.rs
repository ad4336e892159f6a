//! Objects from the API server of a cluster.
//!
//! One `feed` per kind (and namespace) keeps a watch up for ever; the `view` folds what the feeds see into
//! changes, so that a list that is read again tells only what differs. What Ingresses refer to is told by the
//! reconciler, and only that is fetched and held of EndpointSlices and Secrets.

mod arrival;
mod connect;
mod failure;
mod feed;
mod fetch;
mod health;
mod held;
mod kind;
mod page;
mod position;
mod problems;
mod secrets;
mod slices;
mod timing;
mod trim;
mod view;

use std::collections::BTreeSet;
use std::hash::RandomState;
use std::sync::Arc;

use tidegate_model::NamespacedName;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use self::arrival::Reader;
use self::feed::Feed;
use self::fetch::Fetcher;
use self::held::Need;
use self::kind::Target;
use self::view::{Standing, View};
use super::Update;
use crate::inventory::Inventory;
use crate::translate::Referenced;

pub use self::arrival::SETTINGS_KEY;
pub use self::connect::{Access, ConnectError, Connection, connect};
pub use self::failure::FailureSort;
pub use self::health::{Failing, Health, HealthSnapshot, Requests, WatchHealth};
pub use self::kind::{Kind, WatchName};
pub use self::timing::Timing;
pub use kube::Client;

/// Events that wait for the view; feeds pause when there are more.
const QUEUE: usize = 1024;
/// Label with the name of the program that a pod runs.
const NAME_LABEL: &str = "app.kubernetes.io/name";
/// Label with the name of the instance that a pod belongs to.
const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";

/// Which part of the cluster is watched.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Namespaces that are watched, each by watches of its own, so that Roles suffice. Empty: all of them, by one watch
    /// per kind.
    pub namespaces: BTreeSet<String>,
    /// Further namespaces with Services or Secrets that settings name.
    pub extra: BTreeSet<String>,
    /// The namespace that Tidegate runs in.
    pub own_namespace: String,
    /// Name of the instance, which its pods carry as a label.
    pub instance: String,
    /// The Service whose addresses are published.
    pub publish_service: Option<NamespacedName>,
    /// The ConfigMap with the settings.
    pub config_map: Option<NamespacedName>,
    /// The field manager by which statuses are known as ours.
    pub field_manager: String,
}

/// Watches a cluster.
#[derive(Debug)]
pub struct Cluster {
    connection: Connection,
    scope: Scope,
    inventory: Inventory,
    health: Health,
    timing: Timing,
}

/// How far the source has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// What refers to others is read.
    Referring,
    /// It has been told; what is referred to is not known yet.
    Told,
    /// What is referred to is read.
    Referred,
    /// All has been told.
    Complete,
}

impl Cluster {
    /// A source that has not begun.
    pub fn new(connection: Connection, scope: Scope, inventory: Inventory, health: Health) -> Self {
        Self {
            connection,
            scope,
            inventory,
            health,
            timing: Timing::default(),
        }
    }

    /// With other times to go by.
    #[must_use]
    pub fn with_timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// Watches until the receiver of the updates is gone. Whatever fails is tried again, without end.
    ///
    /// The first update is told when all is read that may refer to something. The second waits for the first
    /// word of `referenced` after it, and for what that names. `settings_text` follows the ConfigMap of the scope:
    /// `None` while it does not exist.
    pub async fn run(
        self,
        referenced: watch::Receiver<Arc<Referenced>>,
        updates: mpsc::Sender<Update>,
        settings_text: watch::Sender<Option<String>>,
    ) {
        let (feed_output, events) = mpsc::channel(QUEUE);
        let reader = Reader {
            field_manager: self.scope.field_manager.as_str().into(),
            instance: self.scope.instance.as_str().into(),
            hashes: RandomState::new(),
        };
        let fetcher = Fetcher::new(
            self.connection.client.clone(),
            reader.clone(),
            self.timing,
            self.health.clone(),
        );
        let view = View::new(&self.scope, self.inventory.clone(), self.health.clone());
        let running = Running {
            source: self,
            view,
            fetcher,
            feeds: JoinSet::new(),
            reader,
            feed_output,
            events,
            referenced,
            asked: None,
            answered: None,
            phase: Phase::Referring,
        };
        running.run(&updates, &settings_text).await;
    }
}

/// A source that has begun.
struct Running {
    source: Cluster,
    view: View,
    fetcher: Fetcher,
    /// Ended when this is dropped.
    feeds: JoinSet<()>,
    reader: Reader,
    feed_output: mpsc::Sender<(usize, feed::Event)>,
    events: mpsc::Receiver<(usize, feed::Event)>,
    referenced: watch::Receiver<Arc<Referenced>>,
    /// What is referred to.
    asked: Option<Arc<Referenced>>,
    /// What of that has been told wholly.
    answered: Option<Arc<Referenced>>,
    phase: Phase,
}

impl Running {
    async fn run(
        mut self,
        updates: &mpsc::Sender<Update>,
        settings: &watch::Sender<Option<String>>,
    ) {
        for (target, need) in self.source.scope.referring() {
            self.begin(target, need);
        }
        // What was said before the first update does not answer it.
        self.referenced.mark_unchanged();
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                _ = self.events.recv_many(&mut batch, QUEUE) => {
                    for (number, event) in batch.drain(..) {
                        self.view.take(number, event);
                    }
                }
                outcomes = self.fetcher.outcomes() => {
                    for outcome in outcomes {
                        self.view.fetched(outcome);
                    }
                }
                Ok(()) = self.referenced.changed(), if self.phase != Phase::Referring => {
                    let referenced = self.referenced.borrow_and_update().clone();
                    self.refer(referenced);
                }
                () = updates.closed() => return,
            }
            for job in self.view.jobs() {
                self.fetcher.begin(job);
            }
            self.view.count();
            tell_settings(settings, self.view.settings());
            if let Some(update) = self.update()
                && updates.send(update).await.is_err()
            {
                return;
            }
        }
    }

    fn begin(&mut self, target: Target, need: Need) {
        let feed = Feed {
            client: self.source.connection.client.clone(),
            number: self.view.add(target.name.clone(), need),
            target,
            reader: self.reader.clone(),
            timing: self.source.timing,
            health: self.source.health.clone(),
            output: self.feed_output.clone(),
        };
        self.feeds.spawn(feed.run());
    }

    fn refer(&mut self, referenced: Arc<Referenced>) {
        if self.phase == Phase::Told {
            self.phase = Phase::Referred;
            for (target, need) in self.source.scope.referred() {
                self.begin(target, need);
            }
        }
        self.asked = Some(referenced.clone());
        self.view.refer(referenced);
    }

    /// What is to be told now.
    fn update(&mut self) -> Option<Update> {
        let (phase, view) = match (self.phase, self.view.standing()) {
            (Phase::Referring, Standing::Begun) => return None,
            (Phase::Referring, _) => (Phase::Told, super::View::Partial),
            (Phase::Referred, Standing::Complete) => {
                self.source.inventory.set_complete();
                self.source.health.complete();
                (Phase::Complete, super::View::Complete)
            }
            (phase @ (Phase::Told | Phase::Referred), _) if self.view.has_referring_news() => {
                (phase, super::View::Partial)
            }
            (Phase::Complete, standing) if self.view.has_news() || self.can_answer(standing) => {
                (Phase::Complete, super::View::Complete)
            }
            _ => return None,
        };
        if phase == Phase::Complete && self.can_answer(self.view.standing()) {
            self.answered = self.asked.clone();
        }
        self.phase = phase;
        let (changes, problems) = self.view.news();
        Some(Update {
            changes,
            problems,
            view,
            answered: self.answered.clone(),
        })
    }

    /// Whether all is there that was asked for since the last answer.
    fn can_answer(&self, standing: Standing) -> bool {
        standing == Standing::Complete && !same(self.asked.as_ref(), self.answered.as_ref())
    }
}

/// Whether both are the same allocation, or nothing.
fn same(one: Option<&Arc<Referenced>>, other: Option<&Arc<Referenced>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

fn tell_settings(sender: &watch::Sender<Option<String>>, text: Option<&str>) {
    sender.send_if_modified(|told| {
        let differs = told.as_deref() != text;
        if differs {
            *told = text.map(str::to_owned);
        }
        differs
    });
}

impl Scope {
    /// Watches of what refers to others, and of what only we ourselves need.
    fn referring(&self) -> Vec<(Target, Need)> {
        let mut targets = self.in_namespaces(Kind::Ingress);
        targets.extend(self.in_all_namespaces(Kind::Service));
        // Where Roles are to suffice, objects of the whole cluster may be out of reach.
        let need = match self.namespaces.is_empty() {
            true => Need::Whole,
            false => Need::Asked,
        };
        for kind in [Kind::IngressClass, Kind::Namespace] {
            targets.push((Target::all(kind, None), need));
        }
        let mut pods = Target::all(Kind::Pod, Some(self.own_namespace.clone()));
        let instance = &self.instance;
        pods.labels = Some(format!("{NAME_LABEL}=tidegate,{INSTANCE_LABEL}={instance}"));
        targets.push((pods, Need::Asked));
        if let Some(name) = &self.config_map {
            let mut map = Target::all(Kind::ConfigMap, Some(name.namespace.clone()));
            map.fields = Some(format!("metadata.name={}", name.name));
            targets.push((map, Need::Asked));
        }
        targets
    }

    /// Watches of what is referred to.
    fn referred(&self) -> Vec<(Target, Need)> {
        let mut targets = self.in_all_namespaces(Kind::EndpointSlice);
        let secrets = self.in_all_namespaces(Kind::Secret);
        // Contents are fetched; the watch only tells of changes.
        targets.extend(secrets.into_iter().map(|(target, _)| (target, Need::Asked)));
        if !self.covers(&self.own_namespace) {
            // No one selector is for all labels that make a Secret needed; only metadata are watched.
            let own = Target::all(Kind::Secret, Some(self.own_namespace.clone()));
            targets.push((own, Need::Asked));
        }
        targets
    }

    /// Whether Services and Secrets of the namespace are watched.
    fn covers(&self, namespace: &str) -> bool {
        self.namespaces.is_empty()
            || self.namespaces.contains(namespace)
            || self.extra.contains(namespace)
    }

    fn in_namespaces(&self, kind: Kind) -> Vec<(Target, Need)> {
        if self.namespaces.is_empty() {
            return vec![(Target::all(kind, None), Need::Whole)];
        }
        let named = self.namespaces.iter();
        named
            .map(|namespace| (Target::all(kind, Some(namespace.clone())), Need::Whole))
            .collect()
    }

    fn in_all_namespaces(&self, kind: Kind) -> Vec<(Target, Need)> {
        let mut targets = self.in_namespaces(kind);
        if !self.namespaces.is_empty() {
            let further = self.extra.difference(&self.namespaces);
            targets.extend(
                further.map(|namespace| (Target::all(kind, Some(namespace.clone())), Need::Asked)),
            );
        }
        targets
    }
}
