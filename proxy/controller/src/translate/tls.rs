//! `spec.tls` of one Ingress: which certificate it brings for which host.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{IngressSpec, IngressTLS};
use tidegate_model::{Certificate, Excerpt, HostPattern, NamespacedName, Reason, Route};

use super::certificate::{KeyAlgorithm, Parsed};
use super::ingress::{Context, Scope};
use super::labels;
use super::report::{Report, enumerate};
use super::secrets::Found;
use super::wishes::Wishes;
use crate::source::name;

/// Certificates that one Ingress can bring for one host, and entries without hosts that it can have. Each of the latter
/// is compared with every host of the rules.
pub(super) const MOST: usize = 32;

/// That an Ingress terminates TLS for a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// The certificate that it brings; without one, another serves the host.
    pub(super) offer: Option<Offer>,
    /// The field that says so.
    pub(super) field: String,
}

/// A certificate that covers the host it is offered for.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) certificate: Arc<Certificate>,
    pub(super) algorithm: KeyAlgorithm,
}

impl From<&Parsed> for Offer {
    fn from(parsed: &Parsed) -> Self {
        Self {
            certificate: parsed.certificate.clone(),
            algorithm: parsed.algorithm,
        }
    }
}

/// The same Secret with the same content.
impl PartialEq for Offer {
    fn eq(&self, other: &Self) -> bool {
        self.certificate.secret == other.certificate.secret
            && self.certificate.fingerprint == other.certificate.fingerprint
    }
}

impl Eq for Offer {}

type Claims = BTreeMap<HostPattern, Vec<Claim>>;
type RuleHosts = BTreeMap<HostPattern, Vec<Arc<Route>>>;

/// Reads `spec.tls`. Returns the claims, and the Secrets that it refers to.
pub(super) fn claims(
    spec: &IngressSpec,
    ingress: &NamespacedName,
    rule_hosts: &RuleHosts,
    scope: Scope,
    wishes: &Wishes,
    context: &mut Context<'_>,
    report: &mut Report,
) -> (Claims, BTreeSet<NamespacedName>) {
    let mut reader = Reader {
        rule_hosts,
        above: rule_hosts
            .keys()
            .filter_map(HostPattern::wildcard_above)
            .collect(),
        scope,
        claims: Claims::new(),
        without_hosts: 0,
        report,
    };
    let mut referred = BTreeSet::new();
    for (index, tls) in spec.tls.iter().flatten().enumerate() {
        let field = format!("spec.tls[{index}]");
        let name = tls.secret_name.as_deref().filter(|name| !name.is_empty());
        let name = name.and_then(|name| reader.secret_name(name, &field));
        let secret = name.map(|name| NamespacedName::new(&ingress.namespace, name));
        let expected = match &secret {
            Some(secret) if wishes.entries.contains(&index) => context.expected(secret),
            _ => Expected::Nothing,
        };
        let parsed = secret.and_then(|secret| {
            let found = context.secrets.refer(&secret, context.objects);
            referred.insert(secret.clone());
            reader.usable(found, &secret, expected, &field)
        });
        reader.entry(tls, parsed.as_deref(), expected, &field);
    }
    (reader.claims, referred)
}

/// What becomes of a Secret without anybody's help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// A certificate is ordered and put there.
    Certificate,
    /// It stays as it is.
    Nothing,
}

impl Context<'_> {
    /// A Secret that a certificate is wished for in gets one unless it is somebody else's.
    fn expected(&self, secret: &NamespacedName) -> Expected {
        let instance = &self.settings.instance_label;
        match self.objects.secrets.get(secret) {
            Some(secret) if !labels::has(&secret.metadata, labels::CERTIFICATE_LABEL, instance) => {
                Expected::Nothing
            }
            _ => Expected::Certificate,
        }
    }
}

struct Reader<'a> {
    rule_hosts: &'a RuleHosts,
    /// The wildcards that these hosts are under.
    above: BTreeSet<HostPattern>,
    scope: Scope,
    claims: Claims,
    /// Entries without hosts so far.
    without_hosts: usize,
    report: &'a mut Report,
}

