//! Decides about each set of names that is wanted.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_model::{Level, Problem, Reason, UnixTime};

use super::budget::{Budget, Wait};
use super::case::Case;
use super::held::{Due, Held, Holdings, WhyDue, renewal_id};
use super::moment::Moment;
use super::wanted::Wants;
use super::{Action, Environment, Outlook, Plan, words};
use crate::ledger::{FailureKind, InFlight, MINUTE, Seconds, WEEK};
use crate::names::SetId;

/// How long an order may be under way before it is given up: CAs let orders and validations lapse after some days.
const UNFINISHED: Seconds = WEEK;
/// How long it may take until a certificate that was put into a Secret is seen there.
const SEEN: Seconds = MINUTE / 2;

/// Decides about every set, the most urgent first.
pub(super) fn decide(
    moment: &Moment<'_>,
    wants: &Wants,
    renewals: &BTreeMap<SetId, String>,
    plan: &mut Plan,
) {
    let holdings = Holdings::new(&moment.issuance.secrets);
    let mut cases: Vec<_> = wants
        .sets
        .values()
        .map(|wanted| Case::new(moment, wanted, &holdings, renewals.get(&wanted.id)))
        .collect();
    cases.sort_by_cached_key(|case| case.urgency(moment.now));
    let mut decision = Decision {
        moment,
        budget: Budget::new(moment),
        plan,
    };
    for case in &cases {
        decision.decide(case);
        decision.tell_failure(case);
    }
}

/// What comes next for a set, as people are told.
struct Next {
    word: &'static str,
    at: Option<UnixTime>,
    why: String,
}

struct Decision<'a> {
    moment: &'a Moment<'a>,
    budget: Budget<'a>,
    plan: &'a mut Plan,
}

