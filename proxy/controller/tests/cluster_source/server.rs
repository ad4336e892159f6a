//! An API server of our own: lists and watches what it is given, and misbehaves as it is told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How streaming lists are met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Streaming {
    Supported,
    /// 422, as servers with the feature switched off answer.
    Refused,
    /// As servers that know nothing of it.
    Ignored,
}

/// What happens to one request instead of an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Status(u16),
    /// The request is read and never answered.
    Hang,
    /// A watch begins and says nothing.
    Silence,
    /// A watch begins with an ERROR event of this code.
    ErrorEvent(u16),
    /// A watch says something that is no JSON.
    Garbage,
    /// A watch breaks off in the middle of an object.
    Cut,
    /// A watch ends as soon as it has begun.
    End,
    /// The answer is made at once and sent after this time.
    Late(Duration),
}

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// `list`, `watch`, `stream` (a watch that begins with everything) or `get`.
    pub(crate) verb: &'static str,
    pub(crate) resource: String,
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) token: String,
    pub(crate) agent: String,
    pub(crate) accept: String,
}

struct Event {
    version: u64,
    resource: String,
    sort: &'static str,
    object: Value,
}

struct State {
    /// By resource, then by namespace and name.
    objects: BTreeMap<String, BTreeMap<(String, String), Value>>,
    log: Vec<Event>,
    version: u64,
    /// Watches from before it are gone.
    oldest: u64,
    streaming: Streaming,
    /// By verb and resource; `*` for every resource.
    faults: BTreeMap<(String, String), VecDeque<Fault>>,
    /// Answers of this code to every request for a resource.
    denied: BTreeMap<String, u16>,
    seen: Vec<Seen>,
    token: Option<String>,
}

