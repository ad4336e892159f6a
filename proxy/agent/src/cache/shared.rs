//! What the cache's thread and those who wait for it share.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidegate_model::{Snapshot, UnixTime};
use tokio::sync::watch;
use tracing::{info, warn};

use super::{CacheStanding, CacheState, PATIENCE, Saved};
use crate::clock;

/// What the file is to be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// This process.
    Hold,
    /// Another one.
    Release,
    /// Nobody: the thread ends.
    End,
}

/// How far the thread has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Whether what the file holds has been read, or will not be.
    pub(super) is_read: bool,
    /// The newest snapshot that was written or that there is no hope for now, by number.
    pub(super) answered: u64,
    /// The newest one on disk.
    pub(super) durable: u64,
    /// Whether the file is open.
    pub(super) is_held: bool,
    /// Wishes that were followed, as far as they could be.
    pub(super) wishes: u64,
}

/// What is to be done.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) wish: Wish,
    /// Counts changes of wishes, so that a repeated one is noticed.
    pub(super) wishes: u64,
    /// The newest snapshot, and its number; 0 before the first.
    pub(super) snapshot: Option<Snapshot>,
    pub(super) number: u64,
}

#[derive(Debug)]
struct Desk {
    wish: Wish,
    wishes: u64,
    /// The newest snapshot and when it came.
    newest: Option<(Snapshot, UnixTime)>,
    number: u64,
    saved: Option<Saved>,
    /// Since when the thread has been late.
    late: Option<Instant>,
    standing: CacheStanding,
}

/// The desk between them.
pub(super) struct Shared {
    desk: Mutex<Desk>,
    bell: Condvar,
    progress: watch::Sender<Progress>,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            desk: Mutex::new(Desk {
                wish: Wish::Hold,
                wishes: 0,
                newest: None,
                number: 0,
                saved: None,
                late: None,
                standing: CacheStanding::default(),
            }),
            bell: Condvar::new(),
            progress: watch::Sender::new(Progress::default()),
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a snapshot for the thread, in place of one that it has not begun, and returns its number.
    pub(super) fn offer(&self, snapshot: &Snapshot) -> u64 {
        let mut desk = self.desk();
        desk.number += 1;
        let known = desk.newest.as_ref();
        let known = known.filter(|(newest, _)| is_copy(newest, snapshot));
        let time = known.map_or_else(clock::now, |(_, time)| *time);
        desk.newest = Some((snapshot.clone(), time));
        // Nobody asks for what is older.
        desk.saved = None;
        self.bell.notify_one();
        desk.number
    }

    /// Says what the file is to be for, and returns the numbers of this wish and of the newest snapshot.
    pub(super) fn wish(&self, wish: Wish) -> (u64, u64) {
        let mut desk = self.desk();
        desk.wish = wish;
        desk.wishes += 1;
        self.bell.notify_one();
        (desk.wishes, desk.number)
    }

    /// Takes a snapshot that was saved for the newest, if there is none yet.
    pub(super) fn adopt(&self, saved: &Saved) {
        let newest = || (saved.snapshot.clone(), saved.saved_at);
        self.desk().newest.get_or_insert_with(newest);
    }

    /// The newest snapshot, written or not, and when it came.
    pub(super) fn newest(&self) -> Option<(Snapshot, UnixTime)> {
        self.desk().newest.clone()
    }

    /// What was read, the first time that it is asked for.
    pub(super) fn take_saved(&self) -> Option<Saved> {
        self.desk().saved.take()
    }

    /// Waits until the thread has come so far; `false` when it has not in that time, or has ended.
    pub(super) async fn progressed(
        &self,
        patience: Duration,
        far: impl Fn(&Progress) -> bool,
    ) -> bool {
        let mut progress = self.progress.subscribe();
        let reached = tokio::time::timeout(patience, progress.wait_for(far)).await;
        matches!(reached, Ok(Ok(_)))
    }

    pub(super) fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Whether the thread was late last time and has not moved since.
    pub(super) fn is_late(&self) -> bool {
        self.desk().late.is_some()
    }

    /// Notes that the thread does not move.
    pub(super) fn note_late(&self) {
        let mut desk = self.desk();
        if desk.late.is_none() {
            desk.late = Some(Instant::now());
            warn!(
                "cache: the disk does not answer within {PATIENCE:?}; what is served goes on, but a restart would not \
                 find it"
            );
        }
    }

    pub(super) fn standing(&self) -> CacheStanding {
        let desk = self.desk();
        let mut standing = desk.standing.clone();
        standing.is_behind = desk.number > self.progress().durable;
        if let Some(since) = desk.late {
            standing.state = CacheState::Hanging;
            let waited = since.elapsed() + PATIENCE;
            standing.last_error = Some(format!("the disk has not answered for {waited:.0?}"));
        }
        standing
    }
}

/// The thread's side.
impl Shared {
    /// Waits for an order other than the last one, or for the time to try again.
    pub(super) fn next(&self, last: (u64, u64), again: Option<Instant>) -> Order {
        let mut desk = self.desk();
        loop {
            let left = again.map(|again| again.saturating_duration_since(Instant::now()));
            if (desk.wishes, desk.number) != last || left == Some(Duration::ZERO) {
                return Order {
                    wish: desk.wish,
                    wishes: desk.wishes,
                    snapshot: desk.newest.as_ref().map(|(snapshot, _)| snapshot.clone()),
                    number: desk.number,
                };
            }
            desk = match left {
                None => self.bell.wait(desk).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    let waited = self.bell.wait_timeout(desk, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// What the thread said last.
    pub(super) fn state(&self) -> CacheState {
        self.desk().standing.state
    }

    /// Leaves what was read.
    pub(super) fn leave(&self, saved: Saved) {
        self.adopt(&saved);
        self.desk().saved = Some(saved);
    }

    /// Changes how the cache stands.
    pub(super) fn stand(&self, change: impl FnOnce(&mut CacheStanding)) {
        change(&mut self.desk().standing);
    }

    /// Says how far the thread has come.
    pub(super) fn advance(&self, change: impl FnOnce(&mut Progress)) {
        self.progress.send_modify(change);
        let late = self.desk().late.take();
        if let Some(since) = late {
            info!(
                "cache: the disk answers again, after {:.1?}",
                since.elapsed() + PATIENCE
            );
        }
    }
}

/// Whether two snapshots share everything.
pub(super) fn is_copy(one: &Snapshot, other: &Snapshot) -> bool {
    Arc::ptr_eq(&one.routes, &other.routes)
        && Arc::ptr_eq(&one.upstreams, &other.upstreams)
        && Arc::ptr_eq(&one.certificates, &other.certificates)
        && Arc::ptr_eq(&one.policy, &other.policy)
        && Arc::ptr_eq(&one.challenges, &other.challenges)
        && Arc::ptr_eq(&one.tickets, &other.tickets)
}

/// Says that nothing more is to be expected, when the thread ends however it ends.
pub(super) struct Ending(pub(super) Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.advance(|progress| {
            progress.is_read = true;
            progress.answered = u64::MAX;
            progress.is_held = false;
            progress.wishes = u64::MAX;
        });
    }
}
