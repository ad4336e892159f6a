//! What is held of each kind: no more than translation reads.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, Secret, Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::translate::labels::{CERTIFICATE_LABEL, ISSUER_ANNOTATION, OF_RECORDS};

/// Label by which an EndpointSlice names its Service.
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Where kubectl keeps the whole object once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Prefix of the annotations that are always held.
const OURS: &str = "tidegate.dev/";
/// Longest annotation of others that is held, in bytes. Those that are read are far shorter.
const LONGEST_ANNOTATION: usize = 4096;

pub(super) fn ingress(ingress: &mut Ingress) {
    let metadata = std::mem::take(&mut ingress.metadata);
    ingress.metadata = ObjectMeta {
        annotations: annotations(metadata.annotations),
        creation_timestamp: metadata.creation_timestamp,
        labels: metadata.labels,
        name: metadata.name,
        namespace: metadata.namespace,
        ..ObjectMeta::default()
    };
    ingress.status = None;
}

pub(super) fn ingress_class(class: &mut IngressClass) {
    named(&mut class.metadata);
}

pub(super) fn service(service: &mut Service) {
    named(&mut service.metadata);
    service.status = None;
    service.spec = service.spec.take().map(|spec| ServiceSpec {
        cluster_ip: spec.cluster_ip,
        cluster_ips: spec.cluster_ips,
        external_name: spec.external_name,
        ports: spec.ports,
        type_: spec.type_,
        ..ServiceSpec::default()
    });
}

pub(super) fn endpoint_slice(slice: &mut EndpointSlice) {
    let labels = slice.metadata.labels.take();
    named(&mut slice.metadata);
    slice.metadata.annotations = None;
    slice.metadata.labels = only(labels, SERVICE_NAME);
    for endpoint in slice.endpoints.iter_mut().flatten() {
        let whole = std::mem::take(endpoint);
        *endpoint = Endpoint {
            addresses: whole.addresses,
            conditions: whole.conditions,
            ..Endpoint::default()
        };
    }
}

pub(super) fn secret(secret: &mut Secret) {
    let mut labels = secret.metadata.labels.take().unwrap_or_default();
    let annotations = secret.metadata.annotations.take();
    named(&mut secret.metadata);
    let is_record = OF_RECORDS.iter().any(|label| labels.contains_key(*label));
    if labels.contains_key(CERTIFICATE_LABEL) {
        secret.metadata.annotations = only(annotations, ISSUER_ANNOTATION);
    }
    labels.retain(|label, _| label == CERTIFICATE_LABEL || OF_RECORDS.contains(&label.as_str()));
    secret.metadata.labels = (!labels.is_empty()).then_some(labels);
    if !is_record && let Some(data) = &mut secret.data {
        data.retain(|key, _| matches!(key.as_str(), "tls.crt" | "tls.key"));
    }
}

pub(super) fn namespace(namespace: &mut Namespace) {
    let labels = namespace.metadata.labels.take();
    named(&mut namespace.metadata);
    namespace.metadata.annotations = None;
    namespace.metadata.labels = labels;
    (namespace.spec, namespace.status) = (None, None);
}

/// Leaves the names and the annotations.
fn named(metadata: &mut ObjectMeta) {
    let whole = std::mem::take(metadata);
    *metadata = ObjectMeta {
        annotations: annotations(whole.annotations),
        name: whole.name,
        namespace: whole.namespace,
        ..ObjectMeta::default()
    };
}

fn annotations(annotations: Option<BTreeMap<String, String>>) -> Option<BTreeMap<String, String>> {
    let mut annotations = annotations?;
    annotations.retain(|key, value| {
        key != LAST_APPLIED && (value.len() <= LONGEST_ANNOTATION || key.starts_with(OURS))
    });
    (!annotations.is_empty()).then_some(annotations)
}

fn only(entries: Option<BTreeMap<String, String>>, key: &str) -> Option<BTreeMap<String, String>> {
    entries?
        .remove_entry(key)
        .map(|entry| BTreeMap::from([entry]))
}

#[cfg(test)]
mod tests;