/// The server. Stops when it is dropped.
pub(crate) struct Server {
    state: Arc<Mutex<State>>,
    /// Changes with every event.
    version: Arc<watch::Sender<u64>>,
    /// Changes when connections are to break.
    epoch: Arc<watch::Sender<u64>>,
    address: std::net::SocketAddr,
    tasks: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut server = Self {
            state: Arc::new(Mutex::new(State {
                objects: BTreeMap::new(),
                log: Vec::new(),
                version: 100,
                oldest: 0,
                streaming: Streaming::Supported,
                faults: BTreeMap::new(),
                denied: BTreeMap::new(),
                seen: Vec::new(),
                token: None,
            })),
            version: Arc::new(watch::Sender::new(100)),
            epoch: Arc::new(watch::Sender::new(0)),
            address: listener.local_addr().unwrap(),
            tasks: JoinSet::new(),
        };
        server.listen(listener);
        server
    }

    fn listen(&mut self, listener: TcpListener) {
        let (state, version, epoch) =
            (self.state.clone(), self.version.clone(), self.epoch.clone());
        self.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (state, version) = (state.clone(), version.subscribe());
                let mut epoch = epoch.subscribe();
                connections.spawn(async move {
                    tokio::select! {
                        _ = epoch.changed() => {}
                        _ = serve(stream, state, version) => {}
                    }
                });
            }
        });
    }

    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.address
    }

    /// Refuses connections until [`Self::up`].
    pub(crate) async fn down(&mut self) {
        self.tasks.shutdown().await;
    }

    pub(crate) async fn up(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.listen(listener);
    }

    /// Breaks every connection.
    pub(crate) fn break_connections(&self) {
        self.epoch.send_modify(|epoch| *epoch += 1);
    }

    pub(crate) fn set_streaming(&self, streaming: Streaming) {
        self.state.lock().unwrap().streaming = streaming;
    }

    /// Does this to the next request of a verb (`list`, `watch`, `stream`, `get`) for a resource.
    pub(crate) fn fault(&self, verb: &str, resource: &str, fault: Fault) {
        let key = (verb.to_owned(), resource.to_owned());
        let mut state = self.state.lock().unwrap();
        state.faults.entry(key).or_default().push_back(fault);
    }

    /// Answers every request for a resource so, until it is allowed.
    pub(crate) fn deny(&self, resource: &str, code: u16) {
        let mut state = self.state.lock().unwrap();
        state.denied.insert(resource.to_owned(), code);
    }

    pub(crate) fn allow(&self, resource: &str) {
        self.state.lock().unwrap().denied.remove(resource);
    }

    /// Accepts this bearer token only.
    pub(crate) fn require_token(&self, token: &str) {
        self.state.lock().unwrap().token = Some(token.to_owned());
    }

    /// Forgets the history, so that watches from before are gone.
    pub(crate) fn compact(&self) {
        let mut state = self.state.lock().unwrap();
        state.version += 1;
        state.oldest = state.version;
        state.log.clear();
    }

    /// Begins again with other objects and lower versions, as after a backup was restored.
    pub(crate) fn restore(&self) {
        let mut state = self.state.lock().unwrap();
        state.objects.clear();
        state.log.clear();
        state.version = 10;
        drop(state);
        self.version.send_replace(10);
    }

    pub(crate) fn put(&self, resource: &str, object: Value) {
        let mut state = self.state.lock().unwrap();
        state.version += 1;
        let version = state.version;
        let (key, object) = versioned(object, version);
        let objects = state.objects.entry(resource.to_owned()).or_default();
        let before = objects.insert(key, object.clone());
        let sort = if before.is_some() {
            "MODIFIED"
        } else {
            "ADDED"
        };
        state.record(resource, sort, object);
        drop(state);
        self.version.send_replace(version);
    }

    pub(crate) fn delete(&self, resource: &str, namespace: &str, name: &str) {
        let mut state = self.state.lock().unwrap();
        state.version += 1;
        let version = state.version;
        let key = (namespace.to_owned(), name.to_owned());
        let objects = state.objects.entry(resource.to_owned()).or_default();
        let object = objects.remove(&key).expect("it is there");
        let (_, object) = versioned(object, version);
        state.record(resource, "DELETED", object);
        drop(state);
        self.version.send_replace(version);
    }

    /// Deletes without a word, as while nobody watched.
    pub(crate) fn forget(&self, resource: &str, namespace: &str, name: &str) {
        let mut state = self.state.lock().unwrap();
        let key = (namespace.to_owned(), name.to_owned());
        let objects = state.objects.entry(resource.to_owned()).or_default();
        objects.remove(&key).expect("it is there");
    }

    /// A bookmark for every watch.
    pub(crate) fn bookmark(&self) {
        let mut state = self.state.lock().unwrap();
        state.version += 1;
        let version = state.version;
        let event = Event {
            version,
            resource: "*".to_owned(),
            sort: "BOOKMARK",
            object: json!({"kind": "Bookmark", "apiVersion": "v1", "metadata": {"resourceVersion": version.to_string()}}),
        };
        state.log.push(event);
        drop(state);
        self.version.send_replace(version);
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    /// How many requests of a verb came for a resource.
    pub(crate) fn count(&self, verb: &str, resource: &str) -> usize {
        let state = self.state.lock().unwrap();
        let wanted = |seen: &&Seen| seen.verb == verb && seen.resource == resource;
        state.seen.iter().filter(wanted).count()
    }
}

impl State {
    fn record(&mut self, resource: &str, sort: &'static str, object: Value) {
        let (version, resource) = (self.version, resource.to_owned());
        self.log.push(Event {
            version,
            resource,
            sort,
            object,
        });
    }

    fn fault_for(&mut self, seen: &Seen) -> Option<Fault> {
        if self
            .token
            .as_ref()
            .is_some_and(|token| *token != seen.token)
        {
            return Some(Fault::Status(401));
        }
        if let Some(code) = self.denied.get(&seen.resource) {
            return Some(Fault::Status(*code));
        }
        [seen.resource.as_str(), "*"]
            .into_iter()
            .find_map(|resource| {
                let key = (seen.verb.to_owned(), resource.to_owned());
                self.faults.get_mut(&key)?.pop_front()
            })
    }
}

fn versioned(mut object: Value, version: u64) -> ((String, String), Value) {
    let metadata = &mut object["metadata"];
    metadata["resourceVersion"] = json!(version.to_string());
    if metadata["uid"].is_null() {
        metadata["uid"] = json!(format!("uid-{version}"));
    }
    let text = |key: &str| metadata[key].as_str().unwrap_or_default().to_owned();
    ((text("namespace"), text("name")), object)
}

