//! A small backend that answers what it was asked, as JSON, and echoes WebSocket messages.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::{CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// Limit of a body that is echoed, in bytes.
const MAX_BODY: usize = 1024 * 1024;

/// What the backend tells of a request.
#[derive(Debug, Deserialize, Serialize)]
pub struct Echo {
    /// The backend that answered.
    pub backend: String,
    /// The method as it arrived.
    pub method: String,
    /// Path and query as they arrived.
    pub path: String,
    /// HTTP/1.1 or HTTP/2.
    pub version: String,
    /// Headers; values of one name are joined by commas.
    pub headers: BTreeMap<String, String>,
    /// The body, when there was one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body: String,
}

/// A running backend on a port of loopback; it ends when this is dropped.
#[derive(Debug)]
pub struct Backend {
    name: Arc<str>,
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Backend {
    /// Starts a backend in the present runtime, on a free port.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(name: impl Into<Arc<str>>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("cannot start an example backend on 127.0.0.1")?;
        let address = listener.local_addr().context("example backend")?;
        let name = name.into();
        let accepting = tokio::spawn(accept(listener, name.clone()));
        Ok(Self {
            name,
            address,
            accepting,
        })
    }

    /// What it calls itself.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, name: Arc<str>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: wait for some to be closed.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        _ = stream.set_nodelay(true);
        let name = name.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(name.clone(), request));
            // A client that goes away is its own business.
            _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
                .await;
        });
    }
}

async fn answer(
    name: Arc<str>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(match request.headers().get(SEC_WEBSOCKET_KEY).cloned() {
        Some(key) => switch_to_websocket(&key, request),
        None => echo(&name, request).await,
    })
}

async fn echo(name: &str, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
        return status(StatusCode::PAYLOAD_TOO_LARGE);
    };
    let echo = Echo {
        backend: name.to_owned(),
        method: head.method.to_string(),
        path: head.uri.to_string(),
        version: match head.version {
            Version::HTTP_2 => "HTTP/2".to_owned(),
            other => format!("{other:?}"),
        },
        headers: readable(&head.headers),
        body: String::from_utf8_lossy(&body.to_bytes()).into_owned(),
    };
    let Ok(mut text) = serde_json::to_vec_pretty(&echo) else {
        return status(StatusCode::INTERNAL_SERVER_ERROR);
    };
    text.push(b'\n');
    let mut response = Response::new(Full::new(text.into()));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

fn readable(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut readable = BTreeMap::<String, String>::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        readable
            .entry(name.to_string())
            .and_modify(|joined| *joined = format!("{joined}, {value}"))
            .or_insert_with(|| value.into_owned());
    }
    readable
}

fn switch_to_websocket(key: &HeaderValue, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) else {
        return status(StatusCode::BAD_REQUEST);
    };
    tokio::spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(request).await {
            echo_messages(TokioIo::new(upgraded)).await;
        }
    });
    let mut response = status(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    response
}

async fn echo_messages(stream: TokioIo<hyper::upgrade::Upgraded>) {
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    while let Some(Ok(message)) = socket.next().await {
        let is_content = message.is_text() || message.is_binary();
        if is_content && socket.send(message).await.is_err() {
            return;
        }
    }
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
