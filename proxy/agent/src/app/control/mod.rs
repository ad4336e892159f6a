//! The control plane of an instance: a thread and a runtime of its own, from objects to what the workers serve.

mod certificates;
mod cluster;
mod desk;
mod manifests;
mod publication;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tidegate_controller::reconcile::{self, Channels, Coalesce};
use tidegate_controller::resolve::{self, ResolverSettings};
use tidegate_controller::source::Update;
use tidegate_controller::translate::{self, Referenced};
use tidegate_controller::{Change, Translation, Translator};
use tidegate_model::Hostname;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, warn};

use super::Origin;

pub(super) use certificates::CertificateInputs;
pub(super) use cluster::ClusterInputs;
pub(crate) use cluster::Shared;
pub(super) use manifests::ManifestInputs;
pub(super) use publication::Publication;

/// Longest wait for the release of the Lease at the end.
const LAYING_DOWN: Duration = Duration::from_secs(3);

/// The control plane's thread. Dropping this ends it.
#[derive(Debug)]
pub(super) struct ControlPlane {
    _stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

/// What the control plane works with.
pub(super) struct ControlInputs {
    pub(super) source: SourceInputs,
    pub(super) translation: watch::Receiver<translate::Settings>,
    pub(super) resolver: watch::Receiver<ResolverSettings>,
    pub(super) certificates: CertificateInputs,
    pub(super) publication: Publication,
}

/// Where objects come from.
pub(super) enum SourceInputs {
    Manifests(Box<ManifestInputs>),
    Cluster(Box<ClusterInputs>),
}

/// What a source works with.
struct SourceChannels {
    updates: mpsc::Sender<Update>,
    referenced: watch::Receiver<Arc<Referenced>>,
    published: watch::Receiver<Option<Arc<Translation>>>,
}

impl ControlPlane {
    /// Starts the thread.
    ///
    /// # Errors
    /// It cannot be started, or what is needed to reach the cluster is missing or wrong.
    pub(super) async fn start(inputs: ControlInputs) -> anyhow::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (running, ended) = oneshot::channel();
        let (connected, outcome) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the control plane's runtime")?;
        std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || {
                // Dropped with the thread, whether it ends or panics.
                let _running: oneshot::Sender<()> = running;
                runtime.block_on(inputs.run(connected, stopped));
                runtime.shutdown_background();
            })
            .context("cannot start the control plane's thread")?;
        let control = Self { _stop: stop, ended };
        outcome
            .await
            .context("the control plane's thread ended as it began")??;
        Ok(control)
    }

    /// Waits until this process leads no more, which it does not long after it has said that it drains.
    pub(super) async fn lay_down(&self, shared: &Shared) {
        let mut is_standing = shared.is_standing.subscribe();
        let laid_down = is_standing.wait_for(|is_standing| !is_standing);
        if tokio::time::timeout(LAYING_DOWN, laid_down).await.is_err() {
            warn!("the Lease could not be released; another process waits until it expires");
        }
    }

    /// Waits for its end, which is not expected while this lives.
    pub(super) async fn ended(&mut self) {
        _ = (&mut self.ended).await;
    }
}

impl ControlInputs {
    async fn run(
        self,
        connected: oneshot::Sender<anyhow::Result<()>>,
        stopped: oneshot::Receiver<()>,
    ) {
        let (updates_to, updates) = mpsc::channel(16);
        let (resolutions_to, resolutions) = mpsc::channel(16);
        let (names, wanted) = watch::channel(BTreeSet::new());
        let (referenced_to, referenced) = watch::channel(Arc::default());
        let (published, translations) = watch::channel(None);
        let mut settings = self.translation;
        let translator = Translator::new(settings.borrow_and_update().clone());
        let channels = Channels {
            updates,
            resolutions,
            settings,
            referenced: referenced_to,
            names,
            published,
        };
        let source = SourceChannels {
            updates: updates_to,
            referenced,
            published: translations.clone(),
        };
        let started = self.source.start(source, self.certificates).await;
        let is_started = started.is_ok();
        if connected.send(started).is_err() || !is_started {
            return;
        }
        tokio::spawn(resolve(self.resolver, wanted, resolutions_to));
        let publishing = self.publication.run(translations);
        tokio::select! {
            () = reconcile::run(translator, Coalesce::default(), channels) => {
                warn!("the source of objects ended; the last configuration stays in force");
            }
            () = publishing => {}
            // An error says that the instance was dropped, which is the same wish.
            _ = stopped => debug!("control plane ends"),
        }
    }
}

/// Resolves the wanted names, from the start again with other name servers; what was resolved stays until then.
async fn resolve(
    mut settings: watch::Receiver<ResolverSettings>,
    wanted: watch::Receiver<BTreeSet<Hostname>>,
    resolutions: mpsc::Sender<Vec<Change>>,
) {
    loop {
        let now = settings.borrow_and_update().clone();
        tokio::select! {
            () = resolve::run(now, wanted.clone(), resolutions.clone()) => return,
            Ok(()) = settings.changed() => debug!("resolver: begins again with other name servers"),
        }
    }
}

impl SourceInputs {
    /// What a configuration that comes from here says about its origin.
    pub(super) fn origin(&self) -> Origin {
        match self {
            Self::Manifests(_) => Origin::Manifests,
            Self::Cluster(_) => Origin::Cluster,
        }
    }

    async fn start(
        self,
        channels: SourceChannels,
        certificates: CertificateInputs,
    ) -> anyhow::Result<()> {
        match self {
            Self::Manifests(inputs) => {
                inputs.start(channels, certificates).await;
                Ok(())
            }
            Self::Cluster(inputs) => inputs.start(channels, certificates).await,
        }
    }
}
