//! The echo server: a backend that says which pod answered, and what it was asked.
//!
//! HTTP/1.1, and HTTP/2 for clients that know it is there. The answer is JSON: pod, namespace, node, address, peer,
//! method, uri, version, headers, body (its size in bytes). The query of a request changes the answer: `status=503`,
//! `delay=250` (milliseconds), `bytes=1000` (that many bytes instead of the JSON). `/-/ready` answers 200, or 503 after
//! a request for `/-/fail` and until one for `/-/recover`.

use std::convert::Infallible;
use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// How the echo server listens and leaves.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Ports to listen on, on every address
    #[arg(
        long = "port",
        env = "ECHO_PORT",
        value_delimiter = ',',
        default_value = "8080"
    )]
    ports: Vec<u16>,

    /// Milliseconds to wait before each answer
    #[arg(long, env = "ECHO_DELAY", default_value_t = 0)]
    delay: u64,

    /// Milliseconds to wait before listening
    #[arg(long, env = "ECHO_START_DELAY", default_value_t = 0)]
    start_delay: u64,

    /// Milliseconds to go on after SIGTERM as if there had been none, as a server does that knows Kubernetes
    #[arg(long, env = "ECHO_LINGER", default_value_t = 2000)]
    linger: u64,
}

/// How long answers that are under way may take once the server leaves.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// What one answer says.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    pod: &'a str,
    namespace: &'a str,
    node: &'a str,
    address: SocketAddr,
    peer: SocketAddr,
    method: &'a str,
    uri: String,
    version: String,
    headers: Vec<(&'a str, String)>,
    body: usize,
}

/// Who answers.
#[derive(Debug)]
struct Server {
    pod: String,
    namespace: String,
    node: String,
    delay: Duration,
    ready: AtomicBool,
}

/// Serves until SIGTERM, and a little longer.
pub(crate) fn serve(args: Args) -> Result<()> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build()?.block_on(run(args))
}

async fn run(args: Args) -> Result<()> {
    let variable = |name| env::var(name).unwrap_or_default();
    let server = Arc::new(Server {
        pod: variable("TESTBED_POD"),
        namespace: variable("TESTBED_NAMESPACE"),
        node: variable("TESTBED_NODE"),
        delay: Duration::from_millis(args.delay),
        ready: AtomicBool::new(true),
    });
    let mut terminate = signal(SignalKind::terminate())?;
    sleep(Duration::from_millis(args.start_delay)).await;
    let (leave, leaving) = watch::channel(());
    let mut listening = Vec::new();
    for port in args.ports {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await;
        let listener = listener.with_context(|| format!("cannot listen on port {port}"))?;
        let accepting = accept(listener, Arc::clone(&server), leaving.clone());
        listening.push(tokio::spawn(accepting));
    }
    terminate.recv().await;
    sleep(Duration::from_millis(args.linger)).await;
    drop(leave);
    for listener in listening {
        // What is still not answered then ends with this process.
        _ = timeout(LAST_ANSWERS, listener).await;
    }
    Ok(())
}

/// Accepts until it is time to leave, then sees the open connections to their next end of an answer.
async fn accept(listener: TcpListener, server: Arc<Server>, mut leaving: watch::Receiver<()>) {
    let open = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = leaving.changed() => break,
        };
        match accepted {
            Ok((stream, peer)) => connect(stream, peer, &server, &open),
            // Too many open files, most likely: some of them close soon.
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
    drop(listener);
    open.shutdown().await;
}

fn connect(stream: TcpStream, peer: SocketAddr, server: &Arc<Server>, open: &GracefulShutdown) {
    _ = stream.set_nodelay(true);
    let Ok(address) = stream.local_addr() else {
        return;
    };
    let server = Arc::clone(server);
    let answer = move |request| {
        let server = Arc::clone(&server);
        async move { Ok::<_, Infallible>(server.answer(request, address, peer).await) }
    };
    let builder = auto::Builder::new(TokioExecutor::new());
    let connection = builder
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .into_owned();
    let connection = open.watch(connection);
    // A connection that breaks is the client's affair.
    tokio::spawn(async move { _ = connection.await });
}

impl Server {
    async fn answer(
        &self,
        request: Request<Incoming>,
        address: SocketAddr,
        peer: SocketAddr,
    ) -> Response<Full<Bytes>> {
        if let Some(status) = self.own_page(request.uri().path()) {
            return respond(status, "text/plain", Bytes::new());
        }
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await else {
            return respond(StatusCode::BAD_REQUEST, "text/plain", Bytes::new());
        };
        let wanted = Wanted::of(head.uri.query().unwrap_or_default());
        sleep(self.delay + wanted.delay).await;
        if let Some(size) = wanted.bytes {
            let bytes = Bytes::from(vec![b'.'; size]);
            return respond(wanted.status, "application/octet-stream", bytes);
        }
        let text =
            |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = head.headers.iter();
        let answer = Answer {
            pod: &self.pod,
            namespace: &self.namespace,
            node: &self.node,
            address,
            peer,
            method: head.method.as_str(),
            uri: head.uri.to_string(),
            version: format!("{:?}", head.version),
            headers: headers
                .map(|(name, value)| (name.as_str(), text(value)))
                .collect(),
            body: body.to_bytes().len(),
        };
        let mut json = serde_json::to_vec(&answer).unwrap_or_default();
        json.push(b'\n');
        respond(wanted.status, "application/json", json.into())
    }

    /// The pages that a test turns its readiness with.
    fn own_page(&self, path: &str) -> Option<StatusCode> {
        match path {
            "/-/fail" => self.ready.store(false, Ordering::Relaxed),
            "/-/recover" => self.ready.store(true, Ordering::Relaxed),
            "/-/ready" if !self.ready.load(Ordering::Relaxed) => {
                return Some(StatusCode::SERVICE_UNAVAILABLE);
            }
            "/-/ready" => {}
            _ => return None,
        }
        Some(StatusCode::OK)
    }
}

/// What the query of a request asks for. What cannot be read asks for nothing.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    status: StatusCode,
    delay: Duration,
    bytes: Option<usize>,
}

impl Wanted {
    fn of(query: &str) -> Self {
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find_map(|(key, value)| (key == name).then_some(value))
        };
        let status = value("status").and_then(|status| status.parse().ok());
        let delay = value("delay").and_then(|delay| delay.parse().ok());
        Self {
            status: status.unwrap_or(StatusCode::OK),
            delay: Duration::from_millis(delay.unwrap_or(0)),
            bytes: value("bytes").and_then(|bytes| bytes.parse().ok()),
        }
    }
}

fn respond(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static(kind);
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_changes_the_answer() {
        let wanted = Wanted::of("status=503&delay=20&bytes=7");
        assert_eq!(wanted.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(wanted.delay, Duration::from_millis(20));
        assert_eq!(wanted.bytes, Some(7));
    }

    #[test]
    fn other_queries_change_nothing() {
        for query in ["", "q=1", "status=x&delay=-1&bytes=many", "&&="] {
            let wanted = Wanted::of(query);
            assert_eq!((wanted.status, wanted.bytes), (StatusCode::OK, None));
            assert_eq!(wanted.delay, Duration::ZERO);
        }
    }
}