impl Decision<'_> {
    fn decide(&mut self, case: &Case<'_>) {
        if case.entry.unwanted_since.is_some() {
            self.plan
                .actions
                .push(Action::NoteWanted(case.wanted.id.clone()));
        }
        let next = match &case.entry.order {
            Some(order) => self.go_on(case, order),
            None => self.begin(case),
        };
        if let Some(at) = next.at {
            self.plan.wake(self.moment.now, at);
        }
        self.plan.outlook.push(outlook(case, next));
    }

    /// Goes on with an order that is under way, or gives it up.
    fn go_on(&mut self, case: &Case<'_>, order: &InFlight) -> Next {
        let now = self.moment.now;
        let environment = match order.is_rehearsal {
            true => Environment::Staging,
            false => Environment::Production,
        };
        let lapses = UnixTime(order.begun.saturating_add(UNFINISHED));
        let issuer = case.issuer_named(&order.issuer).filter(|issuer| {
            let is_open =
                lapses > now && !case.wanted.secrets.is_empty() && case.wanted.obstacle.is_none();
            let directory = match environment {
                Environment::Production => Some(&issuer.directory),
                Environment::Staging => issuer.staging.as_ref(),
            };
            is_open && directory == Some(&order.directory)
        });
        let Some(issuer) = issuer else {
            self.plan
                .actions
                .push(Action::Abandon(case.wanted.id.clone()));
            let why = "the order under way is of no use any more: it is too old, or its issuer is not asked any more";
            return Next {
                word: "wait",
                at: None,
                why: why.to_owned(),
            };
        };
        self.plan.wake(now, lapses);
        let why = format!("an order at {} is under way", order.directory);
        let task = case.task(issuer, environment, why.clone());
        self.budget.count_in_flight(order, &task);
        if let Some(until) = self.moment.closed_until(&order.directory) {
            let why = format!(
                "{} has asked to be left alone until {}",
                order.directory,
                words::time(until)
            );
            return Next {
                word: "finish",
                at: Some(until),
                why,
            };
        }
        if let Some(next) = self.back_off(case, "finish") {
            return next;
        }
        if order.url.is_none() {
            if let Some(wait) = self.budget.by_orders(&task) {
                return Next {
                    word: "finish",
                    at: Some(wait.until),
                    why: wait.why,
                };
            }
            self.budget.count_placing(&task);
        }
        self.plan.actions.push(Action::Order(task));
        Next {
            word: "finish",
            at: Some(now),
            why,
        }
    }

    /// Copies or orders, if anything has to be done at all.
    fn begin(&mut self, case: &Case<'_>) -> Next {
        let now = self.moment.now;
        let Some(&(held, due)) = case.best.as_ref() else {
            return self.order(case);
        };
        self.copy(case, &held, due);
        if due.at <= now || case.requested.is_some() {
            return self.order(case);
        }
        for (_, due) in &case.present {
            self.plan.wake(now, due.at);
        }
        self.ask_renewal(case, &held, due);
        match &case.wanted.obstacle {
            Some(obstacle) => Next {
                word: "none",
                at: None,
                why: obstacle.clone(),
            },
            None => Next {
                word: "renew",
                at: Some(due.at),
                why: why_due(due.why).to_owned(),
            },
        }
    }

    fn copy(&mut self, case: &Case<'_>, held: &Held<'_>, due: Due) {
        let into = case.lacking(self.moment.now, due);
        if into.is_empty() || case.wanted.obstacle.is_some() {
            return;
        }
        self.plan.actions.push(Action::Copy {
            names: case.wanted.names.clone(),
            from: Arc::clone(held.certificate),
            issuer: held.issuer.unwrap_or_default().to_owned(),
            into,
        });
    }

    fn order(&mut self, case: &Case<'_>) -> Next {
        let now = self.moment.now;
        if let Some(obstacle) = &case.wanted.obstacle {
            return Next {
                word: "none",
                at: None,
                why: obstacle.clone(),
            };
        }
        if case.wanted.secrets.is_empty() {
            let why = "the Secret is not Tidegate's: it is served as it is";
            return Next {
                word: "none",
                at: None,
                why: why.to_owned(),
            };
        }
        if let Some(wait) = self.unknown(case) {
            return Next {
                word: "wait",
                at: Some(wait.until),
                why: wait.why,
            };
        }
        if let Some(next) = self.back_off(case, "retry") {
            return next;
        }
        let Some(issuer) = case.issuer() else {
            return Next {
                word: "none",
                at: None,
                why: "there is no issuer".to_owned(),
            };
        };
        let word = match (&case.entry.last_failure, &case.best) {
            (Some(_), _) => "retry",
            (None, Some(_)) => "renew",
            (None, None) => "order",
        };
        let environment = case.environment(issuer);
        let why = why_now(case, environment);
        let task = case.task(issuer, environment, why.clone());
        if let Some(wait) = self.budget.wait(&task) {
            return Next {
                word: "wait",
                at: Some(wait.until),
                why: wait.why,
            };
        }
        self.budget.count(&task);
        self.plan.actions.push(Action::Order(task));
        Next {
            word,
            at: Some(now),
            why,
        }
    }

    /// Waits while it is not known what the ledger said, or where the last certificate is.
    fn unknown(&self, case: &Case<'_>) -> Option<Wait> {
        let now = self.moment.now;
        if let Some(until) = self.moment.ledger.sealed_until(&case.wanted.id, now) {
            let why = format!(
                "the ledger's record '{}' cannot be read, so an order may be under way that nobody knows of",
                case.wanted.id.shard()
            );
            return Some(Wait { until, why });
        }
        let issued = case.entry.issued.iter().max()?;
        let until = UnixTime(issued.saturating_add(SEEN));
        let why = "a certificate was issued just now and is not seen in its Secret yet".to_owned();
        (*issued <= now.0 && until > now).then_some(Wait { until, why })
    }

    /// Waits after a failure, unless somebody asks for an attempt now.
    fn back_off(&self, case: &Case<'_>, word: &'static str) -> Option<Next> {
        let until = UnixTime(case.entry.retry_at?);
        let is_waiting = until > self.moment.now && case.requested.is_none();
        is_waiting.then(|| Next {
            word,
            at: Some(until),
            why: "it failed and is tried again then".to_owned(),
        })
    }

    /// Asks the CA when to renew, if it was not asked yet about this certificate, or has said to ask again by now.
    fn ask_renewal(&mut self, case: &Case<'_>, held: &Held<'_>, due: Due) {
        let now = self.moment.now;
        let issuer = held
            .issuer
            .and_then(|name| self.moment.issuer(Some(name)))
            .or_else(|| case.wanted.issuers.first());
        let Some(issuer) = issuer else {
            return;
        };
        let known = case.entry.renewal.as_ref();
        let asked = match due.why {
            // Then what is known is about this certificate.
            WhyDue::Suggested => known,
            _ => {
                let Some(id) = renewal_id(held.certificate) else {
                    return;
                };
                known.filter(|renewal| renewal.certificate == id)
            }
        };
        let ask_at = asked.map_or(now, |renewal| UnixTime(renewal.ask_at));
        let closed = self.moment.closed_until(&issuer.directory);
        let ask_at = closed.map_or(ask_at, |closed| closed.max(ask_at));
        if ask_at > now {
            self.plan.wake(now, ask_at);
            return;
        }
        self.plan.actions.push(Action::AskRenewal {
            names: case.wanted.names.clone(),
            certificate: Arc::clone(held.certificate),
            issuer: Arc::clone(issuer),
        });
    }

    /// Tells everybody who asks for a set what went wrong last.
    fn tell_failure(&mut self, case: &Case<'_>) {
        let Some(failure) = &case.entry.last_failure else {
            return;
        };
        let next = match case.entry.retry_at.map(UnixTime) {
            Some(at) if at > self.moment.now => format!("tried again at {}", words::time(at)),
            _ => "tried again as soon as may be".to_owned(),
        };
        let what = match failure.is_rehearsal {
            true => "a rehearsal at the staging directory failed",
            false => "no certificate was issued",
        };
        let message = format!(
            "{what} for {}: {}; {next}",
            case.wanted.names, failure.message
        );
        for (object, field) in &case.wanted.askers {
            let problem = Problem {
                level: if case.best.is_some() {
                    Level::Warning
                } else {
                    Level::Error
                },
                object: object.clone(),
                field: field.clone(),
                reason: reason(failure.kind),
                message: message.clone(),
            };
            self.plan.problems.push(problem.bounded());
        }
    }
}

