//! The one HTTP client of certificates: ACME servers, providers of DNS, and URLs that are asked whether a name is allowed.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Request, Response, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use thiserror::Error;

/// Sent as `User-Agent` (RFC 8555 section 6.1 asks for one).
pub const AGENT: &str = concat!("tidegate/", env!("CARGO_PKG_VERSION"));

/// Longest wait for a TCP connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest wait for a whole exchange, the connection included.
const EXCHANGE: Duration = Duration::from_secs(30);
/// Largest body that is read; chains and directories are far smaller.
const BODY: usize = 1024 * 1024;
/// How long a connection that nothing is sent on is kept.
const IDLE: Duration = Duration::from_secs(30);

/// Why an exchange came to nothing.
#[derive(Debug, Error)]
pub enum HttpError {
    /// No certificate to verify servers with.
    #[error(
        "there are no trusted certificates to verify servers with: {0}; install the system's CA certificates \
         (package ca-certificates), or name a bundle in the settings"
    )]
    NoRoots(String),
    /// The bundle of the settings cannot be used.
    #[error(
        "the CA bundle of the settings cannot be used: {0}; it has to hold certificates in PEM"
    )]
    Bundle(String),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// No connection, or it broke.
    #[error("cannot reach {host}: {reason}")]
    Unreachable {
        /// Host and port.
        host: String,
        /// What was seen.
        reason: String,
    },
    /// It took too long.
    #[error("{host} did not answer within {} s", after.as_secs())]
    Timeout {
        /// Host and port.
        host: String,
        /// The limit.
        after: Duration,
    },
    /// The answer does not end within the limit.
    #[error("{host} answered with more than {BODY} bytes")]
    TooLong {
        /// Host and port.
        host: String,
    },
}

/// Speaks HTTP/1.1 and 2, over TLS or without. Follows no redirects. Clones share connections.
#[derive(Clone, Debug)]
pub struct HttpClient {
    inner: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    exchange: Duration,
}

impl HttpClient {
    /// A client that trusts what the system trusts, and the certificates of the bundle (PEM) beside.
    ///
    /// # Errors
    /// There is nothing to verify servers with.
    pub fn new(bundle: Option<&[u8]>) -> Result<Self, HttpError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots(bundle)?)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(tcp);
        let inner = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(hyper_util::rt::TokioTimer::new())
            .build(connector);
        Ok(Self {
            inner,
            exchange: EXCHANGE,
        })
    }

    /// The same with another limit for a whole exchange.
    #[must_use]
    pub fn within(mut self, exchange: Duration) -> Self {
        self.exchange = exchange;
        self
    }

    /// Sends a request and reads the answer, whatever its status is. `User-Agent` is ours, before one that is there.
    ///
    /// # Errors
    /// There was no answer, it came too late, or it was too long.
    pub async fn send(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let host = authority(request.uri());
        name_ourselves(request.headers_mut());
        let exchange = self.exchange(request.map(Full::new), &host);
        match tokio::time::timeout(self.exchange, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(HttpError::Timeout {
                host,
                after: self.exchange,
            }),
        }
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        host: &str,
    ) -> Result<Response<Bytes>, HttpError> {
        let unreachable = |error: &dyn Error| HttpError::Unreachable {
            host: host.to_owned(),
            reason: causes(error),
        };
        let answer = self.inner.request(request).await;
        let (head, body) = answer.map_err(|error| unreachable(&error))?.into_parts();
        match Limited::new(body, BODY).collect().await {
            Ok(body) => Ok(Response::from_parts(head, body.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => Err(HttpError::TooLong {
                host: host.to_owned(),
            }),
            Err(error) => Err(unreachable(&*error)),
        }
    }
}

/// How long the other side wants to be left alone (`Retry-After`, RFC 9110 section 10.2.3).
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let moment = httpdate::parse_http_date(text).ok()?;
    Some(moment.duration_since(now).unwrap_or(Duration::ZERO))
}

/// The beginning of an answer's body as one line of text, for people.
pub fn excerpt(body: &[u8]) -> String {
    const LONGEST: usize = 200;
    let text = String::from_utf8_lossy(body);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", words.get(..end).unwrap_or_default()),
        None => words,
    }
}

/// An error with all that caused it, each said once.
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

