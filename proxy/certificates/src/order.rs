//! One order, from the ledger's entry to the Secret. Whatever step another process has come to, it goes on from there.

mod answers;
mod authorize;
mod key;
mod place;
mod rehearsal;
mod solver;
mod wait;

use std::sync::Arc;

use instant_acme::{Order, OrderStatus};
use rcgen::KeyPair;

use crate::acme::{Accounts, AcmeError, Session, chain};
use crate::issuer::{ChallengeSettings, Issuer};
use crate::keeper::Inputs;
use crate::keeper::book::Book;
use crate::ledger::{Failure, FailureKind, InFlight};
use crate::names::SetId;
use crate::plan::{Environment, OrderTask};
use crate::store::{IssuedCertificate, Put, Store, StoreError};

use wait::Wait;

pub(crate) use answers::{withdraw, withdraw_strays};
pub use rehearsal::rehearse;

/// What orders are carried out with.
pub(crate) struct Desk<'a, S> {
    pub(crate) store: &'a S,
    pub(crate) accounts: &'a Accounts<S>,
    pub(crate) book: &'a Book<S>,
    pub(crate) inputs: &'a Inputs,
}

/// Why an order has stopped short of its end.
enum Stop {
    /// It is tried again by the plan.
    Failed(Failure),
    /// The ledger cannot be written, so nothing more is asked of the CA.
    Ledger(StoreError),
    /// The CA does not know the account, and so none of its orders.
    NoAccount,
    /// The CA does not know the order.
    NoOrder,
    /// The CA has refused one nonce after another (RFC 8555 section 6.5), which says nothing about the order.
    Nonces,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Why an order is not carried out.
pub(crate) enum Unfinished {
    /// What the ledger is to remember.
    Failed(Failure),
    /// The ledger cannot be written, which is no fault of the order's: it is gone on with once it can be.
    Ledger(StoreError),
}

impl From<AcmeError> for Stop {
    fn from(error: AcmeError) -> Self {
        match error.refusal() {
            Some(refusal) if refusal.is("accountDoesNotExist") => Self::NoAccount,
            Some(refusal) if refusal.is("badNonce") => Self::Nonces,
            _ => Self::Failed(error.into()),
        }
    }
}

/// How often an order is gone on with at once because the CA has forgotten it or the account, or refuses nonces.
const ATTEMPTS: usize = 4;

impl<S: Store> Desk<'_, S> {
    /// Places an order, or goes on with the one that is under way, and puts the certificate where it is wanted.
    pub(crate) async fn carry_out(&self, task: &OrderTask) -> Result<(), Unfinished> {
        for _ in 0..ATTEMPTS {
            match self.attempt(task).await {
                Ok(()) => return Ok(()),
                Err(Stop::Failed(failure)) => {
                    return Err(Unfinished::Failed(self.reported(task, failure).await));
                }
                Err(Stop::Ledger(error)) => return Err(Unfinished::Ledger(error)),
                Err(Stop::NoAccount) => {
                    let forgotten = self.accounts.forget(&task.issuer, directory_of(task));
                    forgotten.await.map_err(Unfinished::Failed)?;
                    self.drop_order(task).await?;
                }
                Err(Stop::Nonces) => {}
                Err(Stop::NoOrder) => {
                    tracing::warn!(names = %task.names, "the CA does not know the order any more; another one is placed");
                    self.drop_order(task).await?;
                }
            }
        }
        let text = format!(
            "{} refuses nonces, or forgets accounts or orders as soon as they are made; it is tried again",
            directory_of(task)
        );
        Err(Unfinished::Failed(Failure::new(
            FailureKind::Unavailable,
            text,
        )))
    }

    /// Takes back whatever is out for an order that is gone on with by nobody any more.
    pub(crate) async fn abandon(&self, id: &SetId, order: InFlight, issuer: Option<Arc<Issuer>>) {
        self.clear_up(id).await;
        let (Some(url), Some(issuer)) = (order.url, issuer) else {
            return;
        };
        if !matches!(issuer.challenge, ChallengeSettings::Dns01(_)) {
            return;
        }
        // It does no harm when this fails: a TXT record is left, and the CA forgets the order by itself.
        if let Ok(session) = self.accounts.session(&issuer, &order.directory).await
            && let Ok(mut order) = resumed(&session, url).await
        {
            self.clear_records(&issuer, &session, &mut order).await;
        }
    }

