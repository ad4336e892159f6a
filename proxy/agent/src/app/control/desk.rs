//! What a process that serves answers about certificates: to `tidegate certs` and on its pages.

use std::fmt;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tidegate_certificates::demand::Requests;
use tidegate_certificates::keeper;
use tidegate_certificates::{Ledger, Record, Report, plan};
use tidegate_model::{CertificateRequest, HostPattern};
use tokio::sync::watch;

use crate::certs::{CertsError, CertsPages, Facts};

/// Reads what is remembered of orders, whoever leads.
pub(super) type Ledgers =
    Arc<dyn Fn() -> BoxFuture<'static, Result<Vec<Record>, String>> + Send + Sync>;

/// Orders at a staging directory; only the process that leads can.
pub(super) type Rehearse = Arc<
    dyn Fn(HostPattern, Option<String>) -> BoxFuture<'static, Result<String, String>> + Send + Sync,
>;

/// Answers about certificates.
pub(super) struct Desk<R> {
    pub(super) keeper: keeper::Inputs,
    pub(super) ledgers: Ledgers,
    pub(super) requests: R,
    pub(super) rehearse: watch::Receiver<Option<Rehearse>>,
    /// Addresses that the status of Ingresses shows.
    pub(super) published: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
}

impl<R> fmt::Debug for Desk<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk")
            .field("keeper", &self.keeper)
            .finish_non_exhaustive()
    }
}

impl<R: Requests> Desk<R> {
    async fn current(&self) -> Result<Arc<Report>, CertsError> {
        let keeper = &self.keeper;
        let known = keeper.report.borrow().clone();
        if known.leader {
            return Ok(known);
        }
        let records = (self.ledgers)().await.map_err(CertsError::Unavailable)?;
        let (ledger, _) = Ledger::load(records);
        let now = keeper.clock.now();
        let settings = keeper.settings.borrow().clone();
        let issuance = keeper.issuance.borrow().clone();
        let (instance, namespace) = (&keeper.instance, &keeper.own_namespace);
        let planned = plan(now, &settings, instance, namespace, &issuance, &ledger);
        Ok(Arc::new(Report::new(now, &planned, &ledger)))
    }

    async fn order_again(&self, name: HostPattern) -> Result<(), CertsError> {
        let report = self.current().await?;
        let text = name.to_string();
        let is_kept = |names: &Vec<String>| names.contains(&text);
        if !report.outlook.iter().any(|outlook| is_kept(&outlook.names)) {
            return Err(CertsError::Unknown(format!(
                "no certificate is kept for {name}; `tidegate certs` lists those that are"
            )));
        }
        let request = CertificateRequest::Renew(name);
        let asked = self.requests.request(&request).await;
        asked.map_err(CertsError::Unavailable)
    }
}

impl<R: Requests> CertsPages for Desk<R> {
    fn report(&self) -> BoxFuture<'_, Result<Arc<Report>, CertsError>> {
        self.current().boxed()
    }

    fn renew(&self, name: HostPattern) -> BoxFuture<'_, Result<(), CertsError>> {
        self.order_again(name).boxed()
    }

    fn facts(&self) -> BoxFuture<'_, Result<Facts, CertsError>> {
        let keeper = &self.keeper;
        let settings = keeper.settings.borrow().clone();
        let facts = Facts::new(
            (keeper.nodes)(),
            (self.published)(),
            keeper.ports,
            &settings,
        );
        async { Ok(facts) }.boxed()
    }

    fn rehearse(
        &self,
        name: HostPattern,
        issuer: Option<String>,
    ) -> BoxFuture<'_, Result<String, CertsError>> {
        let rehearse = self.rehearse.borrow().clone();
        async move {
            let rehearse = rehearse.ok_or_else(|| {
                CertsError::Unavailable(
                    "only the process that leads can order; ask that one, which `tidegate probe ready` names".to_owned(),
                )
            })?;
            rehearse(name, issuer).await.map_err(CertsError::Unavailable)
        }
        .boxed()
    }
}
