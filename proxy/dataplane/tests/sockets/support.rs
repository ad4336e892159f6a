//! A data plane on free ports, endpoints that answer as told, and a client that sees every byte.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate_dataplane::{
    AcceptMode, AccessLog, Dataplane, DrainReport, ListenerProtocol, Queued, Settings, WorkerLoad,
};
use tidegate_model::{
    Endpoint, HostPattern, NamespacedName, PathKind, PathMatch, Policy, Protocol, Route,
    RouteLabels, RouteRank, RouteTable, Snapshot, Target, Timeouts, TlsRedirect, Upstream,
    UpstreamId, VirtualHost,
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A running data plane.
pub(crate) struct Gate {
    dataplane: Option<Dataplane>,
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
}

impl Gate {
    pub(crate) fn start(snapshot: Snapshot) -> Self {
        let gate = Self::start_empty(1);
        gate.publish(snapshot);
        gate
    }

    pub(crate) fn start_empty(workers: usize) -> Self {
        Self::start_with(settings(workers), Vec::new())
    }

    /// Without a snapshot, with somebody who is told how busy the workers are.
    pub(crate) fn start_with(settings: Settings, loads: Vec<Box<dyn WorkerLoad>>) -> Self {
        let bound = tidegate_dataplane::bind(settings).unwrap();
        let find = |protocol| {
            bound
                .addresses()
                .iter()
                .find(|found| found.protocol == protocol)
                .unwrap()
                .address
        };
        let (http, https) = (find(ListenerProtocol::Http), find(ListenerProtocol::Https));
        let (dataplane, mut listeners) = bound.start(loads).unwrap();
        listeners.listen().unwrap();
        dataplane.accept(listeners);
        Self {
            dataplane: Some(dataplane),
            http,
            https,
        }
    }

    pub(crate) fn publish(&self, snapshot: Snapshot) {
        self.dataplane().publisher().publish(snapshot);
    }

    pub(crate) fn dataplane(&self) -> &Dataplane {
        self.dataplane.as_ref().unwrap()
    }

    pub(crate) fn metrics(&self) -> String {
        let mut registry = prometheus_client::registry::Registry::with_prefix("tidegate");
        self.dataplane().register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    pub(crate) fn drain(mut self, deadline: Duration) -> DrainReport {
        drain(self.dataplane.take().unwrap(), deadline)
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.http)
    }

    /// One request on a connection of its own.
    pub(crate) fn ask(&self, request: &str) -> Response {
        let mut client = self.client();
        client.send(request);
        client.response()
    }
}

/// On free ports of this machine, without an access log.
pub(crate) fn settings(workers: usize) -> Settings {
    let local = "127.0.0.1:0".parse().unwrap();
    Settings {
        http: vec![local],
        https: vec![local],
        accept: AcceptMode::default(),
        workers: NonZeroUsize::new(workers).unwrap(),
        access_log: AccessLog::Off,
        max_connections: NonZeroUsize::new(1000).unwrap(),
        pin: None,
        on_demand: None,
    }
}

pub(crate) fn drain(dataplane: Dataplane, deadline: Duration) -> DrainReport {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(dataplane.drain(deadline, Queued::Served))
}

/// What a route of a test snapshot is.
pub(crate) struct Rule {
    pub(crate) host: &'static str,
    pub(crate) path: &'static str,
    pub(crate) target: Option<&'static str>,
    pub(crate) redirect: TlsRedirect,
}

pub(crate) fn rule(host: &'static str, path: &'static str, upstream: &'static str) -> Rule {
    Rule {
        host,
        path,
        target: Some(upstream),
        redirect: TlsRedirect::Never,
    }
}

pub(crate) fn upstream(id: &str, protocol: Protocol, endpoints: &[SocketAddr]) -> Arc<Upstream> {
    let endpoints = endpoints
        .iter()
        .map(|address| Endpoint { address: *address })
        .collect();
    Arc::new(Upstream {
        id: UpstreamId::new(id),
        protocol,
        server_name: None,
        endpoints,
    })
}

pub(crate) fn snapshot(rules: &[Rule], upstreams: &[Arc<Upstream>]) -> Snapshot {
    let mut routes = RouteTable::default();
    let mut hosts: std::collections::BTreeMap<HostPattern, Vec<Arc<Route>>> = Default::default();
    for (position, rule) in rules.iter().enumerate() {
        let host = HostPattern::parse(rule.host).unwrap();
        let object = NamespacedName::new("default", "test");
        hosts.entry(host.clone()).or_default().push(Arc::new(Route {
            host,
            path: PathMatch::parse(PathKind::Prefix, rule.path).unwrap(),
            target: rule.target.map_or(Target::Unavailable, |id| {
                Target::Upstream(UpstreamId::new(id))
            }),
            tls_redirect: rule.redirect,
            labels: Arc::new(RouteLabels {
                ingress: Some(object.clone()),
                service: rule.target.unwrap_or_default().to_owned(),
            }),
            rank: RouteRank {
                created: None,
                object,
                position,
            },
        }));
    }
    for (host, rules) in hosts {
        routes.set(host, Some(VirtualHost::new(rules, None, false).0));
    }
    let upstreams = upstreams
        .iter()
        .map(|upstream| (upstream.id.clone(), upstream.clone()))
        .collect();
    Snapshot {
        routes: Arc::new(routes),
        upstreams: Arc::new(upstreams),
        ..Snapshot::default()
    }
}

/// Everything to one endpoint that speaks HTTP/1.1.
pub(crate) fn everything_to(endpoint: SocketAddr) -> Snapshot {
    snapshot(
        &[rule("", "/", "u")],
        &[upstream("u", Protocol::Http, &[endpoint])],
    )
}

pub(crate) fn with_timeouts(mut snapshot: Snapshot, timeouts: Timeouts) -> Snapshot {
    snapshot.policy = Arc::new(Policy {
        timeouts,
        ..(*snapshot.policy).clone()
    });
    snapshot
}

/// An endpoint.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
    /// Every head that came, as it came.
    pub(crate) heads: Arc<Mutex<Vec<String>>>,
}

