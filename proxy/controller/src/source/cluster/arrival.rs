//! One object as it comes from the API server: read, looked at for what writers need, and trimmed to what is held.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    ConfigMap, LoadBalancerIngress, Namespace, Pod, Secret, Service, ServiceStatus,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass, IngressLoadBalancerIngress};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_model::{Level, NamespacedName, ObjectRef, Problem, Reason};

use super::kind::Kind;
use super::trim::{self, SERVICE_NAME};
use crate::Object;
use crate::inventory::{Agent, IngressRecord, PublishedAddress};
use crate::translate::labels::{
    self, CERTIFICATE_LABEL, CHALLENGE_ANSWERS_LABEL, REQUESTS_LABEL, TICKET_KEYS_LABEL,
};

/// Key of the ConfigMap's data that holds the settings.
pub const SETTINGS_KEY: &str = "settings.yaml";

/// An object as the API server has it.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) name: NamespacedName,
    /// `metadata.uid`
    pub(super) uid: Option<String>,
    /// `metadata.resourceVersion`
    pub(super) version: Option<String>,
    pub(super) content: Content,
}

/// What an object says.
#[derive(Debug)]
pub(super) enum Content {
    Ingress(Held, IngressRecord),
    IngressClass(Held),
    /// With `status.loadBalancer.ingress`.
    Service(Held, Vec<PublishedAddress>),
    /// With the Service that it belongs to.
    EndpointSlice(Held, Option<NamespacedName>),
    Secret(Held),
    /// What is watched of a Secret.
    SecretMetadata(Label),
    Namespace(Held),
    Agent(Agent),
    /// Text of the settings.
    Settings(Option<String>),
    /// It does not fit its type.
    Unreadable(Box<Problem>),
}

/// What a Secret is labelled as, which makes it needed though nothing refers to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    /// Challenge answers, or ticket keys or requests of this instance: needed in our own namespace.
    Record,
    /// A certificate of this instance: needed wherever it is.
    Certificate,
    Other,
}

/// An object that is handed on, trimmed, and the hash of what is left.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) object: Object,
    pub(super) hash: u64,
}

/// Reads objects.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    /// By which `managedFields` say that a status is ours.
    pub(super) field_manager: Arc<str>,
    /// By which labels say that a Secret is ours.
    pub(super) instance: Arc<str>,
    /// Same keys for as long as hashes are compared.
    pub(super) hashes: RandomState,
}

impl Reader {
    /// Reads an object of a kind as it is watched. `None` for one without a name.
    pub(super) fn read(&self, kind: Kind, text: &str) -> Option<Arrival> {
        match kind {
            Kind::Ingress => self.arrival(kind, text, |ingress: &mut Ingress| {
                let record = self.record(ingress);
                trim::ingress(ingress);
                Content::Ingress(self.hold(ingress, Object::Ingress), record)
            }),
            Kind::IngressClass => self.arrival(kind, text, |class: &mut IngressClass| {
                trim::ingress_class(class);
                Content::IngressClass(self.hold(class, Object::IngressClass))
            }),
            Kind::Service => self.arrival(kind, text, |service: &mut Service| {
                let addresses = service_addresses(service.status.as_ref());
                trim::service(service);
                Content::Service(self.hold(service, Object::Service), addresses)
            }),
            Kind::EndpointSlice => self.arrival(kind, text, |slice: &mut EndpointSlice| {
                trim::endpoint_slice(slice);
                let service = service_of(&slice.metadata);
                Content::EndpointSlice(self.hold(slice, Object::EndpointSlice), service)
            }),
            Kind::Secret => self.arrival(kind, text, |secret: &mut Metadata| {
                Content::SecretMetadata(self.label(&secret.metadata))
            }),
            Kind::Namespace => self.arrival(kind, text, |namespace: &mut Namespace| {
                trim::namespace(namespace);
                Content::Namespace(self.hold(namespace, Object::Namespace))
            }),
            Kind::Pod => self.arrival(kind, text, |pod: &mut Pod| Content::Agent(agent(pod))),
            Kind::ConfigMap => self.arrival(kind, text, |map: &mut ConfigMap| {
                let text = map.data.as_mut().and_then(|data| data.remove(SETTINGS_KEY));
                Content::Settings(text)
            }),
        }
    }

    /// Reads a Secret whole.
    pub(super) fn read_secret(&self, text: &str) -> Option<Arrival> {
        self.arrival(Kind::Secret, text, |secret: &mut Secret| {
            trim::secret(secret);
            Content::Secret(self.hold(secret, Object::Secret))
        })
    }

    fn arrival<T: DeserializeOwned + HasMetadata + Default>(
        &self,
        kind: Kind,
        text: &str,
        content: impl FnOnce(&mut T) -> Content,
    ) -> Option<Arrival> {
        let deserializer = &mut serde_json::Deserializer::from_str(text);
        let mut object: T = match serde_path_to_error::deserialize(deserializer) {
            Ok(object) => object,
            Err(error) => return unreadable(kind, text, &error),
        };
        let metadata = object.metadata();
        let name = metadata.name.clone().filter(|name| !name.is_empty())?;
        let name = NamespacedName::new(metadata.namespace.clone().unwrap_or_default(), name);
        let (uid, version) = (metadata.uid.take(), metadata.resource_version.take());
        Some(Arrival {
            name,
            uid,
            version,
            content: content(&mut object),
        })
    }

    fn hold<T: Serialize + Default>(&self, object: &mut T, wrap: fn(Arc<T>) -> Object) -> Held {
        let object = std::mem::take(object);
        let hash = self.hash(&object);
        Held {
            object: wrap(Arc::new(object)),
            hash,
        }
    }

