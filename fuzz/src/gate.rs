//! A data plane on loopback with two kinds of endpoints: honest ones, and one that answers with whatever it is given.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tidegate_dataplane::{AccessLog, Dataplane, ListenAddress, ListenerProtocol, Settings};
use tidegate_model::{
    Endpoint, HostPattern, NamespacedName, PathKind, PathMatch, Policy, Protocol, Route,
    RouteLabels, RouteRank, RouteTable, Snapshot, Target, Timeouts, TlsRedirect, Upstream,
    UpstreamId, VirtualHost,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::LocalRuntime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task;
use tokio::time;
use tokio_rustls::TlsConnector;

use crate::{Cuts, Read, reader, trust};

/// How long a connection may take until it is over: more than every timeout of the data plane together.
const PATIENCE: Duration = Duration::from_secs(5);

/// Timeouts of the data plane, so short that a connection that waits for one of them does not stop the fuzzer.
const TIMEOUT: Duration = Duration::from_millis(300);

/// Where the bytes go in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// Plain text: HTTP/1.1, or HTTP/2 with prior knowledge.
    Http,
    /// The TLS listener, to which the bytes are hardly a handshake.
    Https,
    /// HTTP/1.1 within TLS.
    Http1OverTls,
    /// HTTP/2 within TLS.
    Http2OverTls,
}

/// A running data plane, its endpoints, and the runtime of everything that is not the data plane.
pub struct Gate {
    runtime: LocalRuntime,
    http: SocketAddr,
    https: SocketAddr,
    tls_http1: TlsConnector,
    tls_http2: TlsConnector,
    answer: Rc<RefCell<Answer>>,
    /// What the honest endpoint was asked.
    seen: Rc<RefCell<Vec<Read>>>,
    /// Serves as long as it lives.
    _dataplane: Dataplane,
}

/// What the dishonest endpoint answers.
#[derive(Clone, Debug)]
struct Answer {
    bytes: Vec<u8>,
    cuts: Cuts,
}

impl Gate {
    /// Starts everything. Paths under `/1` lead to the dishonest endpoint over HTTP/1.1, those under `/2` to the same
    /// over HTTP/2, all others to an honest one, which answers 200 with the body it was sent.
    ///
    /// # Errors
    /// No socket or no thread.
    pub fn start() -> Result<Self, Box<dyn std::error::Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(tokio::runtime::LocalOptions::default())?;
        // A fuzzer has a `main` that is not Rust's, which would have taken care of this: writing to a closed socket is
        // an error and not the end of the process.
        let _ = runtime.block_on(async { signal(SignalKind::pipe()) })?;
        let answer = Rc::new(RefCell::new(Answer {
            bytes: Vec::new(),
            cuts: Cuts::new(0),
        }));
        let honest = runtime.block_on(listen())?;
        let dishonest = runtime.block_on(listen())?;
        let upstreams = [
            upstream("honest", Protocol::Http, honest.local_addr()?),
            upstream("one", Protocol::Http, dishonest.local_addr()?),
            upstream("two", Protocol::H2c, dishonest.local_addr()?),
        ];
        let seen: Rc<RefCell<Vec<Read>>> = Rc::default();
        runtime.spawn_local(accept(honest, {
            let seen = seen.clone();
            move |stream| serve_honestly(stream, seen.clone())
        }));
        runtime.spawn_local(accept(dishonest, {
            let answer = answer.clone();
            move |stream| serve(stream, answer.clone())
        }));
        let any_port = ListenAddress::Socket(SocketAddr::from(([127, 0, 0, 1], 0)));
        let bound = tidegate_dataplane::bind(Settings {
            http: vec![any_port],
            https: vec![any_port],
            accept: tidegate_dataplane::AcceptMode::default(),
            workers: NonZeroUsize::MIN,
            access_log: AccessLog::Off,
            max_connections: NonZeroUsize::new(1000).unwrap_or(NonZeroUsize::MIN),
            pin: None,
            on_demand: None,
        })?;
        let address = |protocol| {
            let mut addresses = bound.addresses().iter();
            let found = addresses.find(|found| found.protocol == protocol);
            found.map(|found| found.address).ok_or("no listener")
        };
        let (http, https) = (
            address(ListenerProtocol::Http)?,
            address(ListenerProtocol::Https)?,
        );
        let (dataplane, mut listeners) = bound.start(Vec::new())?;
        listeners.listen()?;
        dataplane.accept(listeners);
        dataplane.publisher().publish(snapshot(upstreams)?);
        Ok(Self {
            runtime,
            http,
            https,
            tls_http1: trust::connector(&[b"http/1.1"])?,
            tls_http2: trust::connector(&[b"h2"])?,
            answer,
            seen,
            _dataplane: dataplane,
        })
    }

    /// Sends the bytes to a listener in pieces, ends the sending side, and reads to the end. The dishonest endpoint
    /// answers as told meanwhile.
    ///
    /// # Panics
    /// When the connection is not over in time.
    pub fn exchange(&self, listener: Listener, bytes: &[u8], answer: &[u8], cuts: Cuts) -> Vec<u8> {
        *self.answer.borrow_mut() = Answer {
            bytes: answer.to_owned(),
            cuts: cuts.clone(),
        };
        self.seen.borrow_mut().clear();
        let exchange = self.one(listener, bytes, cuts);
        let exchange = async { time::timeout(PATIENCE, exchange).await };
        match self.runtime.block_on(exchange) {
            Ok(Ok(received)) => received,
            // A reset is an end as well.
            Ok(Err(_)) => Vec::new(),
            Err(_) => panic!("the connection hangs"),
        }
    }

    async fn one(&self, listener: Listener, bytes: &[u8], cuts: Cuts) -> io::Result<Vec<u8>> {
        let address = match listener {
            Listener::Http => self.http,
            _ => self.https,
        };
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let tls = match listener {
            Listener::Http | Listener::Https => return send_and_read(stream, bytes, cuts).await,
            Listener::Http1OverTls => &self.tls_http1,
            Listener::Http2OverTls => &self.tls_http2,
        };
        let server = ServerName::from(address.ip());
        send_and_read(tls.connect(server, stream).await?, bytes, cuts).await
    }

    /// What the honest endpoint was asked in the last exchange, in order.
    pub fn seen(&self) -> Vec<Read> {
        self.seen.borrow().clone()
    }

    /// One good request, which the honest endpoint is to answer.
    ///
    /// # Panics
    /// When it is not answered 200.
    pub fn serves_good_requests(&self) {
        const GOOD: &[u8] = b"POST /good HTTP/1.1\r\nHost: good\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody";
        let answer = self.exchange(Listener::Http, GOOD, b"", Cuts::new(0));
        let text = String::from_utf8_lossy(&answer);
        assert!(
            text.starts_with("HTTP/1.1 200 ") && text.ends_with("\r\n\r\nbody"),
            "a good request was answered {text:?}"
        );
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { http, https, .. } = self;
        f.debug_struct("Gate")
            .field("http", http)
            .field("https", https)
            .finish_non_exhaustive()
    }
}

