//! What a plan for certificates needs to know, put together from all Ingresses and Secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_model::{
    CertificateWish, HeldSecret, HostPattern, Issuance, NamespacedName, SecretOwner,
};

use super::hosts::Hosts;
use super::index::Index;
use super::ingress::Derived;
use super::labels::{self, CERTIFICATE_LABEL, ISSUER_ANNOTATION};
use super::objects::Objects;
use super::own_secrets::OwnSecrets;
use super::secrets::{Found, Secrets};

/// The [`Issuance`], made again only when something of it changed.
#[derive(Debug, Default)]
pub(super) struct Kept {
    current: Arc<Issuance>,
    wishes: BTreeSet<Arc<CertificateWish>>,
    /// The Secrets that wishes name.
    wished: Index<NamespacedName>,
    secrets: BTreeMap<NamespacedName, HeldSecret>,
    hosts: Arc<BTreeSet<HostPattern>>,
    /// Of the hosts that rules name; `None` before the first time.
    hosts_version: Option<u64>,
    /// Whether something is not in `current` yet.
    is_stale: bool,
}

impl Kept {
    pub(super) fn current(&self) -> &Arc<Issuance> {
        &self.current
    }

    /// Takes the new version of an Ingress in.
    pub(super) fn replace(
        &mut self,
        name: &NamespacedName,
        old: Option<&Derived>,
        new: Option<&Derived>,
    ) {
        let wishes = |derived: Option<&Derived>| derived.map(|it| it.wishes.all.clone());
        let (old, new) = (
            wishes(old).unwrap_or_default(),
            wishes(new).unwrap_or_default(),
        );
        if old == new {
            return;
        }
        self.is_stale = true;
        for wish in &old {
            self.wishes.remove(wish);
        }
        let named = |wishes: &[Arc<CertificateWish>]| -> BTreeSet<_> {
            wishes
                .iter()
                .filter_map(|wish| wish.secret.clone())
                .collect()
        };
        super::relink(&mut self.wished, name, Some(named(&old)), Some(named(&new)));
        self.wishes.extend(new);
    }

    /// Looks again at Secrets that may be others now, and at what else there is.
    pub(super) fn update(
        &mut self,
        stale: &BTreeSet<NamespacedName>,
        instance: Option<&str>,
        objects: &Objects,
        secrets: &mut Secrets,
        own: &OwnSecrets,
        hosts: &Hosts,
    ) {
        for name in stale {
            let is_needed = self.wished.contains(name) || own.certificates().contains(name);
            let found = is_needed.then(|| held(name, instance, objects, secrets));
            self.hold(name, found.flatten().as_ref());
        }
        let version = Some(hosts.named().version());
        if self.hosts_version != version {
            self.hosts_version = version;
            self.take_hosts(hosts);
        }
        if self.is_stale || self.current.requests != *own.requests() {
            self.is_stale = false;
            self.current = Arc::new(Issuance {
                wishes: self.wishes.iter().map(|wish| (**wish).clone()).collect(),
                secrets: self.secrets.clone(),
                requests: own.requests().clone(),
                hosts: self.hosts.clone(),
            });
        }
    }

    fn hold(&mut self, name: &NamespacedName, found: Option<&HeldSecret>) {
        let before = match found {
            Some(found) => self.secrets.insert(name.clone(), found.clone()),
            None => self.secrets.remove(name),
        };
        self.is_stale |= match (&before, found) {
            (Some(before), Some(found)) => !is_same(before, found),
            (before, found) => before.is_some() || found.is_some(),
        };
    }

    /// Rules for every host are left out: nobody has said which names they are for.
    fn take_hosts(&mut self, hosts: &Hosts) {
        let named = hosts.named().keys();
        let named: BTreeSet<_> = named
            .filter(|host| **host != HostPattern::Any)
            .cloned()
            .collect();
        if named != *self.hosts {
            self.hosts = Arc::new(named);
            self.is_stale = true;
        }
    }
}

fn held(
    name: &NamespacedName,
    instance: Option<&str>,
    objects: &Objects,
    secrets: &mut Secrets,
) -> Option<HeldSecret> {
    let secret = objects.secrets.get(name)?;
    let is_ours =
        instance.is_some_and(|instance| labels::has(&secret.metadata, CERTIFICATE_LABEL, instance));
    let annotations = secret.metadata.annotations.as_ref();
    let issuer = annotations.and_then(|all| all.get(ISSUER_ANNOTATION));
    Some(HeldSecret {
        owner: match is_ours {
            true => SecretOwner::Tidegate,
            false => SecretOwner::Other,
        },
        certificate: match secrets.refer(name, objects) {
            Found::Usable(parsed) => Some(parsed.certificate.clone()),
            Found::Unusable | Found::Missing => None,
        },
        issuer: issuer.filter(|_| is_ours).cloned(),
    })
}

fn is_same(one: &HeldSecret, other: &HeldSecret) -> bool {
    let certificates = match (&one.certificate, &other.certificate) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (one, other) => one.is_none() && other.is_none(),
    };
    certificates && one.owner == other.owner && one.issuer == other.issuer
}
