//! What the manifests say and what the store keeps, in one stream of updates.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_controller::source::Update;
use tidegate_controller::{Change, Object};
use tidegate_model::{NamespacedName, ObjectRef};
use tokio::sync::mpsc;

const SECRET: &str = "Secret";

/// The Secrets of the manifests, which are nobody's to write. Clones share one state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manifests(Arc<Mutex<BTreeMap<NamespacedName, Object>>>);

impl Manifests {
    /// Whether a manifest has this Secret.
    pub(crate) fn has(&self, secret: &NamespacedName) -> bool {
        self.with(|secrets| secrets.contains_key(secret))
    }

    /// An entry of this Secret.
    pub(crate) fn entry(&self, secret: &NamespacedName, key: &str) -> Option<Vec<u8>> {
        self.with(|secrets| {
            let Object::Secret(secret) = secrets.get(secret)? else {
                return None;
            };
            let text = secret.string_data.as_ref().and_then(|data| data.get(key));
            let bytes = secret.data.as_ref().and_then(|data| data.get(key));
            text.map(|text| text.clone().into_bytes())
                .or_else(|| bytes.map(|bytes| bytes.0.clone()))
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<NamespacedName, Object>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Passes on what the manifests tell, from when the store has told for the first time, and what the store tells beside it.
/// A Secret of the manifests goes before one of the same name in the store. Ends when the manifests do.
pub(crate) async fn beside(
    mut manifests: mpsc::Receiver<Update>,
    mut kept: mpsc::UnboundedReceiver<Vec<Change>>,
    secrets: Manifests,
    updates: mpsc::Sender<Update>,
) {
    let mut joint = Joint {
        secrets,
        kept: BTreeMap::new(),
        last: Update::default(),
    };
    let mut first = match kept.recv().await {
        Some(changes) => joint.store_told(changes),
        None => Vec::new(),
    };
    let Some(update) = manifests.recv().await else {
        return;
    };
    let mut update = joint.manifests_told(update);
    update.changes.append(&mut first);
    if updates.send(update).await.is_err() {
        return;
    }
    loop {
        let update = tokio::select! {
            update = manifests.recv() => match update {
                Some(update) => joint.manifests_told(update),
                None => return,
            },
            Some(changes) = kept.recv() => Update {
                changes: joint.store_told(changes),
                ..joint.last.clone()
            },
        };
        if updates.send(update).await.is_err() {
            return;
        }
    }
}

struct Joint {
    secrets: Manifests,
    /// What the store has told, by name.
    kept: BTreeMap<NamespacedName, Object>,
    /// The last update of the manifests, without its changes.
    last: Update,
}

impl Joint {
    fn manifests_told(&mut self, mut update: Update) -> Update {
        for change in &mut update.changes {
            match change {
                Change::Put(object @ Object::Secret(_)) => {
                    let (name, object) = (object.reference().name, object.clone());
                    self.secrets.with(|secrets| secrets.insert(name, object));
                }
                Change::Remove(ObjectRef { kind, name }) if kind == SECRET => {
                    self.secrets.with(|secrets| secrets.remove(name));
                    if let Some(kept) = self.kept.get(name) {
                        *change = Change::Put(kept.clone());
                    }
                }
                _ => {}
            }
        }
        self.last = Update {
            changes: Vec::new(),
            ..update.clone()
        };
        update
    }

    /// What is left of it beside the manifests.
    fn store_told(&mut self, changes: Vec<Change>) -> Vec<Change> {
        let mut left = Vec::new();
        for change in changes {
            let name = match &change {
                Change::Put(object) => {
                    let name = object.reference().name;
                    self.kept.insert(name.clone(), object.clone());
                    name
                }
                Change::Remove(reference) => {
                    self.kept.remove(&reference.name);
                    reference.name.clone()
                }
                Change::Resolved(..) => continue,
            };
            if !self.secrets.has(&name) {
                left.push(change);
            }
        }
        left
    }
}
