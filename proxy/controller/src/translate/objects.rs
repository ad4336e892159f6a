//! The objects as they are now, in sorted maps, and which of them changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use tidegate_model::{Hostname, NamespacedName, ObjectRef};

use crate::{Change, Object, Resolution};

/// Label by which an EndpointSlice names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

type ByName<T> = BTreeMap<NamespacedName, Arc<T>>;
type Labels = BTreeMap<String, String>;

/// Every object, by name.
#[derive(Debug, Default)]
pub(super) struct Objects {
    pub(super) ingresses: ByName<Ingress>,
    pub(super) classes: ByName<IngressClass>,
    pub(super) services: ByName<Service>,
    pub(super) secrets: ByName<Secret>,
    /// Labels of the namespaces that there are.
    pub(super) namespaces: BTreeMap<String, Labels>,
    pub(super) resolutions: BTreeMap<Hostname, Resolution>,
    slices: ByName<EndpointSlice>,
    slices_by_service: BTreeMap<NamespacedName, BTreeSet<NamespacedName>>,
}

/// What changed since the last translation.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    pub(super) classes: bool,
    pub(super) ingresses: BTreeSet<NamespacedName>,
    pub(super) services: BTreeSet<NamespacedName>,
    /// Services whose endpoints changed.
    pub(super) endpoints: BTreeSet<NamespacedName>,
    pub(super) secrets: BTreeSet<NamespacedName>,
    /// Namespaces that came, went or have other labels.
    pub(super) namespaces: BTreeSet<String>,
    pub(super) names: BTreeSet<Hostname>,
}

impl Objects {
    /// Takes a change in and notes what it touches. A change to what is already known touches nothing.
    pub(super) fn apply(&mut self, change: Change, dirty: &mut Dirty) {
        match change {
            Change::Put(object) => {
                let name = object.reference().name;
                self.put(name, object, dirty);
            }
            Change::Remove(reference) => self.remove(&reference, dirty),
            Change::Resolved(name, resolution) => {
                let before = match resolution.clone() {
                    Some(resolution) => self.resolutions.insert(name.clone(), resolution),
                    None => self.resolutions.remove(&name),
                };
                if before != resolution {
                    dirty.names.insert(name);
                }
            }
        }
    }

    /// The slices of a Service.
    pub(super) fn slices_of(
        &self,
        service: &NamespacedName,
    ) -> impl Iterator<Item = (&NamespacedName, &EndpointSlice)> {
        let names = self.slices_by_service.get(service).into_iter().flatten();
        names.filter_map(|name| Some((name, self.slices.get(name)?.as_ref())))
    }

    /// The Ingresses of a namespace.
    pub(super) fn ingresses_of(&self, namespace: &str) -> impl Iterator<Item = &NamespacedName> {
        within(&self.ingresses, namespace).map(|(name, _)| name)
    }

    /// The Secrets of a namespace.
    pub(super) fn secrets_of(&self, namespace: &str) -> impl Iterator<Item = &NamespacedName> {
        within(&self.secrets, namespace).map(|(name, _)| name)
    }

    fn put(&mut self, name: NamespacedName, object: Object, dirty: &mut Dirty) {
        match object {
            Object::Ingress(new) => {
                if replace(&mut self.ingresses, &name, new) {
                    dirty.ingresses.insert(name);
                }
            }
            Object::IngressClass(new) => dirty.classes |= replace(&mut self.classes, &name, new),
            Object::Service(new) => {
                if replace(&mut self.services, &name, new) {
                    dirty.services.insert(name);
                }
            }
            Object::Secret(new) => {
                if replace(&mut self.secrets, &name, new) {
                    dirty.secrets.insert(name);
                }
            }
            Object::Namespace(new) => self.put_namespace(name.name, &new, dirty),
            Object::EndpointSlice(new) => {
                if self.slices.get(&name) != Some(&new) {
                    self.unlink_slice(&name, dirty);
                    if let Some(service) = service_of(&name, &new) {
                        let slices = self.slices_by_service.entry(service.clone()).or_default();
                        slices.insert(name.clone());
                        dirty.endpoints.insert(service);
                    }
                    self.slices.insert(name, new);
                }
            }
        }
    }

    /// Of a namespace only the labels are looked at.
    fn put_namespace(&mut self, name: String, new: &Namespace, dirty: &mut Dirty) {
        let labels = new.metadata.labels.clone().unwrap_or_default();
        if self.namespaces.get(&name) != Some(&labels) {
            self.namespaces.insert(name.clone(), labels);
            dirty.namespaces.insert(name);
        }
    }

    fn remove(&mut self, reference: &ObjectRef, dirty: &mut Dirty) {
        let name = &reference.name;
        match reference.kind.as_str() {
            "Ingress" if self.ingresses.remove(name).is_some() => {
                dirty.ingresses.insert(name.clone());
            }
            "IngressClass" => dirty.classes |= self.classes.remove(name).is_some(),
            "Service" if self.services.remove(name).is_some() => {
                dirty.services.insert(name.clone());
            }
            "Secret" if self.secrets.remove(name).is_some() => {
                dirty.secrets.insert(name.clone());
            }
            "Namespace" if self.namespaces.remove(&name.name).is_some() => {
                dirty.namespaces.insert(name.name.clone());
            }
            "EndpointSlice" => {
                self.unlink_slice(name, dirty);
                self.slices.remove(name);
            }
            _ => {}
        }
    }

    fn unlink_slice(&mut self, name: &NamespacedName, dirty: &mut Dirty) {
        let Some(service) = self
            .slices
            .get(name)
            .and_then(|slice| service_of(name, slice))
        else {
            return;
        };
        if let Some(slices) = self.slices_by_service.get_mut(&service) {
            slices.remove(name);
            if slices.is_empty() {
                self.slices_by_service.remove(&service);
            }
        }
        dirty.endpoints.insert(service);
    }
}

/// What a map has of one namespace.
fn within<'a, T>(
    map: &'a ByName<T>,
    namespace: &str,
) -> impl Iterator<Item = (&'a NamespacedName, &'a Arc<T>)> {
    let namespace = namespace.to_owned();
    map.range(NamespacedName::new(namespace.as_str(), "")..)
        .take_while(move |(name, _)| name.namespace == namespace)
}

/// Whether the object is another than the one before.
fn replace<T: PartialEq>(map: &mut ByName<T>, name: &NamespacedName, new: Arc<T>) -> bool {
    match map.get_mut(name) {
        Some(old) if *old == new => false,
        Some(old) => {
            *old = new;
            true
        }
        None => {
            map.insert(name.clone(), new);
            true
        }
    }
}

fn service_of(name: &NamespacedName, slice: &EndpointSlice) -> Option<NamespacedName> {
    let service = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some(NamespacedName::new(&name.namespace, service))
}

/// `data` of a Secret with `stringData` written over it, as the API server does.
pub(super) fn entries(secret: &Secret) -> BTreeMap<&str, &[u8]> {
    let data = secret.data.iter().flatten();
    let texts = secret.string_data.iter().flatten();
    data.map(|(key, bytes)| (key.as_str(), bytes.0.as_slice()))
        .chain(texts.map(|(key, text)| (key.as_str(), text.as_bytes())))
        .collect()
}