async fn serve(
    mut stream: TcpStream,
    state: Arc<Mutex<State>>,
    version: watch::Receiver<u64>,
) -> std::io::Result<()> {
    let Some(seen) = read_request(&mut stream).await? else {
        return Ok(());
    };
    let fault = {
        let mut state = state.lock().unwrap();
        state.seen.push(seen.clone());
        state.fault_for(&seen)
    };
    match fault {
        Some(Fault::Status(code)) => return answer(&mut stream, code, &status(code)).await,
        Some(Fault::Hang) => return std::future::pending().await,
        _ => {}
    }
    let streaming = state.lock().unwrap().streaming;
    let late = match fault {
        Some(Fault::Late(time)) => time,
        _ => Duration::ZERO,
    };
    match seen.verb {
        "list" => {
            let list = list(&state.lock().unwrap(), &seen);
            tokio::time::sleep(late).await;
            answer(&mut stream, 200, &list).await
        }
        "get" => {
            let object = get(&state.lock().unwrap(), &seen);
            tokio::time::sleep(late).await;
            match object {
                Some(object) => answer(&mut stream, 200, &object).await,
                None => answer(&mut stream, 404, &status(404)).await,
            }
        }
        "stream" if streaming == Streaming::Refused => answer(&mut stream, 422, &status(422)).await,
        _ => follow(&mut stream, &state, version, &seen, fault).await,
    }
}

async fn follow(
    stream: &mut TcpStream,
    state: &Mutex<State>,
    mut changed: watch::Receiver<u64>,
    seen: &Seen,
    fault: Option<Fault>,
) -> std::io::Result<()> {
    let (initial, mut from) = {
        let state = state.lock().unwrap();
        let asked: Option<u64> = seen
            .query
            .get("resourceVersion")
            .and_then(|v| v.parse().ok());
        let from = asked.unwrap_or(state.version);
        let streams = seen.verb == "stream" && state.streaming == Streaming::Supported;
        let initial = streams.then(|| {
            let mut events: Vec<_> = matching(&state, seen).iter().map(|o| event("ADDED", o)).collect();
            let end = json!({"kind": "Bookmark", "apiVersion": "v1", "metadata": {
                "resourceVersion": state.version.to_string(), "annotations": {"k8s.io/initial-events-end": "true"},
            }});
            events.push(event("BOOKMARK", &end));
            events
        });
        (initial, from)
    };
    let gone = from < state.lock().unwrap().oldest;
    if gone && seen.verb == "watch" {
        return answer(stream, 410, &status(410)).await;
    }
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    match fault {
        Some(Fault::Silence) => return std::future::pending().await,
        Some(Fault::ErrorEvent(code)) => {
            chunk(stream, &event("ERROR", &status(code))).await?;
        }
        Some(Fault::Garbage) => chunk(stream, "\u{1}\u{2}<html>\n").await?,
        Some(Fault::End) => return stream.write_all(b"0\r\n\r\n").await,
        Some(Fault::Cut) => {
            let text = event("ADDED", &json!({"metadata": {"name": "half"}}));
            return chunk(stream, &text[..text.len() / 2]).await;
        }
        _ => {}
    }
    for event in initial.into_iter().flatten() {
        chunk(stream, &event).await?;
    }
    loop {
        let (events, until) = {
            let state = state.lock().unwrap();
            let new = state.log.iter().filter(|event| event.version > from);
            let ours = new.filter(|event| {
                event.resource == "*"
                    || (event.resource == seen.resource && matches(&event.object, seen))
            });
            let events: Vec<_> = ours
                .map(|e| self::event(e.sort, &shaped(&e.object, seen)))
                .collect();
            (events, state.version)
        };
        for event in events {
            chunk(stream, &event).await?;
        }
        from = from.max(until);
        if changed.changed().await.is_err() {
            return Ok(());
        }
    }
}

fn event(sort: &str, object: &Value) -> String {
    // The sort comes first, as the API server writes it.
    format!("{{\"type\":\"{sort}\",\"object\":{object}}}\n")
}

async fn chunk(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    let chunk = format!("{:x}\r\n{text}\r\n", text.len());
    stream.write_all(chunk.as_bytes()).await
}

