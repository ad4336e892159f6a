//! Authorizations of an order: answers published, proven, and only then the CA told.

use instant_acme::{AuthorizationStatus, ChallengeStatus, Order};
use tidegate_model::HostPattern;

use super::solver::{Open, Out, Solver};
use super::wait::Wait;
use super::{Desk, Stop};
use crate::acme::{Refusal, Session};
use crate::issuer::{ChallengeSettings, Issuer};
use crate::ledger::{Failure, FailureKind};
use crate::plan::OrderTask;
use crate::proof::Aside;
use crate::store::Store;

impl<S: Store> Desk<'_, S> {
    /// Has every name of an order validated that is not yet, and waits until the CA has decided.
    pub(super) async fn authorize(
        &self,
        task: &OrderTask,
        session: &Session,
        order: &mut Order,
    ) -> Result<(), Stop> {
        let solver = Solver::open(&task.issuer, self.store).await?;
        let open = challenges(session, order, &solver, Which::Open).await?;
        if open.is_empty() {
            return Ok(());
        }
        let mut out = Out::default();
        let outcome = self
            .answered(task, session, order, &solver, &open, &mut out)
            .await;
        // Answers in our record stay for another look; those at DNS providers are made again for it.
        solver.withdraw(&out).await;
        outcome
    }

    async fn answered(
        &self,
        task: &OrderTask,
        session: &Session,
        order: &mut Order,
        solver: &Solver,
        open: &[Open],
        out: &mut Out,
    ) -> Result<(), Stop> {
        solver
            .publish(self.store, &task.names.id(), open, out)
            .await?;
        let aside = solver.prove(self.inputs, out).await?;
        for seen in &aside {
            tracing::info!(
                "{seen}; that is as it should be where nodes cannot reach their own public address, or a load balancer in \
                 front of them speaks the PROXY protocol"
            );
        }
        tell(session, order, solver).await?;
        let decided = self.decided(session, order).await;
        decided.map_err(|stop| with_aside(stop, &aside))
    }

    /// Takes back what a process before this one may have left at a DNS provider for an order.
    pub(super) async fn clear_records(
        &self,
        issuer: &Issuer,
        session: &Session,
        order: &mut Order,
    ) {
        if !matches!(issuer.challenge, ChallengeSettings::Dns01(_)) {
            return;
        }
        let Ok(solver) = Solver::open(issuer, self.store).await else {
            return;
        };
        if let Ok(all) = challenges(session, order, &solver, Which::All).await {
            solver.clear(&all).await;
        }
    }

    /// Waits until the CA has looked at everything.
    async fn decided(&self, session: &Session, order: &mut Order) -> Result<(), Stop> {
        use instant_acme::OrderStatus::{Invalid, Pending};
        let mut wait = Wait::new(self.inputs.timing.ca, self.inputs.timing.poll);
        loop {
            let status = match order.refresh().await {
                Ok(state) => state.status,
                Err(error) => return Err(session.error(error).into()),
            };
            match status {
                Pending => wait.next().await?,
                Invalid => return Err(self.why_invalid(session, order).await.into()),
                _ => return Ok(()),
            }
        }
    }

    /// What an order has failed for.
    pub(super) async fn why_invalid(&self, session: &Session, order: &mut Order) -> Failure {
        let mut refusals: Vec<(Option<HostPattern>, Refusal)> = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(Ok(authorization)) = authorizations.next().await {
            let name = HostPattern::parse(&authorization.identifier().to_string()).ok();
            let problems = authorization.challenges.iter();
            for problem in problems.filter_map(|challenge| challenge.error.as_ref()) {
                let refusal = Refusal::of_problem(&session.directory, problem);
                refusals.push((name.clone(), refusal));
            }
        }
        if refusals.is_empty()
            && let Some(problem) = &order.state().error
        {
            let refusal = Refusal::of_problem(&session.directory, problem);
            refusals.push((None, refusal));
        }
        invalid(refusals)
    }
}

/// One failure of all that a CA found wrong.
fn invalid(refusals: Vec<(Option<HostPattern>, Refusal)>) -> Failure {
    let Some((_, first)) = refusals.first() else {
        let text = "the order is invalid, and the CA does not say why; another one is placed";
        return Failure::new(FailureKind::Validation, text).without_order();
    };
    let kinds = || refusals.iter().map(|(_, refusal)| refusal.failure_kind());
    let kind = kinds()
        .find(|kind| *kind == FailureKind::Permanent)
        .unwrap_or_else(|| first.failure_kind());
    let texts: Vec<_> = refusals
        .iter()
        .map(|(name, refusal)| match name {
            Some(name) => format!("{name}: {refusal}"),
            None => refusal.to_string(),
        })
        .collect();
    let mut failure = Failure::new(kind, texts.join("; ")).without_order();
    failure.failed_names = refusals.into_iter().filter_map(|(name, _)| name).collect();
    failure
}

/// Which challenges of an order are meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    /// Those of names that are not validated yet: all have to be answered.
    Open,
    /// Every one that there is.
    All,
}

async fn challenges(
    session: &Session,
    order: &mut Order,
    solver: &Solver,
    which: Which,
) -> Result<Vec<Open>, Stop> {
    let mut open = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(|error| session.error(error))?;
        if which == Which::Open && authorization.status != AuthorizationStatus::Pending {
            continue;
        }
        let text = authorization.identifier().to_string();
        let name = HostPattern::parse(&text)
            .map_err(|_| not_offered(&text, "a name that can be proven"))?;
        let Some(challenge) = authorization.challenge(solver.kind()) else {
            match which {
                Which::Open => return Err(not_offered(&text, kind_text(solver)).into()),
                Which::All => continue,
            }
        };
        let authorization = challenge.key_authorization();
        open.push(Open {
            name,
            token: challenge.token.clone(),
            authorization: authorization.as_str().to_owned(),
            digest: authorization.dns_value(),
        });
    }
    Ok(open)
}

/// Tells the CA that it may look, for every challenge that it has not been told of.
async fn tell(session: &Session, order: &mut Order, solver: &Solver) -> Result<(), Stop> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(|error| session.error(error))?;
        if authorization.status != AuthorizationStatus::Pending {
            continue;
        }
        let Some(mut challenge) = authorization.challenge(solver.kind()) else {
            continue;
        };
        if challenge.status == ChallengeStatus::Pending {
            let told = challenge.set_ready().await;
            told.map_err(|error| session.error(error))?;
        }
    }
    Ok(())
}

fn kind_text(solver: &Solver) -> &'static str {
    match solver {
        Solver::Pages => "http-01",
        Solver::Handshakes => "tls-alpn-01",
        Solver::Records(_) => "dns-01",
    }
}

fn not_offered(name: &str, what: &str) -> Failure {
    let advice = match name.starts_with("*.") {
        true => "a wildcard is proven by dns-01 only: set that as the challenge of the issuer",
        false => "set another challenge for the issuer",
    };
    let text = format!("the CA does not offer {what} for {name}; {advice}");
    Failure::new(FailureKind::Settings, text).without_order()
}

/// A failed validation with what was seen from here.
fn with_aside(stop: Stop, aside: &Aside) -> Stop {
    match stop {
        Stop::Failed(mut failure)
            if failure.kind == FailureKind::Validation && !aside.is_empty() =>
        {
            failure.message = format!("{} (from here: {})", failure.message, aside.join("; "));
            Stop::Failed(failure)
        }
        stop => stop,
    }
}
