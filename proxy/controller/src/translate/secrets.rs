//! The TLS Secrets in use: each parsed once per content, with its problems and the edges of its life.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use tidegate_model::{NamespacedName, Problem, Reason, UnixTime};

use super::certificate::{self, Naming, Parsed, SecretError};
use super::objects::Objects;
use super::report::Report;

/// What a reference to a Secret leads to.
#[derive(Debug)]
pub(super) enum Found {
    Usable(Arc<Parsed>),
    /// There, but no use; the Secret's own problems say why.
    Unusable,
    Missing,
}

#[derive(Debug)]
struct Entry {
    secret: Arc<Secret>,
    parsed: Result<Arc<Parsed>, SecretError>,
}

/// Parsed Secrets. Only those that something refers to are ever parsed.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    entries: BTreeMap<NamespacedName, Entry>,
    edges: BTreeSet<(UnixTime, NamespacedName)>,
}

impl Secrets {
    /// Looks a Secret up, and parses it unless its content has been parsed before.
    pub(super) fn refer(&mut self, name: &NamespacedName, objects: &Objects) -> Found {
        let Some(secret) = objects.secrets.get(name) else {
            self.forget(name);
            return Found::Missing;
        };
        let known = self.entries.get_mut(name).filter(|entry| {
            Arc::ptr_eq(&entry.secret, secret) || certificate::same_content(&entry.secret, secret)
        });
        let parsed = match known {
            Some(entry) => {
                entry.secret = secret.clone();
                entry.parsed.clone()
            }
            None => self.parse(name, secret),
        };
        parsed.map_or(Found::Unusable, Found::Usable)
    }

    /// Drops what nobody refers to any more.
    pub(super) fn forget(&mut self, name: &NamespacedName) {
        if let Some(entry) = self.entries.remove(name) {
            for edge in edges(&entry) {
                self.edges.remove(&(edge, name.clone()));
            }
        }
    }

    /// What is wrong with a Secret as of now.
    pub(super) fn problems(&self, name: &NamespacedName, now: UnixTime) -> Vec<Problem> {
        let mut report = Report::about("Secret", name);
        match self.entries.get(name).map(|entry| &entry.parsed) {
            Some(Ok(parsed)) => report_certificate(parsed, now, &mut report),
            Some(Err(error)) => report_error(error, &mut report),
            None => {}
        }
        report.into_problems()
    }

    /// The Secrets whose validity differs between two moments.
    pub(super) fn turned(&self, then: UnixTime, now: UnixTime) -> BTreeSet<NamespacedName> {
        let (from, to) = (then.min(now), then.max(now));
        let after = |time: UnixTime| Bound::Included((time.next(), NamespacedName::default()));
        let until = Bound::Excluded((to.next(), NamespacedName::default()));
        if from == to {
            return BTreeSet::new();
        }
        let passed = self.edges.range((after(from), until));
        passed.map(|(_, name)| name.clone()).collect()
    }

    /// The next moment at which a certificate begins or ends its life.
    pub(super) fn next_edge(&self, now: UnixTime) -> Option<UnixTime> {
        let after = Bound::Included((now.next(), NamespacedName::default()));
        let mut later = self.edges.range((after, Bound::Unbounded));
        later.next().map(|(edge, _)| *edge)
    }

    fn parse(
        &mut self,
        name: &NamespacedName,
        secret: &Arc<Secret>,
    ) -> Result<Arc<Parsed>, SecretError> {
        self.forget(name);
        let parsed = certificate::parse(name, secret).map(Arc::new);
        let entry = Entry {
            secret: secret.clone(),
            parsed: parsed.clone(),
        };
        let edges = edges(&entry).into_iter().map(|edge| (edge, name.clone()));
        self.edges.extend(edges);
        self.entries.insert(name.clone(), entry);
        parsed
    }
}

/// The seconds at which the certificate becomes valid, and is no longer.
fn edges(entry: &Entry) -> Vec<UnixTime> {
    let Ok(parsed) = &entry.parsed else {
        return Vec::new();
    };
    let certificate = &parsed.certificate;
    vec![certificate.not_before, certificate.not_after.next()]
}

fn report_certificate(parsed: &Parsed, now: UnixTime, report: &mut Report) {
    let certificate = &parsed.certificate;
    if now > certificate.not_after {
        report.error(
            Reason::CertificateExpired,
            "data[tls.crt]",
            format!(
                "the certificate ended its life at {}; it is served only where nothing better is, and clients refuse \
                 it: renew it",
                certificate.not_after.in_words()
            ),
        );
    }
    if now < certificate.not_before {
        report.error(
            Reason::CertificateNotYetValid,
            "data[tls.crt]",
            format!(
                "the certificate begins its life at {}; until then it is served only where nothing better is, and \
                 clients refuse it",
                certificate.not_before.in_words()
            ),
        );
    }
    if parsed.naming == Naming::CommonName {
        report.warning(
            Reason::SecretMalformed,
            "data[tls.crt]",
            "the certificate has no subject alternative names, only a common name, which most clients no longer \
             accept; issue it again with its hosts as DNS names",
        );
    }
}

fn report_error(error: &SecretError, report: &mut Report) {
    let reason = match error {
        SecretError::KeyMismatch => Reason::KeyMismatch,
        _ => Reason::SecretMalformed,
    };
    report.error(
        reason,
        error.field(),
        format!("{error}. Hosts that name this Secret are served with another certificate"),
    );
}

/// Seconds as the certificates count them.
trait Moment {
    fn next(self) -> Self;
    fn in_words(self) -> String;
}

impl Moment for UnixTime {
    fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// RFC 3339, in UTC.
    fn in_words(self) -> String {
        match jiff::Timestamp::from_second(self.0) {
            Ok(time) => time.to_string(),
            Err(_) => format!("second {} since 1970", self.0),
        }
    }
}