async fn answer(stream: &mut TcpStream, code: u16, body: &Value) -> std::io::Result<()> {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {code} Answer\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

fn status(code: u16) -> Value {
    let message = match code {
        422 => {
            "ListOptions is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden"
        }
        410 => "too old resource version",
        403 => "User \"x\" cannot do that",
        401 => "Unauthorized",
        404 => "not found",
        _ => "an error of the server",
    };
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": "Made", "code": code})
}

/// The objects that a request is about.
fn matching(state: &State, seen: &Seen) -> Vec<Value> {
    let objects = state.objects.get(&seen.resource);
    let all = objects.into_iter().flatten().map(|(_, object)| object);
    all.filter(|object| matches(object, seen))
        .map(|object| shaped(object, seen))
        .collect()
}

fn matches(object: &Value, seen: &Seen) -> bool {
    let metadata = &object["metadata"];
    let namespace = seen
        .path
        .split("/namespaces/")
        .nth(1)
        .and_then(|rest| rest.split('/').next());
    let labels = seen
        .query
        .get("labelSelector")
        .map(String::as_str)
        .unwrap_or_default();
    let labels = labels.split(',').filter_map(|pair| pair.split_once('='));
    let fields = seen
        .query
        .get("fieldSelector")
        .map(String::as_str)
        .unwrap_or_default();
    let field = |(key, value): (&str, &str)| match key {
        "metadata.name" => metadata["name"] == value,
        "type" => object["type"] == value,
        _ => true,
    };
    namespace.is_none_or(|namespace| metadata["namespace"] == namespace)
        && labels
            .into_iter()
            .all(|(key, value)| metadata["labels"][key] == value)
        && fields
            .split(',')
            .filter_map(|pair| pair.split_once('='))
            .all(field)
}

/// Whole, or only the metadata where that was asked for.
fn shaped(object: &Value, seen: &Seen) -> Value {
    if seen.accept.contains("PartialObjectMetadata") {
        json!({"kind": "PartialObjectMetadata", "metadata": object["metadata"]})
    } else {
        object.clone()
    }
}

fn list(state: &State, seen: &Seen) -> Value {
    let mut items = matching(state, seen);
    let from: usize = seen
        .query
        .get("continue")
        .and_then(|v| v.parse().ok())
        .unwrap_or(0);
    let limit: usize = seen
        .query
        .get("limit")
        .and_then(|v| v.parse().ok())
        .unwrap_or(usize::MAX);
    let mut metadata = json!({"resourceVersion": state.version.to_string()});
    items.drain(..from.min(items.len()));
    if items.len() > limit {
        items.truncate(limit);
        metadata["continue"] = json!((from + limit).to_string());
    }
    json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items})
}

fn get(state: &State, seen: &Seen) -> Option<Value> {
    let rest = seen.path.split("/namespaces/").nth(1)?;
    let mut parts = rest.split('/');
    let (namespace, resource, name) = (parts.next()?, parts.next()?, parts.next()?);
    let key = (namespace.to_owned(), name.to_owned());
    state.objects.get(resource)?.get(&key).cloned()
}

async fn read_request(stream: &mut TcpStream) -> std::io::Result<Option<Seen>> {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => text.push(byte),
            Err(_) => return Ok(None),
        }
    }
    let text = String::from_utf8(text).expect("a request is text");
    let target = text.split(' ').nth(1).expect("a request has a target");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let header = |name: &str| {
        let line = text
            .lines()
            .find(|line| line.to_ascii_lowercase().starts_with(name));
        let value = line.and_then(|line| line.split_once(": "));
        value.map(|(_, value)| value.to_owned()).unwrap_or_default()
    };
    let query: BTreeMap<_, _> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), decode(value)))
        .collect();
    let mut parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    let base = if parts.first() == Some(&"api") { 2 } else { 3 };
    parts.drain(..base);
    if parts.first() == Some(&"namespaces") && parts.len() > 1 {
        parts.drain(..2);
    }
    let verb = match (
        parts.len(),
        query.contains_key("watch"),
        query.contains_key("sendInitialEvents"),
    ) {
        (2, _, _) => "get",
        (_, true, true) => "stream",
        (_, true, false) => "watch",
        _ => "list",
    };
    Ok(Some(Seen {
        verb,
        resource: parts.first().copied().unwrap_or_default().to_owned(),
        path: path.to_owned(),
        query,
        token: header("authorization:")
            .trim_start_matches("Bearer ")
            .to_owned(),
        agent: header("user-agent:"),
        accept: header("accept:"),
    }))
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                let digits = std::str::from_utf8(&digits).unwrap();
                bytes.push(u8::from_str_radix(digits, 16).unwrap());
            }
            b'+' => bytes.push(b' '),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// Waits until something is so; fails by name when it never is.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never came true within 10 s: {what}");
}
