//! The environment of a container, and `$(NAME)` in its words.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, Secret};
use kube::api::Api;

use super::pod::Site;

/// The variables of a container, resolved. Later ones see earlier ones.
pub(super) async fn resolve(
    site: &Site,
    container: &Container,
) -> Result<BTreeMap<String, String>> {
    let mut variables = services(site);
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let found = if let Some(map) = &source.config_map_ref {
            config_map(site, &map.name, map.optional).await?
        } else if let Some(secret) = &source.secret_ref {
            self::secret(site, &secret.name, secret.optional).await?
        } else {
            BTreeMap::new()
        };
        variables.extend(
            found
                .into_iter()
                .map(|(key, value)| (format!("{prefix}{key}"), value)),
        );
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) => Some(expand(value, &variables)),
            (None, Some(source)) => from(site, source)
                .await
                .with_context(|| format!("cannot set the variable {}", variable.name))?,
            (None, None) => Some(String::new()),
        };
        variables.extend(value.map(|value| (variable.name.clone(), value)));
    }
    Ok(variables)
}

/// Where the API server is. It is the real address: nothing leads to the one of the Service.
fn services(site: &Site) -> BTreeMap<String, String> {
    let api = site.kubelet.api;
    let port = api.port().to_string();
    let variables = [
        ("KUBERNETES_SERVICE_HOST", api.ip().to_string()),
        ("KUBERNETES_SERVICE_PORT", port.clone()),
        ("KUBERNETES_SERVICE_PORT_HTTPS", port),
    ];
    variables
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}

async fn from(site: &Site, source: &EnvVarSource) -> Result<Option<String>> {
    if let Some(field) = &source.field_ref {
        return self::field(site, &field.field_path).map(Some);
    }
    let (found, key, optional) = if let Some(from) = &source.config_map_key_ref {
        (
            config_map(site, &from.name, from.optional).await?,
            &from.key,
            from.optional,
        )
    } else if let Some(from) = &source.secret_key_ref {
        (
            secret(site, &from.name, from.optional).await?,
            &from.key,
            from.optional,
        )
    } else {
        bail!("the testbed knows fieldRef, configMapKeyRef and secretKeyRef only");
    };
    match found.get(key) {
        None if optional != Some(true) => bail!("there is no key {key}"),
        found => Ok(found.cloned()),
    }
}

async fn config_map(
    site: &Site,
    name: &str,
    optional: Option<bool>,
) -> Result<BTreeMap<String, String>> {
    let api = Api::<ConfigMap>::namespaced(site.kubelet.client.clone(), &site.namespace);
    match api.get_opt(name).await? {
        None if optional != Some(true) => bail!("there is no ConfigMap {}/{name}", site.namespace),
        map => Ok(map.and_then(|map| map.data).unwrap_or_default()),
    }
}

async fn secret(
    site: &Site,
    name: &str,
    optional: Option<bool>,
) -> Result<BTreeMap<String, String>> {
    let api = Api::<Secret>::namespaced(site.kubelet.client.clone(), &site.namespace);
    let data = match api.get_opt(name).await? {
        None if optional != Some(true) => bail!("there is no Secret {}/{name}", site.namespace),
        secret => secret.and_then(|secret| secret.data).unwrap_or_default(),
    };
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(data
        .into_iter()
        .map(|(key, value)| (key, text(value.0)))
        .collect())
}

/// A field of the pod, by its path in the downward API.
pub(super) fn field(site: &Site, path: &str) -> Result<String> {
    let address = || site.address.to_string();
    Ok(match path {
        "spec.nodeName" => site.node.name.clone(),
        "status.hostIP" | "status.hostIPs" => site.node.address.to_string(),
        "status.podIP" | "status.podIPs" => address(),
        _ => metadata(&site.pod, path)
            .with_context(|| format!("the testbed does not know the field {path}"))?,
    })
}

fn metadata(pod: &Pod, path: &str) -> Option<String> {
    let metadata = &pod.metadata;
    let spec = pod.spec.as_ref();
    let named = |map: &Option<BTreeMap<String, String>>, key: &str| {
        let key = key.strip_prefix("['")?.strip_suffix("']")?;
        Some(map.as_ref()?.get(key).cloned().unwrap_or_default())
    };
    let all = |map: &Option<BTreeMap<String, String>>| {
        let lines = map
            .iter()
            .flatten()
            .map(|(key, value)| format!("{key}={value:?}\n"));
        lines.collect::<String>()
    };
    match path {
        "metadata.name" => metadata.name.clone(),
        "metadata.namespace" => metadata.namespace.clone(),
        "metadata.uid" => metadata.uid.clone(),
        "metadata.labels" => Some(all(&metadata.labels)),
        "metadata.annotations" => Some(all(&metadata.annotations)),
        "spec.serviceAccountName" => spec?.service_account_name.clone(),
        _ => match path.strip_prefix("metadata.labels") {
            Some(key) => named(&metadata.labels, key),
            None => named(
                &metadata.annotations,
                path.strip_prefix("metadata.annotations")?,
            ),
        },
    }
}

/// Puts the values of variables in place of `$(NAME)`. A name that is not known stays as it is, and `$$` is one `$`.
pub(super) fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let name = rest.strip_prefix('(').and_then(|rest| rest.split_once(')'));
        match name.and_then(|(name, after)| Some((variables.get(name)?, after))) {
            Some((value, after)) => {
                out.push_str(value);
                rest = after;
            }
            None => out.push('$'),
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_in_words() {
        let variables = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        assert_eq!(expand("x=$(A)$(A)", &variables), "x=11");
        assert_eq!(expand("$(B) $$(A) $A $", &variables), "$(B) $(A) $A $");
    }

    #[test]
    fn labels_are_fields() {
        let mut pod = Pod::default();
        pod.metadata.labels = Some(BTreeMap::from([("app".to_owned(), "echo".to_owned())]));
        assert_eq!(
            metadata(&pod, "metadata.labels['app']").as_deref(),
            Some("echo")
        );
        assert_eq!(
            metadata(&pod, "metadata.labels").as_deref(),
            Some("app=\"echo\"\n")
        );
        assert_eq!(metadata(&pod, "spec.unknown"), None);
    }
}
