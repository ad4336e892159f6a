//! WebSockets that are open all the time, with a small message to and fro, and the backend that echoes it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::super::client;
use super::super::testbed::TUNNEL_HOST;

/// Between two messages of a WebSocket. One without an echo until the next is due is late.
const EVERY: Duration = Duration::from_millis(100);
/// How much before its time a WebSocket may seem to end: the clients look once in [`EVERY`], and the process counts its
/// time in coarse ticks.
const SLACK: Duration = Duration::from_millis(300);

/// Key and accept value of the example in RFC 6455, section 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A text of four letters, masked with zeros as a client has to, and as it comes back (RFC 6455, section 5.2).
const MESSAGE: [u8; 10] = [0x81, 0x84, 0, 0, 0, 0, b't', b'i', b'd', b'e'];
const ECHO: [u8; 6] = [0x81, 0x04, b't', b'i', b'd', b'e'];

/// The backend. Its threads end with the connections.
#[derive(Debug)]
pub(super) struct Echo(SocketAddr);

impl Echo {
    pub(super) fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || echo(stream));
            }
        });
        Ok(Self(address))
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.0
    }
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    read_head(&mut stream)?;
    let upgraded = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    );
    stream.write_all(upgraded.as_bytes())?;
    let mut message = MESSAGE;
    loop {
        stream.read_exact(&mut message)?;
        stream.write_all(&ECHO)?;
    }
}

/// Reads no further than the end of a head: what follows is no HTTP any more.
fn read_head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.extend_from_slice(&byte);
    }
    Ok(head)
}

/// What became of the WebSockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) opened: usize,
    /// That could not be opened.
    pub(super) refused: usize,
    /// That were ended with their process when its time was over, as it should be.
    pub(super) in_time: usize,
    /// That were ended before.
    pub(super) early: usize,
    pub(super) echoes: usize,
    /// Echoes that were not there when the next message was due.
    pub(super) late: usize,
}

/// The clients.
#[derive(Debug)]
pub(super) struct Tunnels {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Record>,
}

#[derive(Debug, Default)]
struct Record {
    outcome: Outcome,
    lives: Vec<Life>,
}

/// From when to when a WebSocket was open that was ended by the server.
#[derive(Clone, Copy, Debug)]
struct Life {
    opened: Instant,
    ended: Instant,
}

#[derive(Debug)]
struct Tunnel {
    stream: TcpStream,
    opened: Instant,
    /// Bytes of the echo that are still to come.
    awaited: usize,
}

impl Tunnels {
    /// Opens so many, and opens one again when it has ended.
    pub(super) fn open(server: SocketAddr, count: usize) -> Result<Self> {
        let first = (0..count).map(|_| Tunnel::open(server));
        let mut tunnels: Vec<_> = first
            .map(|tunnel| Ok(Some(tunnel?)))
            .collect::<Result<_>>()?;
        let over = Arc::new(AtomicBool::new(false));
        let until = over.clone();
        let thread = thread::spawn(move || {
            let mut record = Record::default();
            record.outcome.opened = tunnels.len();
            while !until.load(Ordering::Relaxed) {
                for tunnel in &mut tunnels {
                    record.go_on(server, tunnel);
                }
                sleep(EVERY);
            }
            record
        });
        Ok(Self { over, thread })
    }

    /// Closes them. Each should have lived until its process was to end: so long after the first flip that it saw.
    pub(super) fn stop(self, flips: &[Instant], drain: Duration) -> Result<Outcome> {
        self.over.store(true, Ordering::Relaxed);
        let record = self.thread.join();
        let Record { mut outcome, lives } =
            record.map_err(|_| anyhow!("the WebSockets panicked"))?;
        let in_time = |life: &&Life| life.is_in_time(flips, drain);
        outcome.in_time = lives.iter().filter(in_time).count();
        outcome.early = lives.len() - outcome.in_time;
        Ok(outcome)
    }
}

impl Life {
    fn is_in_time(&self, flips: &[Instant], drain: Duration) -> bool {
        let flip = flips.iter().find(|flip| **flip > self.opened);
        flip.is_some_and(|flip| self.ended + SLACK >= *flip + drain)
    }
}

impl Record {
    fn go_on(&mut self, server: SocketAddr, place: &mut Option<Tunnel>) {
        let Some(tunnel) = place else {
            match Tunnel::open(server) {
                Ok(tunnel) => {
                    self.outcome.opened += 1;
                    *place = Some(tunnel);
                }
                Err(_) => self.outcome.refused += 1,
            }
            return;
        };
        match tunnel.exchange() {
            Ok(true) => self.outcome.echoes += 1,
            Ok(false) => self.outcome.late += 1,
            Err(_) => {
                self.lives.push(Life {
                    opened: tunnel.opened,
                    ended: Instant::now(),
                });
                *place = None;
                self.go_on(server, place);
            }
        }
    }
}

impl Tunnel {
    fn open(server: SocketAddr) -> Result<Self> {
        let mut stream = client::connect(server, Ipv4Addr::new(127, 0, 3, 1))?;
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {TUNNEL_HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let head = read_head(&mut stream)?;
        anyhow::ensure!(
            head.starts_with(b"HTTP/1.1 101"),
            "a WebSocket was not opened: {}",
            String::from_utf8_lossy(&head)
        );
        stream.set_nonblocking(true)?;
        stream.write_all(&MESSAGE)?;
        Ok(Self {
            stream,
            opened: Instant::now(),
            awaited: ECHO.len(),
        })
    }

    /// Takes the echo, and sends the next message if it was there. Whether it was.
    fn exchange(&mut self) -> io::Result<bool> {
        let mut bytes = ECHO;
        while let Some(rest) = bytes
            .get_mut(..self.awaited)
            .filter(|rest| !rest.is_empty())
        {
            match self.stream.read(rest) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.awaited -= count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.stream.write_all(&MESSAGE)?;
        self.awaited = ECHO.len();
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back() {
        let echo = Echo::start().unwrap();
        let tunnels = Tunnels::open(echo.address(), 2).unwrap();
        sleep(4 * EVERY);
        let outcome = tunnels.stop(&[], Duration::ZERO).unwrap();
        let (opened, early) = (outcome.opened, outcome.early);
        assert_eq!((opened, early), (2, 0), "{outcome:?}");
        assert!(outcome.echoes >= 4, "{outcome:?}");
    }

    #[test]
    fn a_websocket_may_end_when_its_process_must() {
        let opened = Instant::now();
        let second = Duration::from_secs(1);
        let flips = [opened + second, opened + 9 * second];
        let ended_after = |time| {
            let ended = opened + time;
            Life { opened, ended }.is_in_time(&flips, second)
        };
        assert!(ended_after(2 * second));
        assert!(!ended_after(second), "with the flip");
        assert!(
            !Life {
                opened,
                ended: opened + second
            }
            .is_in_time(&[], second)
        );
    }
}
