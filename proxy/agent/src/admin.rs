//! The admin pages: liveness, readiness, metrics, and what is in force, for people and for Kubernetes.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use serde::Serialize;
use socket2::Socket;
use tidegate_dataplane::ListenAddress;
use tidegate_model::{Problem, SnapshotDescription, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use crate::app::{InForce, Serving};
use crate::certs::CertsPage;
use crate::listening;
use crate::readiness::Readiness;
use crate::verbose::Parts;

/// Connections at one time; more are closed as they come.
const MAX_CONNECTIONS: usize = 64;
/// Time for a request's head to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a whole exchange; every connection carries one.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(30);
/// The same by a socket, which may ask for an order at a staging directory.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(300);
/// Limit of a request's head in bytes.
const MAX_HEAD: usize = 16 * 1024;

const TEXT: &str = "text/plain; charset=utf-8";
pub(crate) const JSON: &str = "application/json";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const INDEX: &str = "\
Tidegate

/livez             200 while the process runs
/readyz            200 when it serves; ?verbose says what it waits for, what is in force and from where
/metrics           metrics in the OpenMetrics text format
/snapshot          routes, upstreams and certificates in force, as JSON
/problems          what is wrong with which object, as JSON
/certs             how certificates stand, as JSON
";

/// What the pages show.
#[derive(Debug)]
pub(crate) struct Pages {
    readiness: Readiness,
    serving: Serving,
    registry: Registry,
    parts: Parts,
}

/// A bound address, for pages that are made later.
#[derive(Debug)]
pub(crate) struct Bound {
    socket: Socket,
    address: SocketAddr,
}

/// The pages and where they are.
#[derive(Debug)]
pub(crate) struct Admin {
    /// Until it listens.
    bound: Option<Socket>,
    address: SocketAddr,
    pages: Arc<Pages>,
    listening: Option<JoinHandle<()>>,
}

impl Bound {
    /// Binds an address, and does not listen yet.
    pub(crate) fn new(address: ListenAddress) -> anyhow::Result<Self> {
        let socket = listening::bind(address)?;
        let address = socket.local_addr()?.as_socket();
        let address = address.context("the admin listener has no address")?;
        Ok(Self { socket, address })
    }

    /// Where these pages will be.
    pub(crate) fn with(self, pages: Arc<Pages>) -> Admin {
        Admin {
            bound: Some(self.socket),
            address: self.address,
            pages,
            listening: None,
        }
    }
}

impl Admin {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens and answers until [`close`](Self::close), or until the runtime ends.
    ///
    /// # Errors
    /// The address cannot be had.
    pub(crate) fn open(&mut self) -> anyhow::Result<()> {
        let socket = match self.bound.take() {
            Some(socket) => socket,
            None => listening::bind(ListenAddress::Socket(self.address))?,
        };
        let listener = listening::listen(socket)?;
        self.listening = Some(tokio::spawn(run(listener, self.pages.clone())));
        Ok(())
    }

    /// Leaves the address to another process. Exchanges that are going on end by themselves.
    pub(crate) fn close(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
        }
    }
}

/// Who asks for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Whoever reaches the port: may read.
    Network,
    /// A process of the same user, by a socket: may also have something done.
    SameUser,
}

impl Caller {
    fn patience(self) -> Duration {
        match self {
            Self::Network => EXCHANGE_TIMEOUT,
            Self::SameUser => SOCKET_TIMEOUT,
        }
    }
}

/// What connections are accepted from.
pub(crate) trait Listener: Send + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// Who can be at the other end.
    const CALLER: Caller;

    /// Waits for the next one.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;
    const CALLER: Caller = Caller::Network;

    async fn accept(&self) -> io::Result<TcpStream> {
        let (stream, _) = self.accept().await?;
        Ok(stream)
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;
    const CALLER: Caller = Caller::SameUser;

    async fn accept(&self) -> io::Result<UnixStream> {
        let (stream, _) = self.accept().await?;
        Ok(stream)
    }
}

/// Answers whoever connects, without end.
pub(crate) async fn run<L: Listener>(listener: L, pages: Arc<Pages>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                warn!("admin listener: cannot accept: {error}; trying again");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            debug!("admin listener: {MAX_CONNECTIONS} connections are open; one more is closed");
            continue;
        };
        let pages = pages.clone();
        tokio::spawn(async move {
            let exchange = serve_connection(TokioIo::new(stream), &pages, L::CALLER);
            if tokio::time::timeout(L::CALLER.patience(), exchange)
                .await
                .is_err()
            {
                debug!("admin listener: a connection took too long and is cut");
            }
            drop(place);
        });
    }
}

async fn serve_connection(
    stream: TokioIo<impl AsyncRead + AsyncWrite + Unpin + Send + 'static>,
    pages: &Pages,
    caller: Caller,
) {
    let service = service_fn(|request: Request<Incoming>| async move {
        Ok::<_, Infallible>(pages.answer(&request, caller).await)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(stream, service);
    if let Err(error) = connection.await {
        debug!("admin connection: {error}");
    }
}

/// A snapshot with the moment from which it is in force.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SnapshotPage {
    generation: u64,
    published_at: UnixTime,
    #[serde(flatten)]
    snapshot: SnapshotDescription,
}

#[derive(Serialize)]
struct ProblemsPage<'a> {
    problems: &'a [Problem],
}

