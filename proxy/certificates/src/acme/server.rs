//! An ACME server as far as `instant-acme` does not speak with it: its directory, and requests that we sign ourselves.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request, Response};
use serde::Deserialize;
use serde_json::Value;

use crate::acme::failure::AcmeError;
use crate::acme::jws::{self, AccountKey, Sender};
use crate::acme::transport::Transport;

/// How often a request is sent again because its nonce was refused (RFC 8555 section 6.5).
const NONCES: usize = 8;

/// What a directory says (RFC 8555 section 7.1.1), as far as it is used here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Directory {
    new_nonce: String,
    new_account: String,
    key_change: Option<String>,
}

/// An ACME server.
pub(crate) struct Server {
    transport: Transport,
    directory: Directory,
}

impl Server {
    /// Reads the directory.
    pub(crate) async fn open(transport: Transport, url: &str) -> Result<Self, AcmeError> {
        let answer = transport.send(request(Method::GET, url)?).await?;
        let directory = serde_json::from_slice(answer.body()).map_err(|error| {
            AcmeError::not_acme(
                url,
                &format!("its directory cannot be read ({error})"),
                answer.body(),
            )
        })?;
        Ok(Self {
            transport,
            directory,
        })
    }

    /// The URL for new accounts.
    pub(crate) fn new_account(&self) -> &str {
        &self.directory.new_account
    }

    /// The URL for changes of keys.
    pub(crate) fn key_change(&self) -> Result<&str, AcmeError> {
        let url = self.directory.key_change.as_deref();
        url.ok_or(AcmeError::Unsupported("changes of an account's key"))
    }

    /// Signs and sends a request. Without a payload it is a POST-as-GET.
    pub(crate) async fn post(
        &self,
        key: &AccountKey,
        sender: Sender<'_>,
        url: &str,
        payload: Option<&Value>,
    ) -> Result<Response<Bytes>, AcmeError> {
        let mut attempt = 1;
        loop {
            let nonce = self.nonce().await?;
            let body = jws::signed(key, sender, url, Some(&nonce), payload)?;
            let mut request = request(Method::POST, url)?;
            request.headers_mut().insert(
                CONTENT_TYPE,
                http::HeaderValue::from_static("application/jose+json"),
            );
            *request.body_mut() = Bytes::from(body.to_string());
            match self.transport.send(request).await {
                Err(AcmeError::Refused(refusal)) if refusal.is("badNonce") && attempt < NONCES => {
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    async fn nonce(&self) -> Result<String, AcmeError> {
        let url = &self.directory.new_nonce;
        let answer = self.transport.send(request(Method::HEAD, url)?).await?;
        let nonce = text_of(answer.headers(), "replay-nonce");
        nonce.ok_or_else(|| AcmeError::not_acme(url, "it gives no nonce", b""))
    }
}

/// The text of a header.
pub(crate) fn text_of(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.to_owned())
}

fn request(method: Method, url: &str) -> Result<Request<Bytes>, AcmeError> {
    Request::builder()
        .method(method)
        .uri(url)
        .body(Bytes::new())
        .map_err(|error| AcmeError::Url(url.to_owned(), error.to_string()))
}
