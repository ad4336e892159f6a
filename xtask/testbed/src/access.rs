//! Ways into the API: kubeconfigs and tokens.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use crate::certificates::{Certificates, write_private};

/// Who issues tokens, and whom they are for.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// How a kubeconfig proves who asks.
#[derive(Debug)]
pub(crate) enum Identity<'a> {
    /// By a client certificate, named as [`Certificates::pair`] does.
    Certificate(&'a str),
    /// By the token of a service account.
    Token(&'a str),
}

/// Writes a kubeconfig that stands on its own: all of it is in this one file.
pub(crate) fn write_kubeconfig(
    path: &Path,
    server: &str,
    certificates: &Certificates,
    identity: &Identity<'_>,
    namespace: &str,
) -> Result<()> {
    let user = match identity {
        Identity::Certificate(name) => {
            let pair = certificates.pair(name);
            json!({
                "client-certificate-data": base64(&fs::read(pair.certificate)?),
                "client-key-data": base64(&fs::read(pair.key)?),
            })
        }
        Identity::Token(token) => json!({ "token": token }),
    };
    let authority = base64(&fs::read(certificates.authority())?);
    // JSON is YAML.
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "testbed", "cluster": {
            "server": server,
            "certificate-authority-data": authority,
        }}],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "testbed", "context": {
            "cluster": "testbed",
            "user": "user",
            "namespace": namespace,
        }}],
        "current-context": "testbed",
    });
    write_private(path, &serde_json::to_string_pretty(&kubeconfig)?)
}

/// A client that is made on the runtime that is current now. It must be used on that one.
pub(crate) async fn client(kubeconfig: &Path) -> Result<kube::Client> {
    let text = Kubeconfig::read_from(kubeconfig)?;
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(text, &options).await?;
    Ok(kube::Client::try_from(config)?)
}

/// The service account that a token stands for.
#[derive(Debug)]
pub(crate) struct Account<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    /// The API refuses tokens of an account that was made anew.
    pub(crate) uid: &'a str,
}

/// How much longer than it says the API server takes a token, for clocks that differ.
const LEEWAY: Duration = Duration::from_secs(60);

/// Makes a token as the API server would (RFC 7519, signed with ES256), but with any lifetime: the server itself gives
/// none for less than ten minutes. The token ends that much earlier than the server takes it longer, so that the
/// lifetime is what a client sees of it, up to the 10 s for which the server remembers tokens that were good.
pub(crate) fn token(
    certificates: &Certificates,
    account: &Account<'_>,
    lifetime: Duration,
) -> Result<String> {
    let now = Timestamp::now().as_second();
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX / 2);
    let end = now + seconds(lifetime) - seconds(LEEWAY);
    let claims = json!({
        "iss": ISSUER,
        "aud": [ISSUER],
        "sub": format!("system:serviceaccount:{}:{}", account.namespace, account.name),
        "iat": now,
        "nbf": now,
        "exp": end,
        "kubernetes.io": {
            "namespace": account.namespace,
            "serviceaccount": {"name": account.name, "uid": account.uid},
        },
    });
    let header = json!({"alg": "ES256", "typ": "JWT"});
    let signed = format!("{}.{}", segment(&header)?, segment(&claims)?);
    let key = fs::read_to_string(certificates.token_key())?;
    let key = rcgen::KeyPair::from_pem(&key).context("cannot read the key for tokens")?;
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.serialized_der())
        .map_err(|_| anyhow!("cannot use the key for tokens"))?;
    let signature = key
        .sign(&SystemRandom::new(), signed.as_bytes())
        .map_err(|_| anyhow!("cannot sign a token"))?;
    Ok(format!("{signed}.{}", base64_url(signature.as_ref())))
}

fn segment(value: &Value) -> Result<String> {
    Ok(base64_url(&serde_json::to_vec(value)?))
}

fn base64_url(bytes: &[u8]) -> String {
    let text = base64(bytes).replace('+', "-").replace('/', "_");
    text.trim_end_matches('=').to_owned()
}

/// As the API's own types write bytes.
fn base64(bytes: &[u8]) -> String {
    match serde_json::to_value(ByteString(bytes.to_vec())) {
        Ok(Value::String(text)) => text,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_in_both_alphabets() {
        assert_eq!(base64(b"\xfb\xff\xfe"), "+//+");
        assert_eq!(base64_url(b"\xfb\xff\xfe"), "-__-");
        assert_eq!(base64_url(b"a"), "YQ");
    }
}
