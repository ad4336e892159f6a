//! The loop that coalesces changes, translates them and publishes the outcome.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidegate_model::{Hostname, Problem, UnixTime};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::source::{Update, View};
use crate::translate::{Referenced, Settings};
use crate::{Change, Translation, Translator};

/// Longest sleep towards a [recheck](Translation::recheck_at), so that a clock that is set is noticed.
const CLOCK_CHECK: Duration = Duration::from_secs(60);

/// Longest wait for what is newly referred to before a translation is published without it.
const HOLD: Duration = Duration::from_secs(1);

/// How long changes are gathered before they are translated together.
#[derive(Clone, Copy, Debug)]
pub struct Coalesce {
    /// Quiet time that ends the gathering.
    pub quiet: Duration,
    /// Limit of the gathering, however busy it is.
    pub limit: Duration,
}

impl Default for Coalesce {
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(100),
            limit: Duration::from_secs(1),
        }
    }
}

/// The ends of the channels that the loop works on.
#[derive(Debug)]
pub struct Channels {
    /// From the source. Nothing is published before its first update, which is translated at once.
    pub updates: mpsc::Receiver<Update>,
    /// From the resolver.
    pub resolutions: mpsc::Receiver<Vec<Change>>,
    /// New settings of the translation, each in place of those before; it may close.
    pub settings: watch::Receiver<Settings>,
    /// To the source: what is referred to, which it has to hold.
    pub referenced: watch::Sender<Arc<Referenced>>,
    /// To the resolver: the names to resolve.
    pub names: watch::Sender<BTreeSet<Hostname>>,
    /// What is in force; `None` before the first complete view.
    pub published: watch::Sender<Option<Arc<Translation>>>,
}

/// Runs until the source ends.
pub async fn run(mut translator: Translator, coalesce: Coalesce, channels: Channels) {
    let translate = |work: Work, now| {
        if let Some(settings) = work.settings {
            translator.set_settings(settings);
        }
        translator.apply(work.changes, now)
    };
    Reconciler::new(translate, now, coalesce, channels)
        .run()
        .await;
}

/// The system clock.
fn now() -> UnixTime {
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => UnixTime(i64::try_from(since.as_secs()).unwrap_or(i64::MAX)),
        Err(before) => {
            let seconds = i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX);
            UnixTime(-seconds)
        }
    }
}

/// The loop's state. Translation and clock are handed in.
struct Reconciler<T, C> {
    translate: T,
    clock: C,
    coalesce: Coalesce,
    channels: Channels,
    /// What is not translated yet.
    gathered: Work,
    /// What the source says is wrong.
    problems: Vec<Problem>,
    /// What is referred to and wholly known, where the source holds no more than that.
    answered: Option<Arc<Referenced>>,
    recheck_at: Option<UnixTime>,
}

/// What is to be translated together.
#[derive(Debug, Default)]
struct Work {
    changes: Vec<Change>,
    /// New ones, to be in force before the changes.
    settings: Option<Settings>,
}

/// What the loop woke up for.
enum Wake {
    Update(Update),
    Resolved(Vec<Change>),
    Settings(Box<Settings>),
    /// The time is up that was waited for.
    Time,
    SourceEnded,
}

