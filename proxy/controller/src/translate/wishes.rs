//! Which certificates one Ingress asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{IngressRule, IngressSpec, IngressTLS};
use tidegate_model::{CertificateWish, Excerpt, HostPattern, NamespacedName, ObjectRef, Reason};

use super::annotation::{self, CertificateAnnotations};
use super::report::{Report, enumerate};
use super::solver;
use super::tls::MOST;
use crate::source::name;

/// Names of one certificate. Let's Encrypt and most others take no more; each name is compared with those of others.
const MOST_NAMES: usize = 100;

/// What is done about certificates where neither an Ingress nor its class says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateDefaults {
    /// Whether certificates are ordered.
    pub issue: Issue,
    /// For which hosts.
    pub hosts: Hosts,
    /// The issuer, as the settings name it; `None` for the first of them.
    pub issuer: Option<String>,
    /// The issuers that the settings have. `None`: it is not known which there are, and every name is taken for one.
    pub known_issuers: Option<BTreeMap<String, CanWildcard>>,
}

/// Whether certificates are ordered for an Ingress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Issue {
    /// From an ACME server.
    Acme,
    /// No.
    #[default]
    None,
}

/// For which hosts of an Ingress certificates are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hosts {
    /// For those under `spec.tls`.
    #[default]
    Tls,
    /// For those of the rules, too.
    Rules,
}

/// Whether an issuer can prove wildcards, which takes DNS-01 (RFC 8555 section 7.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CanWildcard {
    /// It can.
    Yes,
    /// It cannot.
    No,
}

impl CertificateDefaults {
    /// Whether the settings have an issuer of this name; `None` stands for the first.
    fn knows(&self, issuer: Option<&str>) -> bool {
        match (&self.known_issuers, issuer) {
            (None, _) => true,
            (Some(known), None) => !known.is_empty(),
            (Some(known), Some(name)) => known.contains_key(name),
        }
    }

    /// Which of them is the first is not known here: where none is named it is enough that some can.
    fn can_wildcard(&self, issuer: Option<&str>) -> CanWildcard {
        let can = match (&self.known_issuers, issuer) {
            (None, _) => true,
            (Some(known), None) => known.values().any(|can| *can == CanWildcard::Yes),
            (Some(known), Some(name)) => known.get(name) == Some(&CanWildcard::Yes),
        };
        match can {
            true => CanWildcard::Yes,
            false => CanWildcard::No,
        }
    }

    /// Says that an annotation names an issuer that there is not, or asks for certificates where there is none at all.
    pub(super) fn report_unknown(&self, written: &CertificateAnnotations, report: &mut Report) {
        let asks = written.issue == Some(Issue::Acme);
        let (name, field) = match written.issuer.as_deref() {
            Some(name) => (Some(name), annotation::ISSUER),
            None if asks => (None, annotation::CERTIFICATE),
            None => return,
        };
        if self.knows(name) {
            return;
        }
        let known = self.known_issuers.iter().flat_map(BTreeMap::keys);
        let known = enumerate(known.map(|name| format!("'{name}'")));
        let what = match (name, known.is_empty()) {
            (_, true) => {
                "the settings have no issuer, so no certificate is ordered; add one under 'issuers'"
                    .to_owned()
            }
            (name, false) => format!(
                "the settings have no issuer '{}', so no certificate is ordered; name one of {known}, or add it",
                Excerpt(name.unwrap_or_default())
            ),
        };
        report.error(Reason::InvalidIssuer, annotation::field(field), what);
    }
}

/// What applies to one Ingress: its own word, else that of its class, else the settings'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Terms<'a> {
    issue: Issue,
    hosts: Hosts,
    issuer: Option<&'a str>,
    can_wildcard: CanWildcard,
}

impl<'a> Terms<'a> {
    pub(super) fn of(
        own: &'a CertificateAnnotations,
        class: &'a CertificateAnnotations,
        defaults: &'a CertificateDefaults,
        report: &mut Report,
    ) -> Self {
        let tls_acme = own.tls_acme.then_some(Issue::Acme);
        let issue = own.issue.or(tls_acme).or(class.issue);
        let issuer = own.issuer.as_deref().or(class.issuer.as_deref());
        let issuer = issuer.or(defaults.issuer.as_deref());
        let mut issue = issue.unwrap_or(defaults.issue);
        if issue == Issue::Acme {
            defaults.report_unknown(own, report);
        }
        let is_wrong = own.is_issuer_wrong || own.issuer.is_none() && class.is_issuer_wrong;
        // Rather none than one of another issuer than was meant.
        if !defaults.knows(issuer) || is_wrong {
            issue = Issue::None;
        }
        Self {
            issue,
            hosts: own.hosts.or(class.hosts).unwrap_or(defaults.hosts),
            issuer,
            can_wildcard: defaults.can_wildcard(issuer),
        }
    }
}

/// What one Ingress asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    pub(super) all: Vec<Arc<CertificateWish>>,
    /// Hosts of rules for which one is ordered though `spec.tls` does not list them.
    pub(super) rule_hosts: BTreeSet<HostPattern>,
    /// Entries of `spec.tls` whose Secret is written when the certificate is there.
    pub(super) entries: BTreeSet<usize>,
}

/// Reads what an Ingress asks for.
pub(super) fn wishes(
    ingress: &NamespacedName,
    spec: &IngressSpec,
    terms: &Terms<'_>,
    report: &mut Report,
) -> Wishes {
    let mut reader = Reader {
        ingress,
        terms,
        rule_hosts: rule_hosts(spec),
        wishes: Wishes::default(),
        without_hosts: 0,
        report,
    };
    if terms.issue == Issue::Acme {
        for (index, tls) in spec.tls.iter().flatten().enumerate() {
            reader.entry(index, tls);
        }
        if terms.hosts == Hosts::Rules {
            reader.rules(spec);
        }
    }
    reader.wishes
}

