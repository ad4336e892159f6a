//! The kinds that are watched: where they are served, and which part of the cluster a watch covers.

use std::fmt;

/// A kind of object that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// networking.k8s.io/v1 Ingress
    Ingress,
    /// networking.k8s.io/v1 IngressClass
    IngressClass,
    /// v1 Service
    Service,
    /// discovery.k8s.io/v1 EndpointSlice
    EndpointSlice,
    /// v1 Secret, of which only the metadata is watched
    Secret,
    /// v1 Namespace
    Namespace,
    /// v1 Pod: those of this instance
    Pod,
    /// v1 ConfigMap: the one with the settings
    ConfigMap,
}

impl Kind {
    /// As Kubernetes writes it in `kind`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingress => "Ingress",
            Self::IngressClass => "IngressClass",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Secret => "Secret",
            Self::Namespace => "Namespace",
            Self::Pod => "Pod",
            Self::ConfigMap => "ConfigMap",
        }
    }

    /// As it stands in paths and RBAC rules.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Ingress => "ingresses",
            Self::IngressClass => "ingressclasses",
            Self::Service => "services",
            Self::EndpointSlice => "endpointslices",
            Self::Secret => "secrets",
            Self::Namespace => "namespaces",
            Self::Pod => "pods",
            Self::ConfigMap => "configmaps",
        }
    }

    /// API group; empty for the core one.
    pub fn group(self) -> &'static str {
        match self {
            Self::Ingress | Self::IngressClass => "networking.k8s.io",
            Self::EndpointSlice => "discovery.k8s.io",
            Self::Service | Self::Secret | Self::Namespace | Self::Pod | Self::ConfigMap => "",
        }
    }

    /// Where objects of a namespace, or of all of them, are served.
    pub(super) fn path(self, namespace: Option<&str>) -> String {
        let api = match self.group() {
            "" => "/api/v1".to_owned(),
            group => format!("/apis/{group}/v1"),
        };
        match namespace {
            Some(namespace) => format!("{api}/namespaces/{namespace}/{}", self.resource()),
            None => format!("{api}/{}", self.resource()),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What one watch covers, by which it is known in metrics and logs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchName {
    /// The kind.
    pub kind: Kind,
    /// The namespace; `None` for the whole cluster.
    pub namespace: Option<String>,
}

impl fmt::Display for WatchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} in namespace {namespace}", self.kind),
            None => write!(f, "{}", self.kind),
        }
    }
}

/// What is asked of the server for one watch.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) name: WatchName,
    pub(super) labels: Option<String>,
    pub(super) fields: Option<String>,
}

impl Target {
    pub(super) fn all(kind: Kind, namespace: Option<String>) -> Self {
        Self {
            name: WatchName { kind, namespace },
            labels: None,
            fields: None,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.name.kind
    }
}
