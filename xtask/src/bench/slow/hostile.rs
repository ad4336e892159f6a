//! Clients that are slow or stand still.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::super::client;
use super::place::{DEAF_HOST, HASTY_HOST, MUCH_HOST};
use super::{EARLY_ANSWERS, SLOW_HEADS, STALLED_READERS, UNREAD_BODIES};

/// What a stalled reader asks for, and how long the bodies are that nobody reads.
const MUCH: usize = 10 << 20;
/// Between two bytes of a slow head.
pub(super) const BYTE_EVERY: Duration = Duration::from_secs(1);
/// Slow heads are served in so many turns within that time, so that their bytes are spread over it.
const TURNS: usize = 10;
/// Within which those that stand still arrive.
const ARRIVAL: Duration = Duration::from_secs(2);
/// What a stalled reader's kernel takes for it.
const RECEIVE_BUFFER: usize = 64 * 1024;

/// What became of them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    /// Slow heads whose connection was ended by the server; the client came again each time.
    pub(super) heads_cut: usize,
    /// The longest that one of them was open.
    pub(super) longest_head: Duration,
    /// Requests to the backend that answers before it reads, and how many had its answer.
    pub(super) early_asked: usize,
    pub(super) early_passed: usize,
}

/// All of them at work.
#[derive(Debug)]
pub(super) struct Hostile {
    over: Arc<AtomicBool>,
    slow: JoinHandle<(usize, Duration)>,
    early: Vec<JoinHandle<(usize, usize)>>,
    still: Still,
}

/// Those that stand still.
#[derive(Debug)]
pub(super) struct Still {
    over: Arc<AtomicBool>,
    readers: JoinHandle<()>,
    writers: JoinHandle<()>,
}

impl Hostile {
    pub(super) fn start(server: SocketAddr) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let early = (0..EARLY_ANSWERS).map(|_| spawn(&over, server, ask_for_early_answers));
        Self {
            slow: spawn(&over, server, send_slow_heads),
            early: early.collect(),
            still: Still::start(server),
            over,
        }
    }

    /// Ends those that are at work; their connections are closed. The others are left.
    pub(super) fn stop(self) -> (Outcome, Still) {
        self.over.store(true, Ordering::Relaxed);
        let (heads_cut, longest_head) = self.slow.join().unwrap_or((0, Duration::MAX));
        let early = self.early.into_iter();
        let early = early.map(|thread| thread.join().unwrap_or((1, 0)));
        let (early_asked, early_passed) =
            early.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let outcome = Outcome {
            heads_cut,
            longest_head,
            early_asked,
            early_passed,
        };
        (outcome, self.still)
    }
}

impl Still {
    fn start(server: SocketAddr) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        Self {
            readers: spawn(&over, server, read_nothing),
            writers: spawn(&over, server, send_unread_bodies),
            over,
        }
    }

    /// Closes their connections.
    pub(super) fn stop(self) {
        self.over.store(true, Ordering::Relaxed);
        _ = self.readers.join();
        _ = self.writers.join();
    }
}

fn spawn<T: Send + 'static>(
    over: &Arc<AtomicBool>,
    server: SocketAddr,
    act: fn(SocketAddr, &AtomicBool) -> T,
) -> JoinHandle<T> {
    let over = over.clone();
    thread::spawn(move || act(server, &over))
}

fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let stream = client::connect(server, Ipv4Addr::new(127, 0, 0, 2))?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// A head that grows by a byte at a time and never ends.
#[derive(Debug)]
struct SlowHead {
    stream: TcpStream,
    /// When its first byte went.
    since: Instant,
    sent: usize,
}

impl SlowHead {
    fn open(server: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            stream: connect(server)?,
            since: Instant::now(),
            sent: 0,
        })
    }

    /// Sends the next byte. Whether the connection was still open.
    fn advance(&mut self) -> bool {
        let start = b"GET / HTTP/1.1\r\nHost: slow.test\r\nX-Long: ";
        if self.sent == 0 {
            self.since = Instant::now();
        }
        let byte = start.get(self.sent).copied().unwrap_or(b'x');
        self.sent += 1;
        let answered = self.stream.peek(&mut [0]);
        let silent = matches!(answered, Err(error) if error.kind() == ErrorKind::WouldBlock);
        silent && self.stream.write_all(&[byte]).is_ok()
    }
}

