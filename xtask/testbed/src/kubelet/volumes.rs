//! The volumes of a pod: folders of the node, and files that follow ConfigMaps, Secrets and tokens.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, SelectAll};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, HostPathVolumeSource, KeyToPath, Secret, ServiceAccount,
    ServiceAccountTokenProjection, Volume, VolumeProjection,
};
use kube::api::{Api, PostParams};
use kube::runtime::watcher::watch_object;
use tidegate_testbed_inside::container::{Access, Missing};
use tokio::time::{Instant, sleep, sleep_until};

use super::pod::Site;
use super::{RETRY, Task, environment};
use crate::access::{self, Account, ISSUER};

/// How long a token lives when the pod does not say so.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);
/// Folders of the machine itself that a `hostPath` leads to, all others being the node's own.
const OF_THE_MACHINE: [&str; 5] = ["/dev", "/proc", "/sys", "/usr", "/lib/modules"];
/// What of those the node has for itself after all.
const OF_THE_NODE: &str = "/sys/fs/bpf";

/// The volumes of a pod, and the tasks that keep them fresh.
#[derive(Debug)]
pub(super) struct Volumes {
    sources: BTreeMap<String, Source>,
    _tasks: Vec<Task>,
}

/// What a volume mount shows.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) access: Access,
    pub(super) missing: Missing,
}

/// The files of a volume: contents and mode by relative path.
type Files = BTreeMap<String, (Vec<u8>, u32)>;

/// A volume whose files come from the API.
#[derive(Debug)]
struct Projection {
    site: Arc<Site>,
    folder: PathBuf,
    sources: Vec<VolumeProjection>,
    mode: u32,
    token: Option<Token>,
}

#[derive(Debug)]
struct Token {
    text: String,
    /// When 80 % of its life is over.
    renew: Instant,
}

impl Volumes {
    /// Makes all of them. The first error stands for all: a pod does not start with a part of its volumes.
    pub(super) async fn make(site: &Arc<Site>) -> Result<Self> {
        let mut sources = BTreeMap::new();
        let mut tasks = Vec::new();
        for volume in site.spec.volumes.iter().flatten() {
            let source = make(site, volume, &mut tasks)
                .await
                .with_context(|| format!("the volume {}", volume.name))?;
            sources.insert(volume.name.clone(), source);
        }
        Ok(Self {
            sources,
            _tasks: tasks,
        })
    }

    /// What a mount of this volume shows.
    pub(super) fn source(&self, volume: &str, sub_path: Option<&str>) -> Result<Source> {
        let source = self.sources.get(volume);
        let mut source = source
            .with_context(|| format!("the pod has no volume {volume}"))?
            .clone();
        if let Some(sub_path) = sub_path.filter(|path| !path.is_empty()) {
            source.path.push(sub_path);
            if source.access == Access::ReadWrite {
                source.missing = Missing::MakeFolder;
            }
        }
        Ok(source)
    }
}

async fn make(site: &Arc<Site>, volume: &Volume, tasks: &mut Vec<Task>) -> Result<Source> {
    let folder = site.folder.join("volumes").join(&volume.name);
    if let Some(path) = &volume.host_path {
        return host_path(site, path);
    }
    fs::create_dir_all(&folder)?;
    if volume.empty_dir.is_some() {
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))?;
        return Ok(Source {
            path: folder,
            access: Access::ReadWrite,
            missing: Missing::Fail,
        });
    }
    let (sources, mode) = projections(volume)?;
    let mut projection = Projection {
        site: Arc::clone(site),
        folder: folder.clone(),
        sources,
        mode: mode
            .and_then(|mode| u32::try_from(mode).ok())
            .unwrap_or(0o644),
        token: None,
    };
    let files = projection.files().await?;
    write(&folder, &files)?;
    tasks.push(Task::spawn(projection.follow(files)));
    Ok(Source {
        path: folder,
        access: Access::ReadOnly,
        missing: Missing::Fail,
    })
}

