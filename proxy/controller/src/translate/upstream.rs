//! Upstreams: the addresses behind one port of one Service.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointPort, EndpointSlice};
use tidegate_model::{
    Endpoint, Excerpt, Hostname, NamespacedName, Problem, Protocol, Reason, Upstream, UpstreamId,
};

use super::PortRef;
use super::annotation::Addressing;
use super::objects::Objects;
use super::report::{Report, enumerate};
use super::service::{self, ServiceKind, describe_port};
use crate::Resolution;

/// Where an upstream's endpoints come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UpstreamSource {
    pub(super) service: NamespacedName,
    /// Number of the Service's port.
    pub(super) port: u16,
    pub(super) addressing: Addressing,
}

impl UpstreamSource {
    /// The identity: the same for one port of one Service, however it was named.
    pub(super) fn id(&self) -> UpstreamId {
        let suffix = match self.addressing {
            Addressing::Endpoints => "",
            Addressing::ClusterIp => ",cluster-ip",
        };
        UpstreamId::new(format!("{}:{}{suffix}", self.service, self.port))
    }
}

/// An upstream with what was noticed on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Built {
    pub(super) upstream: Upstream,
    pub(super) problems: Vec<Problem>,
    /// The ExternalName that has to be resolved for it.
    pub(super) name: Option<Hostname>,
}

/// Gathers an upstream's endpoints.
pub(super) fn build(source: &UpstreamSource, objects: &Objects) -> Built {
    let mut builder = Builder {
        source,
        report: Report::about("Service", &source.service),
        addresses: BTreeSet::new(),
        server_name: None,
        name: None,
    };
    let service = objects.services.get(&source.service);
    let port = service.and_then(|service| {
        let (place, port) = service::find_port(service, &PortRef::Number(source.port))?;
        Some((place, port.clone()))
    });
    if let Some(service) = service {
        builder.fill(service, port.as_ref().map(|(_, port)| port), objects);
    }
    let protocol = port.map_or(Protocol::Http, |(place, port)| {
        protocol(place, &port, &mut builder.report)
    });
    let endpoints: Arc<[Endpoint]> = builder
        .addresses
        .into_iter()
        .map(|address| Endpoint { address })
        .collect();
    Built {
        upstream: Upstream {
            id: source.id(),
            protocol,
            server_name: builder.server_name,
            endpoints,
        },
        problems: builder.report.into_problems(),
        name: builder.name,
    }
}

struct Builder<'a> {
    source: &'a UpstreamSource,
    report: Report,
    addresses: BTreeSet<SocketAddr>,
    server_name: Option<Hostname>,
    name: Option<Hostname>,
}