    /// A failure with what it means for other orders at the same CA.
    async fn reported(&self, task: &OrderTask, failure: Failure) -> Failure {
        if failure.kind == FailureKind::Unavailable {
            self.accounts.close(&task.issuer, directory_of(task)).await;
        }
        if !failure.keep_order {
            self.clear_up(&task.names.id()).await;
        }
        failure
    }

    async fn attempt(&self, task: &OrderTask) -> Result<(), Stop> {
        let directory = directory_of(task);
        let session = self.accounts.session(&task.issuer, directory).await?;
        let (entry, key) = self.in_flight(task).await?;
        let is_resumed = entry.url.is_some();
        let mut order = match entry.url {
            Some(url) => resumed(&session, url).await?,
            None => self.place(task, &session).await?,
        };
        let finished = self.finished(task, &session, &mut order, &key).await;
        if is_resumed {
            self.clear_records(&task.issuer, &session, &mut order).await;
        }
        let chain_url = finished?;
        let preferred = task.issuer.preferred_chain.as_deref();
        let chain = chain::fetch(&session, &chain_url, preferred).await?;
        let now = self.inputs.clock.now();
        if let Some(fault) = chain::fault(&chain, &key, &task.names, now) {
            let text = format!("what {directory} has issued is not what was ordered: {fault}");
            return Err(Failure::new(FailureKind::Internal, text)
                .without_order()
                .into());
        }
        if task.environment == Environment::Production {
            self.put(task, chain, &key).await?;
        }
        let id = task.names.id();
        self.book.change(|ledger| ledger.issued(&id, task, now));
        self.save().await?;
        tracing::info!(names = %task.names, issuer = task.issuer.name, environment = ?task.environment, "certificate issued");
        self.clear_up(&id).await;
        Ok(())
    }

    /// The order of the ledger with its key, written there before the CA hears of it.
    async fn in_flight(&self, task: &OrderTask) -> Result<(InFlight, KeyPair), Stop> {
        let id = task.names.id();
        let known = self
            .book
            .read(|ledger| ledger.sets.get(&id).and_then(|set| set.order.clone()));
        let known = known.filter(|order| order.directory == directory_of(task));
        let now = self.inputs.clock.now();
        if let Some(order) = known
            && let Ok(key) = KeyPair::from_pem(&order.key)
        {
            self.book.change(|ledger| ledger.resumed(task, now));
            self.save().await?;
            return Ok((order, key));
        }
        let key = key::generate(task.issuer.key_type).await?;
        let order = InFlight {
            issuer: task.issuer.name.clone(),
            directory: directory_of(task).to_owned(),
            is_rehearsal: task.environment == Environment::Staging,
            begun: now.0,
            url: None,
            key: key.serialize_pem(),
        };
        self.book.change(|ledger| ledger.begin(task, order.clone()));
        self.save().await?;
        Ok((order, key))
    }

    async fn drop_order(&self, task: &OrderTask) -> Result<(), Unfinished> {
        let id = task.names.id();
        self.book.change(|ledger| ledger.abandoned(&id));
        self.book.save().await.map_err(Unfinished::Ledger)
    }

    /// Writes the ledger, before anything is done that depends on it.
    async fn save(&self) -> Result<(), Stop> {
        self.book.save().await.map_err(Stop::Ledger)
    }

    /// Brings an order from whatever status it has to the URL of its certificate.
    async fn finished(
        &self,
        task: &OrderTask,
        session: &Session,
        order: &mut Order,
        key: &KeyPair,
    ) -> Result<String, Stop> {
        let mut wait = Wait::new(self.inputs.timing.ca, self.inputs.timing.poll);
        let mut is_authorized = false;
        loop {
            let state = order.state();
            match state.status {
                OrderStatus::Valid => {
                    let url = state.certificate.clone();
                    return url.ok_or_else(|| {
                        let what = "a valid order has no certificate";
                        AcmeError::not_acme(&session.directory, what, b"").into()
                    });
                }
                OrderStatus::Pending if !is_authorized => {
                    self.authorize(task, session, order).await?;
                    is_authorized = true;
                    wait = Wait::new(self.inputs.timing.ca, self.inputs.timing.poll);
                }
                OrderStatus::Pending | OrderStatus::Processing => wait.next().await?,
                OrderStatus::Ready => {
                    self.finalize(session, order, key).await?;
                    if order.state().status != OrderStatus::Ready {
                        continue;
                    }
                    wait.next().await?;
                }
                OrderStatus::Invalid => {
                    return Err(self.why_invalid(session, order).await.into());
                }
            }
            let refreshed = order.refresh().await.map(drop);
            refreshed.map_err(|error| session.error(error))?;
        }
    }