/// Every volume whose files come from the API, as a projected one.
fn projections(volume: &Volume) -> Result<(Vec<VolumeProjection>, Option<i32>)> {
    let mut one = VolumeProjection::default();
    let mode = if let Some(projected) = &volume.projected {
        let sources = projected.sources.clone().unwrap_or_default();
        return Ok((sources, projected.default_mode));
    } else if let Some(map) = &volume.config_map {
        one.config_map = Some(k8s_openapi::api::core::v1::ConfigMapProjection {
            name: map.name.clone(),
            items: map.items.clone(),
            optional: map.optional,
        });
        map.default_mode
    } else if let Some(secret) = &volume.secret {
        one.secret = Some(k8s_openapi::api::core::v1::SecretProjection {
            name: secret.secret_name.clone().unwrap_or_default(),
            items: secret.items.clone(),
            optional: secret.optional,
        });
        secret.default_mode
    } else if let Some(fields) = &volume.downward_api {
        one.downward_api = Some(k8s_openapi::api::core::v1::DownwardAPIProjection {
            items: fields.items.clone(),
        });
        fields.default_mode
    } else {
        bail!(
            "the testbed knows hostPath, emptyDir, configMap, secret, projected and downwardAPI only"
        );
    };
    Ok((vec![one], mode))
}

fn host_path(site: &Site, volume: &HostPathVolumeSource) -> Result<Source> {
    let path = Path::new(&volume.path);
    let shared = OF_THE_MACHINE.iter().any(|folder| path.starts_with(folder));
    let path = match shared && !path.starts_with(OF_THE_NODE) {
        true => path.to_owned(),
        false => site.node.disk(path),
    };
    let kind = volume.type_.as_deref().unwrap_or_default();
    let found = fs::metadata(&path).map(|found| found.file_type()).ok();
    let fits = match kind {
        "Directory" => found.is_some_and(|found| found.is_dir()),
        "File" => found.is_some_and(|found| found.is_file()),
        "Socket" => found.is_some_and(|found| found.is_socket()),
        _ => true,
    };
    if !fits {
        bail!(
            "hostPath {}: there is no {kind} on {}",
            volume.path,
            site.node.name
        );
    }
    if kind == "FileOrCreate"
        && let Some(folder) = path.parent()
    {
        fs::create_dir_all(folder)?;
    }
    Ok(Source {
        path,
        access: Access::ReadWrite,
        // Made by the container's own start, which sees the node's mounts.
        missing: match kind {
            "FileOrCreate" => Missing::MakeFile,
            _ => Missing::MakeFolder,
        },
    })
}

impl Projection {
    /// Writes the files again whenever they change, for as long as the task lives.
    async fn follow(mut self, mut written: Files) {
        let mut changes = self.changes();
        loop {
            let renewal = self.token.as_ref().map(|token| token.renew);
            let due = async {
                match renewal {
                    Some(time) => sleep_until(time).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                change = changes.next(), if !changes.is_empty() => match change {
                    Some(true) => {}
                    _ => {
                        sleep(RETRY).await;
                        continue;
                    }
                },
                () = due => {}
            }
            match self.files().await {
                Ok(files) if files != written => {
                    if write(&self.folder, &files).is_ok() {
                        written = files;
                    }
                }
                Ok(_) => {}
                // What is there stays. A watch or the next try tells when it is different.
                Err(_) => sleep(RETRY).await,
            }
        }
    }

    /// A word whenever one of the objects may have changed: whether it is more than an error.
    fn changes(&self) -> SelectAll<BoxStream<'static, bool>> {
        let (client, namespace) = (&self.site.kubelet.client, &self.site.namespace);
        let mut changes = SelectAll::new();
        for source in &self.sources {
            if let Some(map) = &source.config_map {
                let api = Api::<ConfigMap>::namespaced(client.clone(), namespace);
                let changed = watch_object(api, &map.name).map(|change| change.is_ok());
                changes.push(changed.boxed());
            }
            if let Some(secret) = &source.secret {
                let api = Api::<Secret>::namespaced(client.clone(), namespace);
                let changed = watch_object(api, &secret.name).map(|change| change.is_ok());
                changes.push(changed.boxed());
            }
        }
        changes
    }

