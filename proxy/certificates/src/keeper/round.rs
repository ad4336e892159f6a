//! The rounds of a keeper: plan, begin what can begin, wait until something has changed.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::{FutureExt, StreamExt};
use rustls_pki_types::PrivateKeyDer;
use tidegate_model::{Certificate, NamespacedName, UnixTime};
use tokio::time::sleep;

use super::book::Book;
use super::requests::answered;
use super::running::Running;
use super::trouble::Trouble;
use super::{Inputs, is_over};
use crate::acme::{Accounts, pem, renewal};
use crate::issuer::Issuer;
use crate::ledger::{Failure, FailureKind, HOUR, MINUTE, seconds};
use crate::names::{NameSet, SetId};
use crate::order::{self, Desk, Unfinished, directory_of};
use crate::plan::{Action, OrderTask, plan};
use crate::report::Report;
use crate::store::{IssuedCertificate, Store, StoreError};
use crate::tickets;

/// Keeps certificates until this process does not lead any more.
pub async fn run(store: impl Store, inputs: &Inputs) {
    let store = Arc::new(store);
    let accounts = Accounts::new(store.clone());
    let mut trouble = Trouble::default();
    while !is_over(&*store) {
        let error = tokio::select! {
            () = store.over() => break,
            error = term(&store, &accounts, inputs, &mut trouble) => error,
        };
        let pause = trouble.after(&error, inputs.timing.store);
        tokio::select! {
            () = store.over() => break,
            () = sleep(pause) => {}
        }
    }
}

/// A term from what is kept on; ends when that has to be read again.
async fn term<S: Store>(
    store: &Arc<S>,
    accounts: &Accounts<S>,
    inputs: &Inputs,
    trouble: &mut Trouble,
) -> StoreError {
    let begun = async {
        let book = Book::open(store.clone()).await?;
        // Some are in no entry of the ledger any more: a process ended between the two writes.
        let ledger = book.read(Clone::clone);
        order::withdraw_strays(&**store, &ledger).await?;
        Ok(book)
    };
    let book = match begun.await {
        Ok(book) => book,
        Err(error) => return error,
    };
    let keeper = Keeper {
        store: &**store,
        accounts,
        book: &book,
        inputs,
    };
    let rounds = keeper.keep(trouble);
    let tickets = keeper.keep_tickets();
    tokio::select! {
        Err(error) = rounds => error,
        never = tickets => match never {},
    }
}

/// What a term works with.
struct Keeper<'a, S> {
    store: &'a S,
    accounts: &'a Accounts<S>,
    book: &'a Book<S>,
    inputs: &'a Inputs,
}

enum Never {}

impl<'a, S: Store> Keeper<'a, S> {
    /// Round after round, until something that has to be written cannot be.
    async fn keep(&'a self, trouble: &mut Trouble) -> Result<Never, StoreError> {
        let mut issuance = self.inputs.issuance.clone();
        let mut settings = self.inputs.settings.clone();
        let mut running = Running::default();
        loop {
            let now = self.inputs.clock.now();
            let seen = issuance.borrow_and_update().clone();
            let set = settings.borrow_and_update().clone();
            let wake_at = self.round(now, &mut running, &seen, &set).await?;
            trouble.is_over();
            tokio::select! {
                Some((id, outcome)) = running.work.next() => {
                    running.end(&id);
                    outcome?;
                }
                () = changed(&mut issuance) => {}
                () = changed(&mut settings) => {}
                () = self.until(wake_at) => {}
            }
        }
    }

    /// Plans and begins; says when to plan again though nothing changes.
    async fn round(
        &'a self,
        now: UnixTime,
        running: &mut Running<'a>,
        issuance: &tidegate_model::Issuance,
        settings: &crate::CertificateSettings,
    ) -> Result<Option<UnixTime>, StoreError> {
        let Inputs {
            instance,
            own_namespace,
            ..
        } = self.inputs;
        let planned = self.book.change(|ledger| {
            ledger.prune(now);
            plan(now, settings, instance, own_namespace, issuance, ledger)
        });
        self.report(now, &planned);
        let mut again = None;
        for action in planned.actions {
            match self.begin(action, now, running).await {
                Err(error @ (StoreError::NotLeading | StoreError::Conflict)) => return Err(error),
                // One Secret that cannot be written stands in nobody else's way.
                Err(error) => {
                    tracing::warn!(%error, "a Secret cannot be written; it is tried again in a minute");
                    again = Some(UnixTime(now.0.saturating_add(MINUTE)));
                }
                Ok(()) => {}
            }
        }
        self.book.save().await?;
        Ok(planned.wake_at.into_iter().chain(again).min())
    }

