//! HTTP-01 as a CA looks at it: one GET of the token's page. Redirects are not followed, for none is to be in the way.

use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{HOST, LOCATION, USER_AGENT};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tidegate_model::Hostname;
use tokio::net::TcpStream;

use crate::http::{AGENT, excerpt};

/// An answer is some 90 bytes long.
const LONGEST: usize = 4096;

/// Looks once; an error says what was seen instead.
pub(super) async fn look(
    address: SocketAddr,
    host: &Hostname,
    token: &str,
    authorization: &str,
) -> Result<(), String> {
    let answer = fetch(address, host, token).await?;
    let (head, body) = answer.into_parts();
    if head.status != StatusCode::OK {
        return Err(format!(
            "it answers {}{}",
            head.status,
            target(&head.headers)
        ));
    }
    let body = Limited::new(body, LONGEST).collect().await;
    let body = body
        .map_err(|error| format!("its answer breaks off: {error}"))?
        .to_bytes();
    match body.trim_ascii_end() == authorization.as_bytes() {
        true => Ok(()),
        false => Err(format!("it answers something else: '{}'", excerpt(&body))),
    }
}

async fn fetch(
    address: SocketAddr,
    host: &Hostname,
    token: &str,
) -> Result<Response<Incoming>, String> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| format!("no connection: {error}"))?;
    let broken = |error: hyper::Error| format!("no answer: {}", crate::http::causes(&error));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    // It ends with the sender, and what it fails with the sender sees too.
    tokio::spawn(connection);
    let request = Request::get(format!("/.well-known/acme-challenge/{token}"))
        .header(HOST, host.as_str())
        .header(USER_AGENT, AGENT)
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    sender.send_request(request).await.map_err(broken)
}

fn target(headers: &HeaderMap) -> String {
    match headers.get(LOCATION).and_then(|value| value.to_str().ok()) {
        Some(location) => format!(" to {}", excerpt(location.as_bytes())),
        None => String::new(),
    }
}
