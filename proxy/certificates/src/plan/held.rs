//! What is held for a set of names, and when it is to be renewed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use instant_acme::CertificateIdentifier;
use tidegate_model::{Certificate, HeldSecret, NamespacedName, SecretOwner, UnixTime};

use super::moment::Moment;
use super::wanted::Wanted;
use crate::ledger::{Renewal, share};
use crate::names::SetId;

/// The unique identifier of a certificate by which its CA says when to renew it (RFC 9773 section 4.1); `None` for one without
/// a serial number or the identifier of its issuer's key.
pub fn renewal_id(certificate: &Certificate) -> Option<String> {
    let leaf = certificate.chain.first()?;
    let identifier = CertificateIdentifier::try_from(leaf).ok()?;
    Some(identifier.to_string())
}

/// Every Secret that is ours, and by the names that its certificate is for.
pub(super) struct Holdings<'a> {
    secrets: &'a BTreeMap<NamespacedName, HeldSecret>,
    by_names: HashMap<SetId, Vec<Held<'a>>>,
}

/// A certificate of ours in a Secret.
#[derive(Clone, Copy)]
pub(super) struct Held<'a> {
    pub(super) secret: &'a NamespacedName,
    pub(super) certificate: &'a Arc<Certificate>,
    /// The issuer that it was ordered from, as far as it is known.
    pub(super) issuer: Option<&'a str>,
}

/// When a certificate is to be renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) at: UnixTime,
    pub(super) why: WhyDue,
}

/// Why it is to be renewed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WhyDue {
    /// The CA says so.
    Suggested,
    /// Two thirds of its life are over then.
    TwoThirds,
    /// The issuer is another than those that are meant.
    OtherIssuer,
}

impl<'a> Holdings<'a> {
    pub(super) fn new(secrets: &'a BTreeMap<NamespacedName, HeldSecret>) -> Self {
        let mut by_names: HashMap<_, Vec<_>> = HashMap::new();
        for (secret, held) in secrets {
            if let Some(held) = Held::of(secret, held) {
                by_names.entry(held.names_id()).or_default().push(held);
            }
        }
        Self { secrets, by_names }
    }

    /// What is in the Secrets of a set and is valid for all of its names, expired or not.
    pub(super) fn of(&self, wanted: &Wanted) -> Vec<Held<'a>> {
        let held = |secret| {
            let (name, held) = self.secrets.get_key_value(secret)?;
            Held::of(name, held).filter(|held| wanted.names.are_covered_by(held.certificate))
        };
        wanted.secrets.iter().filter_map(held).collect()
    }

    /// What is in other Secrets and is for exactly the names of a set.
    pub(super) fn elsewhere(&self, wanted: &Wanted) -> impl Iterator<Item = Held<'a>> {
        let exact = self.by_names.get(&wanted.id).into_iter().flatten().copied();
        exact.filter(|held| !wanted.secrets.contains(held.secret))
    }
}

impl<'a> Held<'a> {
    fn of(secret: &'a NamespacedName, held: &'a HeldSecret) -> Option<Self> {
        let certificate = held.certificate.as_ref()?;
        (held.owner == SecretOwner::Tidegate).then_some(Self {
            secret,
            certificate,
            issuer: held.issuer.as_deref(),
        })
    }

    /// Identity of the set of names that the certificate is for.
    pub(super) fn names_id(&self) -> SetId {
        SetId::of_names(&self.certificate.names)
    }

    pub(super) fn is_alive(&self, now: UnixTime) -> bool {
        self.certificate.not_after > now
    }

    /// When it is to be renewed for a set.
    pub(super) fn due(&self, moment: &Moment<'_>, wanted: &Wanted) -> Due {
        if self.is_of_another_issuer(moment, wanted) {
            return Due {
                at: UnixTime(i64::MIN),
                why: WhyDue::OtherIssuer,
            };
        }
        let own = two_thirds(self.certificate, &wanted.id);
        let renewal = moment.entry(&wanted.id).renewal.as_ref();
        match renewal
            .filter(|renewal| self.is_meant_by(renewal))
            .and_then(Renewal::moment)
        {
            // Whatever the CA says, some time has to be left for things that go wrong.
            Some(at) => Due {
                at: at.min(last_tenth(self.certificate)),
                why: WhyDue::Suggested,
            },
            None => Due {
                at: own,
                why: WhyDue::TwoThirds,
            },
        }
    }

    /// Whether the CA's word is about this certificate.
    pub(super) fn is_meant_by(&self, renewal: &Renewal) -> bool {
        renewal_id(self.certificate).as_ref() == Some(&renewal.certificate)
    }

    /// Whether it is known to come from an issuer of the settings that is not meant here. One whose issuer is not known, or
    /// not in the settings any more, serves until it is due.
    fn is_of_another_issuer(&self, moment: &Moment<'_>, wanted: &Wanted) -> bool {
        let Some(name) = self
            .issuer
            .filter(|name| moment.issuer(Some(name)).is_some())
        else {
            return false;
        };
        !wanted.issuers.is_empty() && !wanted.issuers.iter().any(|issuer| issuer.name == name)
    }
}

/// Two thirds of a certificate's life, a little earlier by the set's own share, so that sets which were ordered together are
/// not renewed together.
fn two_thirds(certificate: &Certificate, id: &SetId) -> UnixTime {
    let life = life(certificate);
    let early = share(id, 0, life / 30);
    UnixTime(
        certificate
            .not_after
            .0
            .saturating_sub(life / 3)
            .saturating_sub(early),
    )
}

/// The moment from which less than a tenth of a certificate's life is left.
pub(super) fn last_tenth(certificate: &Certificate) -> UnixTime {
    UnixTime(
        certificate
            .not_after
            .0
            .saturating_sub(life(certificate) / 10),
    )
}

fn life(certificate: &Certificate) -> i64 {
    certificate
        .not_after
        .0
        .saturating_sub(certificate.not_before.0)
        .max(0)
}
