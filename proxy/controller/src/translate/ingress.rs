//! One Ingress: what follows from it, from what it refers to, and from nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress, IngressRule, IngressSpec};
use tidegate_model::{
    Excerpt, HostPattern, NamespacedName, PathKind, PathMatch, Reason, Route, RouteRank,
    TlsRedirect, UnixTime, UpstreamId,
};

use super::Settings;
use super::annotation::{self, CertificateAnnotations};
use super::backend::{Backends, Destination};
use super::objects::Objects;
use super::report::Report;
use super::secrets::Secrets;
use super::solver;
use super::tls::{self, Claim};
use super::upstream::UpstreamSource;
use super::wishes::{self, Terms, Wishes};

/// Whether an Ingress has rules. Without any, its default backend is for every host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    Ruleless,
    WithRules,
}

/// What an Ingress is read against.
pub(super) struct Context<'a> {
    pub(super) objects: &'a Objects,
    pub(super) secrets: &'a mut Secrets,
    pub(super) settings: &'a Settings,
    /// What its class says about certificates.
    pub(super) class: &'a CertificateAnnotations,
}

/// What one Ingress of ours asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Derived {
    pub(super) rank: RouteRank,
    pub(super) scope: Scope,
    pub(super) shape: Shape,
    /// The hosts that its rules name, with their routes.
    pub(super) hosts: BTreeMap<HostPattern, Vec<Arc<Route>>>,
    pub(super) default: Option<Arc<Route>>,
    /// The hosts that it terminates TLS for.
    pub(super) tls: BTreeMap<HostPattern, Vec<Claim>>,
    /// The certificates that it asks for.
    pub(super) wishes: Wishes,
    pub(super) upstreams: BTreeMap<UpstreamId, UpstreamSource>,
    pub(super) services: BTreeSet<NamespacedName>,
    pub(super) secrets: BTreeSet<NamespacedName>,
}

/// The positions that the rules take: one a path, and one for a rule that is only a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape(Vec<RuleShape>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RuleShape {
    /// First position.
    start: usize,
    has_paths: bool,
}

impl Shape {
    fn of(spec: &IngressSpec) -> Self {
        let mut next = 0;
        let rules = spec.rules.iter().flatten().map(|rule| {
            let start = next;
            next += rule.http.as_ref().map_or(1, |http| http.paths.len());
            RuleShape {
                start,
                has_paths: rule.http.is_some(),
            }
        });
        Self(rules.collect())
    }

    /// The field that the route at a position comes from.
    pub(super) fn field_at(&self, position: usize) -> String {
        // Of rules that start at the same position all but the last have no path.
        let behind = self.0.partition_point(|rule| rule.start <= position);
        match behind
            .checked_sub(1)
            .map(|index| (index, self.0.get(index)))
        {
            Some((index, Some(rule))) if rule.has_paths => {
                let path = position - rule.start;
                format!("spec.rules[{index}].http.paths[{path}]")
            }
            Some((index, Some(_))) => format!("spec.rules[{index}]"),
            _ => "spec.rules".to_owned(),
        }
    }
}

/// Reads an Ingress that is ours.
pub(super) fn derive(
    name: &NamespacedName,
    ingress: &Ingress,
    context: &mut Context<'_>,
    report: &mut Report,
) -> Derived {
    let annotations = annotation::of_ingress(ingress.metadata.annotations.as_ref(), report);
    let created = ingress.metadata.creation_timestamp.as_ref();
    let empty = IngressSpec::default();
    let spec = ingress.spec.as_ref().unwrap_or(&empty);
    let mut reader = Reader {
        spec,
        tls_redirect: annotations.tls_redirect,
        is_solver: solver::is_labelled(ingress.metadata.labels.as_ref()),
        rank: RouteRank {
            created: created.map(|time| UnixTime(time.0.as_second())),
            object: name.clone(),
            position: 0,
        },
        backends: Backends::new(context.objects, Some(name.clone()), annotations.addressing),
        hosts: BTreeMap::new(),
        report,
    };
    let default = reader.default_route();
    reader.rules(default.as_ref());
    let Reader {
        mut rank,
        backends,
        hosts,
        report,
        ..
    } = reader;
    rank.position = 0;
    let scope = if spec.rules.iter().flatten().next().is_some() {
        Scope::WithRules
    } else {
        Scope::Ruleless
    };
    let (own, defaults) = (&annotations.certificates, &context.settings.certificates);
    let terms = Terms::of(own, context.class, defaults, report);
    let wishes = wishes::wishes(name, spec, &terms, report);
    let (tls, secrets) = tls::claims(spec, name, &hosts, scope, &wishes, context, report);
    Derived {
        rank,
        scope,
        shape: Shape::of(spec),
        hosts,
        default,
        tls,
        wishes,
        upstreams: backends.upstreams,
        services: backends.services,
        secrets,
    }
}

struct Reader<'a> {
    spec: &'a IngressSpec,
    tls_redirect: TlsRedirect,
    /// Whether the Ingress is labelled as one that answers challenges.
    is_solver: bool,
    /// The rank of the next route.
    rank: RouteRank,
    backends: Backends<'a>,
    hosts: BTreeMap<HostPattern, Vec<Arc<Route>>>,
    report: &'a mut Report,
}

