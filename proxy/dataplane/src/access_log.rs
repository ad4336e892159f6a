//! The access log: one line of JSON for each exchange, on standard output.
//!
//! Workers gather lines and hand them over in blocks; a thread of its own writes them. A reader that is too slow costs
//! lines, which are counted, never requests.

use std::cell::RefCell;
use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};
use tidegate_model::{NamespacedName, RouteLabels};
use tokio::sync::oneshot;

use crate::downstream::Downstream;
use crate::fault::Fault;
use crate::listen::ListenerProtocol;
use crate::message::{Name, RequestHead};
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

/// An exchange that is over, as its line tells it; docs/operations.md describes the fields.
pub(crate) struct Line<'a> {
    pub(crate) downstream: &'a Downstream,
    pub(crate) head: &'a RequestHead,
    pub(crate) route: Option<&'a RouteLabels>,
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) fault: Option<Fault>,
    pub(crate) status: u16,
    pub(crate) bytes: u64,
    pub(crate) elapsed: Duration,
    pub(crate) complete: bool,
}

/// A line in the order of its fields, without a copy of what it tells.
#[derive(Serialize)]
struct Text<'a> {
    #[serde(serialize_with = "display")]
    time: Milliseconds,
    #[serde(serialize_with = "display")]
    client: SocketAddr,
    #[serde(serialize_with = "display")]
    listener: ListenerProtocol,
    method: &'a str,
    host: &'a str,
    target: &'a str,
    protocol: &'static str,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "lossy")]
    user_agent: Option<&'a [u8]>,
    status: u16,
    bytes: u64,
    seconds: f64,
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "displayed")]
    ingress: Option<&'a NamespacedName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "displayed")]
    endpoint: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

impl<'a> From<&Line<'a>> for Text<'a> {
    fn from(line: &Line<'a>) -> Self {
        let began = SystemTime::now().checked_sub(line.elapsed);
        Self {
            time: Milliseconds(began.unwrap_or(SystemTime::UNIX_EPOCH)),
            client: line.downstream.peer,
            listener: line.downstream.listener.protocol,
            method: line.head.method(),
            host: line.head.authority().unwrap_or_default(),
            target: line.head.received_target(),
            protocol: line.head.version().as_str(),
            user_agent: line.head.fields().first(Name::UserAgent),
            status: line.status,
            bytes: line.bytes,
            seconds: line.elapsed.as_secs_f64(),
            complete: line.complete,
            ingress: line.route.and_then(|route| route.ingress.as_ref()),
            service: line.route.map(|route| route.service.as_str()),
            endpoint: line.endpoint,
            reason: line.fault.map(Fault::reason),
        }
    }
}

/// A time in RFC 3339 with three digits of a second.
struct Milliseconds(SystemTime);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::try_from(self.0) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => Ok(()),
        }
    }
}

fn display<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn displayed<S: Serializer>(
    value: &Option<impl fmt::Display>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

fn lossy<S: Serializer>(value: &Option<&[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(value.unwrap_or_default()))
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
    pub(crate) fn write(&self, line: &Line<'_>) {
        let line = Text::from(line);
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
