//! The access log: one line of JSON for each exchange, on standard output.
//!
//! Workers gather lines and hand them over in blocks; a thread of its own writes them. A reader that is too slow costs
//! lines, which are counted, never requests.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};
use tidegate_model::{NamespacedName, RouteLabels};
use tokio::sync::oneshot;

use crate::downstream::Downstream;
use crate::fault::Fault;
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
    clock: LogClock,
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
    pub(crate) endpoint: Option<&'a str>,
    pub(crate) fault: Option<Fault>,
    pub(crate) status: u16,
    pub(crate) bytes: u64,
    pub(crate) elapsed: Duration,
    pub(crate) complete: bool,
}

/// A line in the order of its fields, without a copy of what it tells.
#[derive(Serialize)]
struct Text<'a> {
    time: &'a str,
    client: &'a str,
    listener: &'static str,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

impl<'a> Text<'a> {
    fn new(line: &Line<'a>, time: &'a str) -> Self {
        Self {
            time,
            client: line.downstream.client(),
            listener: line.downstream.listener.protocol.as_str(),
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

/// A time in RFC 3339 with three digits of a second, such as `2026-11-21T12:34:56.789Z`.
type Stamp = [u8; 24];

/// Writes times; all but the milliseconds is written once a second.
struct LogClock(Cell<(u64, Stamp)>);

impl Default for LogClock {
    fn default() -> Self {
        Self(Cell::new((u64::MAX, *b"0000-00-00T00:00:00.000Z")))
    }
}

impl LogClock {
    fn stamp(&self, time: SystemTime) -> Stamp {
        let since = time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let (second, mut stamp) = self.0.get();
        if second != since.as_secs() {
            stamp = whole_second(since.as_secs()).unwrap_or(stamp);
            self.0.set((since.as_secs(), stamp));
        }
        let mut rest = since.subsec_millis();
        for place in [22, 21, 20] {
            stamp[place] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        stamp
    }
}

/// `None` for a time that has no four digits of a year.
fn whole_second(second: u64) -> Option<Stamp> {
    let time = jiff::Timestamp::from_second(i64::try_from(second).ok()?).ok()?;
    format!("{time:.3}").into_bytes().try_into().ok()
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
            clock: LogClock::default(),
            sender,
            metrics,
        }
    }

    /// Adds a line.
    pub(crate) fn write(&self, line: &Line<'_>) {
        let began = SystemTime::now().checked_sub(line.elapsed);
        let stamp = self.clock.stamp(began.unwrap_or(SystemTime::UNIX_EPOCH));
        let line = Text::new(line, std::str::from_utf8(&stamp).unwrap_or_default());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_the_time_to_the_millisecond() {
        let clock = LogClock::default();
        let at = |millis| {
            let stamp = clock.stamp(SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
            String::from_utf8(stamp.to_vec()).unwrap()
        };
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(1_767_225_599_007), "2025-12-31T23:59:59.007Z");
        assert_eq!(at(1_767_225_599_999), "2025-12-31T23:59:59.999Z");
        assert_eq!(at(1_767_225_600_000), "2026-01-01T00:00:00.000Z");
    }
}
