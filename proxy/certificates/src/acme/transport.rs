//! The way to an ACME server: leadership is looked at before each request, and refusals become errors that tell all.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use instant_acme::{BodyWrapper, BytesResponse};

use crate::acme::failure::{AcmeError, Origin, Refusal};
use crate::http::{HttpClient, excerpt, retry_after};
use crate::store::StoreError;

/// Asked before each request to a CA.
pub(crate) type MayAsk = Arc<dyn Fn() -> Result<(), StoreError> + Send + Sync>;

/// Sends requests to a CA for as long as this process leads.
#[derive(Clone)]
pub(crate) struct Transport {
    http: HttpClient,
    may_ask: MayAsk,
}

impl Transport {
    pub(crate) fn new(http: HttpClient, may_ask: MayAsk) -> Self {
        Self { http, may_ask }
    }

    /// Sends a request; every status from 400 on is an error, for `instant-acme` would pass neither `Retry-After` nor
    /// answers that are no JSON.
    pub(crate) async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, AcmeError> {
        (self.may_ask)().map_err(AcmeError::NotAsked)?;
        let host = request.uri().authority().map(ToString::to_string);
        let answer = self.http.send(request).await?;
        let status = answer.status();
        if !status.is_client_error() && !status.is_server_error() {
            return Ok(answer);
        }
        let refusal = refusal(host.unwrap_or_default(), &answer);
        Err(AcmeError::Refused(Box::new(refusal)))
    }
}

/// What an answer of a status from 400 on says (RFC 8555 section 6.7, RFC 7807), whatever its body is.
fn refusal(host: String, answer: &Response<Bytes>) -> Refusal {
    let retry_after = retry_after(answer.headers(), SystemTime::now());
    match serde_json::from_slice::<instant_acme::Problem>(answer.body()) {
        Ok(problem) => Refusal::new(host, answer.status(), &problem, retry_after),
        Err(_) => Refusal {
            host,
            origin: Origin::Answer,
            status: Some(answer.status()),
            kind: None,
            detail: excerpt(answer.body()),
            names: Vec::new(),
            retry_after,
        },
    }
}

impl instant_acme::HttpClient for Transport {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let this = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(never) => match never {},
            };
            match this.send(Request::from_parts(head, body)).await {
                Ok(answer) => Ok(answered(answer)),
                Err(AcmeError::Refused(refusal)) if refusal.is("badNonce") => {
                    Ok(bad_nonce(&refusal))
                }
                Err(error) => Err(instant_acme::Error::Other(Box::new(error))),
            }
        })
    }
}

fn answered(answer: Response<Bytes>) -> BytesResponse {
    let (parts, body) = answer.into_parts();
    BytesResponse {
        parts,
        body: Box::new(body),
    }
}

/// A refusal that `instant-acme` has to see, for it asks again with a new nonce.
fn bad_nonce(refusal: &Refusal) -> BytesResponse {
    let body = serde_json::json!({
        "type": "urn:ietf:params:acme:error:badNonce",
        "detail": refusal.detail,
    });
    let mut answer = Response::new(Bytes::from(body.to_string()));
    *answer.status_mut() = StatusCode::BAD_REQUEST;
    answered(answer)
}
