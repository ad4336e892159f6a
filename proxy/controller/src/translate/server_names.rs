//! Which certificate is served for which host, when several Ingresses bring one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_model::{
    Certificate, CertificateIndex, HostPattern, NamespacedName, Problem, Reason, RouteRank,
    UnixTime,
};

use super::Ingresses;
use super::certificate::KeyAlgorithm;
use super::index::Index;
use super::ingress::Derived;
use super::report::{Part, Problems, Report};
use super::tls::{Claim, Offer};

/// The certificates of every host that TLS is terminated for.
#[derive(Debug, Default)]
pub(super) struct ServerNames {
    index: Arc<CertificateIndex>,
    claimed: Index<HostPattern>,
    entries: BTreeMap<HostPattern, Vec<Arc<Certificate>>>,
    /// The certificates that we keep for names by themselves.
    kept: KeptCertificates,
    /// Hosts of rules that a certificate of their own is ordered for.
    awaited: Index<HostPattern>,
    /// The controller's own certificate, for clients that nothing else is for.
    fallback: Option<Offer>,
    dirty: BTreeSet<HostPattern>,
}

/// Certificates of our own namespace, by name and by Secret. They serve where no Ingress brings one.
#[derive(Debug, Default)]
struct KeptCertificates {
    by_host: BTreeMap<HostPattern, BTreeMap<NamespacedName, Offer>>,
    by_secret: BTreeMap<NamespacedName, Offer>,
}

impl KeptCertificates {
    /// Puts a Secret's certificate in place of the one before. Returns the names that either is for.
    fn put(&mut self, secret: &NamespacedName, offer: Option<&Offer>) -> Vec<HostPattern> {
        let before = match offer {
            Some(offer) => self.by_secret.insert(secret.clone(), offer.clone()),
            None => self.by_secret.remove(secret),
        };
        let names = |offer: &Offer| offer.certificate.names.clone();
        let mut touched = before.as_ref().map(names).unwrap_or_default();
        for host in &touched {
            if let Some(offers) = self.by_host.get_mut(host) {
                offers.remove(secret);
                if offers.is_empty() {
                    self.by_host.remove(host);
                }
            }
        }
        if let Some(offer) = offer {
            for host in names(offer) {
                let offers = self.by_host.entry(host.clone()).or_default();
                offers.insert(secret.clone(), offer.clone());
                touched.push(host);
            }
        }
        touched
    }

    /// Of each key type the one that lives longest, among those that are valid or among all.
    fn best(&self, host: &HostPattern, pool: impl Fn(&Offer) -> bool) -> Vec<Arc<Certificate>> {
        let mut best: BTreeMap<KeyAlgorithm, &Offer> = BTreeMap::new();
        let offers = self.by_host.get(host).into_iter().flatten();
        for offer in offers.map(|(_, offer)| offer).filter(|offer| pool(offer)) {
            let known = best.entry(offer.algorithm).or_insert(offer);
            if known.certificate.not_after < offer.certificate.not_after {
                *known = offer;
            }
        }
        best.values()
            .map(|offer| offer.certificate.clone())
            .collect()
    }

    fn has_valid(&self, host: &HostPattern, now: UnixTime) -> bool {
        let mut offers = self.by_host.get(host).into_iter().flatten();
        offers.any(|(_, offer)| valid(offer, now))
    }
}

/// A certificate that could be served for a host.
struct Candidate<'a> {
    rank: &'a RouteRank,
    claim: &'a Claim,
    offer: &'a Offer,
}

impl ServerNames {
    pub(super) fn index(&self) -> &Arc<CertificateIndex> {
        &self.index
    }

    /// Sets the controller's own certificate.
    pub(super) fn set_fallback(&mut self, fallback: Option<Offer>) {
        if self.fallback != fallback {
            self.fallback = fallback;
            self.touch(HostPattern::Any);
        }
    }

    /// Takes in a certificate that we keep, or that it is gone.
    pub(super) fn keep(&mut self, secret: &NamespacedName, offer: Option<&Offer>) {
        if self.kept.by_secret.get(secret) != offer {
            let touched = self.kept.put(secret, offer);
            self.dirty.extend(touched);
        }
    }

    /// Has the certificates of the names chosen again that one of ours is for.
    pub(super) fn touch_kept(&mut self, secret: &NamespacedName) {
        let kept = self.kept.by_secret.get(secret);
        let names = kept.iter().flat_map(|offer| &offer.certificate.names);
        self.dirty.extend(names.cloned());
    }

    /// Has a host's certificates chosen again.
    pub(super) fn touch(&mut self, host: HostPattern) {
        self.dirty.insert(host);
    }

