//! Certificates: on every node the wishes of its clients, in the process that leads the keeper of all.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, OnceLock};

use futures_util::FutureExt;
use tidegate_certificates::demand::{self, Requests};
use tidegate_certificates::keeper::{self, Timing};
use tidegate_certificates::proof::{Node, Ports};
use tidegate_certificates::report::Report;
use tidegate_certificates::{CertificateSettings, Clock, Store, rehearse};
use tidegate_controller::Translation;
use tidegate_model::{Hostname, Issuance, Problem};
use tokio::sync::{mpsc, watch};

use super::desk::{Desk, Ledgers, Rehearse};
use crate::certs::CertsPages;

/// What certificates are kept by.
pub(crate) struct CertificateInputs {
    pub(crate) settings: watch::Receiver<Arc<CertificateSettings>>,
    /// Names that clients asked for, which have no certificate.
    pub(crate) names: mpsc::Receiver<Hostname>,
    /// What names of records and Secrets begin with.
    pub(crate) lease_name: String,
    /// Where records are, and certificates that no Ingress names a Secret for.
    pub(crate) own_namespace: String,
    /// The addresses that this process listens at.
    pub(crate) listeners: BTreeSet<IpAddr>,
    /// The ports at which every node takes requests.
    pub(crate) ports: Ports,
    pub(crate) report: watch::Sender<Arc<Report>>,
    /// Where the one is put who answers about certificates.
    pub(crate) desk: Arc<OnceLock<Arc<dyn CertsPages>>>,
}

/// Certificates, with what follows the configuration for them.
pub(super) struct Certificates {
    names: mpsc::Receiver<Hostname>,
    published: watch::Receiver<Option<Arc<Translation>>>,
    keeper: keeper::Inputs,
    /// Can order at staging directories, while this process leads.
    rehearse: watch::Sender<Option<Rehearse>>,
    desk: Arc<OnceLock<Arc<dyn CertsPages>>>,
}

impl Certificates {
    /// Follows what is published from here on.
    pub(super) fn new(
        inputs: CertificateInputs,
        published: watch::Receiver<Option<Arc<Translation>>>,
        nodes: impl Fn() -> Vec<Node> + Send + Sync + 'static,
    ) -> Self {
        Self {
            names: inputs.names,
            published: published.clone(),
            rehearse: watch::Sender::new(None),
            desk: inputs.desk,
            keeper: keeper::Inputs {
                issuance: issuance(published),
                settings: inputs.settings,
                nodes: Arc::new(nodes),
                ports: inputs.ports,
                instance: inputs.lease_name,
                own_namespace: inputs.own_namespace,
                clock: Clock::system(),
                report: inputs.report,
                timing: Timing::default(),
            },
        }
    }

    /// Takes the wishes of clients, until the instance ends.
    pub(super) fn demand(&mut self, requests: impl Requests) {
        let (_, none) = mpsc::channel(1);
        tokio::spawn(demand::run(demand::Inputs {
            names: std::mem::replace(&mut self.names, none),
            settings: self.keeper.settings.clone(),
            issuance: self.keeper.issuance.clone(),
            requests,
        }));
    }

    /// Problems with certificates, as they come and go.
    pub(super) fn problems(&self) -> watch::Receiver<Arc<Vec<Problem>>> {
        let (sender, problems) = watch::channel(Arc::default());
        let mut report = self.keeper.report.subscribe();
        tokio::spawn(async move {
            while report.changed().await.is_ok() {
                let now = report.borrow_and_update().problems.clone();
                sender.send_if_modified(|known| {
                    let differs = **known != now;
                    *known = Arc::new(now);
                    differs
                });
            }
        });
        problems
    }

    /// Keeps all certificates of the instance for one term, which the store knows the end of, as soon as it is known what
    /// is wished for.
    pub(super) async fn keep(&mut self, store: impl Store + Clone) {
        let known = self.published.wait_for(Option::is_some);
        tokio::select! {
            // An error says that the instance is gone.
            Ok(_) = known => {}
            () = store.over() => return,
        }
        self.rehearse.send_replace(Some(self.rehearsals(&store)));
        keeper::run(store, &self.keeper).await;
        self.rehearse.send_replace(None);
        self.keeper.report.send_modify(|report| {
            Arc::make_mut(report).leader = false;
        });
    }

    fn rehearsals(&self, store: &(impl Store + Clone)) -> Rehearse {
        let (store, inputs) = (Arc::new(store.clone()), self.keeper.clone());
        Arc::new(move |name, issuer| {
            let (store, inputs) = (store.clone(), inputs.clone());
            async move { rehearse(store, &inputs, name, issuer.as_deref()).await }.boxed()
        })
    }

    /// Has questions about certificates answered.
    pub(super) fn answer(
        &self,
        ledgers: Ledgers,
        requests: impl Requests,
        published: impl Fn() -> Vec<String> + Send + Sync + 'static,
    ) {
        let desk = Desk {
            keeper: self.keeper.clone(),
            ledgers,
            requests,
            rehearse: self.rehearse.subscribe(),
            published: Arc::new(published),
        };
        // There is one control plane in a process, so nobody has been there before.
        _ = self.desk.set(Arc::new(desk));
    }
}

/// What each translation says about certificates, without those that say the same.
fn issuance(
    mut published: watch::Receiver<Option<Arc<Translation>>>,
) -> watch::Receiver<Arc<Issuance>> {
    let (sender, issuance) = watch::channel(Arc::default());
    tokio::spawn(async move {
        loop {
            let translation = published.borrow_and_update().clone();
            if let Some(translation) = translation {
                sender.send_if_modified(|known| {
                    let differs = !Arc::ptr_eq(known, &translation.issuance);
                    known.clone_from(&translation.issuance);
                    differs
                });
            }
            if published.changed().await.is_err() {
                return;
            }
        }
    });
    issuance
}

/// The process itself, where there are no other nodes.
pub(super) fn this_machine(listeners: &BTreeSet<IpAddr>) -> Vec<Node> {
    let reached = listeners.iter().map(|address| match address {
        IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(any) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => *other,
    });
    vec![Node {
        name: "this machine".to_owned(),
        addresses: reached.collect(),
    }]
}