    /// Keeps the keys of session tickets, whatever becomes of certificates.
    async fn keep_tickets(&self) -> Never {
        let mut settings = self.inputs.settings.clone();
        let mut is_well = true;
        loop {
            let rotation = settings.borrow_and_update().ticket_rotation;
            let now = self.inputs.clock.now();
            let kept = tickets::keep(self.store, rotation, now).await;
            let next = match kept {
                Ok(next) => next,
                Err(error) => {
                    if is_well && !is_over(self.store) {
                        tracing::warn!(%error, "session ticket keys cannot be kept; it is tried again");
                    }
                    None
                }
            };
            is_well = next.is_some();
            // Now and then even without need: somebody may have removed them.
            let soon = UnixTime(now.0.saturating_add(if is_well { HOUR } else { MINUTE }));
            let next = next.map_or(soon, |next| next.min(soon));
            tokio::select! {
                () = self.inputs.clock.sleep_until(next) => {}
                () = changed(&mut settings) => {}
            }
        }
    }

    fn report(&self, now: UnixTime, planned: &crate::Plan) {
        let report = self.book.read(|ledger| Report::new(now, planned, ledger));
        let report = Report {
            leader: true,
            ..report
        };
        self.inputs.report.send_replace(Arc::new(report));
    }

    async fn begin(
        &'a self,
        action: Action,
        now: UnixTime,
        running: &mut Running<'a>,
    ) -> Result<(), StoreError> {
        match action {
            Action::Order(task) => self.begin_order(task, running),
            Action::AskRenewal {
                names,
                certificate,
                issuer,
            } => {
                let id = names.id();
                if !running.has(&id) && !running.is_full() {
                    let work = self.ask_renewal(id.clone(), certificate, issuer);
                    running.begin(id, BTreeSet::new(), work);
                }
            }
            Action::Copy {
                names,
                from,
                issuer,
                into,
            } => self.copy(names, &from, issuer, &into).await?,
            Action::NoteUnwanted(id) => self.book.change(|ledger| ledger.unwanted(&id, now)),
            Action::NoteWanted(id) => self.book.change(|ledger| ledger.wanted(&id)),
            Action::NoteDemand(names) => self.book.change(|ledger| ledger.demanded(&names, now)),
            Action::Remove { id, secrets } => {
                if !running.has(&id) {
                    self.remove(&id, &secrets).await?;
                }
            }
            Action::Abandon(id) => {
                if !running.has(&id) {
                    self.abandon(id, running);
                }
            }
            Action::Answered(key) => {
                // The ledger remembers what a request has caused; it is written before the request is gone.
                self.book.save().await?;
                answered(self.store, &key).await?;
            }
        }
        Ok(())
    }

    fn begin_order(&'a self, task: OrderTask, running: &mut Running<'a>) {
        let id = task.names.id();
        if running.has(&id) || running.is_full() || running.shares_a_name(&task.names) {
            return;
        }
        let names = task.names.iter().cloned().collect();
        running.begin(id, names, self.order(task));
    }

    /// Forgets an order; what is out for it is taken back meanwhile.
    fn abandon(&'a self, id: SetId, running: &mut Running<'a>) {
        let order = self.book.change(|ledger| {
            let order = ledger.sets.get(&id).and_then(|set| set.order.clone());
            ledger.abandoned(&id);
            order
        });
        let Some(order) = order else {
            return;
        };
        let settings = self.inputs.settings.borrow().clone();
        let issuer = settings
            .issuers
            .find(Some(&order.issuer))
            .cloned()
            .map(Arc::new);
        running.begin(id.clone(), BTreeSet::new(), async move {
            self.desk().abandon(&id, order, issuer).await;
            let saved = self.book.save().await;
            (id, saved)
        });
    }

