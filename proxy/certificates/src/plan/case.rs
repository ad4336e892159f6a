//! A set of names and all that is known of it at a moment.

use std::sync::Arc;

use tidegate_model::{Certificate, NamespacedName, UnixTime};

use super::held::{Due, Held, Holdings, last_tenth};
use super::moment::Moment;
use super::wanted::Wanted;
use super::{Environment, OrderTask};
use crate::issuer::Issuer;
use crate::ledger::{FailureKind, RecordedFailure, SetEntry};
use crate::names::SetId;

/// Failures in a row after which the next issuer is asked.
const PATIENCE: u32 = 3;

/// A set of names and all that is known of it.
pub(super) struct Case<'a> {
    pub(super) wanted: &'a Wanted,
    pub(super) entry: &'a SetEntry,
    /// The certificate that serves longest, and when it is to be renewed; `None` when there is none that is alive.
    pub(super) best: Option<(Held<'a>, Due)>,
    /// What is in the Secrets of the set, with the time until which it serves there.
    pub(super) present: Vec<(Held<'a>, Due)>,
    /// The request to order again now.
    pub(super) requested: Option<&'a String>,
}

/// How soon a set has to be seen to: sorts the most urgent first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// An order is under way.
    UnderWay,
    /// The certificate is in the last tenth of its life.
    Ending(UnixTime),
    /// Nothing can be served.
    Nothing,
    /// A certificate is served until then.
    Served(UnixTime),
}

impl<'a> Case<'a> {
    pub(super) fn new(
        moment: &'a Moment<'_>,
        wanted: &'a Wanted,
        holdings: &Holdings<'a>,
        requested: Option<&'a String>,
    ) -> Self {
        let with_due = |held: Held<'a>| (held, held.due(moment, wanted));
        let present: Vec<_> = holdings.of(wanted).into_iter().map(with_due).collect();
        let alive = present
            .iter()
            .copied()
            .chain(holdings.elsewhere(wanted).map(with_due))
            .filter(|(held, _)| held.is_alive(moment.now));
        let best = alive.max_by_key(|(held, due)| {
            (
                due.at,
                held.certificate.not_after,
                held.certificate.fingerprint,
            )
        });
        Self {
            wanted,
            entry: moment.entry(&wanted.id),
            best,
            present,
            requested,
        }
    }

    pub(super) fn urgency(&self, now: UnixTime) -> (Urgency, SetId) {
        let urgency = match (&self.entry.order, &self.best) {
            (Some(_), _) => Urgency::UnderWay,
            (None, Some((held, _))) if last_tenth(held.certificate) <= now => {
                Urgency::Ending(held.certificate.not_after)
            }
            (None, Some((held, _))) => Urgency::Served(held.certificate.not_after),
            (None, None) => Urgency::Nothing,
        };
        (urgency, self.wanted.id.clone())
    }

    /// The Secrets that the best certificate is better for than what is in them.
    pub(super) fn lacking(&self, now: UnixTime, best: Due) -> Vec<NamespacedName> {
        let serves = |secret: &NamespacedName| {
            self.present.iter().any(|(held, due)| {
                held.secret == secret && held.is_alive(now) && (due.at > now || best.at <= now)
            })
        };
        self.wanted
            .secrets
            .iter()
            .filter(|secret| !serves(secret))
            .cloned()
            .collect()
    }

    pub(super) fn issuer_named(&self, name: &str) -> Option<&'a Arc<Issuer>> {
        self.wanted
            .issuers
            .iter()
            .find(|issuer| issuer.name == name)
    }

    /// The issuer whose turn it is: every few failures in a row it is the next one's, and after the last the first one's.
    pub(super) fn issuer(&self) -> Option<&'a Arc<Issuer>> {
        let issuers = &self.wanted.issuers;
        let turn = usize::try_from(self.entry.failures / PATIENCE).unwrap_or(0);
        issuers.get(turn.checked_rem(issuers.len())?)
    }

    /// Where to order: at staging after a failure, until it has issued there or turned out not to be available itself.
    pub(super) fn environment(&self, issuer: &Issuer) -> Environment {
        let is_in_order = |failure: &RecordedFailure| {
            !failure.is_rehearsal
                || matches!(
                    failure.kind,
                    FailureKind::Validation | FailureKind::Permanent | FailureKind::NotProven
                )
        };
        match &self.entry.last_failure {
            Some(failure)
                if issuer.staging.is_some() && !self.entry.rehearsed && is_in_order(failure) =>
            {
                Environment::Staging
            }
            _ => Environment::Production,
        }
    }

    /// The certificate that an order at this issuer renews in its eyes: of the same names, and its own.
    pub(super) fn replaced(&self, issuer: &Issuer) -> Option<&'a Arc<Certificate>> {
        let held = self
            .present
            .iter()
            .map(|(held, _)| held)
            .chain(self.best.iter().map(|(held, _)| held));
        held.filter(|held| held.issuer == Some(issuer.name.as_str()))
            .filter(|held| self.wanted.names.are_exactly(held.certificate))
            .map(|held| held.certificate)
            .max_by_key(|certificate| (certificate.not_after, certificate.fingerprint))
    }

    pub(super) fn task(
        &self,
        issuer: &Arc<Issuer>,
        environment: Environment,
        why: String,
    ) -> OrderTask {
        OrderTask {
            names: self.wanted.names.clone(),
            issuer: Arc::clone(issuer),
            environment,
            into: self.wanted.secrets.iter().cloned().collect(),
            replaces: self.replaced(issuer).cloned(),
            objects: self.wanted.objects(),
            why,
            requested: self.requested.cloned(),
        }
    }
}