impl Reader<'_> {
    /// What no Secret can be called is not asked for: it would be asked of the API server.
    fn secret_name<'n>(&mut self, name: &'n str, field: &str) -> Option<&'n str> {
        if name::is_subdomain(name) {
            return Some(name);
        }
        self.report.error(
            Reason::InvalidField,
            format!("{field}.secretName"),
            format!(
                "'{}' is no name that a Secret can have; its hosts are served with another certificate, correct the \
                 name",
                Excerpt(name)
            ),
        );
        None
    }

    fn usable(
        &mut self,
        found: Found,
        secret: &NamespacedName,
        expected: Expected,
        field: &str,
    ) -> Option<Arc<Parsed>> {
        match found {
            Found::Usable(parsed) => Some(parsed),
            Found::Unusable => None,
            Found::Missing if expected == Expected::Certificate => {
                self.report.note(
                    Reason::SecretNotFound,
                    format!("{field}.secretName"),
                    format!(
                        "there is no Secret '{secret}' yet: it is made when its certificate is issued, and until then its \
                         hosts are served with another certificate"
                    ),
                );
                None
            }
            Found::Missing => {
                self.report.error(
                    Reason::SecretNotFound,
                    format!("{field}.secretName"),
                    format!(
                        "there is no Secret '{secret}'; its hosts are served with another certificate until there is, \
                         create it or correct the name"
                    ),
                );
                None
            }
        }
    }

    fn entry(
        &mut self,
        tls: &IngressTLS,
        parsed: Option<&Parsed>,
        expected: Expected,
        field: &str,
    ) {
        let hosts = tls.hosts.as_deref().unwrap_or_default();
        if hosts.is_empty() {
            self.without_hosts += 1;
            return match self.without_hosts {
                ..=MOST => self.rule_hosts(parsed, field),
                _ => self.report.error(
                    Reason::InvalidField,
                    field,
                    format!(
                        "the Ingress has more than {MOST} entries without hosts, and this one is left out; name the \
                         hosts that it is for"
                    ),
                ),
            };
        }
        for (index, text) in hosts.iter().enumerate() {
            let field = format!("{field}.hosts[{index}]");
            match HostPattern::parse(text) {
                Ok(host) if host != HostPattern::Any => {
                    self.host(host, parsed, expected, field);
                }
                Ok(_) => self.report.error(
                    Reason::InvalidHost,
                    field,
                    "the host is empty and left out; name it, or leave `hosts` out altogether",
                ),
                Err(error) => self.report.error(
                    Reason::InvalidHost,
                    field,
                    format!("'{}' is no host, and is left out: {error}", Excerpt(text)),
                ),
            }
        }
    }

    fn host(
        &mut self,
        host: HostPattern,
        parsed: Option<&Parsed>,
        expected: Expected,
        field: String,
    ) {
        self.report_unused(&host, &field);
        let covering = parsed.filter(|parsed| parsed.certificate.covers(&host));
        if let (Some(parsed), None) = (parsed, covering) {
            self.report_not_covered(&host, &parsed.certificate, expected, &field);
        }
        self.claim(host, covering, field);
    }

    fn report_not_covered(
        &mut self,
        host: &HostPattern,
        certificate: &Certificate,
        expected: Expected,
        field: &str,
    ) {
        let found = format!(
            "the certificate in Secret '{}' is for {}, not for '{host}', which is served with another certificate",
            certificate.secret,
            names(certificate)
        );
        match expected {
            Expected::Certificate => self.report.note(
                Reason::HostNotCovered,
                field,
                format!("{found} until one with this host is issued"),
            ),
            Expected::Nothing => self.report.error(
                Reason::HostNotCovered,
                field,
                format!("{found}; issue it again with this host, or correct the host"),
            ),
        }
    }

    /// Without hosts the certificate is for the hosts of the rules, as far as it covers them, and for clients that
    /// nothing else is for, if the Ingress takes requests for any host.
    fn rule_hosts(&mut self, parsed: Option<&Parsed>, field: &str) {
        let rule_hosts = self.rule_hosts;
        for host in rule_hosts.keys().filter(|host| **host != HostPattern::Any) {
            let covering = parsed.filter(|parsed| parsed.certificate.covers(host));
            if covering.is_some() {
                self.claim(host.clone(), covering, field.to_owned());
            }
        }
        if self.scope == Scope::Ruleless || rule_hosts.contains_key(&HostPattern::Any) {
            self.claim(HostPattern::Any, parsed, field.to_owned());
        }
    }

    /// The same certificate a second time says nothing new.
    fn claim(&mut self, host: HostPattern, parsed: Option<&Parsed>, field: String) {
        let offer = parsed.map(Offer::from);
        let claims = self.claims.entry(host).or_default();
        if claims.iter().any(|known| known.offer == offer) {
            return;
        }
        if claims.len() < MOST {
            return claims.push(Claim { offer, field });
        }
        self.report.error(
            Reason::InvalidField,
            field,
            format!(
                "the Ingress brings more than {MOST} certificates for one host, and this one is left out; keep one of \
                 each key type"
            ),
        );
    }

    fn report_unused(&mut self, host: &HostPattern, field: &str) {
        let has_rule = |rule: &HostPattern| self.rule_hosts.contains_key(rule);
        let is_used = has_rule(host)
            || has_rule(&HostPattern::Any)
            || host.wildcard_above().as_ref().is_some_and(has_rule)
            || self.above.contains(host);
        if self.scope == Scope::WithRules && !is_used {
            self.report.warning(
                Reason::UnusedTlsHost,
                field,
                format!(
                    "no rule of the Ingress is for '{host}'; add a rule for it, or remove it here"
                ),
            );
        }
    }
}

/// What a certificate is for, in words.
fn names(certificate: &Certificate) -> String {
    match certificate.names.as_slice() {
        [] => "no host at all".to_owned(),
        names => enumerate(names.iter().map(|name| format!("'{name}'"))),
    }
}
