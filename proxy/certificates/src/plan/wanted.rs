//! What is wanted: wishes, settings and names on demand, united into sets of names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_model::{
    CertificateWish, HostPattern, Level, NamespacedName, ObjectRef, Problem, Reason, SecretOwner,
};

use super::moment::{Moment, proves_wildcards};
use super::{Plan, demand};
use crate::domain;
use crate::issuer::Issuer;
use crate::names::{NameSet, SetId};

/// Most names of one certificate: the limit of Let's Encrypt, and of others.
const NAMES: usize = 100;

/// A set of names that a certificate is wanted for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) id: SetId,
    pub(super) names: NameSet,
    /// The Secrets that it is to be in and that may be written.
    pub(super) secrets: BTreeSet<NamespacedName>,
    /// Who asks, and in which field.
    pub(super) askers: BTreeSet<(ObjectRef, String)>,
    /// Where it can be ordered: the issuer that is meant, then those that it falls back to.
    pub(super) issuers: Vec<Arc<Issuer>>,
    /// Why nothing can be ordered.
    pub(super) obstacle: Option<String>,
}

/// All that is wanted.
#[derive(Debug, Default)]
pub(super) struct Wants {
    pub(super) sets: BTreeMap<SetId, Wanted>,
    /// Every Secret that anybody names, and those of sets that nobody names one for: none of them is to be removed.
    pub(super) secrets: BTreeSet<NamespacedName>,
    /// Which set each Secret is written for.
    claims: BTreeMap<NamespacedName, SetId>,
}

/// Wishes that name the same Secret, or the same names and no Secret.
#[derive(Default)]
struct Group {
    names: BTreeSet<HostPattern>,
    wishes: Vec<CertificateWish>,
}

/// Unites all wishes, and tells what is wrong with them.
pub(super) fn unite(moment: &Moment<'_>, plan: &mut Plan) -> Wants {
    let mut wishes = moment.issuance.wishes.clone();
    wishes.extend(of_settings(moment));
    wishes.extend(demand::wishes(moment, &wishes, plan));
    wishes.sort();
    wishes.dedup();

    let mut wants = Wants::default();
    let (known, unknown): (Vec<_>, Vec<_>) = wishes
        .into_iter()
        .partition(|wish| moment.issuer(wish.issuer.as_deref()).is_some());
    for group in groups(moment, known, plan) {
        wants.add(moment, group, None, plan);
    }
    for wish in unknown {
        let why = unknown_issuer(moment, &wish);
        plan.problems.push(problem(
            &wish,
            Level::Error,
            Reason::InvalidIssuer,
            why.clone(),
        ));
        let group = Group {
            names: wish.names.clone(),
            wishes: vec![wish],
        };
        wants.add(moment, group, Some(why), plan);
    }
    wants
}

fn of_settings(moment: &Moment<'_>) -> impl Iterator<Item = CertificateWish> {
    let listed = moment.settings.certificates.iter().enumerate();
    listed.map(|(at, wanted)| CertificateWish {
        names: wanted.names.clone(),
        issuer: wanted.issuer.clone(),
        secret: wanted.secret.clone(),
        object: settings_object(),
        field: format!("certificates[{at}]"),
    })
}

/// The settings, as the object of a Problem.
pub(super) fn settings_object() -> ObjectRef {
    ObjectRef::new("Settings", NamespacedName::new("", "certificates"))
}

fn groups(moment: &Moment<'_>, wishes: Vec<CertificateWish>, plan: &mut Plan) -> Vec<Group> {
    let mut named: BTreeMap<NamespacedName, Group> = BTreeMap::new();
    let mut unnamed: BTreeMap<BTreeSet<HostPattern>, Group> = BTreeMap::new();
    for wish in wishes {
        let names = issuable(moment, &wish, plan);
        let group = match &wish.secret {
            Some(secret) => named.entry(secret.clone()).or_default(),
            None => unnamed.entry(names.clone()).or_default(),
        };
        group.names.extend(names);
        group.wishes.push(wish);
    }
    named.into_values().chain(unnamed.into_values()).collect()
}

/// The names of a wish without those that its issuer never issues for.
fn issuable(moment: &Moment<'_>, wish: &CertificateWish, plan: &mut Plan) -> BTreeSet<HostPattern> {
    let is_public = moment
        .issuer(wish.issuer.as_deref())
        .is_some_and(|issuer| domain::is_public_ca(&issuer.directory));
    let mut names = BTreeSet::new();
    for name in &wish.names {
        let why = match name {
            HostPattern::Any => Some("a certificate is for names, not for every host"),
            _ if is_public => domain::never_public(name),
            _ => None,
        };
        let Some(why) = why else {
            names.insert(name.clone());
            continue;
        };
        let message = format!(
            "no certificate is ordered for '{name}': {why}; leave it out, or name an issuer that is a CA of your own"
        );
        plan.problems
            .push(problem(wish, Level::Error, Reason::InvalidHost, message));
    }
    names
}

