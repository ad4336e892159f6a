//! A cluster full of Ingresses, each with a host, a Service, an EndpointSlice and a certificate of its own.

use std::fmt::Debug;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The namespace of everything.
const NAMESPACE: &str = "default";
/// Requests under way at once.
const AT_ONCE: usize = 16;

/// The host of an Ingress.
pub(super) fn host(number: usize) -> String {
    format!("host-{number}.test")
}

fn name(number: usize) -> String {
    format!("host-{number}")
}

/// Who signs the certificates of all hosts.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// In PEM.
    pub(super) certificate: String,
}

impl Authority {
    pub(super) fn new() -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        Ok(Self {
            issuer,
            certificate,
        })
    }
}

/// Makes that many, all of whose requests go to one endpoint.
pub(super) async fn fill(
    client: &Client,
    count: usize,
    endpoint: SocketAddr,
    authority: &Authority,
) -> Result<()> {
    make(client, count, service).await?;
    make(client, count, |number| slice(number, endpoint)).await?;
    make(client, count, |number| secret(number, authority)).await?;
    make(client, count, ingress).await
}

/// Leads the requests of one Ingress to another endpoint.
pub(super) async fn redirect(client: &Client, number: usize, endpoint: SocketAddr) -> Result<()> {
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), NAMESPACE);
    let slice = slice(number, endpoint)?;
    let patch = Patch::Merge(&slice);
    let patched = slices
        .patch(&name(number), &PatchParams::default(), &patch)
        .await;
    patched.context("cannot change an EndpointSlice").map(drop)
}

async fn make<K>(client: &Client, count: usize, object: impl Fn(usize) -> Result<K>) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
    K::DynamicType: Default,
{
    let api: Api<K> = Api::namespaced(client.clone(), NAMESPACE);
    let created = stream::iter(0..count).map(|number| {
        let (api, object) = (api.clone(), object(number));
        async move {
            let created = api.create(&PostParams::default(), &object?).await;
            created.context("cannot fill the cluster")
        }
    });
    let created = created.buffer_unordered(AT_ONCE);
    created.try_for_each(async |_| Ok(())).await
}

fn object<K: DeserializeOwned>(value: Value) -> Result<K> {
    serde_json::from_value(value).context("an object of the benchmark is wrong")
}

/// Without a selector, so that nobody else makes its endpoints.
fn service(number: usize) -> Result<Service> {
    object(json!({
        "metadata": { "name": name(number) },
        "spec": { "ports": [{ "name": "http", "port": 80 }] },
    }))
}

fn slice(number: usize, endpoint: SocketAddr) -> Result<EndpointSlice> {
    object(json!({
        "metadata": {
            "name": name(number),
            "labels": { "kubernetes.io/service-name": name(number) },
        },
        "addressType": "IPv4",
        "ports": [{ "name": "http", "port": endpoint.port() }],
        "endpoints": [{ "addresses": [endpoint.ip()], "conditions": { "ready": true } }],
    }))
}

fn secret(number: usize, authority: &Authority) -> Result<Secret> {
    let key = KeyPair::generate()?;
    let params = CertificateParams::new([host(number)])?;
    let certificate = params.signed_by(&key, &authority.issuer)?;
    object(json!({
        "metadata": { "name": name(number) },
        "type": "kubernetes.io/tls",
        "stringData": { "tls.crt": certificate.pem(), "tls.key": key.serialize_pem() },
    }))
}

fn ingress(number: usize) -> Result<Ingress> {
    object(json!({
        "metadata": { "name": name(number) },
        "spec": {
            "ingressClassName": "tidegate",
            "tls": [{ "hosts": [host(number)], "secretName": name(number) }],
            "rules": [{
                "host": host(number),
                "http": { "paths": [{
                    "path": "/",
                    "pathType": "Prefix",
                    "backend": { "service": { "name": name(number), "port": { "name": "http" } } },
                }] },
            }],
        },
    }))
}
