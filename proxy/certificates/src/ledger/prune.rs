//! Forgets what does not count any more.

use tidegate_model::UnixTime;

use super::{DAY, DirectoryEntry, HOUR, Ledger, ORDERS_WINDOW, Seconds, SetEntry, WEEK};

/// How long an entry is kept that says nothing more than that there once was something.
const IDLE: Seconds = 30 * DAY;
/// The most that anything is put off.
const AHEAD: Seconds = 30 * DAY;

impl Ledger {
    /// Forgets what counts no more at any CA, and what nothing has happened to for a month. Moments that only a clock which
    /// was far ahead can have written are taken back, so that they hold nothing up for years. Also lets go of records that could
    /// not be read, once that is safe. To be called before every plan.
    pub fn prune(&mut self, now: UnixTime) {
        self.set_aside(now);
        for directory in self.directories.values_mut() {
            directory.prune(now);
        }
        self.directories
            .retain(|_, directory| *directory != DirectoryEntry::default());
        for entry in self.sets.values_mut() {
            entry.prune(now);
        }
        self.sets.retain(|_, entry| entry.counts(now));
    }
}

impl DirectoryEntry {
    fn prune(&mut self, now: UnixTime) {
        recent(&mut self.orders, now, ORDERS_WINDOW);
        self.closed_until = self
            .closed_until
            .filter(|until| *until > now.0)
            .map(|until| until.min(now.0.saturating_add(WEEK)));
        for moments in self.issued.values_mut() {
            recent(moments, now, WEEK);
        }
        self.issued.retain(|_, moments| !moments.is_empty());
    }
}

impl SetEntry {
    fn prune(&mut self, now: UnixTime) {
        recent(&mut self.issued, now, WEEK);
        recent(&mut self.failed_validations, now, HOUR);
        let past = [
            self.order.as_mut().map(|order| &mut order.begun),
            self.last_failure.as_mut().map(|failure| &mut failure.at),
            self.unwanted_since.as_mut(),
            self.on_demand.as_mut(),
            self.on_demand_since.as_mut(),
        ];
        for moment in past.into_iter().flatten() {
            *moment = (*moment).min(now.0);
        }
        let ahead = now.0.saturating_add(AHEAD);
        let planned = [
            self.retry_at.as_mut(),
            self.renewal.as_mut().map(|renewal| &mut renewal.ask_at),
        ];
        for moment in planned.into_iter().flatten() {
            *moment = (*moment).min(ahead);
        }
    }

    /// Whether there is a reason to keep the entry.
    fn counts(&self, now: UnixTime) -> bool {
        self.order.is_some()
            || !self.issued.is_empty()
            || !self.failed_validations.is_empty()
            // The plan has these removed when their time has come.
            || self.on_demand.is_some()
            || self.unwanted_since.is_some()
            || self.last_touched() > now.0.saturating_sub(IDLE)
    }

    /// The last moment that it speaks of.
    pub(super) fn last_touched(&self) -> Seconds {
        let moments = [
            self.order.as_ref().map(|order| order.begun),
            self.issued.iter().max().copied(),
            self.last_failure.as_ref().map(|failure| failure.at),
            self.retry_at,
            self.renewal.as_ref().map(|renewal| renewal.ask_at),
            self.unwanted_since,
            self.on_demand,
        ];
        moments.into_iter().flatten().max().unwrap_or(Seconds::MIN)
    }
}

/// Drops moments that a window does not reach back to. Those of the future are now: the clock was wrong, and they count.
fn recent(moments: &mut Vec<Seconds>, now: UnixTime, window: Seconds) {
    let since = now.0.saturating_sub(window);
    moments.retain(|moment| *moment > since);
    for moment in moments {
        *moment = (*moment).min(now.0);
    }
}