impl Backend {
    /// Serves each connection with a function of its own.
    pub(crate) fn raw(serve: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (counter, serve) = (connections.clone(), Arc::new(serve));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let number = counter.fetch_add(1, Ordering::SeqCst);
                stream.set_nodelay(true).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let serve = serve.clone();
                std::thread::spawn(move || serve(stream, number));
            }
        });
        Self {
            address,
            connections,
            heads: Arc::default(),
        }
    }

    /// Answers each request by its head and body, on connections that stay open.
    pub(crate) fn http(answer: impl Fn(&str, &[u8]) -> String + Send + Sync + 'static) -> Self {
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = heads.clone();
        let backend = Self::raw(move |stream, _| {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut writer = stream;
            while let Some(message) = read_message(&mut reader) {
                seen.lock().unwrap().push(message.head.clone());
                if writer
                    .write_all(answer(&message.head, &message.body).as_bytes())
                    .is_err()
                {
                    return;
                }
            }
        });
        Self { heads, ..backend }
    }

    /// Answers 200 with a text.
    pub(crate) fn saying(text: &'static str) -> Self {
        Self::http(move |_, _| ok(text))
    }

    pub(crate) fn last_head(&self) -> String {
        self.heads
            .lock()
            .unwrap()
            .last()
            .cloned()
            .unwrap_or_default()
    }

    pub(crate) fn opened(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

pub(crate) fn ok(text: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}",
        text.len()
    )
}

/// A client that writes bytes as they are.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) reader: BufReader<TcpStream>,
}

/// A response, or a request as an endpoint reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: String,
}

impl Response {
    pub(crate) fn status(&self) -> u16 {
        self.head
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or(0)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn field(&self, name: &str) -> Option<String> {
        field(&self.head, name)
    }
}

/// The first value of a field in a head.
pub(crate) fn field(head: &str, name: &str) -> Option<String> {
    let mut lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    lines
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().to_owned())
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            reader: BufReader::new(stream.try_clone().unwrap()),
            stream,
        }
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn response(&mut self) -> Response {
        read_message(&mut self.reader).expect("a response")
    }

    /// The response to a HEAD request.
    pub(crate) fn response_without_body(&mut self) -> Response {
        let head = read_head(&mut self.reader).expect("a head");
        Response {
            head,
            body: Vec::new(),
            trailers: String::new(),
        }
    }

    /// Everything until the other side closes.
    pub(crate) fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let _ = self.reader.read_to_end(&mut rest);
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// Whether the other side has closed, within patience.
    pub(crate) fn is_closed(&mut self) -> bool {
        matches!(self.reader.fill_buf(), Ok(rest) if rest.is_empty())
            || self
                .reader
                .fill_buf()
                .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
    }
}

fn read_head(reader: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
        if line == b"\r\n" {
            return Some(head);
        }
        head.push_str(&String::from_utf8_lossy(&line));
    }
}

pub(crate) fn read_message(reader: &mut impl BufRead) -> Option<Response> {
    let head = read_head(reader)?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse::<u16>().ok());
    let is_response = head.starts_with("HTTP/");
    let (mut body, mut trailers) = (Vec::new(), String::new());
    if field(&head, "transfer-encoding")
        .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
    {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).ok()?;
            let size = usize::from_str_radix(size.trim().split(';').next()?, 16).ok()?;
            if size == 0 {
                trailers = read_head(reader)?;
                break;
            }
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            body.extend_from_slice(&chunk[..size]);
        }
    } else if let Some(length) = field(&head, "content-length") {
        body = vec![0; length.parse().ok()?];
        reader.read_exact(&mut body).ok()?;
    } else if is_response && !matches!(status, Some(100..200 | 204 | 304)) {
        reader.read_to_end(&mut body).ok()?;
    }
    Some(Response {
        head,
        body,
        trailers,
    })
}

/// Waits until a condition holds.
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let limit = std::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(std::time::Instant::now() < limit, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