async fn listen() -> io::Result<TcpListener> {
    TcpListener::bind("127.0.0.1:0").await
}

/// Writes and reads at once, so that neither side waits for the other.
async fn send_and_read(
    stream: impl AsyncRead + AsyncWrite,
    bytes: &[u8],
    mut cuts: Cuts,
) -> io::Result<Vec<u8>> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let write = async {
        let mut rest = bytes;
        while let Some((piece, left)) = cuts.next(rest) {
            if writer.write_all(piece).await.is_err() {
                return;
            }
            rest = left;
            let _ = writer.flush().await;
            // The data plane has a thread of its own: it may read between two pieces, which is wanted.
            task::yield_now().await;
        }
        let _ = writer.shutdown().await;
    };
    let mut received = Vec::new();
    let read = reader.read_to_end(&mut received);
    let (read, ()) = tokio::join!(read, write);
    read.map(|_| received)
}

async fn accept<Served: Future<Output = ()> + 'static>(
    listener: TcpListener,
    serve: impl Fn(TcpStream) -> Served + 'static,
) {
    while let Ok((stream, _)) = listener.accept().await {
        task::spawn_local(serve(stream));
    }
}

/// Notes each request and sends its body back.
async fn serve_honestly(stream: TcpStream, seen: Rc<RefCell<Vec<Read>>>) {
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(move |request| {
        let seen = seen.clone();
        async move {
            let read = reader::collect(request).await;
            let body = read.body.clone().ok_or("the body breaks off")?;
            seen.borrow_mut().push(read);
            Ok::<_, &str>(Response::new(Full::new(Bytes::from(body))))
        }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .max_headers(reader::MOST_FIELDS)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Waits for the first bytes of a request and answers as told.
async fn serve(stream: TcpStream, answer: Rc<RefCell<Answer>>) {
    let mut first = [0; 1];
    if !matches!(stream.peek(&mut first).await, Ok(1..)) {
        return;
    }
    let _ = stream.set_nodelay(true);
    let Answer { bytes, cuts } = answer.borrow().clone();
    let _ = time::timeout(PATIENCE, send_and_read(stream, &bytes, cuts)).await;
}

fn upstream(id: &str, protocol: Protocol, address: SocketAddr) -> Arc<Upstream> {
    Arc::new(Upstream {
        id: UpstreamId::new(id),
        protocol,
        server_name: None,
        endpoints: vec![Endpoint { address }].into(),
    })
}

fn snapshot(upstreams: [Arc<Upstream>; 3]) -> Result<Snapshot, Box<dyn std::error::Error>> {
    let routes = ["/", "/1", "/2"].into_iter().zip(&upstreams);
    let routes: Result<Vec<_>, _> = routes
        .enumerate()
        .map(|(position, (path, upstream))| route(position, path, upstream))
        .collect();
    let mut table = RouteTable::default();
    table.set(
        HostPattern::Any,
        Some(VirtualHost::new(routes?, None, false).0),
    );
    let timeouts = Timeouts {
        handshake: TIMEOUT,
        request_head: TIMEOUT,
        idle: TIMEOUT,
        connect: TIMEOUT,
        response_head: TIMEOUT,
        ..Timeouts::default()
    };
    Ok(Snapshot {
        routes: Arc::new(table),
        upstreams: Arc::new(
            upstreams
                .into_iter()
                .map(|upstream| (upstream.id.clone(), upstream))
                .collect(),
        ),
        policy: Arc::new(Policy {
            timeouts,
            ..Policy::default()
        }),
        ..Snapshot::default()
    })
}

fn route(
    position: usize,
    path: &str,
    upstream: &Upstream,
) -> Result<Arc<Route>, tidegate_model::PathError> {
    let object = NamespacedName::new("default", "fuzz");
    Ok(Arc::new(Route {
        host: HostPattern::Any,
        path: PathMatch::parse(PathKind::Prefix, path)?,
        target: Target::Upstream(upstream.id.clone()),
        tls_redirect: TlsRedirect::Never,
        labels: Arc::new(RouteLabels {
            ingress: Some(object.clone()),
            service: upstream.id.as_str().to_owned(),
        }),
        rank: RouteRank {
            created: None,
            object,
            position,
        },
    }))
}
