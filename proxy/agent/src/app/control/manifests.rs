//! The parts of the control plane that know no cluster: manifests, and a file for what certificates need.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::FutureExt;
use tidegate_certificates::demand::{self, Requests};
use tidegate_certificates::{Record, RecordKind, Store};
use tidegate_controller::source::directory::Directory;
use tidegate_model::CertificateRequest;
use tokio::sync::{mpsc, watch};

use super::SourceChannels;
use super::certificates::{CertificateInputs, Certificates, this_machine};
use crate::app::Phase;
use crate::certificates::{Local, LocalSettings, LocalTerm, Manifests, beside};
use crate::clock;

/// What is said when another process orders.
const ELSEWHERE: &str =
    "another process of the instance has the ports, or what is kept cannot be used; see its log";

/// What is needed to serve folders and files.
pub(crate) struct ManifestInputs {
    pub(crate) paths: Vec<PathBuf>,
    /// Where accounts, orders and certificates are kept.
    pub(crate) local: LocalSettings,
    /// Only a process that has the ports orders certificates.
    pub(crate) phase: watch::Receiver<Phase>,
}

impl ManifestInputs {
    pub(super) async fn start(self, channels: SourceChannels, certificates: CertificateInputs) {
        let secrets = Manifests::default();
        let (kept_to, kept) = mpsc::unbounded_channel();
        let local = Local::open(self.local, secrets.clone(), kept_to).await;
        let (updates_to, updates) = mpsc::channel(16);
        tokio::spawn(Directory::new(self.paths).run(updates_to));
        tokio::spawn(beside(updates, kept, secrets, channels.updates));
        let listeners = certificates.listeners.clone();
        let mut certificates = Certificates::new(certificates, channels.published, move || {
            this_machine(&listeners)
        });
        let (terms, term) = watch::channel(None);
        certificates.demand(Wishes(term.clone()));
        let reading = term.clone();
        certificates.answer(
            Arc::new(move || ledger(reading.borrow().clone()).boxed()),
            Wishes(term),
            Vec::new,
        );
        tokio::spawn(keep(certificates, local, self.phase, terms));
    }
}

/// What is remembered of orders, by the process that may order.
async fn ledger(term: Option<LocalTerm>) -> Result<Vec<Record>, String> {
    let term = term.ok_or(ELSEWHERE)?;
    let records = term.load(RecordKind::Ledger).await;
    records.map_err(|error| error.to_string())
}

/// Leaves the wishes of clients in the store, while this process orders.
struct Wishes(watch::Receiver<Option<LocalTerm>>);

impl Requests for Wishes {
    async fn request(&self, request: &CertificateRequest) -> Result<(), String> {
        let term = self.0.borrow().clone();
        let term = term.ok_or(ELSEWHERE)?;
        let asked = demand::leave(&term, request, clock::now()).await;
        asked.map_err(|error| error.to_string())
    }
}

/// Keeps certificates whenever this process has the ports.
async fn keep(
    mut certificates: Certificates,
    local: Local,
    mut phase: watch::Receiver<Phase>,
    terms: watch::Sender<Option<LocalTerm>>,
) {
    loop {
        let serving = phase.wait_for(|phase| *phase == Phase::Serving);
        if serving.await.is_err() {
            return;
        }
        let keeping = async {
            let term = local.lead().await;
            terms.send_replace(Some(term.clone()));
            certificates.keep(term).await;
        };
        tokio::select! {
            () = keeping => {}
            // An error says that the instance is gone, which ends the term, too.
            _ = phase.wait_for(|phase| *phase != Phase::Serving) => {}
        }
        terms.send_replace(None);
        local.release().await;
    }
}
