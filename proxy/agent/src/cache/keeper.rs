//! The cache's thread: opens the file, reads it once, writes what is published, lets go of it and takes it again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_model::Snapshot;
use tracing::{info, warn};

use super::entry::changes;
use super::opening::{Open, Opening, Trouble, unwound};
use super::place::Place;
use super::shared::{Ending, Order, Shared, Wish, is_copy};
use super::{CacheSettings, CacheState, Saved};
use crate::clock;

/// The first pause after a failure, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How often a file that another process has is asked for while it is about to let go.
const LOOK: Duration = Duration::from_millis(25);
/// How often when that may last.
const PATIENT_LOOK: Duration = Duration::from_secs(2);
/// How long a process that is started, or has just been told that the file is its own, expects another one to let go.
const HOPE_AT_START: Duration = Duration::from_millis(500);
const HOPE_OF_CLAIM: Duration = Duration::from_secs(10);

/// Keeps the file.
pub(super) struct Keeper {
    opening: Opening,
    shared: Arc<Shared>,
    open: Option<Open>,
    /// When to try again to open the file, while it is to be held and is not.
    again: Option<Instant>,
    pause: Duration,
    /// Until when a file that is locked is expected to be let go.
    hope: Instant,
}

impl Keeper {
    /// Starts the thread. Where there can be none, everything is answered as if the disk refused.
    pub(super) fn start(settings: CacheSettings, shared: &Arc<Shared>) {
        let ending = Ending(shared.clone());
        let keeper = Self {
            opening: Opening::new(settings),
            shared: shared.clone(),
            open: None,
            again: Some(Instant::now()),
            pause: PAUSES.0,
            hope: Instant::now() + HOPE_AT_START,
        };
        let run = move || {
            let _ending = ending;
            keeper.run();
        };
        let thread = std::thread::Builder::new().name("cache".to_owned());
        if let Err(error) = thread.spawn(run) {
            warn!("cache: no thread for it ({error}): nothing is saved");
            shared.stand(|standing| {
                standing.state = CacheState::Failing;
                standing.last_error = Some(format!("no thread: {error}"));
            });
        }
    }

    fn run(mut self) {
        let mut last = (0, 0);
        loop {
            let order = self.shared.next(last, self.again);
            let is_told = order.wishes != last.0;
            last = (order.wishes, order.number);
            match order.wish {
                Wish::Hold => {
                    if is_told {
                        self.hope = Instant::now() + HOPE_OF_CLAIM;
                        self.again = Some(Instant::now());
                    }
                    self.hold(&order);
                }
                Wish::Release => self.release(),
                Wish::End => return self.release(),
            }
            let durable = self.is_written(&order);
            let is_held = self.open.is_some();
            self.shared.advance(|progress| {
                progress.answered = order.number;
                progress.wishes = order.wishes;
                progress.is_held = is_held;
                if durable {
                    progress.durable = order.number;
                }
            });
        }
    }

    /// Whether the file holds the order's snapshot.
    fn is_written(&self, order: &Order) -> bool {
        let Some(snapshot) = &order.snapshot else {
            return true;
        };
        let written = self.open.as_ref().and_then(|open| open.written.as_ref());
        written.is_some_and(|written| is_copy(written, snapshot))
    }

    fn hold(&mut self, order: &Order) {
        let due = self.again.is_none_or(|again| again <= Instant::now());
        if self.open.is_none() && due {
            self.take();
        }
        if let Some(open) = &mut self.open
            && let Some(snapshot) = &order.snapshot
        {
            match unwound(|| write(open, snapshot, &self.opening.place, &self.shared)) {
                Ok(()) => self.pause = PAUSES.0,
                Err(trouble) => {
                    // What redb has in memory may not be what is on disk any more: it reads all again.
                    self.close();
                    self.fail(trouble);
                }
            }
        }
    }

    /// Opens the file and reads it, and sets it aside if it is of no use.
    fn take(&mut self) {
        let taken = match unwound(|| self.opening.read()) {
            Err(Trouble::Useless(why)) => self
                .set_aside(&why)
                .and_then(|()| unwound(|| self.opening.read())),
            taken => taken,
        };
        match taken {
            Ok((open, saved)) => {
                if saved.is_some() {
                    let load = open.load;
                    self.shared.stand(|standing| standing.load = Some(load));
                }
                self.open = Some(open);
                self.again = None;
                self.begin_writing(saved);
            }
            Err(trouble) => self.fail(trouble),
        }
    }

