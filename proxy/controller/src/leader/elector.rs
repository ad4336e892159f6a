//! The candidate: waits for its turn and takes the Lease.

use std::fmt;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::{Pin, pin};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use kube::runtime::watcher;
use tidegate_model::NamespacedName;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::clock::{Moment, before, sleep_until};
use super::lease::{LeaseApi, Unwritten};
use super::record::{Found, Record};
use super::standing::Standing;
use super::term::Leadership;
use super::{Election, Timing};

/// Longest part of a holder's name that is logged and shown: anyone may have written it.
const NAME_SHOWN: usize = 128;

pub(super) type Told = watcher::Result<Option<Found>>;

pub(super) struct Elector {
    pub(super) api: LeaseApi,
    pub(super) lease: NamespacedName,
    pub(super) identity: String,
    pub(super) timing: Timing,
    pub(super) standing: Standing,
    /// What was last seen in the Lease.
    pub(super) seen: Sight,
    /// When to try to take the Lease.
    pub(super) attempt_at: Option<Moment>,
    /// Requests that failed one after the other.
    failures: u32,
    /// Whether the watch fails.
    is_blind: bool,
    /// Whether the Lease may be in our hands, because a request to take it was sent and not refused.
    pub(super) may_hold: bool,
    /// Counts the random times drawn.
    draws: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// It was not looked at yet.
    Nothing,
    /// It does not exist.
    NoLease,
    Lease(Record),
}

/// What a look at the Lease brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// It is as it was.
    Nothing,
    /// Another holds it.
    Alive,
    ToBeHad,
}

/// A Lease that was taken.
pub(super) struct Won {
    pub(super) found: Found,
    /// When the request that took it began.
    pub(super) asked_at: Moment,
}

impl Elector {
    pub(super) fn new(client: kube::Client, election: Election) -> Self {
        Self {
            api: LeaseApi::new(client, &election.lease),
            lease: election.lease,
            identity: election.identity,
            timing: election.timing,
            standing: election.standing,
            seen: Sight::Nothing,
            attempt_at: None,
            failures: 0,
            is_blind: false,
            may_hold: false,
            draws: 0,
        }
    }

    pub(super) async fn run(
        mut self,
        leadership: watch::Sender<Option<Leadership>>,
        stop: impl Future<Output = ()>,
    ) {
        let mut stop = pin!(stop);
        // By then the watch has told, or hangs.
        self.attempt_at = Some(Moment::now().after(self.timing.request));
        let mut watch = pin!(self.api.watch());
        loop {
            let won = tokio::select! {
                biased;
                () = &mut stop => break,
                won = self.follow(watch.as_mut()) => won,
            };
            tokio::select! {
                biased;
                () = &mut stop => break,
                () = self.lead(watch.as_mut(), won, &leadership) => {}
            }
        }
        // What was going on has been dropped, and with it the term.
        self.standing.update(|facts| facts.is_leader = false);
        self.release().await;
    }

    /// Waits until the Lease is to be had, and takes it.
    async fn follow(&mut self, mut watch: Pin<&mut impl Stream<Item = Told>>) -> Won {
        loop {
            tokio::select! {
                Some(told) = watch.next() => self.hear(told),
                () = sleep_until(self.attempt_at) => {
                    if let Some(won) = self.attempt().await {
                        return won;
                    }
                }
            }
        }
    }

    /// Takes in what the watch tells. While it fails, the Lease is looked at instead, seldom.
    fn hear(&mut self, told: Told) {
        match told {
            Ok(found) => {
                if std::mem::take(&mut self.is_blind) {
                    info!(lease = %self.lease, "the watch of the Lease goes on");
                }
                if self.see(found.as_ref()) == News::Alive {
                    self.recover();
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_blind, true) {
                    warn!(lease = %self.lease, %error, "the Lease cannot be watched; it is tried again");
                }
                let wait = self.timing.retry + self.draw(self.timing.retry);
                self.attempt_at
                    .get_or_insert_with(|| Moment::now().after(wait));
            }
        }
    }

    /// Takes in what the Lease says; when that is new, another wait begins.
    fn see(&mut self, found: Option<&Found>) -> News {
        let record = found.map(Found::record);
        let sight = record.cloned().map_or(Sight::NoLease, Sight::Lease);
        if self.seen == sight {
            return News::Nothing;
        }
        self.seen = sight;
        let jitter = self.draw(self.timing.jitter);
        let (news, wait) = match record {
            Some(record) if record.holder() == self.identity => (News::ToBeHad, Duration::ZERO),
            Some(record) if !record.is_vacant() => {
                let patience = record.patience(self.timing.duration);
                (News::Alive, patience + jitter)
            }
            _ => (News::ToBeHad, jitter),
        };
        self.attempt_at = Some(Moment::now().after(wait));
        self.show_holder(record);
        news
    }