    /// Takes the new version of an Ingress in. Returns the hosts that are listed under `spec.tls` now and were not
    /// before, or the other way around.
    pub(super) fn replace(
        &mut self,
        name: &NamespacedName,
        old: Option<&Derived>,
        new: Option<&Derived>,
    ) -> Vec<HostPattern> {
        let mut turned = Vec::new();
        for host in old.iter().flat_map(|old| old.tls.keys()) {
            if new.is_none_or(|new| !new.tls.contains_key(host)) {
                self.claimed.unlink(host, name);
                self.dirty.insert(host.clone());
                if !self.claimed.contains(host) {
                    turned.push(host.clone());
                }
            }
        }
        for (host, claims) in new.iter().flat_map(|new| &new.tls) {
            let before = old.and_then(|old| old.tls.get(host));
            if !self.claimed.contains(host) {
                turned.push(host.clone());
            }
            if before.is_none() {
                self.claimed.link(host, name);
            }
            let same_rank = old.map(|old| &old.rank) == new.map(|new| &new.rank);
            if before != Some(claims) || !same_rank {
                self.dirty.insert(host.clone());
            }
        }
        let awaited = |derived: Option<&Derived>| derived.map(|it| it.wishes.rule_hosts.clone());
        let (old, new) = (
            awaited(old).unwrap_or_default(),
            awaited(new).unwrap_or_default(),
        );
        for host in old.difference(&new) {
            self.awaited.unlink(host, name);
        }
        for host in new.difference(&old) {
            self.awaited.link(host, name);
        }
        turned.extend(old.symmetric_difference(&new).cloned());
        turned
    }

    /// Whether a host is listed under some `spec.tls` as it is written.
    pub(super) fn names(&self, host: &HostPattern) -> bool {
        self.claimed.contains(host)
    }

    /// Whether TLS is terminated for a host: it is listed under some `spec.tls`, itself or by a wildcard, or it is a
    /// rule's for which a certificate is ordered all the same, and there is one.
    ///
    /// Who lists a host wants HTTPS from the start, and nothing in plain text. A rule's host that the settings gave a
    /// certificate was served in plain text until then, and clients that were sent to HTTPS too early would find a
    /// certificate of somebody else's name.
    pub(super) fn lists(&self, host: &HostPattern) -> bool {
        let is_in = |hosts: &Index<HostPattern>| {
            let above = host.wildcard_above();
            hosts.contains(host) || above.is_some_and(|above| hosts.contains(&above))
        };
        is_in(&self.claimed) || is_in(&self.awaited) && self.has_certificate(host)
    }

    fn has_certificate(&self, host: &HostPattern) -> bool {
        let above = host.wildcard_above();
        self.entries.contains_key(host) || above.is_some_and(|it| self.entries.contains_key(&it))
    }

    /// Hosts with the claimed ones that wildcards among them cover.
    fn with_covered(&self, mut hosts: BTreeSet<HostPattern>) -> BTreeSet<HostPattern> {
        let is_wildcard = |host: &HostPattern| matches!(host, HostPattern::Wildcard(_));
        if hosts.iter().any(is_wildcard) {
            let named = self.claimed.keys().chain(self.kept.by_host.keys());
            let covered = named.filter(|host| {
                let above = host.wildcard_above();
                above.is_some_and(|above| hosts.contains(&above))
            });
            let covered: Vec<_> = covered.cloned().collect();
            hosts.extend(covered);
        }
        hosts
    }

    /// Chooses the certificates of the touched hosts. Returns those that have one now and had none before, or the other
    /// way around, if anybody waits for that.
    pub(super) fn update(
        &mut self,
        ingresses: &Ingresses,
        now: UnixTime,
        problems: &mut Problems,
    ) -> Vec<HostPattern> {
        let is_awaited = self.awaited.keys().next().is_some();
        let mut turned = Vec::new();
        let touched = std::mem::take(&mut self.dirty);
        let hosts = self.with_covered(touched);
        let mut changed = false;
        for host in hosts {
            let (chosen, conflicts) = self.choose(&host, ingresses, now);
            problems.set(Part::Certificates(host.clone()), conflicts);
            if is_awaited && self.entries.contains_key(&host) == chosen.is_empty() {
                turned.push(host.clone());
            }
            changed |= match chosen.is_empty() {
                true => self.entries.remove(&host).is_some(),
                false => self.put(host, chosen),
            };
        }
        if changed {
            self.index = Arc::new(CertificateIndex::new(self.entries.clone()));
        }
        turned
    }