    async fn finalize(
        &self,
        session: &Session,
        order: &mut Order,
        key: &KeyPair,
    ) -> Result<(), Stop> {
        let names = self.names_of(session, order).await?;
        let request = key::request(&names, key)?;
        match order.finalize_csr(&request).await {
            Ok(()) => Ok(()),
            Err(error) => match session.error(error) {
                // Another process, or an answer that was lost, was first.
                AcmeError::Refused(refusal) if refusal.is("orderNotReady") => Ok(()),
                error => {
                    let failure = Stop::from(error);
                    Err(match failure {
                        Stop::Failed(failure) if was_refused(&failure) => {
                            Stop::Failed(failure.without_order())
                        }
                        stop => stop,
                    })
                }
            },
        }
    }

    /// Names of the order as the CA has them.
    async fn names_of(&self, session: &Session, order: &mut Order) -> Result<Vec<String>, Stop> {
        let mut names = Vec::new();
        let mut identifiers = order.identifiers();
        while let Some(identifier) = identifiers.next().await {
            let identifier = identifier.map_err(|error| session.error(error))?;
            names.push(identifier.to_string());
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    async fn put(&self, task: &OrderTask, chain: String, key: &KeyPair) -> Result<(), Stop> {
        let certificate = IssuedCertificate {
            chain,
            key: key.serialize_pem(),
            issuer: task.issuer.name.clone(),
            names: task.names.clone(),
        };
        let put = put(self.store, &task.into, &certificate).await;
        Ok(put.map_err(Failure::from)?)
    }

    /// Takes answers back. What is left is taken back when a process begins to lead, so it may fail.
    async fn clear_up(&self, id: &SetId) {
        if let Err(error) = withdraw(self.store, id).await {
            tracing::warn!(set = %id, %error, "answers to challenges stay until the next leader");
        }
    }
}

/// Puts a certificate into Secrets. Those that are not ours, or gone, are passed over: the plan sees them as they are.
pub(crate) async fn put<S: Store>(
    store: &S,
    into: &[tidegate_model::NamespacedName],
    certificate: &IssuedCertificate,
) -> Result<(), StoreError> {
    let mut refused = None;
    for secret in into {
        match store.put_certificate(secret, certificate).await {
            Ok(Put::Done) => {}
            Ok(Put::NotOurs) => tracing::warn!(
                %secret, names = %certificate.names,
                "the Secret is not Tidegate's and stays as it is; remove it, or name another in spec.tls"
            ),
            Ok(Put::Gone) => tracing::warn!(
                %secret, names = %certificate.names,
                "the Secret's namespace is gone; its certificate is put nowhere"
            ),
            Err(StoreError::NotLeading) => return Err(StoreError::NotLeading),
            // The others are written all the same.
            Err(error) => refused = Some(error),
        }
    }
    refused.map_or(Ok(()), Err)
}

async fn resumed(session: &Session, url: String) -> Result<Order, Stop> {
    match session.account.order(url).await {
        Ok(order) => Ok(order),
        Err(error) => match session.error(error) {
            AcmeError::Refused(refusal) if refusal.is_unknown() => Err(Stop::NoOrder),
            AcmeError::Refused(refusal) if refusal.is("unauthorized") => Err(Stop::NoOrder),
            error => Err(error.into()),
        },
    }
}

/// URL of the directory that a task is for.
pub(crate) fn directory_of(task: &OrderTask) -> &str {
    match (task.environment, &task.issuer.staging) {
        (Environment::Staging, Some(staging)) => staging,
        _ => &task.issuer.directory,
    }
}

/// Whether the CA has surely not taken what was asked.
fn was_refused(failure: &Failure) -> bool {
    !matches!(
        failure.kind,
        FailureKind::Unavailable | FailureKind::Internal
    )
}
