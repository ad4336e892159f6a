//! Backends of rules: the Service port that is meant, if there is one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{IngressBackend, IngressServiceBackend};
use tidegate_model::{Excerpt, NamespacedName, Reason, RouteLabels, Target, UpstreamId};

use super::annotation::{self, Addressing};
use super::objects::Objects;
use super::report::Report;
use super::service::{self, ServiceKind};
use super::upstream::UpstreamSource;
use super::{PortRef, ServicePort};
use crate::source::name;

/// Resolves backends and keeps what they refer to.
pub(super) struct Backends<'a> {
    objects: &'a Objects,
    /// The Ingress; `None` for the controller's own default backend.
    ingress: Option<NamespacedName>,
    /// What the Ingress says about it.
    addressing: Option<Addressing>,
    labels: BTreeMap<String, Arc<RouteLabels>>,
    /// Looked up once, however many paths lead there.
    found: BTreeMap<ServicePort, Found>,
    addressings: BTreeMap<NamespacedName, Addressing>,
    pub(super) services: BTreeSet<NamespacedName>,
    pub(super) upstreams: BTreeMap<UpstreamId, UpstreamSource>,
}

/// Where a rule's requests go and what they are called.
#[derive(Clone)]
pub(super) struct Destination {
    pub(super) target: Target,
    pub(super) labels: Arc<RouteLabels>,
}

/// What a Service's port turned out to be.
#[derive(Clone)]
enum Found {
    NoService,
    /// The ports that the Service has, in words.
    NoPort(String),
    Port(Destination),
}

impl<'a> Backends<'a> {
    pub(super) fn new(
        objects: &'a Objects,
        ingress: Option<NamespacedName>,
        addressing: Option<Addressing>,
    ) -> Self {
        Self {
            objects,
            ingress,
            addressing,
            labels: BTreeMap::new(),
            found: BTreeMap::new(),
            addressings: BTreeMap::new(),
            services: BTreeSet::new(),
            upstreams: BTreeMap::new(),
        }
    }

    /// Resolves a backend of the Ingress. A backend that is no use costs its route 503.
    pub(super) fn resolve(
        &mut self,
        backend: &IngressBackend,
        field: &str,
        report: &mut Report,
    ) -> Destination {
        match (&backend.service, &backend.resource) {
            (Some(service), None) => self.resolve_service(service, field, report),
            (None, Some(resource)) => {
                report.error(
                    Reason::ResourceBackend,
                    format!("{field}.resource"),
                    format!(
                        "the backend is the {} '{}', and Tidegate serves only Services; requests get 503, name a \
                         Service",
                        Excerpt(&resource.kind),
                        Excerpt(&resource.name)
                    ),
                );
                self.unavailable(String::new())
            }
            (both, _) => {
                let found = if both.is_some() {
                    "both a service and a resource"
                } else {
                    "neither a service nor a resource"
                };
                report.error(
                    Reason::InvalidBackend,
                    field,
                    format!("the backend names {found}; requests get 503, name one Service"),
                );
                self.unavailable(String::new())
            }
        }
    }

    fn resolve_service(
        &mut self,
        backend: &IngressServiceBackend,
        field: &str,
        report: &mut Report,
    ) -> Destination {
        if !name::is_label(&backend.name) {
            report.error(
                Reason::InvalidBackend,
                format!("{field}.service.name"),
                format!(
                    "'{}' is no name that a Service can have; requests get 503, correct it",
                    Excerpt(&backend.name)
                ),
            );
            return self.unavailable(String::new());
        }
        let namespace = self.ingress.as_ref().map(|name| name.namespace.clone());
        let service = NamespacedName::new(namespace.unwrap_or_default(), &backend.name);
        match port_reference(backend) {
            Ok(port) => self.resolve_port(
                &ServicePort { service, port },
                &format!("{field}.service"),
                report,
            ),
            Err(fault) => {
                report.error(
                    Reason::InvalidBackend,
                    format!("{field}.service.port"),
                    format!("{fault}; requests get 503, give the port's number or its name"),
                );
                self.services.insert(service.clone());
                self.unavailable(service.to_string())
            }
        }
    }

    /// Resolves a Service's port.
    pub(super) fn resolve_port(
        &mut self,
        wanted: &ServicePort,
        field: &str,
        report: &mut Report,
    ) -> Destination {
        let found = match self.found.get(wanted) {
            Some(known) => known.clone(),
            None => {
                let found = self.find(wanted, report);
                self.found.insert(wanted.clone(), found.clone());
                found
            }
        };
        match found {
            Found::Port(destination) => return destination,
            Found::NoService => report.error(
                Reason::ServiceNotFound,
                field_below(field, "name"),
                format!(
                    "there is no Service '{}'; requests get 503 until there is, create it or correct the name",
                    wanted.service
                ),
            ),
            Found::NoPort(ports) => report.error(
                Reason::PortNotFound,
                field_below(field, "port"),
                format!(
                    "the Service '{}' has no TCP port {}: {ports}; requests get 503, name one that it has",
                    wanted.service, wanted.port,
                ),
            ),
        }
        self.unavailable(wanted.to_string())
    }

