//! The control plane of an instance: a thread and a runtime of its own, from manifests to what the workers serve.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use tidegate_controller::reconcile::{self, Channels, Coalesce};
use tidegate_controller::resolve::{self, ResolverSettings};
use tidegate_controller::source::directory::Directory;
use tidegate_controller::{Translation, Translator, translate};
use tidegate_dataplane::Publisher;
use tidegate_model::{Level, Problem};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, info, warn};

use super::InForce;
use crate::clock;
use crate::readiness::Guard;

/// The control plane's thread. Dropping this ends it.
#[derive(Debug)]
pub(super) struct ControlPlane {
    _stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

/// What the control plane works with.
pub(super) struct ControlInputs {
    pub(super) manifests: Vec<PathBuf>,
    pub(super) translation: translate::Settings,
    pub(super) resolver: ResolverSettings,
    pub(super) publication: Publication,
}

impl ControlPlane {
    pub(super) fn start(inputs: ControlInputs) -> anyhow::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (running, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the control plane's runtime")?;
        std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || {
                // Dropped with the thread, whether it ends or panics.
                let _running: oneshot::Sender<()> = running;
                runtime.block_on(inputs.run(stopped));
                runtime.shutdown_background();
            })
            .context("cannot start the control plane's thread")?;
        Ok(Self { _stop: stop, ended })
    }

    /// Waits for its end, which is not expected while this lives.
    pub(super) async fn ended(&mut self) {
        _ = (&mut self.ended).await;
    }
}

impl ControlInputs {
    async fn run(self, stopped: oneshot::Receiver<()>) {
        let (updates_to, updates) = mpsc::channel(16);
        let (resolutions_to, resolutions) = mpsc::channel(16);
        let (names, wanted) = watch::channel(Default::default());
        let (published, translations) = watch::channel(None);
        let (_settings_to, settings) = watch::channel(self.translation.clone());
        let (referenced, _) = watch::channel(Default::default());
        let translator = Translator::new(self.translation);
        let channels = Channels {
            updates,
            resolutions,
            settings,
            referenced,
            names,
            published,
        };
        tokio::spawn(Directory::new(self.manifests).run(updates_to));
        tokio::spawn(resolve::run(self.resolver, wanted, resolutions_to));
        let publishing = self.publication.run(translations);
        tokio::select! {
            () = reconcile::run(translator, Coalesce::default(), channels) => {
                warn!("the source of manifests ended; the last configuration stays in force");
            }
            () = publishing => {}
            // An error says that the instance was dropped, which is the same wish.
            _ = stopped => debug!("control plane ends"),
        }
    }
}

/// Hands translations to the workers.
pub(super) struct Publication {
    pub(super) publisher: Publisher,
    pub(super) in_force: watch::Sender<Option<InForce>>,
    /// Dropped with the first publication.
    pub(super) first: Option<Guard>,
}

impl Publication {
    async fn run(mut self, mut translations: watch::Receiver<Option<Arc<Translation>>>) {
        loop {
            let translation = translations.borrow_and_update().clone();
            if let Some(translation) = translation {
                self.publish(translation);
            }
            if translations.changed().await.is_err() {
                return;
            }
        }
    }

    fn publish(&mut self, translation: Arc<Translation>) {
        let generation = self.publisher.publish(translation.snapshot.clone());
        log_problems(&self.in_force.borrow(), &translation);
        let routes: usize = translation
            .statuses
            .values()
            .map(|status| status.routes)
            .sum();
        info!(
            generation,
            ingresses = translation.statuses.len(),
            routes,
            upstreams = translation.snapshot.upstreams.len(),
            problems = translation.problems.len(),
            "configuration in force"
        );
        self.in_force.send_replace(Some(InForce {
            generation,
            since: Instant::now(),
            published_at: clock::now(),
            translation,
        }));
        self.first = None;
    }
}

/// Logs problems that were not there before; both lists are sorted.
fn log_problems(before: &Option<InForce>, now: &Translation) {
    let known = before
        .as_ref()
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