    async fn files(&mut self) -> Result<Files> {
        let mut files = Files::new();
        let client = self.site.kubelet.client.clone();
        let namespace = self.site.namespace.clone();
        for source in self.sources.clone() {
            if let Some(map) = source.config_map {
                let api = Api::<ConfigMap>::namespaced(client.clone(), &namespace);
                let found = api.get_opt(&map.name).await?;
                if found.is_none() && map.optional != Some(true) {
                    bail!("there is no ConfigMap {namespace}/{}", map.name);
                }
                let found = found.unwrap_or_default();
                let text = found.data.into_iter().flatten();
                let bytes = found.binary_data.into_iter().flatten();
                let data = text.map(|(key, text)| (key, text.into_bytes()));
                let data = data.chain(bytes.map(|(key, bytes)| (key, bytes.0)));
                self.add(&mut files, data.collect(), map.items.as_deref())?;
            }
            if let Some(secret) = source.secret {
                let api = Api::<Secret>::namespaced(client.clone(), &namespace);
                let found = api.get_opt(&secret.name).await?;
                if found.is_none() && secret.optional != Some(true) {
                    bail!("there is no Secret {namespace}/{}", secret.name);
                }
                let data = found.and_then(|secret| secret.data).into_iter().flatten();
                let data = data.map(|(key, bytes)| (key, bytes.0)).collect();
                self.add(&mut files, data, secret.items.as_deref())?;
            }
            for item in source
                .downward_api
                .and_then(|fields| fields.items)
                .into_iter()
                .flatten()
            {
                let field = item
                    .field_ref
                    .context("the testbed has no resourceFieldRef")?;
                let text = environment::field(&self.site, &field.field_path)?;
                files.insert(item.path, (text.into_bytes(), self.mode));
            }
            if let Some(token) = source.service_account_token {
                let text = self.token(&token).await?.into_bytes();
                files.insert(token.path, (text, self.mode));
            }
        }
        Ok(files)
    }

    /// Adds all keys, or the items that are asked for under the paths that they are to have.
    fn add(
        &self,
        files: &mut Files,
        mut data: BTreeMap<String, Vec<u8>>,
        items: Option<&[KeyToPath]>,
    ) -> Result<()> {
        let Some(items) = items else {
            let all = data.into_iter();
            files.extend(all.map(|(key, bytes)| (key, (bytes, self.mode))));
            return Ok(());
        };
        for item in items {
            let bytes = data.remove(&item.key);
            let bytes = bytes.with_context(|| format!("there is no key {}", item.key))?;
            let mode = item.mode.and_then(|mode| u32::try_from(mode).ok());
            files.insert(item.path.clone(), (bytes, mode.unwrap_or(self.mode)));
        }
        Ok(())
    }

    /// The token that is held, or a new one once 80 % of its life is over.
    async fn token(&mut self, wanted: &ServiceAccountTokenProjection) -> Result<String> {
        if let Some(token) = self
            .token
            .as_ref()
            .filter(|token| token.renew > Instant::now())
        {
            return Ok(token.text.clone());
        }
        let (text, lifetime) = match self.site.kubelet.token_lifetime {
            Some(lifetime) => (self.made_token(lifetime).await?, lifetime),
            None => self.asked_token(wanted).await?,
        };
        let renew = Instant::now() + lifetime.mul_f64(0.8);
        self.token = Some(Token {
            text: text.clone(),
            renew,
        });
        Ok(text)
    }