    fn find(&mut self, wanted: &ServicePort, report: &mut Report) -> Found {
        self.services.insert(wanted.service.clone());
        let Some(service) = self.objects.services.get(&wanted.service) else {
            return Found::NoService;
        };
        match port_number(service, &wanted.port) {
            Some(port) => Found::Port(self.available(wanted, service, port, report)),
            None => Found::NoPort(service::describe_ports(service)),
        }
    }

    fn available(
        &mut self,
        wanted: &ServicePort,
        service: &Service,
        port: u16,
        report: &mut Report,
    ) -> Destination {
        let source = UpstreamSource {
            service: wanted.service.clone(),
            port,
            addressing: self.addressing(&wanted.service, service, report),
        };
        let id = source.id();
        self.upstreams.insert(id.clone(), source);
        Destination {
            target: Target::Upstream(id),
            labels: self.labels(format!("{}:{port}", wanted.service)),
        }
    }

    /// Endpoints or cluster IP: as the Ingress says, else as the Service does, if it has one.
    fn addressing(
        &mut self,
        name: &NamespacedName,
        service: &Service,
        report: &mut Report,
    ) -> Addressing {
        if let Some(known) = self.addressings.get(name) {
            return *known;
        }
        let mut about_service = Report::about("Service", name);
        let annotations = service.metadata.annotations.as_ref();
        let of_service = annotation::of_service(annotations, &mut about_service);
        let wanted = self.addressing.or(of_service).unwrap_or_default();
        let possible = service::kind(service) == ServiceKind::Endpoints
            && !service::cluster_ips(service).is_empty();
        if wanted == Addressing::ClusterIp && !possible {
            about_service.warning(
                Reason::InvalidAnnotation,
                annotation::field(annotation::SERVICE_UPSTREAM),
                format!(
                    "{} asks for the cluster IP, and this Service has none; its endpoints are used instead, remove \
                     the annotation",
                    annotation::SERVICE_UPSTREAM
                ),
            );
        }
        report.extend(about_service);
        let addressing = match possible {
            true => wanted,
            false => Addressing::Endpoints,
        };
        self.addressings.insert(name.clone(), addressing);
        addressing
    }

    fn unavailable(&mut self, service: String) -> Destination {
        Destination {
            target: Target::Unavailable,
            labels: self.labels(service),
        }
    }

    fn labels(&mut self, service: String) -> Arc<RouteLabels> {
        let labels = self.labels.entry(service).or_insert_with_key(|service| {
            Arc::new(RouteLabels {
                ingress: self.ingress.clone(),
                service: service.clone(),
            })
        });
        labels.clone()
    }
}

/// The API server allows no more, for any version of a Service.
const MAX_PORT_NAME: usize = 63;

fn port_reference(backend: &IngressServiceBackend) -> Result<PortRef, String> {
    let port = backend.port.as_ref();
    let name = port
        .and_then(|port| port.name.as_deref())
        .filter(|name| !name.is_empty());
    let number = port
        .and_then(|port| port.number)
        .filter(|number| *number != 0);
    match (name, number) {
        (Some(name), None) if name.len() > MAX_PORT_NAME => Err(format!(
            "'{}' is longer than the name of a port can be",
            Excerpt(name)
        )),
        (Some(name), None) => Ok(PortRef::Name(name.to_owned())),
        (None, Some(number)) => u16::try_from(number)
            .map(PortRef::Number)
            .map_err(|_| format!("{number} is no port, which has 1 to 65535")),
        (None, None) => Err("the backend names no port of the Service".to_owned()),
        (Some(name), Some(number)) => Err(format!(
            "the backend names a port twice, as '{}' and as {number}",
            Excerpt(name)
        )),
    }
}

/// The number of the port that is meant. An ExternalName needs to declare no ports: any number will do.
fn port_number(service: &Service, wanted: &PortRef) -> Option<u16> {
    if let Some((_, port)) = service::find_port(service, wanted) {
        return u16::try_from(port.port).ok().filter(|number| *number != 0);
    }
    match (service::kind(service), wanted) {
        (ServiceKind::ExternalName, PortRef::Number(number)) => Some(*number),
        _ => None,
    }
}

fn field_below(field: &str, name: &str) -> String {
    if field.is_empty() {
        String::new()
    } else {
        format!("{field}.{name}")
    }
}