impl Wants {
    fn add(
        &mut self,
        moment: &Moment<'_>,
        group: Group,
        obstacle: Option<String>,
        plan: &mut Plan,
    ) {
        self.secrets
            .extend(group.wishes.iter().filter_map(|wish| wish.secret.clone()));
        let Some(names) = NameSet::new(group.names) else {
            return;
        };
        let id = names.id();
        // The wishes of a group name one Secret or none.
        let secret = group.wishes.iter().find_map(|wish| wish.secret.clone());
        let secret = secret.unwrap_or_else(|| moment.own_secret(&id));
        let is_foreign = moment
            .issuance
            .secrets
            .get(&secret)
            .is_some_and(|held| held.owner == SecretOwner::Other);
        self.secrets.insert(secret.clone());
        let claim = match &obstacle {
            None => self
                .claims
                .entry(secret.clone())
                .or_insert_with(|| id.clone()),
            Some(_) => &id,
        };
        let is_claimed = *claim != id;
        if is_foreign {
            tell_foreign(&secret, &group.wishes, plan);
        } else if is_claimed {
            tell_claimed(&secret, &group.wishes, plan);
        }
        let wanted = match self.sets.get_mut(&id) {
            // The obstacle is one of this wish alone, and told.
            Some(_) if obstacle.is_some() => return,
            Some(wanted) => {
                wanted.join(moment, &group.wishes, plan);
                wanted
            }
            None => {
                let wanted = Wanted::new(moment, id.clone(), names, &group.wishes, obstacle, plan);
                self.sets.entry(id).or_insert(wanted)
            }
        };
        let askers = group
            .wishes
            .into_iter()
            .map(|wish| (wish.object, wish.field));
        wanted.askers.extend(askers);
        if !is_foreign && !is_claimed {
            wanted.secrets.insert(secret);
        }
    }
}

impl Wanted {
    fn new(
        moment: &Moment<'_>,
        id: SetId,
        names: NameSet,
        wishes: &[CertificateWish],
        obstacle: Option<String>,
        plan: &mut Plan,
    ) -> Self {
        let first = wishes.iter().min();
        let issuer = first.and_then(|wish| moment.issuer(wish.issuer.as_deref()));
        let mut wanted = Self {
            issuers: issuer
                .map(|issuer| moment.with_fallbacks(issuer))
                .unwrap_or_default(),
            id,
            names,
            secrets: BTreeSet::new(),
            askers: BTreeSet::new(),
            obstacle,
        };
        wanted.join(moment, wishes, plan);
        if wanted.obstacle.is_none() {
            wanted.look_for_obstacles(wishes, plan);
        }
        wanted
    }

    /// Tells wishes that name another issuer than the one that counts.
    fn join(&self, moment: &Moment<'_>, wishes: &[CertificateWish], plan: &mut Plan) {
        let Some(issuer) = self.issuers.first() else {
            return;
        };
        for wish in wishes {
            let other = moment.issuer(wish.issuer.as_deref());
            if let Some(other) = other.filter(|other| other.name != issuer.name) {
                let message = format!(
                    "issuer '{}' is not asked: the certificate for {} is ordered from issuer '{}', which another wish for \
                     the same names or Secret names; name the same issuer in both",
                    other.name, self.names, issuer.name
                );
                plan.problems.push(problem(
                    wish,
                    Level::Warning,
                    Reason::InvalidIssuer,
                    message,
                ));
            }
        }
    }

    fn look_for_obstacles(&mut self, wishes: &[CertificateWish], plan: &mut Plan) {
        let first = self
            .issuers
            .first()
            .map_or_else(String::new, |issuer| issuer.name.clone());
        if self.names.has_wildcard() {
            self.issuers.retain(|issuer| proves_wildcards(issuer));
        }
        let obstacle = if self.issuers.is_empty() {
            format!(
                "no certificate is ordered for {}: issuer '{first}' cannot prove a wildcard; give it a DNS-01 challenge in the \
                 settings, or name an issuer that has one",
                self.names
            )
        } else if self.names.len() > NAMES {
            format!(
                "no certificate is ordered for {} names together: CAs take at most {NAMES}; spread them over several Secrets",
                self.names.len()
            )
        } else {
            return;
        };
        for wish in wishes {
            plan.problems.push(problem(
                wish,
                Level::Error,
                Reason::InvalidIssuer,
                obstacle.clone(),
            ));
        }
        self.obstacle = Some(obstacle);
    }

    /// Who asks, each once.
    pub(super) fn objects(&self) -> Vec<ObjectRef> {
        let objects: BTreeSet<_> = self
            .askers
            .iter()
            .map(|(object, _)| object.clone())
            .collect();
        objects.into_iter().collect()
    }
}

fn unknown_issuer(moment: &Moment<'_>, wish: &CertificateWish) -> String {
    match (&wish.issuer, moment.issuer_names()) {
        (_, known) if known.is_empty() => {
            "no certificate is ordered: the settings have no issuer; add one there".to_owned()
        }
        (Some(name), known) => {
            let name = tidegate_model::Excerpt(name);
            format!(
                "no certificate is ordered: the settings have no issuer '{name}'; name one of these: {known}"
            )
        }
        // The first issuer is meant, and there is one.
        (None, _) => String::new(),
    }
}

fn tell_foreign(secret: &NamespacedName, wishes: &[CertificateWish], plan: &mut Plan) {
    for wish in wishes {
        let message = format!(
            "Secret '{secret}' is not Tidegate's: it is served as it is and never written, and no certificate is ordered for \
             it; name another Secret, or remove this one, to have one ordered"
        );
        plan.problems
            .push(problem(wish, Level::Info, Reason::SecretNotOwned, message));
    }
}

fn tell_claimed(secret: &NamespacedName, wishes: &[CertificateWish], plan: &mut Plan) {
    for wish in wishes {
        let message = format!(
            "Secret '{secret}' is where Tidegate keeps the certificate for other names, so none is put there for these; name \
             another Secret"
        );
        plan.problems.push(problem(
            wish,
            Level::Warning,
            Reason::CertificateConflict,
            message,
        ));
    }
}

fn problem(wish: &CertificateWish, level: Level, reason: Reason, message: String) -> Problem {
    Problem {
        level,
        object: wish.object.clone(),
        field: wish.field.clone(),
        reason,
        message,
    }
    .bounded()
}