    async fn asked_token(
        &self,
        wanted: &ServiceAccountTokenProjection,
    ) -> Result<(String, Duration)> {
        let site = &self.site;
        let seconds = wanted.expiration_seconds.unwrap_or(0);
        let lifetime = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0);
        let lifetime = lifetime.map_or(TOKEN_LIFETIME, Duration::from_secs);
        let audience = wanted.audience.clone();
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: Some(vec![audience.unwrap_or_else(|| ISSUER.to_owned())]),
                expiration_seconds: i64::try_from(lifetime.as_secs()).ok(),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: Some(site.name.clone()),
                    uid: site.pod.metadata.uid.clone(),
                }),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let accounts = self.accounts();
        let answer = accounts
            .create_token_request(self.account(), &PostParams::default(), &request)
            .await
            .with_context(|| format!("no token for the service account {}", self.account()))?;
        let token = answer.status.and_then(|status| status.token);
        Ok((token.context("the API server gave no token")?, lifetime))
    }

    async fn made_token(&self, lifetime: Duration) -> Result<String> {
        let name = self.account();
        let account = self.accounts().get(name).await?;
        let account = Account {
            namespace: &self.site.namespace,
            name,
            uid: account.metadata.uid.as_deref().unwrap_or_default(),
        };
        access::token(&self.site.kubelet.certificates, &account, lifetime)
    }

    fn account(&self) -> &str {
        let account = self.site.spec.service_account_name.as_deref();
        account.unwrap_or("default")
    }

    fn accounts(&self) -> Api<ServiceAccount> {
        Api::namespaced(self.site.kubelet.client.clone(), &self.site.namespace)
    }
}

/// Writes all files as a kubelet does: into a folder of their own, which takes the place of the last one at once
/// (`..data`).
fn write(folder: &Path, files: &Files) -> Result<()> {
    let fresh = tempfile::TempDir::with_prefix_in("..", folder)?;
    fs::set_permissions(fresh.path(), fs::Permissions::from_mode(0o755))?;
    for (path, (bytes, mode)) in files {
        let path = fresh.path().join(relative(path)?);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, bytes)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode))?;
    }
    let fresh = fresh.keep();
    let data = folder.join("..data");
    let old = fs::read_link(&data).ok();
    let next = folder.join("..data_tmp");
    symlink(fresh.file_name().unwrap_or_default(), &next)?;
    fs::rename(&next, &data)?;
    let names: Vec<&str> = files
        .keys()
        .filter_map(|path| path.split('/').next())
        .collect();
    for name in &names {
        let link = folder.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new("..data").join(name), link)?;
        }
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !names.contains(&&*name) {
            fs::remove_file(entry.path())?;
        }
    }
    if let Some(old) = old {
        fs::remove_dir_all(folder.join(old))?;
    }
    Ok(())
}

fn relative(path: &str) -> Result<&Path> {
    let parts = Path::new(path).components();
    let plain = |part| matches!(part, std::path::Component::Normal(_));
    if path.is_empty() || !parts.into_iter().all(plain) {
        bail!("{path} is no path within a volume");
    }
    Ok(Path::new(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files<const N: usize>(files: [(&str, &str); N]) -> Files {
        let files = files.into_iter();
        files
            .map(|(path, text)| (path.to_owned(), (text.as_bytes().to_vec(), 0o600)))
            .collect()
    }

    #[test]
    fn files_change_all_at_once() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let read = |path: &str| fs::read_to_string(folder.path().join(path)).ok();
        write(folder.path(), &files([("a", "1"), ("deep/b", "2")]))?;
        let first = fs::read_link(folder.path().join("..data"))?;
        assert_eq!(
            (read("a").as_deref(), read("deep/b").as_deref()),
            (Some("1"), Some("2"))
        );
        write(folder.path(), &files([("a", "3")]))?;
        assert_eq!((read("a").as_deref(), read("deep/b")), (Some("3"), None));
        assert_ne!(fs::read_link(folder.path().join("..data"))?, first);
        assert_eq!(
            fs::read_dir(folder.path())?.count(),
            3,
            "a, ..data and what that leads to"
        );
        Ok(())
    }

    #[test]
    fn files_stay_in_their_volume() {
        assert!(relative("a/b").is_ok());
        for path in ["", "../a", "/a", "a/../b"] {
            assert!(relative(path).is_err(), "{path}");
        }
    }
}
