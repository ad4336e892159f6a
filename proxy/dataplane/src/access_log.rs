//! The access log: one line of JSON for each exchange, on standard output.
//!
//! Workers gather lines and hand them over in blocks; a thread of its own writes them. A reader that is too slow costs
//! lines, which are counted, never requests.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use serde::Serialize;
use tidegate_model::RouteLabels;
use tokio::sync::oneshot;

use crate::downstream::Downstream;
use crate::fault::Fault;
use crate::head::{Fields, RequestHead, Value, name};
use crate::metrics::WorkerMetrics;

/// What to log of each request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLog {
    /// Nothing.
    #[default]
    Off,
    /// A line of JSON on standard output.
    Json,
}

/// Bytes that a worker gathers before it hands them over; a tick hands over whatever there is.
const BLOCK: usize = 32 * 1024;
/// Blocks that may wait for the writer.
const QUEUE: usize = 256;

/// Starts the writer. It ends when every worker has dropped its sender and all is written, which drops the other end of
/// what is returned.
pub(crate) fn start(
    mut output: impl Write + Send + 'static,
) -> std::io::Result<(SyncSender<Vec<u8>>, oneshot::Receiver<()>)> {
    let (sender, blocks) = sync_channel::<Vec<u8>>(QUEUE);
    let (writing, written) = oneshot::channel::<()>();
    std::thread::Builder::new()
        .name("access-log".to_owned())
        .spawn(move || {
            let _writing = writing;
            for block in blocks {
                if let Err(error) = output.write_all(&block).and_then(|()| output.flush()) {
                    tracing::warn!(%error, "cannot write the access log");
                }
            }
        })?;
    Ok((sender, written))
}

/// A worker's end of the log.
pub(crate) struct LogWriter {
    gathered: RefCell<Block>,
    sender: SyncSender<Vec<u8>>,
    metrics: Arc<WorkerMetrics>,
}

#[derive(Default)]
struct Block {
    bytes: Vec<u8>,
    lines: u64,
}

/// What is known of an exchange at its start, kept for its line.
pub(crate) struct Record {
    downstream: Rc<Downstream>,
    method: String,
    host: String,
    target: String,
    version: &'static str,
    user_agent: Option<Value>,
    time: jiff::Timestamp,
    pub(crate) route: Option<Arc<RouteLabels>>,
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) fault: Option<Fault>,
}

impl Record {
    pub(crate) fn new(downstream: &Rc<Downstream>, head: &RequestHead) -> Self {
        let host = head
            .first(&name::HOST)
            .map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
        Self {
            downstream: downstream.clone(),
            method: head.method().to_owned(),
            host: host
                .or_else(|| head.authority().map(str::to_owned))
                .unwrap_or_default(),
            target: head.path_and_query().to_owned(),
            version: head.version().as_str(),
            user_agent: head.first(&name::USER_AGENT).cloned(),
            time: jiff::Timestamp::now(),
            route: None,
            endpoint: None,
            fault: None,
        }
    }
}

/// A line of the log; docs/operations.md describes the fields.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    client: SocketAddr,
    listener: String,
    method: &'a str,
    host: &'a str,
    target: &'a str,
    protocol: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<Cow<'a, str>>,
    status: u16,
    bytes: u64,
    seconds: f64,
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ingress: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

impl LogWriter {
    pub(crate) fn new(sender: SyncSender<Vec<u8>>, metrics: Arc<WorkerMetrics>) -> Self {
        Self {
            gathered: RefCell::default(),
            sender,
            metrics,
        }
    }

    /// Adds a line.
    pub(crate) fn write(
        &self,
        record: &Record,
        status: u16,
        bytes: u64,
        elapsed: Duration,
        complete: bool,
    ) {
        let line = Line {
            time: format!("{:.3}", record.time),
            client: record.downstream.peer,
            listener: record.downstream.listener.protocol.to_string(),
            method: &record.method,
            host: &record.host,
            target: &record.target,
            protocol: record.version,
            user_agent: record
                .user_agent
                .as_ref()
                .map(|agent| String::from_utf8_lossy(agent.as_bytes())),
            status,
            bytes,
            seconds: elapsed.as_secs_f64(),
            complete,
            ingress: record
                .route
                .as_ref()
                .and_then(|route| Some(route.ingress.as_ref()?.to_string())),
            service: record.route.as_ref().map(|route| route.service.as_str()),
            endpoint: record.endpoint,
            reason: record.fault.map(Fault::reason),
        };
        let full = {
            let mut gathered = self.gathered.borrow_mut();
            if serde_json::to_writer(&mut gathered.bytes, &line).is_ok() {
                gathered.bytes.push(b'\n');
                gathered.lines += 1;
            }
            gathered.bytes.len() >= BLOCK
        };
        if full {
            self.flush();
        }
    }

    /// Hands over what was gathered.
    pub(crate) fn flush(&self) {
        let Block { bytes, lines } = std::mem::take(&mut *self.gathered.borrow_mut());
        if lines == 0 {
            return;
        }
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.sender.try_send(bytes)
        {
            self.metrics.log_lines_dropped.add(lines);
        }
    }
}