impl<T, C> Reconciler<T, C>
where
    T: FnMut(Work, UnixTime) -> Translation,
    C: Fn() -> UnixTime,
{
    fn new(translate: T, clock: C, coalesce: Coalesce, channels: Channels) -> Self {
        Self {
            translate,
            clock,
            coalesce,
            channels,
            gathered: Work::default(),
            problems: Vec::new(),
            answered: None,
            recheck_at: None,
        }
    }

    async fn run(mut self) {
        loop {
            match self.wake(None).await {
                Wake::Update(update) => match self.take(update) {
                    View::Complete => break,
                    View::Partial => _ = self.translate(),
                },
                Wake::Resolved(changes) => self.gathered.changes.extend(changes),
                Wake::Settings(settings) => self.gathered.settings = Some(*settings),
                Wake::Time => {}
                Wake::SourceEnded => return,
            }
        }
        self.publish().await;
        while self.gather().await {
            self.publish().await;
        }
    }

    /// Waits until there is something to translate, and until what comes with it has come too. False when the source
    /// has ended and nothing is left.
    async fn gather(&mut self) -> bool {
        let first = loop {
            match self.wake(self.recheck_time()).await {
                Wake::Update(update) => _ = self.take(update),
                Wake::Resolved(changes) => self.gathered.changes.extend(changes),
                Wake::Settings(settings) => self.gathered.settings = Some(*settings),
                Wake::Time if self.is_recheck_due() => return true,
                Wake::Time => continue,
                Wake::SourceEnded => return false,
            }
            break Instant::now();
        };
        let limit = first + self.coalesce.limit;
        let mut last = first;
        loop {
            let until = limit.min(last + self.coalesce.quiet);
            match self.wake(Some(until)).await {
                Wake::Update(update) => _ = self.take(update),
                Wake::Resolved(changes) => self.gathered.changes.extend(changes),
                Wake::Settings(settings) => self.gathered.settings = Some(*settings),
                Wake::Time | Wake::SourceEnded => return true,
            }
            last = Instant::now();
            if last >= limit {
                return true;
            }
        }
    }

    async fn wake(&mut self, until: Option<Instant>) -> Wake {
        let channels = &mut self.channels;
        tokio::select! {
            update = channels.updates.recv() => update.map_or(Wake::SourceEnded, Wake::Update),
            Some(changes) = channels.resolutions.recv() => Wake::Resolved(changes),
            Ok(()) = channels.settings.changed() => {
                Wake::Settings(Box::new(channels.settings.borrow_and_update().clone()))
            }
            () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => Wake::Time,
        }
    }

    fn take(&mut self, update: Update) -> View {
        self.gathered.changes.extend(update.changes);
        self.problems = update.problems;
        self.answered = update.answered;
        update.view
    }

    fn is_recheck_due(&self) -> bool {
        self.recheck_at.is_some_and(|at| at <= (self.clock)())
    }

    /// When to look at the clock again.
    fn recheck_time(&self) -> Option<Instant> {
        let UnixTime(at) = self.recheck_at?;
        let UnixTime(now) = (self.clock)();
        let left = Duration::from_secs(u64::try_from(at.saturating_sub(now)).unwrap_or_default());
        Some(Instant::now() + left.min(CLOCK_CHECK))
    }

    /// Whether the source has told all that a translation refers to.
    fn is_answered(&self, translation: &Translation) -> bool {
        let answered = self.answered.as_ref();
        answered.is_none_or(|answered| Arc::ptr_eq(answered, &translation.referenced))
    }

    /// Translates what is gathered, and tells source and resolver what they are to hold.
    fn translate(&mut self) -> Translation {
        let work = std::mem::take(&mut self.gathered);
        let now = (self.clock)();
        let translation = (self.translate)(work, now);
        // An edge that is not ahead would be rechecked without end.
        self.recheck_at = translation.recheck_at.filter(|at| *at > now);
        self.channels.names.send_if_modified(|names| {
            let differs = *names != translation.names;
            names.clone_from(&translation.names);
            differs
        });
        self.channels.referenced.send_if_modified(|referenced| {
            let differs = !Arc::ptr_eq(referenced, &translation.referenced);
            referenced.clone_from(&translation.referenced);
            differs
        });
        translation
    }

    async fn publish(&mut self) {
        let mut translation = self.translate();
        let limit = Instant::now() + HOLD;
        // A Service that nothing has referred to until now would be served without its endpoints for a moment.
        while !self.is_answered(&translation) {
            match self.wake(Some(limit)).await {
                Wake::Update(update) => _ = self.take(update),
                Wake::Resolved(changes) => self.gathered.changes.extend(changes),
                Wake::Settings(settings) => self.gathered.settings = Some(*settings),
                Wake::Time | Wake::SourceEnded => break,
            }
            translation = self.translate();
        }
        translation.problems.extend(self.problems.iter().cloned());
        translation.problems.sort();
        translation.problems.dedup();
        self.channels
            .published
            .send_replace(Some(Arc::new(translation)));
    }
}

#[cfg(test)]
mod tests;
