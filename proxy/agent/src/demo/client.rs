//! A client as the demo and the tests need it: one connection a request, real sockets, real TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::HOST;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::backend::Echo;

/// Time for a whole exchange.
const LIMIT: Duration = Duration::from_secs(10);
/// Limit of a response body in bytes.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// A response, read to its end.
#[derive(Debug)]
pub struct Answer {
    /// Status, version and headers.
    pub head: http::response::Parts,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The status code.
    pub fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    /// A header as text; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        let value = self.head.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// What an example backend told of the request; `None` when someone else answered.
    pub fn echo(&self) -> Option<Echo> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends a request in plain text over HTTP/1.1. `path` has the query with it.
///
/// # Errors
/// When the connection, the exchange or its time limit fails.
pub async fn send(to: SocketAddr, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
    within_limit(async { exchange_http1(connect(to).await?, request).await }).await
}

/// A request for a host and a path.
///
/// # Errors
/// When host or path cannot stand in a request.
pub fn request(method: &str, host: &str, path: &str) -> anyhow::Result<Request<Full<Bytes>>> {
    let request = Request::builder().method(method).uri(path);
    let request = request.header(HOST, host).body(Full::default());
    request.with_context(|| format!("{method} {host}{path} is no request"))
}

/// Gets a path of a host in plain text over HTTP/1.1.
///
/// # Errors
/// As [`send`].
pub async fn get(to: SocketAddr, host: &str, path: &str) -> anyhow::Result<Answer> {
    send(to, request("GET", host, path)?).await
}

/// A client that trusts some certificates and no others.
#[derive(Clone, Debug)]
pub struct TlsClient {
    roots: Arc<RootCertStore>,
}

impl TlsClient {
    /// Trusts this certificate.
    ///
    /// # Errors
    /// When it is no certificate.
    pub fn trusting(certificate: CertificateDer<'static>) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(certificate).context("certificate to trust")?;
        Ok(Self {
            roots: roots.into(),
        })
    }

    /// Gets a path of a host by the version of HTTP that is asked for by ALPN (RFC 7301).
    ///
    /// # Errors
    /// When the handshake, the exchange or its time limit fails, or another version is agreed on.
    pub async fn get(
        &self,
        to: SocketAddr,
        host: &str,
        path: &str,
        version: Version,
    ) -> anyhow::Result<Answer> {
        within_limit(async {
            match version {
                Version::HTTP_2 => {
                    let stream = self.connect(to, host, b"h2").await?;
                    exchange_http2(stream, host, path).await
                }
                _ => {
                    let stream = self.connect(to, host, b"http/1.1").await?;
                    exchange_http1(stream, request("GET", host, path)?).await
                }
            }
        })
        .await
    }

    async fn connect(
        &self,
        to: SocketAddr,
        host: &str,
        protocol: &[u8],
    ) -> anyhow::Result<TlsStream<TcpStream>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("TLS versions")?
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = ServerName::try_from(host.to_owned()).context("server name")?;
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, connect(to).await?)
            .await
            .with_context(|| format!("TLS handshake for {host}"))?;
        match stream.get_ref().1.alpn_protocol() {
            Some(agreed) if agreed == protocol => Ok(stream),
            agreed => bail!("ALPN agreed on {:?}", agreed.map(String::from_utf8_lossy)),
        }
    }
}

/// Opens a WebSocket in plain text.
///
/// # Errors
/// When the connection or the handshake fails.
pub async fn websocket(
    to: SocketAddr,
    host: &str,
    path: &str,
) -> anyhow::Result<WebSocketStream<TcpStream>> {
    within_limit(async {
        let stream = connect(to).await?;
        let (socket, _) = tokio_tungstenite::client_async(format!("ws://{host}{path}"), stream)
            .await
            .context("WebSocket handshake")?;
        Ok(socket)
    })
    .await
}

/// Sends a text and waits for the next text that comes back.
///
/// # Errors
/// When the WebSocket ends, or nothing comes back in time.
pub async fn echo_text<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<S>,
    text: &str,
) -> anyhow::Result<String> {
    within_limit(async {
        socket
            .send(Message::text(text))
            .await
            .context("WebSocket send")?;
        while let Some(message) = socket.next().await {
            if let Message::Text(text) = message.context("WebSocket receive")? {
                return Ok(text.to_string());
            }
        }
        Err(anyhow!("the WebSocket ended before an echo came"))
    })
    .await
}

async fn connect(to: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(to).await;
    let stream = stream.with_context(|| format!("cannot connect to {to}"))?;
    _ = stream.set_nodelay(true);
    Ok(stream)
}

async fn exchange_http1(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<Answer> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .context("HTTP/1.1")?;
    let driving = tokio::spawn(connection);
    let answer = read(sender.send_request(request).await.context("HTTP/1.1")?).await;
    driving.abort();
    answer
}

async fn exchange_http2(
    stream: TlsStream<TcpStream>,
    host: &str,
    path: &str,
) -> anyhow::Result<Answer> {
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.context("HTTP/2")?;
    let driving = tokio::spawn(connection);
    let request = Request::get(format!("https://{host}{path}")).body(Full::<Bytes>::default());
    let request = request.context("HTTP/2 request")?;
    let answer = read(sender.send_request(request).await.context("HTTP/2")?).await;
    driving.abort();
    answer
}

async fn read(response: Response<hyper::body::Incoming>) -> anyhow::Result<Answer> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await;
    let body = body.map_err(|error| anyhow!("response body: {error}"))?;
    Ok(Answer {
        head,
        body: body.to_bytes(),
    })
}

async fn within_limit<T>(exchange: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::time::timeout(LIMIT, exchange)
        .await
        .map_err(|_| anyhow!("no answer within {LIMIT:?}"))?
}