impl Builder<'_> {
    fn fill(&mut self, service: &Service, port: Option<&ServicePort>, objects: &Objects) {
        if service::kind(service) == ServiceKind::ExternalName {
            return self.fill_from_name(service, objects);
        }
        let Some(port) = port else { return };
        match self.source.addressing {
            Addressing::ClusterIp => self.add(service::cluster_ips(service)),
            Addressing::Endpoints => self.fill_from_slices(service, port, objects),
        }
    }

    fn add(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        let port = self.source.port;
        let addresses = addresses.into_iter().map(|ip| SocketAddr::new(ip, port));
        self.addresses.extend(addresses);
    }

    fn fill_from_slices(&mut self, service: &Service, port: &ServicePort, objects: &Objects) {
        let only_port = service::ports(service).nth(1).is_none();
        let mut numbered = true;
        let mut ready = BTreeSet::new();
        let mut terminating = BTreeSet::new();
        let mut carried = BTreeSet::new();
        for (name, slice) in objects.slices_of(&self.source.service) {
            let Some(family) = self.family(name, slice) else {
                continue;
            };
            carried.extend(port_names(slice));
            let Some(target) = target_port(slice, port, only_port) else {
                continue;
            };
            let Some(target) = number(target) else {
                numbered = false;
                continue;
            };
            let mut refused = Refused::default();
            for endpoint in slice.endpoints.iter().flatten() {
                let set = match condition(endpoint) {
                    Condition::Ready => &mut ready,
                    Condition::Terminating => &mut terminating,
                    Condition::Unusable => continue,
                };
                set.extend(addresses_of(endpoint, family, target, &mut refused));
            }
            self.report_refused(name, family, &refused);
        }
        self.addresses = if ready.is_empty() { terminating } else { ready };
        if self.addresses.is_empty() {
            self.report_no_endpoints(port, &carried, numbered);
        }
    }

    fn family(&mut self, name: &NamespacedName, slice: &EndpointSlice) -> Option<Family> {
        match slice.address_type.as_str() {
            "IPv4" => Some(Family::V4),
            "IPv6" => Some(Family::V6),
            other => {
                let mut report = Report::about("EndpointSlice", name);
                report.warning(
                    Reason::InvalidField,
                    "addressType",
                    format!(
                        "the address type '{}' is not used and the slice is skipped; write IPv4 or IPv6, or give \
                         the name to a Service of type ExternalName",
                        Excerpt(other)
                    ),
                );
                self.report.extend(report);
                None
            }
        }
    }

    /// One Problem for a slice, which may have thousands of addresses.
    fn report_refused(&mut self, slice: &NamespacedName, family: Family, refused: &Refused<'_>) {
        let Some(first) = refused.first else { return };
        let (first, family) = (Excerpt(first), family.name());
        let message = match refused.count {
            1 => format!(
                "'{first}' is no address that takes connections over {family}; it is skipped, correct it"
            ),
            count => format!(
                "'{first}' and {} others are no addresses that take connections over {family}; they are skipped, \
                 correct them",
                count - 1
            ),
        };
        let mut report = Report::about("EndpointSlice", slice);
        report.warning(Reason::InvalidField, "endpoints", message);
        self.report.extend(report);
    }

    fn report_no_endpoints(
        &mut self,
        port: &ServicePort,
        carried: &BTreeSet<&str>,
        numbered: bool,
    ) {
        let named = port.name.as_deref().unwrap_or_default();
        let cause = if carried.is_empty() {
            "no EndpointSlice of it holds a port; check that its selector fits running pods"
                .to_owned()
        } else if !carried.contains(named) {
            let carried = carried.iter().map(|name| format!("'{}'", Excerpt(name)));
            format!(
                "its EndpointSlices have no port named '{}', only {}; give both the same name",
                Excerpt(named),
                enumerate(carried)
            )
        } else if !numbered {
            "an EndpointSlice of it gives the port no number of 1 to 65535; write one".to_owned()
        } else {
            "no endpoint is ready; check its pods".to_owned()
        };
        self.report.warning(
            Reason::NoEndpoints,
            "spec.ports",
            format!(
                "port {} has no usable endpoint and answers 503: {cause}",
                describe_port(port)
            ),
        );
    }

    fn fill_from_name(&mut self, service: &Service, objects: &Objects) {
        let spec = service.spec.as_ref();
        let text = spec
            .and_then(|spec| spec.external_name.as_deref())
            .unwrap_or_default();
        if let Ok(address) = text.parse::<IpAddr>() {
            return self.add([address]);
        }
        let name = match Hostname::parse(text.strip_suffix('.').unwrap_or(text)) {
            Ok(name) => name,
            Err(error) => {
                return self.report.error(
                    Reason::InvalidField,
                    "spec.externalName",
                    format!(
                        "'{}' is no host name ({error}); requests get 503 until it is one",
                        Excerpt(text)
                    ),
                );
            }
        };
        match objects.resolutions.get(&name) {
            Some(Resolution::Addresses(addresses)) => self.add(addresses.iter().copied()),
            Some(Resolution::Failed(cause)) => self.report.warning(
                Reason::NameNotResolved,
                "spec.externalName",
                format!(
                    "'{name}' does not resolve ({}); requests get 503 until it does, check the name",
                    Excerpt(cause)
                ),
            ),
            None => self.report.note(
                Reason::NameNotResolved,
                "spec.externalName",
                format!("'{name}' has not been resolved yet; requests get 503 until it is"),
            ),
        }
        self.server_name = Some(name.clone());
        self.name = Some(name);
    }
}

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

