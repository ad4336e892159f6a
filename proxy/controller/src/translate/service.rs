//! Services: what they are, and which port a backend means.

use k8s_openapi::api::core::v1::{Service, ServicePort};
use tidegate_model::Excerpt;

use super::PortRef;
use super::report::enumerate;

/// What stands behind a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServiceKind {
    /// Endpoints, written in EndpointSlices.
    Endpoints,
    /// A name to resolve.
    ExternalName,
}

pub(super) fn kind(service: &Service) -> ServiceKind {
    let kind = service.spec.as_ref().and_then(|spec| spec.type_.as_deref());
    if kind == Some("ExternalName") {
        ServiceKind::ExternalName
    } else {
        ServiceKind::Endpoints
    }
}

/// The ports over TCP, with their place in `spec.ports`.
pub(super) fn ports(service: &Service) -> impl Iterator<Item = (usize, &ServicePort)> {
    let ports = service.spec.iter().flat_map(|spec| &spec.ports).flatten();
    ports
        .enumerate()
        .filter(|(_, port)| matches!(port.protocol.as_deref(), None | Some("TCP" | "")))
}

/// The port that a backend names, by number or by name.
pub(super) fn find_port<'a>(
    service: &'a Service,
    wanted: &PortRef,
) -> Option<(usize, &'a ServicePort)> {
    ports(service).find(|(_, port)| match wanted {
        PortRef::Number(number) => port.port == i32::from(*number),
        PortRef::Name(name) => port.name.as_ref() == Some(name),
    })
}

/// The cluster IPs; none for a headless Service.
pub(super) fn cluster_ips(service: &Service) -> Vec<std::net::IpAddr> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let several = spec.cluster_ips.iter().flatten();
    let mut ips: Vec<_> = several
        .chain(&spec.cluster_ip)
        .filter_map(|text| text.parse().ok())
        .collect();
    ips.sort();
    ips.dedup();
    ips
}

/// The ports in words, for a message.
pub(super) fn describe_ports(service: &Service) -> String {
    match enumerate(ports(service).map(|(_, port)| describe_port(port))) {
        none if none.is_empty() => "it has no TCP port".to_owned(),
        ports => format!("its TCP ports are {ports}"),
    }
}

/// A port in words: its number, and its name if it has one.
pub(super) fn describe_port(port: &ServicePort) -> String {
    match &port.name {
        Some(name) => format!("{} ({})", port.port, Excerpt(name)),
        None => port.port.to_string(),
    }
}