impl Reader<'_> {
    fn default_route(&mut self) -> Option<Arc<Route>> {
        let Some(backend) = &self.spec.default_backend else {
            if self.spec.rules.iter().flatten().next().is_none() {
                self.report.error(
                    Reason::InvalidBackend,
                    "spec",
                    "the Ingress has neither rules nor a defaultBackend and serves nothing; add one of them",
                );
            }
            return None;
        };
        let destination = self
            .backends
            .resolve(backend, "spec.defaultBackend", self.report);
        default_route(destination, self.tls_redirect, self.rank.clone())
    }

    fn rules(&mut self, default: Option<&Arc<Route>>) {
        for (index, rule) in self.spec.rules.iter().flatten().enumerate() {
            let field = format!("spec.rules[{index}]");
            match HostPattern::parse(rule.host.as_deref().unwrap_or_default()) {
                Ok(host) => self.rule(host, rule, &field, default),
                Err(error) => {
                    self.rank.position += rule.http.as_ref().map_or(1, |http| http.paths.len());
                    let host = rule.host.as_deref().unwrap_or_default();
                    self.report.error(
                        Reason::InvalidHost,
                        format!("{field}.host"),
                        format!(
                            "'{}' is no host, and the rule is not served: {error}",
                            Excerpt(host)
                        ),
                    );
                }
            }
        }
    }

    fn rule(
        &mut self,
        host: HostPattern,
        rule: &IngressRule,
        field: &str,
        default: Option<&Arc<Route>>,
    ) {
        self.hosts.entry(host.clone()).or_default();
        let Some(http) = &rule.http else {
            return self.catch_all(host, field, default);
        };
        if http.paths.is_empty() {
            self.report.error(
                Reason::InvalidField,
                format!("{field}.http.paths"),
                "the rule has no path and serves nothing; add one",
            );
        }
        for (index, path) in http.paths.iter().enumerate() {
            let field = format!("{field}.http.paths[{index}]");
            if let Some(condition) = path_match(path, &field, self.report) {
                let backend = format!("{field}.backend");
                let destination = self.backends.resolve(&path.backend, &backend, self.report);
                self.add(host.clone(), condition, destination);
            }
            self.rank.position += 1;
        }
    }

    /// A rule that is a host and nothing more sends the host's requests to the default backend.
    fn catch_all(&mut self, host: HostPattern, field: &str, default: Option<&Arc<Route>>) {
        match default {
            None => self.report.warning(
                Reason::InvalidBackend,
                field,
                format!(
                    "the rule for '{host}' has no paths and the Ingress no defaultBackend; its requests get what no \
                     rule matches, add one of them"
                ),
            ),
            // For any host this is what the default backend does anyway, behind everybody's rules.
            Some(_) if host == HostPattern::Any => {}
            Some(default) => {
                let destination = Destination {
                    target: default.target.clone(),
                    labels: default.labels.clone(),
                };
                self.add(host, default.path.clone(), destination);
            }
        }
        self.rank.position += 1;
    }

    fn add(&mut self, host: HostPattern, path: PathMatch, destination: Destination) {
        let mut route = Route {
            host: host.clone(),
            path,
            target: destination.target,
            tls_redirect: self.tls_redirect,
            labels: destination.labels,
            rank: self.rank.clone(),
        };
        if let Some(condition) = solver::condition(&route.path) {
            route.path = condition;
            route.tls_redirect = TlsRedirect::Never;
            if self.is_solver {
                route.rank.created = Some(solver::OLDEST);
            }
        }
        self.hosts.entry(host).or_default().push(Arc::new(route));
    }
}

/// A route for whatever no rule matches.
pub(super) fn default_route(
    destination: Destination,
    tls_redirect: TlsRedirect,
    rank: RouteRank,
) -> Option<Arc<Route>> {
    let route = Route {
        host: HostPattern::Any,
        path: PathMatch::parse(PathKind::Prefix, "/").ok()?,
        target: destination.target,
        tls_redirect,
        labels: destination.labels,
        rank,
    };
    Some(Arc::new(route))
}

/// Checks a path as the Kubernetes API does.
fn path_match(path: &HTTPIngressPath, field: &str, report: &mut Report) -> Option<PathMatch> {
    let text = path.path.as_deref().unwrap_or_default();
    let kind = path_kind(path, field, report)?;
    if text.is_empty() && path.path_type != "ImplementationSpecific" {
        report.error(
            Reason::InvalidPath,
            format!("{field}.path"),
            "the path is empty and not served; write '/' for every path",
        );
        return None;
    }
    match PathMatch::parse(kind, text) {
        Ok(condition) => Some(condition),
        Err(error) => {
            report.error(
                Reason::InvalidPath,
                format!("{field}.path"),
                format!("the path '{}' is not served: {error}", Excerpt(text)),
            );
            None
        }
    }
}

fn path_kind(path: &HTTPIngressPath, field: &str, report: &mut Report) -> Option<PathKind> {
    let text = path.path.as_deref().unwrap_or_default();
    match path.path_type.as_str() {
        "Exact" => Some(PathKind::Exact),
        "Prefix" => Some(PathKind::Prefix),
        "ImplementationSpecific" => {
            if text.contains('*') {
                report.warning(
                    Reason::InvalidPath,
                    format!("{field}.path"),
                    format!(
                        "the '*' in '{}' is matched literally; Tidegate serves ImplementationSpecific as Prefix, \
                         which matches everything below a path without it",
                        Excerpt(text)
                    ),
                );
            }
            Some(PathKind::Prefix)
        }
        other => {
            let found = if other.is_empty() {
                "the pathType is missing".to_owned()
            } else {
                format!("the pathType '{}' is unknown", Excerpt(other))
            };
            report.error(
                Reason::InvalidField,
                format!("{field}.pathType"),
                format!(
                    "{found}, and the path '{}' is not served; write Prefix, Exact or ImplementationSpecific",
                    Excerpt(text)
                ),
            );
            None
        }
    }
}
