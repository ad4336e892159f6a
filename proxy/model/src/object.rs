//! Names of Kubernetes objects, as text and nothing more.

use std::fmt;

use serde::{Serialize, Serializer};

/// A namespace and a name: what one object of a known kind is called. Displayed as `namespace/name`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespacedName {
    /// Namespace; empty for objects of the whole cluster, such as an IngressClass.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl NamespacedName {
    /// Joins the two parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

impl Serialize for NamespacedName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The object that a [`Problem`](crate::Problem) is about: its kind and its name. Displayed as `Ingress default/web`.
///
/// A document that could not be read has kind `File` and the path as its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Kind as Kubernetes writes it: `Ingress`, `Service`, `Secret`, ...
    pub kind: String,
    /// Which one.
    pub name: NamespacedName,
}

impl ObjectRef {
    /// A reference to the object of this kind and name.
    pub fn new(kind: impl Into<String>, name: NamespacedName) -> Self {
        Self {
            kind: kind.into(),
            name,
        }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

impl Serialize for ObjectRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