/// The hosts of the rules that serve more than answers to challenges, each with the index of the first such rule.
fn rule_hosts(spec: &IngressSpec) -> BTreeMap<HostPattern, usize> {
    let mut hosts = BTreeMap::new();
    for (index, rule) in spec.rules.iter().flatten().enumerate() {
        let host = HostPattern::parse(rule.host.as_deref().unwrap_or_default());
        if let Ok(host) = host
            && host != HostPattern::Any
            && !is_solver(rule)
        {
            hosts.entry(host).or_insert(index);
        }
    }
    hosts
}

fn is_solver(rule: &IngressRule) -> bool {
    rule.http.as_ref().is_some_and(|http| {
        let mut paths = http.paths.iter();
        !http.paths.is_empty()
            && paths.all(|path| solver::token(path.path.as_deref().unwrap_or_default()).is_some())
    })
}

struct Reader<'a> {
    ingress: &'a NamespacedName,
    terms: &'a Terms<'a>,
    rule_hosts: BTreeMap<HostPattern, usize>,
    wishes: Wishes,
    /// Entries without hosts so far.
    without_hosts: usize,
    report: &'a mut Report,
}

impl Reader<'_> {
    /// What is wrong with the entry is told where its certificates are read.
    fn entry(&mut self, index: usize, tls: &IngressTLS) {
        let field = format!("spec.tls[{index}]");
        let named = tls.secret_name.as_deref().filter(|name| !name.is_empty());
        if named.is_some_and(|name| !name::is_subdomain(name)) {
            return;
        }
        let listed = tls.hosts.as_deref().unwrap_or_default().len();
        let count = if listed > 0 {
            listed
        } else {
            self.rule_hosts.len()
        };
        if count > MOST_NAMES {
            return self.report.error(
                Reason::InvalidField,
                field,
                format!(
                    "no certificate is ordered for {count} hosts: one has at most {MOST_NAMES} names; list fewer hosts, in \
                     several entries with Secrets of their own"
                ),
            );
        }
        let Some(names) = self.names_of(tls) else {
            return;
        };
        let names = self.provable(names, &field);
        if names.is_empty() {
            return;
        }
        if named.is_some() {
            self.wishes.entries.insert(index);
        }
        let secret = named.map(|name| NamespacedName::new(&self.ingress.namespace, name));
        self.wish(names, secret, field);
    }

    fn names_of(&mut self, tls: &IngressTLS) -> Option<BTreeSet<HostPattern>> {
        let hosts = tls.hosts.as_deref().unwrap_or_default();
        if hosts.is_empty() {
            self.without_hosts += 1;
            let hosts = self.rule_hosts.keys().cloned();
            return (self.without_hosts <= MOST).then(|| hosts.collect());
        }
        Some(listed(tls).collect())
    }

    /// Leaves out the wildcards that the issuer cannot prove.
    fn provable(&mut self, mut names: BTreeSet<HostPattern>, field: &str) -> BTreeSet<HostPattern> {
        if self.terms.can_wildcard == CanWildcard::Yes {
            return names;
        }
        let wildcards = names.extract_if(.., |name| matches!(name, HostPattern::Wildcard(_)));
        let wildcards: Vec<_> = wildcards.map(|name| format!("'{name}'")).collect();
        if !wildcards.is_empty() {
            self.report.error(
                Reason::InvalidIssuer,
                field,
                format!(
                    "no certificate is ordered for {}: {} does not prove wildcards; name one with the challenge dns-01 in \
                     the annotation {}",
                    enumerate(wildcards),
                    self.issuer(),
                    annotation::ISSUER
                ),
            );
        }
        names
    }

    /// The issuer in words.
    fn issuer(&self) -> String {
        match self.terms.issuer {
            Some(name) => format!("the issuer '{}'", Excerpt(name)),
            None => "the issuer".to_owned(),
        }
    }

    /// One for each host of the rules that `spec.tls` does not list.
    fn rules(&mut self, spec: &IngressSpec) {
        let entries = || spec.tls.iter().flatten();
        if entries().any(|tls| tls.hosts.as_deref().unwrap_or_default().is_empty()) {
            return;
        }
        let listed: BTreeSet<_> = entries().flat_map(listed).collect();
        for (host, index) in std::mem::take(&mut self.rule_hosts) {
            let above = host.wildcard_above();
            if listed.contains(&host) || above.is_some_and(|above| listed.contains(&above)) {
                continue;
            }
            let field = format!("spec.rules[{index}].host");
            let names = self.provable(BTreeSet::from([host.clone()]), &field);
            if !names.is_empty() {
                self.wishes.rule_hosts.insert(host);
                self.wish(names, None, field);
            }
        }
    }

    fn wish(
        &mut self,
        names: BTreeSet<HostPattern>,
        secret: Option<NamespacedName>,
        field: String,
    ) {
        self.wishes.all.push(Arc::new(CertificateWish {
            names,
            issuer: self.terms.issuer.map(str::to_owned),
            secret,
            object: ObjectRef::new("Ingress", self.ingress.clone()),
            field,
        }));
    }
}

/// The hosts that an entry lists, as far as they are some.
fn listed(tls: &IngressTLS) -> impl Iterator<Item = HostPattern> {
    let hosts = tls.hosts.iter().flatten();
    let hosts = hosts.filter_map(|text| HostPattern::parse(text).ok());
    hosts.filter(|host| *host != HostPattern::Any)
}
