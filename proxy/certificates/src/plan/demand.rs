//! Names that clients ask for by a handshake.

use std::collections::{BTreeSet, HashSet};

use tidegate_model::{CertificateRequest, CertificateWish, HostPattern, Hostname, UnixTime};

use super::moment::Moment;
use super::requests::request_key;
use super::wanted::settings_object;
use super::{Action, Plan};
use crate::domain;
use crate::ledger::{HOUR, SetEntry, seconds};
use crate::names::NameSet;
use crate::settings::OnDemandSettings;

/// How old the memory of a client's question gets before another is worth remembering.
const FRESH: i64 = HOUR;

/// Answers the requests of handshakes: a name that is allowed is remembered, and so wanted from the next plan on. Those
/// beyond the hour's budget are dropped; a client that still wants one asks again.
pub(super) fn answer(moment: &Moment<'_>, plan: &mut Plan) {
    let asked = moment
        .issuance
        .requests
        .keys()
        .filter_map(|request| match request {
            CertificateRequest::OnDemand(host) => Some((request, host)),
            CertificateRequest::Renew(_) => None,
        });
    let mut budget = None;
    for (request, host) in asked {
        plan.actions.push(Action::Answered(request_key(request)));
        let Some(settings) = &moment.settings.on_demand else {
            continue;
        };
        let Some(names) = NameSet::new([HostPattern::Exact(host.clone())]) else {
            continue;
        };
        let id = names.id();
        let is_sealed = moment.ledger.sealed_until(&id, moment.now).is_some();
        if is_sealed || !allows(moment, settings, host) || is_wished_for(moment, host) {
            continue;
        }
        if let Some(last) = moment.entry(&id).on_demand {
            if last.saturating_add(FRESH) <= moment.now.0 || forgotten(last, settings, moment.now) {
                plan.actions.push(Action::NoteDemand(names));
            }
            continue;
        }
        let left = budget.get_or_insert_with(|| settings.per_hour.saturating_sub(begun(moment)));
        if *left > 0 {
            *left -= 1;
            plan.actions.push(Action::NoteDemand(names));
        }
    }
}

/// Wishes for the names that clients have asked for, are still allowed and that no other wish covers.
pub(super) fn wishes(
    moment: &Moment<'_>,
    others: &[CertificateWish],
    plan: &mut Plan,
) -> Vec<CertificateWish> {
    let Some(settings) = &moment.settings.on_demand else {
        return Vec::new();
    };
    let covered: HashSet<_> = others.iter().flat_map(|wish| &wish.names).collect();
    let is_covered = |name: &HostPattern| {
        covered.contains(name)
            || name
                .wildcard_above()
                .is_some_and(|above| covered.contains(&above))
    };
    let mut wishes = Vec::new();
    for entry in moment.ledger.sets.values() {
        let Some((host, last)) = demanded(entry) else {
            continue;
        };
        let name = HostPattern::Exact(host.clone());
        if is_covered(&name)
            || forgotten(last, settings, moment.now)
            || !allows(moment, settings, &host)
        {
            continue;
        }
        plan.wake(
            moment.now,
            UnixTime(last.saturating_add(seconds(settings.forget_after))),
        );
        wishes.push(CertificateWish {
            names: BTreeSet::from([name]),
            issuer: settings.issuer.clone(),
            secret: None,
            object: settings_object(),
            field: "onDemand".to_owned(),
        });
    }
    wishes
}

fn is_wished_for(moment: &Moment<'_>, host: &Hostname) -> bool {
    let listed = moment
        .settings
        .certificates
        .iter()
        .flat_map(|wanted| &wanted.names);
    let wished = moment.issuance.wishes.iter().flat_map(|wish| &wish.names);
    wished
        .chain(listed)
        .any(|name| *name != HostPattern::Any && name.matches(host.as_str()))
}

/// The one name of an entry that was made on demand, and when it was last asked for.
fn demanded(entry: &SetEntry) -> Option<(Hostname, i64)> {
    let last = entry.on_demand?;
    match entry.names.as_slice() {
        [name] => Some((Hostname::parse(name).ok()?, last)),
        _ => None,
    }
}

fn forgotten(last: i64, settings: &OnDemandSettings, now: UnixTime) -> bool {
    last.saturating_add(seconds(settings.forget_after)) <= now.0
}

/// New names within the last hour.
fn begun(moment: &Moment<'_>) -> u32 {
    let since = moment.now.0.saturating_sub(HOUR);
    let begun = moment
        .ledger
        .sets
        .values()
        .filter(|entry| entry.on_demand_since > Some(since));
    u32::try_from(begun.count()).unwrap_or(u32::MAX)
}

/// Whether settings allow a name. The URL of `ask` was asked by the node that saw the handshake.
fn allows(moment: &Moment<'_>, settings: &OnDemandSettings, host: &Hostname) -> bool {
    let name = HostPattern::Exact(host.clone());
    let is_public = moment
        .issuer(settings.issuer.as_deref())
        .is_some_and(|issuer| domain::is_public_ca(&issuer.directory));
    if is_public && domain::never_public(&name).is_some() {
        return false;
    }
    settings.ask.is_some() || settings.allows(host, &moment.issuance.hosts)
}