    fn hash(&self, object: &impl Serialize) -> u64 {
        let mut sink = HashSink(self.hashes.build_hasher());
        // Neither the sink nor the types of the API can fail.
        _ = serde_json::to_writer(&mut sink, object);
        sink.0.finish()
    }

    fn label(&self, metadata: &ObjectMeta) -> Label {
        let is_ours = |label| labels::has(metadata, label, &self.instance);
        let is_record = labels::has(metadata, CHALLENGE_ANSWERS_LABEL, "true")
            || is_ours(TICKET_KEYS_LABEL)
            || is_ours(REQUESTS_LABEL);
        match (is_record, is_ours(CERTIFICATE_LABEL)) {
            (_, true) => Label::Certificate,
            (true, false) => Label::Record,
            (false, false) => Label::Other,
        }
    }

    fn record(&self, ingress: &Ingress) -> IngressRecord {
        let status = ingress.status.as_ref();
        let entries = status.and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
        let managers = ingress.metadata.managed_fields.iter().flatten();
        let mut ours = managers.filter(|fields| {
            fields.manager.as_deref() == Some(&*self.field_manager)
                && fields.subresource.as_deref() == Some("status")
        });
        IngressRecord {
            addresses: entries
                .into_iter()
                .flatten()
                .filter_map(published)
                .collect(),
            is_ours: ours.next().is_some(),
        }
    }
}

/// What every object has.
trait HasMetadata {
    fn metadata(&mut self) -> &mut ObjectMeta;
}

macro_rules! has_metadata {
    ($($kind:ty),*) => {
        $(impl HasMetadata for $kind {
            fn metadata(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        })*
    };
}

has_metadata!(
    ConfigMap,
    EndpointSlice,
    Ingress,
    IngressClass,
    Metadata,
    Namespace,
    Pod,
    Secret,
    Service
);

/// An object of which only the metadata is of interest.
#[derive(Debug, Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    metadata: ObjectMeta,
}

/// Puts what is written into a hash.
struct HashSink<H>(H);

impl<H: Hasher> io::Write for HashSink<H> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The number in a version. Versions are opaque to clients, but every server has them increase as numbers.
pub(super) fn version_number(version: &str) -> Option<u64> {
    version.parse().ok()
}

/// An object that does not fit its type, by as much of its metadata as does.
fn unreadable(
    kind: Kind,
    text: &str,
    error: &serde_path_to_error::Error<serde_json::Error>,
) -> Option<Arrival> {
    let value: Value = serde_json::from_str(text).ok()?;
    let metadata = value.get("metadata")?;
    let member = |key: &str| metadata.get(key).and_then(Value::as_str).map(str::to_owned);
    let name = member("name").filter(|name| !name.is_empty())?;
    let name = NamespacedName::new(member("namespace").unwrap_or_default(), name);
    let field = match error.path().to_string() {
        path if path == "." => String::new(),
        path => path,
    };
    let what = match kind {
        // What stands there may be secret.
        Kind::Secret => "the value is not what a Secret has there".to_owned(),
        _ => {
            let text = error.inner().to_string();
            let what = text
                .rsplit_once(" at line ")
                .map_or(&*text, |(what, _)| what);
            what.chars().take(300).collect()
        }
    };
    let problem = Problem {
        level: Level::Error,
        object: ObjectRef::new(kind.name(), name.clone()),
        field,
        reason: Reason::InvalidField,
        message: format!(
            "{what}. The object cannot be read; its last good version stays in force, if there was one. Correct the \
             value."
        ),
    };
    Some(Arrival {
        name,
        uid: member("uid"),
        version: member("resourceVersion"),
        content: Content::Unreadable(Box::new(problem)),
    })
}

/// The Service that a slice belongs to.
fn service_of(metadata: &ObjectMeta) -> Option<NamespacedName> {
    let service = metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    let namespace = metadata.namespace.clone().unwrap_or_default();
    Some(NamespacedName::new(namespace, service))
}

fn published(entry: &IngressLoadBalancerIngress) -> Option<PublishedAddress> {
    address(entry.ip.as_deref(), entry.hostname.as_deref())
}

fn service_addresses(status: Option<&ServiceStatus>) -> Vec<PublishedAddress> {
    let entries = status.and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    let published =
        |entry: &LoadBalancerIngress| address(entry.ip.as_deref(), entry.hostname.as_deref());
    entries
        .into_iter()
        .flatten()
        .filter_map(published)
        .collect()
}

fn address(ip: Option<&str>, hostname: Option<&str>) -> Option<PublishedAddress> {
    let ip = ip.and_then(|ip| ip.parse().ok()).map(PublishedAddress::Ip);
    let hostname = hostname.filter(|name| !name.is_empty());
    ip.or_else(|| hostname.map(|name| PublishedAddress::Hostname(name.to_owned())))
}

fn agent(pod: &Pod) -> Agent {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let ready = conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let parse = |text: &String| text.parse::<IpAddr>().ok();
    let hosts = status.and_then(|status| status.host_ips.as_ref());
    let hosts = hosts.into_iter().flatten().map(|entry| &entry.ip);
    let pods = status.and_then(|status| status.pod_ips.as_ref());
    let pods = pods.into_iter().flatten().map(|entry| &entry.ip);
    Agent {
        node: pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.clone())
            .unwrap_or_default(),
        is_ready: ready && pod.metadata.deletion_timestamp.is_none(),
        host_addresses: hosts.filter_map(parse).collect(),
        pod_addresses: pods.filter_map(parse).collect(),
    }
}

#[cfg(test)]
mod tests;