fn reason(kind: FailureKind) -> Reason {
    match kind {
        FailureKind::NotProven => Reason::ChallengeNotServed,
        _ => Reason::OrderFailed,
    }
}

fn why_due(why: WhyDue) -> &'static str {
    match why {
        WhyDue::Suggested => "the CA suggests it (ARI)",
        WhyDue::TwoThirds => "two thirds of its life are over",
        WhyDue::OtherIssuer => "it is from another issuer than the one that is meant",
    }
}

fn why_now(case: &Case<'_>, environment: Environment) -> String {
    let why = match (&case.best, case.requested) {
        (_, Some(_)) => "somebody asked for it",
        (Some((_, due)), None) => why_due(due.why),
        (None, None) if case.present.is_empty() => "there is no certificate",
        (None, None) => "the certificate has expired",
    };
    match environment {
        Environment::Production => why.to_owned(),
        Environment::Staging => {
            format!("{why}; it failed before, so the staging directory is tried first")
        }
    }
}

fn outlook(case: &Case<'_>, next: Next) -> Outlook {
    let held = case.best.or_else(|| {
        case.present
            .iter()
            .copied()
            .max_by_key(|(held, _)| held.certificate.not_after)
    });
    let issuer = match (
        held.and_then(|(held, _)| held.issuer),
        case.wanted.issuers.first(),
    ) {
        (Some(issuer), _) => issuer.to_owned(),
        (None, Some(issuer)) => issuer.name.clone(),
        (None, None) => String::new(),
    };
    Outlook {
        id: case.wanted.id.clone(),
        names: case.wanted.names.iter().map(ToString::to_string).collect(),
        issuer,
        secrets: case.wanted.secrets.iter().cloned().collect(),
        objects: case.wanted.objects(),
        not_after: held.map(|(held, _)| held.certificate.not_after),
        next: next.word,
        at: next.at,
        why: next.why,
        last_error: case
            .entry
            .last_failure
            .as_ref()
            .map(|failure| failure.message.clone()),
    }
}
