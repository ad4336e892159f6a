//! Certificates of a Tidegate without a cluster: what orders come to is kept in a file of this machine.

mod local;
mod manifests;
mod stored;

use std::path::Path;

use crate::cache::{CacheSettings, KeySource};

pub(crate) use local::{Local, LocalSettings, LocalTerm};
pub(crate) use manifests::{Manifests, beside};

/// The file of an instance in a folder.
pub(crate) fn file(folder: &Path, instance: &str, key: Option<KeySource>) -> CacheSettings {
    CacheSettings {
        file: folder.join(format!("{instance}-certificates.redb")),
        instance: instance.to_owned(),
        key,
    }
}

#[cfg(test)]
mod tests;