    fn set_aside(&self, why: &str) -> Result<(), Trouble> {
        let file = self.opening.place.path().display();
        let aside = self.opening.place.set_aside().map_err(|error| {
            Trouble::Lasting(format!("{why}; and it cannot be set aside: {error}"))
        })?;
        warn!(
            "cache: {file} is of no use: {why}; it is set aside as {} and a new one is begun",
            aside.display()
        );
        self.shared.stand(|standing| {
            standing.set_aside += 1;
            standing.last_error = Some(why.to_owned());
        });
        Ok(())
    }

    fn begin_writing(&self, saved: Option<Saved>) {
        let before = self.enter(CacheState::Writing, None);
        if !matches!(before, CacheState::Starting | CacheState::Released) {
            info!(
                "cache: {} is written again",
                self.opening.place.path().display()
            );
        }
        let length = self.opening.place.length();
        self.shared.stand(|standing| standing.file_bytes = length);
        self.was_read(saved);
    }

    /// Hands over what was read, if this was the first time.
    fn was_read(&self, saved: Option<Saved>) {
        if let Some(saved) = saved {
            self.shared.stand(|standing| {
                standing.saved_at = Some(saved.saved_at);
                standing.entries = saved.entries;
            });
            if !self.shared.progress().is_read {
                self.shared.leave(saved);
            }
        }
        self.shared.advance(|progress| progress.is_read = true);
    }

    /// Notes what stands in the way, says so if it is new, and plans the next attempt.
    fn fail(&mut self, trouble: Trouble) {
        let file = self.opening.place.path().display().to_string();
        let now = Instant::now();
        match trouble {
            Trouble::Locked if now < self.hope => {
                self.again = Some(now + LOOK);
            }
            Trouble::Locked => {
                self.again = Some(now + PATIENT_LOOK);
                if self.enter(CacheState::Elsewhere, None) != CacheState::Elsewhere {
                    info!("cache: another process has {file}; this one writes when it is free");
                }
                self.was_read(None);
            }
            Trouble::Lasting(why) | Trouble::Useless(why) => {
                let saved = match self.shared.progress().is_read {
                    true => None,
                    false => self.opening.read_copy(),
                };
                let state = match saved {
                    Some(_) => CacheState::ReadOnly,
                    None => CacheState::Failing,
                };
                self.again = Some(now + self.pause);
                self.pause = (self.pause * 2).min(PAUSES.1);
                self.shared.stand(|standing| standing.failures += 1);
                if !self.is_failing() {
                    warn!(
                        "cache: cannot write {file}: {why}; what is served goes on, but a restart would not find what \
                         changes from now on; trying again from time to time"
                    );
                }
                match self.is_failing() {
                    // It could be read, and still cannot be written.
                    true => self
                        .shared
                        .stand(|standing| standing.last_error = Some(why)),
                    false => _ = self.enter(state, Some(why)),
                }
                self.was_read(saved);
            }
        }
    }

    fn is_failing(&self) -> bool {
        let state = self.shared.state();
        matches!(state, CacheState::Failing | CacheState::ReadOnly)
    }

    /// Changes the state and returns the one before.
    fn enter(&self, state: CacheState, error: Option<String>) -> CacheState {
        let before = self.shared.state();
        self.shared.stand(|standing| {
            standing.state = state;
            standing.last_error = error.or(standing.last_error.take());
        });
        before
    }

    fn release(&mut self) {
        self.close();
        self.again = None;
        self.enter(CacheState::Released, None);
        self.shared.advance(|progress| progress.is_read = true);
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            let closed = unwound(|| open.file.close().map_err(Trouble::from));
            if let Err(trouble) = closed {
                // The next one to open it repairs it.
                tracing::debug!("cache: not closed cleanly: {trouble:?}");
            }
        }
    }
}

/// Writes what differs between a snapshot and the file.
fn write(
    open: &mut Open,
    snapshot: &Snapshot,
    place: &Place,
    shared: &Shared,
) -> Result<(), Trouble> {
    if open
        .written
        .as_ref()
        .is_some_and(|written| is_copy(written, snapshot))
    {
        return Ok(());
    }
    let changes = changes(open.written.as_ref(), snapshot);
    if !changes.is_empty() {
        let begin = Instant::now();
        let mut meta = open.meta.clone();
        meta.saved_at = clock::now();
        meta.writer = env!("CARGO_PKG_VERSION").to_owned();
        meta.commits += 1;
        let written = open.file.commit(&meta, &changes, open.seal.as_ref())?;
        let length = place.length();
        shared.stand(|standing| {
            standing.saved_at = Some(meta.saved_at);
            standing.entries = written.entries;
            standing.file_bytes = length;
            standing.commits += 1;
            standing.written_bytes += written.bytes;
            standing.written_entries += changes.len() as u64;
            standing.last_commit = Some(begin.elapsed());
        });
        open.meta = meta;
    }
    open.written = Some(snapshot.clone());
    Ok(())
}