    /// Whether the certificates are others than before.
    fn put(&mut self, host: HostPattern, chosen: Vec<Arc<Certificate>>) -> bool {
        let same = |old: &Vec<Arc<Certificate>>| {
            old.len() == chosen.len() && old.iter().zip(&chosen).all(|(a, b)| Arc::ptr_eq(a, b))
        };
        if self.entries.get(&host).is_some_and(same) {
            return false;
        }
        self.entries.insert(host, chosen);
        true
    }

    fn choose(
        &self,
        host: &HostPattern,
        ingresses: &Ingresses,
        now: UnixTime,
    ) -> (Vec<Arc<Certificate>>, Vec<Problem>) {
        if *host == HostPattern::Any
            && let Some(fallback) = &self.fallback
        {
            return (vec![fallback.certificate.clone()], Vec::new());
        }
        let candidates = self.candidates(host, ingresses);
        let any_valid = candidates
            .iter()
            .any(|candidate| valid(candidate.offer, now));
        if !any_valid && self.kept.has_valid(host, now) {
            let kept = self.kept.best(host, |offer| valid(offer, now));
            return (kept, Vec::new());
        }
        let better_elsewhere = || {
            let wildcard = host.wildcard_above();
            wildcard.is_some_and(|wildcard| {
                let above = self.candidates(&wildcard, ingresses);
                above.iter().any(|candidate| valid(candidate.offer, now))
                    || self.kept.has_valid(&wildcard, now)
            })
        };
        if !any_valid && better_elsewhere() {
            return (Vec::new(), Vec::new());
        }
        if candidates.is_empty() {
            return (self.kept.best(host, |_| true), Vec::new());
        }
        let pool = candidates
            .into_iter()
            .filter(|candidate| !any_valid || valid(candidate.offer, now));
        rank(host, &pool.collect::<Vec<_>>())
    }

    /// What the Ingresses bring for a host, by age.
    fn candidates<'a>(
        &'a self,
        host: &'a HostPattern,
        ingresses: &'a Ingresses,
    ) -> Vec<Candidate<'a>> {
        let claiming = self.claimed.of(host).filter_map(|name| ingresses.get(name));
        let mut candidates: Vec<_> = claiming
            .flat_map(|derived| {
                let claims = derived.tls.get(host).into_iter().flatten();
                claims.filter_map(|claim| {
                    Some(Candidate {
                        rank: &derived.rank,
                        claim,
                        offer: claim.offer.as_ref()?,
                    })
                })
            })
            .collect();
        candidates.sort_by_key(|candidate| candidate.rank);
        candidates
    }
}

/// The first Ingress serves, with one certificate of each key type. Whoever brings another one is told.
fn rank(host: &HostPattern, candidates: &[Candidate<'_>]) -> (Vec<Arc<Certificate>>, Vec<Problem>) {
    let mut served: BTreeMap<KeyAlgorithm, &Candidate<'_>> = BTreeMap::new();
    let mut problems = Vec::new();
    for candidate in candidates {
        let algorithm = candidate.offer.algorithm;
        let winner = candidates
            .first()
            .filter(|first| first.rank != candidate.rank);
        let winner = winner.or_else(|| served.get(&algorithm).copied());
        let Some(winner) = winner else {
            served.insert(algorithm, candidate);
            continue;
        };
        let fingerprint = candidate.offer.certificate.fingerprint;
        let known = |other: &Candidate<'_>| other.offer.certificate.fingerprint == fingerprint;
        if !served.values().any(|other| known(other)) {
            problems.extend(conflict(host, candidate, winner));
        }
    }
    let certificates = served
        .values()
        .map(|candidate| candidate.offer.certificate.clone());
    (certificates.collect(), problems)
}

fn conflict(host: &HostPattern, loser: &Candidate<'_>, winner: &Candidate<'_>) -> Vec<Problem> {
    let whose = if loser.rank.object == winner.rank.object {
        "an earlier entry of this Ingress".to_owned()
    } else {
        format!(
            "Ingress {}, which goes first by age and name",
            winner.rank.object
        )
    };
    let host = match host {
        HostPattern::Any => "clients that name no known host".to_owned(),
        host => format!("'{host}'"),
    };
    let mut report = Report::about("Ingress", &loser.rank.object);
    report.warning(
        Reason::CertificateConflict,
        &loser.claim.field,
        format!(
            "the certificate in Secret '{}' is not served for {host}: {whose}, brings the one in Secret '{}'; name the \
             same Secret or remove one of the two",
            loser.offer.certificate.secret, winner.offer.certificate.secret
        ),
    );
    report.into_problems()
}

fn valid(offer: &Offer, now: UnixTime) -> bool {
    (offer.certificate.not_before..=offer.certificate.not_after).contains(&now)
}
