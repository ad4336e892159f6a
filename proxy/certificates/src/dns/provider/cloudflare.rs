//! Cloudflare's REST API, version 4.

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::webhook::{bearer, web_address};
use super::{Provider, ProviderError, Receipt, TTL, TxtRecord};
use crate::http::{HttpClient, excerpt};

/// Where the API is.
const ENDPOINT: &str = "https://api.cloudflare.com/client/v4";
/// The record is there already, with the same value.
const EXISTS_ALREADY: u32 = 81058;
/// No such record.
const NO_RECORD: u32 = 81044;

/// An account of Cloudflare, as far as its token reaches.
pub(super) struct Cloudflare {
    client: HttpClient,
    endpoint: String,
    authorization: HeaderValue,
}

/// What every answer is in.
#[derive(Deserialize)]
struct Envelope<T> {
    success: bool,
    #[serde(default = "Vec::new")]
    errors: Vec<Complaint>,
    result: Option<T>,
}

#[derive(Deserialize)]
struct Complaint {
    code: u32,
    message: String,
}

#[derive(Deserialize)]
struct Zone {
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct Found {
    id: String,
    content: String,
}

/// The answer to something made or removed, of which nothing is needed.
#[derive(Deserialize)]
struct Done {}

#[derive(Serialize)]
struct New<'a> {
    r#type: &'static str,
    name: &'a str,
    content: String,
    ttl: u32,
}

/// What came of a request.
enum Outcome<T> {
    Done(T),
    /// Refused, with the codes of the API.
    Refused(Vec<u32>, ProviderError),
}

impl Cloudflare {
    /// # Errors
    /// The token or endpoint cannot be used.
    pub(super) fn new(
        client: HttpClient,
        token: &str,
        endpoint: Option<&str>,
    ) -> Result<Self, String> {
        let endpoint = endpoint.unwrap_or(ENDPOINT).trim_end_matches('/');
        if web_address(endpoint).is_none() {
            return Err("cloudflare.endpoint is no http or https URL; correct it".to_owned());
        }
        Ok(Self {
            client,
            endpoint: endpoint.to_owned(),
            authorization: bearer(token)?,
        })
    }

    async fn make(&self, record: &TxtRecord) -> Result<(), ProviderError> {
        let zone = self.zone(record).await?;
        let name = bare(&record.name.to_string());
        let new = New {
            r#type: "TXT",
            name: &name,
            content: quoted(&record.value),
            ttl: TTL,
        };
        let path = format!("/zones/{zone}/dns_records");
        match self.call::<Done>(Method::POST, &path, Some(&new)).await? {
            Outcome::Done(_) => Ok(()),
            Outcome::Refused(codes, _) if codes.contains(&EXISTS_ALREADY) => Ok(()),
            Outcome::Refused(_, error) => Err(error),
        }
    }

    async fn remove(&self, record: &TxtRecord) -> Result<(), ProviderError> {
        let zone = self.zone(record).await?;
        let name = bare(&record.name.to_string());
        let path = format!("/zones/{zone}/dns_records?type=TXT&name={name}&per_page=100");
        let found: Vec<Found> = self.read(&path).await?;
        let ours =
            |found: &Found| found.content == record.value || found.content == quoted(&record.value);
        for record in found.into_iter().filter(ours) {
            let path = format!("/zones/{zone}/dns_records/{}", record.id);
            let gone = self.call::<Done>(Method::DELETE, &path, None).await?;
            match gone {
                Outcome::Done(_) => {}
                Outcome::Refused(codes, _) if codes.contains(&NO_RECORD) => {}
                Outcome::Refused(_, error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Identifier of the zone.
    async fn zone(&self, record: &TxtRecord) -> Result<String, ProviderError> {
        let name = bare(&record.zone.to_string());
        let zones: Vec<Zone> = self.read(&format!("/zones?name={name}")).await?;
        let zone = zones.into_iter().find(|zone| zone.name == name);
        zone.map(|zone| zone.id).ok_or_else(|| {
            ProviderError::Refused(format!(
                "the token sees no zone {name}; give it the permissions Zone.Zone:Read and Zone.DNS:Edit for this zone"
            ))
        })
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, ProviderError> {
        match self.call(Method::GET, path, None).await? {
            Outcome::Done(found) => Ok(found),
            Outcome::Refused(_, error) => Err(error),
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        new: Option<&New<'_>>,
    ) -> Result<Outcome<T>, ProviderError> {
        let unwritten = |error: &dyn std::error::Error| ProviderError::Refused(error.to_string());
        let body = match new {
            Some(new) => serde_json::to_vec(new).map_err(|error| unwritten(&error))?,
            None => Vec::new(),
        };
        let mut request = Request::builder()
            .method(method.clone())
            .uri(format!("{}{path}", self.endpoint))
            .header(AUTHORIZATION, self.authorization.clone());
        if new.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Bytes::from(body));
        let request = request.map_err(|error| unwritten(&error))?;
        let answer = self.client.send(request).await?;
        let status = answer.status();
        let envelope = serde_json::from_slice::<Envelope<T>>(answer.body());
        match envelope {
            Ok(Envelope {
                success: true,
                result: Some(result),
                ..
            }) if status.is_success() => Ok(Outcome::Done(result)),
            Ok(envelope) => Ok(refused(status, &method, &envelope.errors)),
            Err(_) => {
                let message = format!(
                    "Cloudflare answers {status} to {method}, and no JSON of its API: {}",
                    excerpt(answer.body())
                );
                Err(ProviderError::of_status(status, message))
            }
        }
    }
}

fn refused<T>(status: StatusCode, method: &Method, errors: &[Complaint]) -> Outcome<T> {
    let complaints: Vec<String> = errors
        .iter()
        .map(|error| format!("{} (code {})", error.message, error.code))
        .collect();
    let remedy = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => {
            "; check that the token is whole, has not expired, and has the permissions Zone.Zone:Read and Zone.DNS:Edit for this zone"
        }
        StatusCode::TOO_MANY_REQUESTS => "; it is tried again later",
        _ => "",
    };
    let message = format!(
        "Cloudflare answers {status} to {method}: {}{remedy}",
        complaints.join(", ")
    );
    let codes = errors.iter().map(|error| error.code).collect();
    Outcome::Refused(codes, ProviderError::of_status(status, message))
}

impl Provider for Cloudflare {
    fn name(&self) -> &'static str {
        "cloudflare"
    }

    fn present<'a>(
        &'a self,
        record: &'a TxtRecord,
    ) -> BoxFuture<'a, Result<Receipt, ProviderError>> {
        async move {
            self.make(record).await?;
            Ok(Receipt::default())
        }
        .boxed()
    }

    fn cleanup<'a>(&'a self, record: &'a TxtRecord) -> BoxFuture<'a, Result<(), ProviderError>> {
        self.remove(record).boxed()
    }
}

/// A name without the dot at its end, as the API writes names.
fn bare(name: &str) -> String {
    name.trim_end_matches('.').to_owned()
}

/// A value in quotes, as in a zone file; that of a challenge has none inside.
fn quoted(value: &str) -> String {
    format!("\"{value}\"")
}
