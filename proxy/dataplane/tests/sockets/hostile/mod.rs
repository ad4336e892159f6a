//! Inputs that no honest peer sends: what is refused, and what is left of the rest. `docs/hostile-inputs.md` has a row
//! for each case.

mod basics;
mod bodies;
mod cleaned;
mod misdirected;
mod page;
mod paths;
mod requests;
mod responses;

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use crate::support::*;

/// A request that is always served, behind and after others.
const GOOD: &str = "GET /good HTTP/1.1\r\nHost: good\r\n\r\n";

/// An endpoint that keeps all that reaches it and answers each request with its target.
struct Endpoint {
    backend: Backend,
    arrived: Arc<Mutex<Arrived>>,
}

/// What reached an endpoint.
#[derive(Default)]
struct Arrived {
    /// Of all connections.
    bytes: Vec<u8>,
    /// Those requests that were whole.
    requests: Vec<Response>,
}

/// Bytes from a connection, which are kept.
struct Kept {
    stream: TcpStream,
    arrived: Arc<Mutex<Arrived>>,
}

impl Read for Kept {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.stream.read(buffer)?;
        let mut arrived = self.arrived.lock().unwrap();
        arrived.bytes.extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}

impl Endpoint {
    fn new() -> Self {
        let arrived: Arc<Mutex<Arrived>> = Arc::default();
        let all = arrived.clone();
        let backend = Backend::raw(move |mut stream, _| {
            let mut reader = BufReader::new(Kept {
                stream: stream.try_clone().unwrap(),
                arrived: all.clone(),
            });
            while let Some(request) = read_message(&mut reader) {
                let answer = ok(target(&request));
                all.lock().unwrap().requests.push(request);
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        });
        Self { backend, arrived }
    }

    /// All that came since the last time.
    fn take(&self) -> Arrived {
        std::mem::take(&mut *self.arrived.lock().unwrap())
    }
}

impl Arrived {
    fn targets(&self) -> Vec<&str> {
        self.requests.iter().map(target).collect()
    }

    /// Whether nothing came but the whole requests, which have no coded bodies.
    fn is_nothing_else(&self) -> bool {
        let length = |request: &Response| request.head.len() + "\r\n".len() + request.body.len();
        self.bytes.len() == self.requests.iter().map(length).sum::<usize>()
    }
}

fn target(request: &Response) -> &str {
    request.head.split(' ').nth(1).unwrap_or_default()
}

/// How bytes are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    Whole,
    ByteByByte,
    /// In one write behind a good request.
    Behind,
    /// In one write before a good request.
    Before,
}

/// Longer inputs are not sent byte by byte.
const SHORT: usize = 1000;

impl Sending {
    const ALL: [Self; 4] = [Self::Whole, Self::ByteByByte, Self::Behind, Self::Before];

    /// Sends. That the other side has had enough before the end is no failure here: its answer tells.
    fn send(self, client: &mut Client, input: &[u8]) {
        let good = GOOD.as_bytes();
        let _ = match self {
            Self::ByteByByte if input.len() <= SHORT => input
                .iter()
                .try_for_each(|byte| client.stream.write_all(std::slice::from_ref(byte))),
            Self::Whole | Self::ByteByByte => client.stream.write_all(input),
            Self::Behind => client.stream.write_all(&[good, input].concat()),
            Self::Before => client.stream.write_all(&[input, good].concat()),
        };
    }
}

/// Sends a request that has to be refused: a status with one line that says why, then the end of the connection, which
/// leaves the client the time to read that.
fn send_refused(gate: &Gate, input: &[u8], sending: Sending, status: u16) -> Result<(), String> {
    let mut client = gate.client();
    sending.send(&mut client, input);
    if sending == Sending::Behind {
        let first = client.response();
        same("the answer before", &first.text(), "/good")?;
    }
    read_refusal(&mut client, status)
}

fn read_refusal(client: &mut Client, status: u16) -> Result<(), String> {
    let mut bytes = Vec::new();
    let end = client.reader.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if let Err(error) = end {
        return Err(format!("no orderly end ({error}) after {text:?}"));
    }
    let mut rest = &bytes[..];
    let answer = read_message(&mut rest).ok_or_else(|| format!("no whole answer: {text:?}"))?;
    let line = answer.text();
    let is_refusal = answer.status() == status
        && answer.field("connection").as_deref() == Some("close")
        && line.lines().count() == 1
        && line.ends_with("(Tidegate)\n");
    if is_refusal && rest.is_empty() {
        Ok(())
    } else {
        Err(format!("no refusal with {status}: {text:?}"))
    }
}

/// After any case: the next client is served, and only what was expected reached the endpoint.
fn serves_and_got(gate: &Gate, endpoint: &Endpoint, targets: &[&str]) -> Result<(), String> {
    same("the next answer", &gate.ask(GOOD).text(), "/good")?;
    let arrived = endpoint.take();
    if arrived.targets() == targets && arrived.is_nothing_else() {
        Ok(())
    } else {
        let bytes = String::from_utf8_lossy(&arrived.bytes);
        Err(format!("reached the endpoint: {bytes:?}"))
    }
}

fn same(what: &str, found: &str, wanted: &str) -> Result<(), String> {
    if found == wanted {
        Ok(())
    } else {
        Err(format!("{what}: {found:?} instead of {wanted:?}"))
    }
}

/// Fails with all cases that failed, so that one run shows the whole picture.
fn none_failed(failures: &[String]) {
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