impl Family {
    /// Parses an address of the family that can be connected to.
    fn parse(self, text: &str) -> Option<IpAddr> {
        let ip = match self {
            Self::V4 => IpAddr::V4(text.parse::<Ipv4Addr>().ok()?),
            Self::V6 => IpAddr::V6(text.parse::<Ipv6Addr>().ok()?),
        };
        (!ip.is_unspecified() && !ip.is_multicast()).then_some(ip)
    }

    fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// The addresses of a slice that are no use.
#[derive(Default)]
struct Refused<'a> {
    first: Option<&'a str>,
    count: usize,
}

fn addresses_of<'a>(
    endpoint: &'a SliceEndpoint,
    family: Family,
    port: u16,
    refused: &mut Refused<'a>,
) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for text in &endpoint.addresses {
        match family.parse(text) {
            Some(ip) => addresses.push(SocketAddr::new(ip, port)),
            None => {
                refused.first.get_or_insert(text);
                refused.count += 1;
            }
        }
    }
    addresses
}

enum Condition {
    Ready,
    /// On its way out, still answering: used when nothing is ready, as kube-proxy does.
    Terminating,
    Unusable,
}

/// Unset conditions count as discovery.k8s.io/v1 `EndpointConditions` says: ready when unknown, serving as ready is.
fn condition(endpoint: &SliceEndpoint) -> Condition {
    let Some(conditions) = &endpoint.conditions else {
        return Condition::Ready;
    };
    let ready = conditions.ready.unwrap_or(true);
    let serving = conditions.serving.unwrap_or(ready);
    match (ready, serving, conditions.terminating.unwrap_or(false)) {
        (true, _, _) => Condition::Ready,
        (false, true, true) => Condition::Terminating,
        _ => Condition::Unusable,
    }
}

fn port_names(slice: &EndpointSlice) -> impl Iterator<Item = &str> {
    let ports = slice.ports.iter().flatten();
    ports.map(|port| port.name.as_deref().unwrap_or_default())
}

/// The port to connect to: that of the slice with the name of the Service's port. A slice written by hand may leave
/// the name out on one side when there is only one port anyway.
fn target_port<'a>(
    slice: &'a EndpointSlice,
    port: &ServicePort,
    only_port: bool,
) -> Option<&'a EndpointPort> {
    let wanted = port.name.as_deref().unwrap_or_default();
    let tcp = |protocol: &Option<String>| matches!(protocol.as_deref(), None | Some("TCP" | ""));
    let ports: Vec<_> = slice
        .ports
        .iter()
        .flatten()
        .filter(|port| tcp(&port.protocol))
        .collect();
    let name = |port: &EndpointPort| port.name.as_deref().unwrap_or_default().to_owned();
    let named = ports.iter().find(|port| name(port) == wanted);
    let lone = || match ports.as_slice() {
        [lone] if only_port && (wanted.is_empty() || name(lone).is_empty()) => Some(lone),
        _ => None,
    };
    named.or_else(lone).copied()
}

/// The number to connect to; a slice may leave it out, to mean every port.
fn number(port: &EndpointPort) -> Option<u16> {
    let number = u16::try_from(port.port?).ok()?;
    (number != 0).then_some(number)
}

/// `appProtocol` of the Service's port. Neither a port's name nor its number says anything about TLS.
fn protocol(place: usize, port: &ServicePort, report: &mut Report) -> Protocol {
    match port.app_protocol.as_deref() {
        None | Some("" | "http" | "kubernetes.io/ws") => Protocol::Http,
        Some("https" | "kubernetes.io/wss") => Protocol::Https,
        Some("kubernetes.io/h2c" | "grpc") => Protocol::H2c,
        Some(other) => {
            report.warning(
                Reason::UnsupportedProtocol,
                format!("spec.ports[{place}].appProtocol"),
                format!(
                    "'{}' is not spoken and taken for http; use http, https, grpc, kubernetes.io/h2c, \
                     kubernetes.io/ws or kubernetes.io/wss",
                    Excerpt(other)
                ),
            );
            Protocol::Http
        }
    }
}
