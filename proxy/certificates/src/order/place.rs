//! New orders.

use http::StatusCode;
use instant_acme::{Identifier, NewOrder, Order};

use super::{Desk, Stop, was_refused};
use crate::acme::{AcmeError, Refusal, Session, renewal};
use crate::plan::{Environment, OrderTask};
use crate::store::Store;

impl<S: Store> Desk<'_, S> {
    /// Places an order and writes its URL down.
    pub(super) async fn place(&self, task: &OrderTask, session: &Session) -> Result<Order, Stop> {
        let identifiers: Vec<_> = task
            .names
            .iter()
            .map(|name| Identifier::Dns(name.to_string()))
            .collect();
        let id = task.names.id();
        let order = self.new_order(task, session, &identifiers).await;
        let order = order.map_err(|error| match Stop::from(error) {
            Stop::Failed(failure) if was_refused(&failure) => Stop::Failed(failure.without_order()),
            stop => stop,
        });
        let order = order?;
        let now = self.inputs.clock.now();
        self.book
            .change(|ledger| ledger.placed(&id, order.url(), now));
        self.save().await?;
        tracing::info!(names = %task.names, issuer = task.issuer.name, url = order.url(), why = task.why, "order placed");
        Ok(order)
    }

    /// Asks for an order; where the CA does not take it as a replacement of another certificate, as one of its own.
    async fn new_order(
        &self,
        task: &OrderTask,
        session: &Session,
        identifiers: &[Identifier],
    ) -> Result<Order, AcmeError> {
        let mut order = NewOrder::new(identifiers);
        if let Some(profile) = &task.issuer.profile {
            order = order.profile(profile);
        }
        let failures = self.book.read(|ledger| {
            let set = ledger.sets.get(&task.names.id());
            set.map_or(0, |set| set.failures)
        });
        // After a failure it is left out: a server may have taken the order and not have shown what it replaces.
        let replaced = task.replaces.as_deref().and_then(renewal::identifier);
        if let Some(replaced) = replaced.filter(|_| failures == 0 && is_production(task)) {
            let mut replacing = NewOrder::new(identifiers).replaces(replaced);
            if let Some(profile) = &task.issuer.profile {
                replacing = replacing.profile(profile);
            }
            match session.account.new_order(&replacing).await {
                Ok(order) => return Ok(order),
                Err(error) => match session.error(error) {
                    AcmeError::Unsupported(_) => {}
                    AcmeError::Refused(refusal) if refuses_replacement(&refusal) => {}
                    error => return Err(error),
                },
            }
        }
        let order = session.account.new_order(&order).await;
        order.map_err(|error| session.error(error))
    }
}

fn is_production(task: &OrderTask) -> bool {
    task.environment == Environment::Production
}

/// Whether an order may be refused only because it says what it replaces.
fn refuses_replacement(refusal: &Refusal) -> bool {
    refusal.is("alreadyReplaced")
        || refusal.is("malformed")
        || refusal.is("serverInternal")
        || refusal.is_unknown()
        || refusal.status == Some(StatusCode::CONFLICT)
}
