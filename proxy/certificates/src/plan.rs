//! What to do next about every certificate, and why: pure, total, and nothing else decides it.
//!
//! [`plan`](fn@plan) unites what is wished for into sets of names, looks at what is held for each, and decides within the
//! limits of the CA. What carries a plan out tells the ledger, and plans again.

mod budget;
mod case;
mod decide;
mod demand;
mod held;
mod moment;
mod requests;
mod unwanted;
mod wanted;
mod words;

use std::sync::Arc;

use serde::Serialize;
use tidegate_model::{Certificate, Issuance, NamespacedName, ObjectRef, Problem, UnixTime};

use crate::issuer::Issuer;
use crate::ledger::Ledger;
use crate::names::{NameSet, SetId};
use crate::settings::CertificateSettings;

use moment::Moment;

pub use held::renewal_id;
pub use requests::request_key;

/// Everything that a moment calls for.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// What is to be done now, the most urgent first.
    pub actions: Vec<Action>,
    /// When to plan again though nothing changes.
    pub wake_at: Option<UnixTime>,
    /// How each set of names stands, by its first name.
    pub outlook: Vec<Outlook>,
    /// What is wrong with objects that ask for certificates, or with what they ask for, sorted.
    pub problems: Vec<Problem>,
}

/// Decides what to do at a moment. The same arguments give the same plan; the order of wishes does not matter.
///
/// - `instance`: name of the instance's Lease, which names of Secrets begin with.
/// - `own_namespace`: where Secrets are put that nobody names.
///
/// Carrying out the actions changes the ledger, which calls for another plan at once. What [`Action::Copy`],
/// [`Action::Remove`] and [`Action::Answered`] change is seen only in the next [`Issuance`]: a plan that has nothing but
/// those to repeat waits for it.
pub fn plan(
    now: UnixTime,
    settings: &CertificateSettings,
    instance: &str,
    own_namespace: &str,
    issuance: &Issuance,
    ledger: &Ledger,
) -> Plan {
    let moment = Moment::new(now, settings, instance, own_namespace, issuance, ledger);
    let mut plan = Plan::default();
    demand::answer(&moment, &mut plan);
    let wanted = wanted::unite(&moment, &mut plan);
    let renewals = requests::renewals(&moment, &wanted, &mut plan);
    decide::decide(&moment, &wanted, &renewals, &mut plan);
    unwanted::clear(&moment, &wanted, &mut plan);
    plan.settle();
    plan
}

impl Plan {
    /// Remembers to plan again at a moment. One that is past needs no waking.
    fn wake(&mut self, now: UnixTime, at: UnixTime) {
        if at > now {
            self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
        }
    }

    fn settle(&mut self) {
        self.actions.sort_by_key(Action::turn);
        self.outlook.sort_by(|a, b| {
            let key = |outlook: &Outlook| (outlook.names.clone(), outlook.id.clone());
            key(a).cmp(&key(b))
        });
        self.problems.sort();
        self.problems.dedup();
    }
}

impl Action {
    /// What is quick and helps at once comes first, what can wait last.
    fn turn(&self) -> u8 {
        match self {
            Self::Copy { .. } => 0,
            Self::NoteDemand(_)
            | Self::NoteWanted(_)
            | Self::NoteUnwanted(_)
            | Self::Abandon(_)
            | Self::Answered(_) => 1,
            Self::Order(_) => 2,
            Self::AskRenewal { .. } => 3,
            Self::Remove { .. } => 4,
        }
    }
}

/// A step towards what is wanted.
#[derive(Clone, Debug)]
pub enum Action {
    /// Place a new order, or go on with the one that the ledger has under way.
    Order(OrderTask),
    /// Put a certificate that is held already into other Secrets.
    Copy {
        /// What for.
        names: NameSet,
        /// Where it is.
        from: Arc<Certificate>,
        /// Issuer that it came from.
        issuer: String,
        /// Where it is to be.
        into: Vec<NamespacedName>,
    },
    /// Ask the CA when a certificate is to be renewed (RFC 9773).
    AskRenewal {
        /// What for.
        names: NameSet,
        /// The certificate.
        certificate: Arc<Certificate>,
        /// Who issued it.
        issuer: Arc<Issuer>,
    },
    /// Remember that nobody wants these names.
    NoteUnwanted(SetId),
    /// Remember that they are wanted again.
    NoteWanted(SetId),
    /// Remove the Secrets, and what is remembered with them when it does not count any more.
    Remove {
        /// The names.
        id: SetId,
        /// Secrets of ours that hold nothing wanted.
        secrets: Vec<NamespacedName>,
    },
    /// Drop an order that is under way and of no use any more.
    Abandon(SetId),
    /// Remove a request that was carried out or means nothing: its key in the record of requests.
    Answered(String),
    /// Remember that a client asked for this name, which makes it wanted.
    NoteDemand(NameSet),
}

/// An order to place or to finish.
#[derive(Clone, Debug)]
pub struct OrderTask {
    /// What the certificate is for.
    pub names: NameSet,
    /// Where it is ordered.
    pub issuer: Arc<Issuer>,
    /// At which directory of the issuer.
    pub environment: Environment,
    /// The Secrets that it is put into.
    pub into: Vec<NamespacedName>,
    /// The certificate that it takes the place of.
    pub replaces: Option<Arc<Certificate>>,
    /// Who asks for it.
    pub objects: Vec<ObjectRef>,
    /// Why now.
    pub why: String,
    /// The request to renew that this carries out: the text of its time. The ledger remembers it from
    /// [`Ledger::begin`] or [`Ledger::resumed`] on.
    pub requested: Option<String>,
}

/// A directory of an issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Environment {
    /// Certificates that clients trust.
    Production,
    /// Those that only show that it would work.
    Staging,
}

/// How a set of names stands, for people.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outlook {
    /// Identity of the set.
    pub id: SetId,
    /// The names.
    pub names: Vec<String>,
    /// Name of the issuer.
    pub issuer: String,
    /// The Secrets that it is in or is to be put into.
    pub secrets: Vec<NamespacedName>,
    /// Who asks for it.
    pub objects: Vec<ObjectRef>,
    /// End of the life of what is held now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<UnixTime>,
    /// What comes next: `order`, `renew`, `retry`, `wait`, `finish`, `remove`, `none`.
    pub next: &'static str,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<UnixTime>,
    /// Why then, in words.
    pub why: String,
    /// What went wrong last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

#[cfg(test)]
mod tests;