impl Pages {
    pub(crate) fn new(
        readiness: Readiness,
        serving: Serving,
        registry: Registry,
        parts: Parts,
    ) -> Self {
        Self {
            readiness,
            serving,
            registry,
            parts,
        }
    }

    async fn answer<B>(&self, request: &Request<B>, caller: Caller) -> Response<Full<Bytes>> {
        let (method, query) = (request.method(), request.uri().query());
        let page: &dyn Fn() -> Response<Full<Bytes>> = match request.uri().path() {
            "/" => &|| plain(StatusCode::OK, INDEX),
            "/livez" => &|| plain(StatusCode::OK, "ok\n"),
            "/readyz" => &|| self.readyz(query),
            "/metrics" => &|| self.metrics(),
            "/snapshot" => &|| self.snapshot(),
            "/problems" => &|| self.problems(),
            path => {
                let page = self.certs_page(method, path, query, caller).await;
                return page.unwrap_or_else(no_page);
            }
        };
        only_reading(method).unwrap_or_else(page)
    }

    /// A page about certificates; `None` for one that does not exist.
    async fn certs_page(
        &self,
        method: &Method,
        path: &str,
        query: Option<&str>,
        caller: Caller,
    ) -> Option<Response<Full<Bytes>>> {
        let page = CertsPage::at(path)?;
        if page.method() == Method::GET {
            if let Some(refusal) = only_reading(method) {
                return Some(refusal);
            }
        } else if caller == Caller::Network {
            let text = "only by the probe socket; use tidegate certs\n";
            return Some(plain(StatusCode::FORBIDDEN, text));
        } else if method != page.method() {
            return Some(wrong_method("POST"));
        }
        let Some(certs) = &self.parts.certs else {
            let text = "this process keeps no certificates\n";
            return Some(plain(StatusCode::SERVICE_UNAVAILABLE, text));
        };
        Some(page.answer(&**certs, query.unwrap_or_default()).await)
    }

    fn readyz(&self, query: Option<&str>) -> Response<Full<Bytes>> {
        let waiting = self.readiness.waiting_for();
        let status = match waiting.is_empty() {
            true => StatusCode::OK,
            false => StatusCode::SERVICE_UNAVAILABLE,
        };
        let verbose = query.is_some_and(|query| {
            let mut keys = query.split('&').map(|pair| pair.split('=').next());
            keys.any(|key| key == Some("verbose"))
        });
        let mut text = String::new();
        if verbose {
            text.push_str(&self.parts.lines(self.serving.borrow().as_ref()));
            for reason in &waiting {
                text.push_str(&format!("waiting for: {reason}\n"));
            }
        }
        text.push_str(if waiting.is_empty() {
            "ready\n"
        } else {
            "not ready\n"
        });
        plain(status, text)
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => page(StatusCode::OK, OPEN_METRICS, text),
            Err(error) => failed("metrics", &error),
        }
    }

    fn snapshot(&self) -> Response<Full<Bytes>> {
        self.json("snapshot", |in_force| {
            serde_json::to_vec_pretty(&SnapshotPage {
                generation: in_force.generation,
                published_at: in_force.published_at,
                snapshot: in_force.translation.snapshot.describe(),
            })
        })
    }

    fn problems(&self) -> Response<Full<Bytes>> {
        self.json("problems", |in_force| {
            serde_json::to_vec_pretty(&ProblemsPage {
                problems: &in_force.translation.problems,
            })
        })
    }

    fn json(
        &self,
        name: &str,
        render: impl Fn(&InForce) -> serde_json::Result<Vec<u8>>,
    ) -> Response<Full<Bytes>> {
        let Some(in_force) = self.serving.borrow().clone() else {
            let text = "no configuration is in force yet; /readyz?verbose tells why\n";
            return plain(StatusCode::SERVICE_UNAVAILABLE, text);
        };
        match render(&in_force) {
            Ok(text) => page(StatusCode::OK, JSON, text),
            Err(error) => failed(name, &error),
        }
    }
}

/// The refusal of a method that would change something.
fn only_reading(method: &Method) -> Option<Response<Full<Bytes>>> {
    let is_reading = matches!(*method, Method::GET | Method::HEAD);
    (!is_reading).then(|| wrong_method("GET, HEAD"))
}

fn wrong_method(allowed: &'static str) -> Response<Full<Bytes>> {
    let text = format!("only {}\n", allowed.replace(", ", " and "));
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, text);
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

fn no_page() -> Response<Full<Bytes>> {
    plain(
        StatusCode::NOT_FOUND,
        "no such page; / lists those that exist\n",
    )
}

fn failed(name: &str, error: &dyn std::fmt::Display) -> Response<Full<Bytes>> {
    warn!("admin page {name}: {error}");
    plain(
        StatusCode::INTERNAL_SERVER_ERROR,
        "this page could not be made; the log says why\n",
    )
}

pub(crate) fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    page(status, TEXT, text)
}

pub(crate) fn page(
    status: StatusCode,
    content_type: &'static str,
    content: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(content.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
