//! What operators ask for by themselves: certificates to be ordered again now.

use std::collections::BTreeMap;

use tidegate_model::{CertificateRequest, HostPattern};

use super::moment::Moment;
use super::wanted::{Wanted, Wants};
use super::{Action, Plan};
use crate::names::SetId;

/// The key of a request in the record of requests: `renew.HOST` or `on-demand.HOST`, a wildcard's `*` written as `_`.
pub fn request_key(request: &CertificateRequest) -> String {
    match request {
        CertificateRequest::Renew(HostPattern::Wildcard(suffix)) => format!("renew._.{suffix}"),
        CertificateRequest::Renew(name) => format!("renew.{name}"),
        CertificateRequest::OnDemand(host) => format!("on-demand.{host}"),
    }
}

/// The sets that are to be ordered again at once, each with the text of the request's time. Requests that have begun to be
/// carried out, or that concern nothing that could be ordered, are answered.
pub(super) fn renewals(
    moment: &Moment<'_>,
    wants: &Wants,
    plan: &mut Plan,
) -> BTreeMap<SetId, String> {
    let mut open: BTreeMap<SetId, String> = BTreeMap::new();
    for (request, time) in &moment.issuance.requests {
        let CertificateRequest::Renew(name) = request else {
            continue;
        };
        let mut is_open = false;
        for wanted in concerned(wants, name) {
            let done = moment.entry(&wanted.id).renewed_for.as_deref();
            if wanted.obstacle.is_some() || wanted.secrets.is_empty() || has_begun(done, time) {
                continue;
            }
            is_open = true;
            let latest = open
                .entry(wanted.id.clone())
                .or_insert_with(|| time.clone());
            if !has_begun(Some(latest), time) {
                latest.clone_from(time);
            }
        }
        if !is_open {
            plan.actions.push(Action::Answered(request_key(request)));
        }
    }
    open
}

/// The sets with this very name; if there is none, those that are valid for it.
fn concerned<'a>(wants: &'a Wants, name: &HostPattern) -> Vec<&'a Wanted> {
    let sets = wants.sets.values();
    let exact: Vec<_> = sets
        .clone()
        .filter(|wanted| wanted.names.contains(name))
        .collect();
    match exact.is_empty() {
        true => sets.filter(|wanted| wanted.names.covers(name)).collect(),
        false => exact,
    }
}

/// Whether a request of this time is carried out by what was begun for another.
fn has_begun(done: Option<&str>, asked: &str) -> bool {
    let moment = |text: &str| text.parse::<jiff::Timestamp>().ok();
    match (done, done.and_then(moment), moment(asked)) {
        (_, Some(done), Some(asked)) => done >= asked,
        (done, _, _) => done == Some(asked),
    }
}