fn name_ourselves(headers: &mut HeaderMap) {
    let theirs = headers.get(USER_AGENT).and_then(|name| name.to_str().ok());
    let name = match theirs {
        Some(theirs) => HeaderValue::from_str(&format!("{AGENT} {theirs}")),
        None => Ok(HeaderValue::from_static(AGENT)),
    };
    headers.insert(
        USER_AGENT,
        name.unwrap_or_else(|_| HeaderValue::from_static(AGENT)),
    );
}

fn authority(uri: &Uri) -> String {
    match uri.authority() {
        Some(authority) => authority.to_string(),
        None => uri.to_string(),
    }
}

fn roots(bundle: Option<&[u8]>) -> Result<RootCertStore, HttpError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    if let Some(bundle) = bundle {
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(bundle) {
            let certificate = certificate.map_err(|error| HttpError::Bundle(error.to_string()))?;
            roots
                .add(certificate)
                .map_err(|error| HttpError::Bundle(error.to_string()))?;
        }
        if roots.len() == before {
            return Err(HttpError::Bundle("no certificate is in it".to_owned()));
        }
    }
    if roots.is_empty() {
        let errors: Vec<_> = system.errors.iter().map(ToString::to_string).collect();
        let reason = match errors.is_empty() {
            true => "the system has none".to_owned(),
            false => errors.join(", "),
        };
        return Err(HttpError::NoRoots(reason));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let wait = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            retry_after(&headers, now)
        };
        assert_eq!(wait(" 120 "), Some(Duration::from_secs(120)));
        let date = wait("Sun, 06 Nov 1994 08:50:37 GMT");
        assert_eq!(date, Some(Duration::from_secs(60)));
        assert_eq!(
            wait("Sun, 06 Nov 1994 08:00:00 GMT"),
            Some(Duration::ZERO),
            "a date that has passed"
        );
        assert_eq!(wait("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn an_excerpt_is_one_short_line() {
        assert_eq!(excerpt(b"<h1>\n  Busy </h1>\r\n"), "<h1> Busy </h1>");
        assert_eq!(excerpt("é".repeat(500).as_bytes()).chars().count(), 201);
    }

    #[test]
    fn a_bundle_has_to_hold_certificates() {
        let error = HttpClient::new(Some(b"nothing")).unwrap_err();
        assert!(matches!(error, HttpError::Bundle(_)), "{error}");
        let garbage = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let error = HttpClient::new(Some(garbage)).unwrap_err();
        assert!(matches!(error, HttpError::Bundle(_)), "{error}");
    }

    /// A server that reads a request and answers with `answer`; returns its URL.
    async fn server(answer: Vec<u8>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).await.unwrap();
            assert!(String::from_utf8_lossy(&request[..read]).contains(AGENT));
            let _ = stream.write_all(&answer).await;
            std::future::pending::<()>().await;
        });
        format!("http://{address}/")
    }

    /// A certificate to trust, so that the tests need none of the system.
    fn client() -> HttpClient {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(["a.test".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        HttpClient::new(Some(certificate.pem().as_bytes()))
            .unwrap()
            .within(Duration::from_millis(500))
    }

    async fn fetch(url: &str) -> Result<Response<Bytes>, HttpError> {
        let request = Request::get(url).body(Bytes::new()).unwrap();
        client().send(request).await
    }

    #[tokio::test]
    async fn answers_of_every_status_come_back() {
        let url = server(
            b"HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 4\r\n\r\nbusy".to_vec(),
        );
        let answer = fetch(&url.await).await.unwrap();
        assert_eq!(answer.status(), 503);
        assert_eq!(
            retry_after(answer.headers(), SystemTime::now()),
            Some(Duration::from_secs(7))
        );
        assert_eq!(&answer.body()[..], b"busy");
    }

    #[tokio::test]
    async fn silence_floods_and_closed_ports_are_told_apart() {
        let error = fetch(&server(Vec::new()).await).await.unwrap_err();
        assert!(matches!(error, HttpError::Timeout { .. }), "{error}");

        let mut flood = b"HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n".to_vec();
        flood.resize(BODY + 1000, b'x');
        let error = fetch(&server(flood).await).await.unwrap_err();
        assert!(matches!(error, HttpError::TooLong { .. }), "{error}");

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = fetch(&format!("http://{address}/")).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, HttpError::Unreachable { .. }), "{text}");
        assert!(
            text.contains(&address.to_string()) && text.contains("refused"),
            "{text}"
        );
    }
}