    /// Takes the Lease if it is still to be had. What the watch told may be old, so it is looked at first.
    async fn attempt(&mut self) -> Option<Won> {
        let until = Moment::now().after(self.timing.request);
        let found = match before(until, self.api.look()).await {
            Some(Ok(found)) => found,
            Some(Err(error)) => return self.postpone(Verb::Get, Some(&error)),
            None => return self.postpone(Verb::Get, None),
        };
        self.see(found.as_ref());
        if self.attempt_at.is_some_and(|at| at > Moment::now()) {
            self.recover();
            return None;
        }
        let verb = if found.is_some() {
            Verb::Update
        } else {
            Verb::Create
        };
        let asked_at = Moment::now();
        self.may_hold = true;
        let claim = self
            .api
            .claim(found.as_ref(), &self.identity, self.timing.duration);
        match before(asked_at.after(self.timing.request), claim).await {
            Some(Ok(found)) => {
                self.recover();
                Some(Won { found, asked_at })
            }
            Some(Err(Unwritten::Conflict)) => {
                self.may_hold = false;
                self.recover();
                let wait = self.timing.retry + self.draw(self.timing.retry);
                self.attempt_at = Some(Moment::now().after(wait));
                None
            }
            Some(Err(Unwritten::Gone)) => {
                self.may_hold = false;
                self.postpone(verb, None)
            }
            Some(Err(Unwritten::Failed(error))) => self.postpone(verb, Some(&error)),
            None => self.postpone(verb, None),
        }
    }

    /// Puts off the next attempt after one that failed.
    fn postpone(&mut self, verb: Verb, error: Option<&kube::Error>) -> Option<Won> {
        self.fail(verb, error);
        let wait = self.timing.retry * 2_u32.pow(self.failures.saturating_sub(1).min(2));
        let wait = wait + self.draw(wait);
        self.attempt_at = Some(Moment::now().after(wait));
        None
    }

    /// Says that requests fail, when that begins.
    pub(super) fn fail(&mut self, verb: Verb, error: Option<&kube::Error>) {
        self.failures = self.failures.saturating_add(1);
        let trouble = match error {
            Some(error) => format!("cannot {verb} the Lease {}: {error}", self.lease),
            None => format!(
                "cannot {verb} the Lease {}: no answer in time, or its namespace is gone",
                self.lease
            ),
        };
        let is_forbidden = matches!(error, Some(kube::Error::Api(status)) if status.is_forbidden() || status.code == 403);
        if self.failures == 1 {
            let advice = if is_forbidden {
                "grant the service account that verb on leases"
            } else {
                "it is tried again"
            };
            warn!("{trouble}; {advice}");
        }
        self.standing.update(|facts| {
            facts.failures += 1;
            facts.trouble = Some(trouble);
        });
    }

    /// Says that requests succeed again.
    pub(super) fn recover(&mut self) {
        if std::mem::take(&mut self.failures) > 0 {
            info!(lease = %self.lease, "the Lease can be read and written again");
            self.standing.update(|facts| facts.trouble = None);
        }
    }

    pub(super) fn show_holder(&self, record: Option<&Record>) {
        let holder = shown(record.map_or("", Record::holder));
        let changed = self.standing.facts().holder != holder;
        if changed {
            debug!(lease = %self.lease, holder, "the Lease has another holder");
            self.standing
                .update(|facts| holder.clone_into(&mut facts.holder));
        }
    }

    /// A time below `limit` that differs from candidate to candidate.
    pub(super) fn draw(&mut self, limit: Duration) -> Duration {
        self.draws += 1;
        let mut hasher = DefaultHasher::new();
        (&self.identity, self.draws).hash(&mut hasher);
        let [low, high, ..] = hasher.finish().to_le_bytes();
        limit * u32::from(u16::from_le_bytes([low, high])) / (u32::from(u16::MAX) + 1)
    }
}

/// The part of a name that is shown.
fn shown(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_SHOWN)]
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Verb {
    Get,
    Create,
    Update,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "get",
            Self::Create => "create",
            Self::Update => "update",
        })
    }
}