/// How many connections were cut, and the longest that one was open.
fn send_slow_heads(server: SocketAddr, over: &AtomicBool) -> (usize, Duration) {
    let (mut cut, mut longest) = (0, Duration::ZERO);
    let mut heads: Vec<Option<SlowHead>> = Vec::new();
    heads.resize_with(SLOW_HEADS, || None);
    'all: loop {
        for turn in heads.chunks_mut(SLOW_HEADS / TURNS) {
            let next = Instant::now() + BYTE_EVERY / TURNS as u32;
            for head in turn {
                let Some(open) = head else {
                    *head = SlowHead::open(server).ok();
                    continue;
                };
                let life = open.since.elapsed();
                if !open.advance() {
                    longest = longest.max(life);
                    cut += 1;
                    *head = SlowHead::open(server).ok();
                }
            }
            if over.load(Ordering::Relaxed) {
                break 'all;
            }
            sleep(next.saturating_duration_since(Instant::now()));
        }
    }
    let open = heads.iter().flatten().map(|head| head.since.elapsed());
    (cut, open.fold(longest, Duration::max))
}

fn read_nothing(server: SocketAddr, over: &AtomicBool) {
    let request = format!("GET /{MUCH} HTTP/1.1\r\nHost: {MUCH_HOST}\r\n\r\n");
    let one = || -> io::Result<TcpStream> {
        let mut stream = connect(server)?;
        SockRef::from(&stream).set_recv_buffer_size(RECEIVE_BUFFER)?;
        stream.write_all(request.as_bytes())?;
        Ok(stream)
    };
    let held = come(STALLED_READERS, one);
    wait(over);
    drop(held);
}

fn send_unread_bodies(server: SocketAddr, over: &AtomicBool) {
    let head = post(DEAF_HOST);
    let one = || -> io::Result<TcpStream> {
        let mut stream = connect(server)?;
        stream.write_all(head.as_bytes())?;
        Ok(stream)
    };
    let held = come(UNREAD_BODIES, one);
    let mut held: Vec<_> = held.into_iter().map(|stream| (stream, MUCH)).collect();
    let piece = [b'b'; 64 * 1024];
    while !over.load(Ordering::Relaxed) {
        for (stream, left) in &mut held {
            // As much as is taken, and not more than was announced.
            while let Some(next) = piece.get(..piece.len().min(*left)) {
                match stream.write(next) {
                    Ok(count @ 1..) => *left = left.saturating_sub(count),
                    _ => break,
                }
            }
        }
        sleep(Duration::from_millis(50));
    }
}

/// Connections that come one after the other; those that fail do not count.
fn come(count: usize, one: impl Fn() -> io::Result<TcpStream>) -> Vec<TcpStream> {
    let connections = (0..count).filter_map(|_| {
        sleep(ARRIVAL / u32::try_from(count).unwrap_or(u32::MAX));
        one().ok()
    });
    connections.collect()
}

/// How many were asked for, and how many came.
fn ask_for_early_answers(server: SocketAddr, over: &AtomicBool) -> (usize, usize) {
    let (mut asked, mut passed) = (0, 0);
    while !over.load(Ordering::Relaxed) {
        asked += 1;
        passed += usize::from(has_early_answer(server).unwrap_or(false));
        sleep(Duration::from_millis(100));
    }
    (asked, passed)
}

fn has_early_answer(server: SocketAddr) -> io::Result<bool> {
    let mut stream = client::connect(server, Ipv4Addr::new(127, 0, 0, 2))?;
    stream.write_all(post(HASTY_HOST).as_bytes())?;
    stream.write_all(&[b'b'; 64 * 1024])?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    Ok(&status == b"HTTP/1.1 200")
}

fn post(host: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {MUCH}\r\n\r\n")
}

fn wait(over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        sleep(Duration::from_millis(50));
    }
}
