//! The objects that Tidegate reads, and changes to them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tidegate_model::{Hostname, NamespacedName, ObjectRef};

/// One object of a kind that Tidegate reads.
#[derive(Clone, Debug)]
pub enum Object {
    /// networking.k8s.io/v1 Ingress
    Ingress(Arc<Ingress>),
    /// networking.k8s.io/v1 IngressClass
    IngressClass(Arc<IngressClass>),
    /// v1 Service
    Service(Arc<Service>),
    /// discovery.k8s.io/v1 EndpointSlice
    EndpointSlice(Arc<EndpointSlice>),
    /// v1 Secret
    Secret(Arc<Secret>),
    /// v1 Namespace
    Namespace(Arc<Namespace>),
}

impl Object {
    /// The kind as Kubernetes writes it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Ingress(_) => "Ingress",
            Self::IngressClass(_) => "IngressClass",
            Self::Service(_) => "Service",
            Self::EndpointSlice(_) => "EndpointSlice",
            Self::Secret(_) => "Secret",
            Self::Namespace(_) => "Namespace",
        }
    }

    /// `metadata`.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Ingress(object) => &object.metadata,
            Self::IngressClass(object) => &object.metadata,
            Self::Service(object) => &object.metadata,
            Self::EndpointSlice(object) => &object.metadata,
            Self::Secret(object) => &object.metadata,
            Self::Namespace(object) => &object.metadata,
        }
    }

    /// What the object is called. A namespaced object without a namespace is in `default`, as `kubectl apply` has it.
    pub fn reference(&self) -> ObjectRef {
        let metadata = self.metadata();
        let namespace = match self {
            Self::IngressClass(_) | Self::Namespace(_) => "",
            _ => metadata.namespace.as_deref().unwrap_or("default"),
        };
        let name = metadata.name.as_deref().unwrap_or_default();
        ObjectRef::new(self.kind(), NamespacedName::new(namespace, name))
    }
}

/// What a name server said about an ExternalName.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Its addresses; not empty.
    Addresses(BTreeSet<IpAddr>),
    /// Why there are none, for people to read.
    Failed(String),
}

/// One step in the life of the objects.
#[derive(Clone, Debug)]
pub enum Change {
    /// A new object, or a new version of a known one.
    Put(Object),
    /// The object is gone.
    Remove(ObjectRef),
    /// The addresses of an ExternalName, or why there are none; `None` when nobody asks for the name any more.
    Resolved(Hostname, Option<Resolution>),
}
