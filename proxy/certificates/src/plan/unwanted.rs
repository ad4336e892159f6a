//! What nobody wants any more: not renewed, and removed after a time of grace.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_model::{NamespacedName, SecretOwner, UnixTime};

use super::moment::Moment;
use super::wanted::Wants;
use super::{Action, Outlook, Plan, words};
use crate::ledger::{SetEntry, seconds};
use crate::names::SetId;

/// Notes what is unwanted, and removes what has been for long enough.
pub(super) fn clear(moment: &Moment<'_>, wants: &Wants, plan: &mut Plan) {
    let strays = strays(moment, wants);
    let ids: BTreeSet<_> = moment.ledger.sets.keys().chain(strays.keys()).collect();
    for id in ids {
        if wants.sets.contains_key(id) {
            continue;
        }
        let secrets = strays.get(id).map_or(&[][..], Vec::as_slice);
        clear_one(moment, id, secrets, plan);
    }
}

fn clear_one(moment: &Moment<'_>, id: &SetId, secrets: &[NamespacedName], plan: &mut Plan) {
    let entry = moment.entry(id);
    if let Some(until) = moment.ledger.sealed_until(id, moment.now) {
        plan.wake(moment.now, until);
        return;
    }
    if entry.order.is_some() {
        plan.actions.push(Action::Abandon(id.clone()));
    }
    if secrets.is_empty() && !entry.remembers_more_than_counts() {
        return;
    }
    let since = entry.unwanted_since;
    if since.is_none() {
        plan.actions.push(Action::NoteUnwanted(id.clone()));
    }
    let since = since.map_or(moment.now, UnixTime);
    let at = UnixTime(since.0.saturating_add(seconds(moment.settings.grace)));
    plan.wake(moment.now, at);
    if entry.unwanted_since.is_some() && at <= moment.now {
        plan.actions.push(Action::Remove {
            id: id.clone(),
            secrets: secrets.to_vec(),
        });
    }
    if !secrets.is_empty() {
        plan.outlook.push(outlook(moment, id, secrets, since, at));
    }
}

/// Secrets of ours that nobody names, by the set that they are of. Those of a set that is wanted elsewhere, and those of which
/// nothing can be read, stand for themselves.
fn strays(moment: &Moment<'_>, wants: &Wants) -> BTreeMap<SetId, Vec<NamespacedName>> {
    let mut strays: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (secret, held) in &moment.issuance.secrets {
        if held.owner == SecretOwner::Other || wants.secrets.contains(secret) {
            continue;
        }
        let id = held
            .certificate
            .as_ref()
            .map(|certificate| SetId::of_names(&certificate.names))
            .filter(|id| !wants.sets.contains_key(id))
            .unwrap_or_else(|| SetId::of_secret(secret));
        strays.entry(id).or_default().push(secret.clone());
    }
    strays
}

fn outlook(
    moment: &Moment<'_>,
    id: &SetId,
    secrets: &[NamespacedName],
    since: UnixTime,
    at: UnixTime,
) -> Outlook {
    let held: Vec<_> = secrets
        .iter()
        .filter_map(|secret| moment.issuance.secrets.get(secret))
        .collect();
    let certificate = held.iter().find_map(|held| held.certificate.as_ref());
    let names =
        certificate.map(|certificate| certificate.names.iter().map(ToString::to_string).collect());
    Outlook {
        id: id.clone(),
        names: names.unwrap_or_default(),
        issuer: held
            .iter()
            .find_map(|held| held.issuer.clone())
            .unwrap_or_default(),
        secrets: secrets.to_vec(),
        objects: Vec::new(),
        not_after: certificate.map(|certificate| certificate.not_after),
        next: "remove",
        at: Some(at),
        why: format!("nobody has wanted it since {}", words::time(since)),
        last_error: None,
    }
}

impl SetEntry {
    /// Whether there is more to forget than what counts at the CA.
    fn remembers_more_than_counts(&self) -> bool {
        let counts = Self {
            names: self.names.clone(),
            issued: self.issued.clone(),
            failed_validations: self.failed_validations.clone(),
            unwanted_since: self.unwanted_since,
            ..Self::default()
        };
        *self != counts || self.unwanted_since.is_some()
    }
}
