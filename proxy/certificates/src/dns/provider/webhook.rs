//! A URL that is sent JSON by POST.

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Request, Uri};
use serde::Serialize;

use super::{Provider, ProviderError, Receipt, TxtRecord};
use crate::http::{HttpClient, excerpt};

/// A URL that is told what to do.
pub(super) struct Webhook {
    client: HttpClient,
    url: Uri,
    authorization: Option<HeaderValue>,
}

/// What it is sent.
#[derive(Serialize)]
struct Call<'a> {
    action: &'static str,
    fqdn: String,
    zone: String,
    value: &'a str,
}

impl Webhook {
    /// # Errors
    /// The URL or the token cannot be used.
    pub(super) fn new(client: HttpClient, url: &str, token: Option<&str>) -> Result<Self, String> {
        // The URL itself may be secret, so it is not repeated.
        let url = web_address(url).ok_or("webhook.url is no http or https URL; correct it")?;
        let authorization = token.map(bearer).transpose()?;
        Ok(Self {
            client,
            url,
            authorization,
        })
    }

    async fn call(&self, action: &'static str, record: &TxtRecord) -> Result<(), ProviderError> {
        let call = Call {
            action,
            fqdn: record.name.to_string(),
            zone: record.zone.to_string(),
            value: &record.value,
        };
        let unwritten = |error: &dyn std::error::Error| ProviderError::Refused(error.to_string());
        let body = serde_json::to_vec(&call).map_err(|error| unwritten(&error))?;
        let mut request = Request::post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(Bytes::from(body))
            .map_err(|error| unwritten(&error))?;
        if let Some(value) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, value.clone());
        }
        let answer = self.client.send(request).await?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let host = self.url.host().unwrap_or_default();
        let message = format!(
            "the webhook at {host} answers {status} to {action}: {}",
            excerpt(answer.body())
        );
        Err(ProviderError::of_status(status, message))
    }
}

impl Provider for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn present<'a>(
        &'a self,
        record: &'a TxtRecord,
    ) -> BoxFuture<'a, Result<Receipt, ProviderError>> {
        async move {
            self.call("present", record).await?;
            Ok(Receipt::default())
        }
        .boxed()
    }

    fn cleanup<'a>(&'a self, record: &'a TxtRecord) -> BoxFuture<'a, Result<(), ProviderError>> {
        self.call("cleanup", record).boxed()
    }
}

/// An http or https URL with a host.
pub(super) fn web_address(url: &str) -> Option<Uri> {
    let url: Uri = url.parse().ok()?;
    let is_web = matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some();
    is_web.then_some(url)
}

/// The header of a bearer token (RFC 6750 section 2.1), marked as secret.
///
/// # Errors
/// The token has characters that no header may have.
pub(super) fn bearer(token: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
        "the token has characters that no HTTP header may have; copy it again".to_owned()
    })?;
    value.set_sensitive(true);
    Ok(value)
}
