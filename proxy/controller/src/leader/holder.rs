//! The holder: renews the Lease while that succeeds, and gives it up at the end.

use std::fmt;
use std::pin::Pin;

use futures_util::{Stream, StreamExt};
use tokio::sync::watch;
use tracing::{info, warn};

use super::clock::{Moment, before, sleep_until};
use super::elector::{Elector, Sight, Told, Verb, Won};
use super::lease::Unwritten;
use super::record::Record;
use super::term::{Holding, Leadership};

/// How a term ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// No renewal succeeded in time.
    Expired,
    /// The Lease is in other hands, or gone.
    Taken,
}

impl Elector {
    /// Leads until the term ends.
    pub(super) async fn lead(
        &mut self,
        mut watch: Pin<&mut impl Stream<Item = Told>>,
        won: Won,
        leadership: &watch::Sender<Option<Leadership>>,
    ) {
        let mut until = won.asked_at.after(self.timing.deadline);
        if Moment::now() < until {
            let holding = Holding::begin(leadership, until);
            info!(lease = %self.lease, identity = self.identity, "this process leads: it writes statuses and Events");
            self.standing.update(|facts| {
                facts.is_leader = true;
                facts.terms += 1;
            });
            self.show_holder(Some(won.found.record()));
            let end = self.hold(watch.as_mut(), won, &holding, &mut until).await;
            drop(holding);
            warn!(lease = %self.lease, identity = self.identity, "{end}; this process does not lead any more");
            self.standing.update(|facts| {
                facts.is_leader = false;
                facts.lost += 1;
            });
        }
        // What was seen before the term is old.
        self.seen = Sight::Nothing;
        let wait = self.timing.retry + self.draw(self.timing.retry);
        self.attempt_at = Some(Moment::now().after(wait));
    }

    /// Renews the Lease as long as that succeeds.
    async fn hold(
        &mut self,
        mut watch: Pin<&mut impl Stream<Item = Told>>,
        won: Won,
        holding: &Holding<'_>,
        until: &mut Moment,
    ) -> End {
        let Won {
            mut found,
            mut asked_at,
        } = won;
        let mut renew_at = asked_at.after(self.timing.renew);
        loop {
            tokio::select! {
                Some(told) = watch.next() => {
                    if is_in_other_hands(&told, found.record()) {
                        // It may be old; a renewal shows.
                        renew_at = renew_at.min(asked_at.after(self.timing.retry));
                    }
                    continue;
                }
                () = sleep_until(Some(renew_at.min(*until))) => {}
            }
            asked_at = Moment::now();
            let limit = asked_at.after(self.timing.request).min(*until);
            let renewal = self.api.renew(&found, self.timing.duration);
            match before(limit, renewal).await {
                Some(Ok(renewed)) => {
                    let next = asked_at.after(self.timing.deadline);
                    if holding.prolong(next).is_err() {
                        return End::Expired;
                    }
                    self.recover();
                    (found, *until) = (renewed, next);
                    renew_at = asked_at.after(self.timing.renew);
                }
                Some(Err(Unwritten::Gone)) => return End::Taken,
                Some(Err(Unwritten::Conflict)) => {
                    renew_at = Moment::now().after(self.timing.retry);
                    let limit = Moment::now().after(self.timing.request).min(*until);
                    match before(limit, self.api.look()).await {
                        // A renewal that was given up came through after all, or the Lease was edited.
                        Some(Ok(Some(now))) if now.record().is_same_term(found.record()) => {
                            found = now;
                            renew_at = Moment::now().after(self.timing.jitter);
                        }
                        Some(Ok(_)) => return End::Taken,
                        Some(Err(error)) => self.fail(Verb::Get, Some(&error)),
                        None => self.fail(Verb::Get, None),
                    }
                }
                Some(Err(Unwritten::Failed(error))) => {
                    self.fail(Verb::Update, Some(&error));
                    renew_at = Moment::now().after(self.timing.retry);
                }
                None => {
                    if Moment::now() < *until {
                        self.fail(Verb::Update, None);
                    }
                    // It has waited long enough.
                    renew_at = Moment::now().after(self.timing.jitter);
                }
            }
            if Moment::now() >= *until {
                return End::Expired;
            }
        }
    }

    /// Gives the Lease up if it is ours, so that others need not wait.
    pub(super) async fn release(&mut self) {
        if !self.may_hold {
            return;
        }
        let until = Moment::now().after(self.timing.release);
        let outcome = before(until, async {
            loop {
                let found = match self.api.look().await {
                    Ok(Some(found)) if found.record().holder() == self.identity => found,
                    Ok(_) => return Ok(()),
                    Err(error) => return Err(error),
                };
                match self.api.release(&found).await {
                    Ok(_) | Err(Unwritten::Gone) => return Ok(()),
                    Err(Unwritten::Conflict) => {}
                    Err(Unwritten::Failed(error)) => return Err(error),
                }
            }
        })
        .await;
        let wait = self.timing.duration.as_secs();
        match outcome {
            Some(Ok(())) => info!(lease = %self.lease, "the Lease is released"),
            Some(Err(error)) => {
                warn!(lease = %self.lease, %error, "the Lease could not be released; another agent leads after {wait} s");
            }
            None => {
                warn!(lease = %self.lease, "the Lease could not be released in time; another agent leads after {wait} s");
            }
        }
    }
}

fn is_in_other_hands(told: &Told, ours: &Record) -> bool {
    match told {
        Ok(Some(found)) => !found.record().is_same_term(ours),
        Ok(None) => true,
        Err(_) => false,
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "the Lease could not be renewed in time",
            Self::Taken => "the Lease is in other hands",
        })
    }
}