    fn desk(&'a self) -> Desk<'a, S> {
        Desk {
            store: self.store,
            accounts: self.accounts,
            book: self.book,
            inputs: self.inputs,
        }
    }

    async fn order(&'a self, task: OrderTask) -> (SetId, Result<(), StoreError>) {
        let desk = self.desk();
        let outcome = AssertUnwindSafe(desk.carry_out(&task)).catch_unwind().await;
        let outcome = outcome.unwrap_or_else(|panic| Err(Unfinished::Failed(panicked(&*panic))));
        let id = task.names.id();
        match outcome {
            Ok(()) => {}
            Err(Unfinished::Ledger(error)) => return (id, Err(error)),
            Err(Unfinished::Failed(_)) if is_over(self.store) => {
                return (id, Err(StoreError::NotLeading));
            }
            Err(Unfinished::Failed(failure)) => self.note_failure(&id, &task, &failure),
        }
        (id, self.book.save().await)
    }

    fn note_failure(&self, id: &SetId, task: &OrderTask, failure: &Failure) {
        let now = self.inputs.clock.now();
        let is_news = self.book.change(|ledger| {
            let before = ledger
                .sets
                .get(id)
                .and_then(|set| set.last_failure.as_ref());
            let is_news = before.is_none_or(|before| before.message != failure.message);
            ledger.failed(id, failure, now);
            if ledger.sets.get(id).is_some_and(|set| set.order.is_none()) {
                // A request was carried out, though in vain, or it would be again at once.
                ledger.resumed(task, now);
            }
            if let (FailureKind::Unavailable | FailureKind::RateLimited, Some(wait)) =
                (failure.kind, failure.retry_after)
            {
                let until = now.0.saturating_add(seconds(wait).min(HOUR));
                ledger.directory_closed(directory_of(task), UnixTime(until));
            }
            is_news
        });
        if is_news {
            tracing::warn!(
                names = %task.names, issuer = task.issuer.name, environment = ?task.environment, kind = ?failure.kind,
                "no certificate yet: {}", failure.message
            );
        }
    }

    async fn ask_renewal(
        &'a self,
        id: SetId,
        certificate: Arc<Certificate>,
        issuer: Arc<Issuer>,
    ) -> (SetId, Result<(), StoreError>) {
        let asked = AssertUnwindSafe(self.ask(&id, &certificate, &issuer)).catch_unwind();
        let asked = asked.await.unwrap_or_else(|panic| Err(panicked(&*panic)));
        let now = self.inputs.clock.now();
        self.book.change(|ledger| {
            let renewal = asked.unwrap_or_else(|failure| {
                tracing::info!(set = %id, "the CA does not say when to renew: {}", failure.message);
                let before = ledger.sets.get(&id).and_then(|set| set.renewal.as_ref());
                renewal::not_asked(&certificate, before, now)
            });
            ledger.renewal(&id, renewal);
        });
        let saved = self.book.save().await;
        (id, saved)
    }

    async fn ask(
        &self,
        id: &SetId,
        certificate: &Certificate,
        issuer: &Arc<Issuer>,
    ) -> Result<crate::ledger::Renewal, Failure> {
        let session = self.accounts.session(issuer, &issuer.directory).await?;
        let now = self.inputs.clock.now();
        Ok(renewal::ask(&session, id, certificate, now).await?)
    }

    async fn copy(
        &self,
        names: NameSet,
        from: &Certificate,
        issuer: String,
        into: &[NamespacedName],
    ) -> Result<(), StoreError> {
        let certificate = IssuedCertificate {
            chain: from
                .chain
                .iter()
                .map(|one| pem("CERTIFICATE", one))
                .collect(),
            key: pem(key_label(from.key.der()), from.key.der().secret_der()),
            issuer,
            names,
        };
        order::put(self.store, into, &certificate).await
    }

    async fn remove(&self, id: &SetId, secrets: &[NamespacedName]) -> Result<(), StoreError> {
        for secret in secrets {
            self.store.remove_certificate(secret).await?;
            tracing::info!(%secret, "removed: nobody wants its certificate any more");
        }
        self.book.change(|ledger| ledger.removed(id));
        Ok(())
    }

    /// Sleeps until a moment; without one, for ever.
    async fn until(&self, moment: Option<UnixTime>) {
        match moment {
            Some(moment) => self.inputs.clock.sleep_until(moment).await,
            None => std::future::pending().await,
        }
    }
}

/// Waits for a change; of a channel that nobody writes to any more, for ever.
async fn changed<T>(channel: &mut tokio::sync::watch::Receiver<T>) {
    if channel.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Failure {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    Failure::new(
        FailureKind::Internal,
        format!("Tidegate has a defect, please report it: {text}"),
    )
}

fn key_label(key: &PrivateKeyDer<'_>) -> &'static str {
    match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    }
}
