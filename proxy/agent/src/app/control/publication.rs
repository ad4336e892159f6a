//! From a translation to what the workers serve: written to the cache first, then published.

use std::sync::Arc;
use std::time::Instant;

use tidegate_controller::Translation;
use tidegate_dataplane::Publisher;
use tidegate_model::{Level, Problem, Snapshot};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::app::{InForce, Origin};
use crate::cache::{Cache, Saved};
use crate::clock;
use crate::readiness::Guard;

/// Hands translations to the workers.
pub(crate) struct Publication {
    pub(crate) publisher: Publisher,
    pub(crate) in_force: watch::Sender<Option<InForce>>,
    /// Where a translation's objects come from.
    pub(crate) origin: Origin,
    /// What is wrong with the settings, and left out of them.
    pub(crate) settings: watch::Receiver<Vec<Problem>>,
    /// What is served until the first translation.
    pub(crate) saved: Option<(Saved, Origin)>,
    /// Where snapshots are kept for the next start.
    pub(crate) cache: Option<Cache>,
    /// Dropped with the first publication.
    pub(crate) first: Option<Guard>,
}

impl Publication {
    pub(super) async fn run(mut self, mut translations: watch::Receiver<Option<Arc<Translation>>>) {
        if let Some((saved, origin)) = self.saved.take() {
            self.publish_saved(saved, origin);
        }
        loop {
            let translation = translations.borrow_and_update().clone();
            if let Some(translation) = translation {
                self.persist(&translation.snapshot).await;
                let translation = self.with_settings(translation);
                self.publish(&translation);
            }
            if translations.changed().await.is_err() {
                return;
            }
        }
    }

    /// With the problems of the settings beside those of objects.
    fn with_settings(&self, translation: Arc<Translation>) -> Arc<Translation> {
        let problems = self.settings.borrow();
        if problems.is_empty() {
            return translation;
        }
        let mut translation = Translation::clone(&translation);
        translation.problems.extend(problems.iter().cloned());
        translation.problems.sort();
        translation.problems.dedup();
        Arc::new(translation)
    }

    /// Puts the last good snapshot of an earlier process in force.
    fn publish_saved(&mut self, saved: Saved, origin: Origin) {
        let saved_at = saved.saved_at;
        let age = clock::now().0.saturating_sub(saved_at.0).max(0);
        info!(
            entries = saved.entries,
            version = saved.writer,
            "last good configuration in force until the source is in view: from the {origin}, {age} s old"
        );
        let translation = Translation {
            snapshot: saved.snapshot,
            ..Translation::default()
        };
        self.put_in_force(Arc::new(translation), origin, saved_at);
    }

    /// A crash must never serve something older than what was served before it.
    async fn persist(&self, snapshot: &Snapshot) {
        if let Some(cache) = &self.cache {
            // Whatever came of it, the cache tells by its standing; serving goes on.
            cache.persist(snapshot).await;
        }
    }

    fn publish(&mut self, translation: &Arc<Translation>) {
        log_problems(self.in_force.borrow().as_ref(), translation);
        let routes: usize = translation
            .statuses
            .values()
            .map(|status| status.routes)
            .sum();
        let generation = self.put_in_force(translation.clone(), self.origin, clock::now());
        info!(
            generation,
            ingresses = translation.statuses.len(),
            routes,
            upstreams = translation.snapshot.upstreams.len(),
            problems = translation.problems.len(),
            "configuration in force"
        );
    }

    fn put_in_force(
        &mut self,
        translation: Arc<Translation>,
        origin: Origin,
        made_at: tidegate_model::UnixTime,
    ) -> u64 {
        let generation = self.publisher.publish(translation.snapshot.clone());
        self.in_force.send_replace(Some(InForce {
            generation,
            since: Instant::now(),
            published_at: clock::now(),
            made_at,
            origin,
            translation,
        }));
        self.first = None;
        generation
    }
}

/// Logs problems that were not there before; both lists are sorted.
fn log_problems(before: Option<&InForce>, now: &Translation) {
    let known = before
        .map(|before| before.translation.problems.as_slice())
        .unwrap_or_default();
    for problem in &now.problems {
        if known.binary_search(problem).is_err() {
            log_problem(problem);
        }
    }
}

fn log_problem(problem: &Problem) {
    let Problem {
        object,
        field,
        reason,
        message,
        ..
    } = problem;
    match problem.level {
        Level::Info => info!(%object, field, %reason, "{message}"),
        Level::Error | Level::Warning => warn!(%object, field, %reason, "{message}"),
    }
}
