//! One worker made busy, by the same means in every mode: connections are opened until one worker has enough of them,
//! those of other workers are closed, and then those that are left download without end over TLS.
//!
//! The clients neither decrypt nor copy what they get, so that they cost little beside the worker.

use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::net::RecvFlags;
use rustix::time::Timespec;
use rustls::{ClientConnection, StreamOwned};

use super::super::client::{self, Client};
use super::super::testbed::{TLS_HOST, Testbed};

/// Connections that download.
pub(super) const DOWNLOADERS: usize = 64;
/// Bytes of one download, the most that the backend gives.
const DOWNLOAD: u64 = 16 << 20;
/// Downloads that a connection asks for at once: more than it gets in the longest measurement.
const ASKED: usize = 64;
/// What is taken from a socket at once.
const PIECE: usize = 1 << 20;
/// How many connections may be opened for each one that is needed, before the mode counts as one that never gives any
/// worker enough of them.
const TRIES: usize = 16;
/// How long a worker may take to have counted a request.
const PATIENCE: Duration = Duration::from_secs(5);

type TlsClient = Client<StreamOwned<ClientConnection, TcpStream>>;

/// The downloads under way.
#[derive(Debug)]
pub(super) struct Burden {
    worker: usize,
    over: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64>>,
}

impl Burden {
    pub(super) fn at_one_worker(testbed: &Testbed) -> Result<Self> {
        let (worker, clients) = gather(testbed)?;
        let request = format!("GET /{DOWNLOAD} HTTP/1.1\r\nHost: {TLS_HOST}\r\n\r\n");
        let requests = request.repeat(ASKED);
        let ask = |client: TlsClient| -> Result<TcpStream> {
            let mut stream = client.into_stream();
            stream.write_all(requests.as_bytes())?;
            stream.flush()?;
            Ok(stream.sock)
        };
        let streams: Vec<_> = clients.into_iter().map(ask).collect::<Result<_>>()?;
        let over = Arc::new(AtomicBool::new(false));
        let until = over.clone();
        let thread = thread::spawn(move || discard(&streams, &until));
        Ok(Self {
            worker,
            over,
            thread,
        })
    }

    /// Ends the downloads. Which worker they were at, and how many there were.
    pub(super) fn stop(self) -> Result<(usize, u64)> {
        self.over.store(true, Ordering::Relaxed);
        let bytes = self.thread.join();
        let bytes = bytes.map_err(|_| anyhow!("the heavy clients panicked"))??;
        Ok((self.worker, bytes / DOWNLOAD))
    }
}

/// Opens connections until a worker has enough, and closes those of the others.
fn gather(testbed: &Testbed) -> Result<(usize, Vec<TlsClient>)> {
    let settings = testbed.tls()?;
    let mut counted = requests(testbed)?;
    let mut piles: Vec<Vec<TlsClient>> = counted.iter().map(|_| Vec::new()).collect();
    for _ in 0..DOWNLOADERS * TRIES {
        let stream = client::connect(testbed.https(), Ipv4Addr::new(127, 0, 2, 1))?;
        let mut client = client::tls_for(TLS_HOST, stream, settings.clone())?;
        let answer = client.get(TLS_HOST, "/")?;
        ensure!(answer.status == 200, "an answer was {}", answer.status);
        let worker = next_request(testbed, &mut counted)?;
        let pile = piles.get_mut(worker).context("there is a new worker")?;
        pile.push(client);
        if pile.len() == DOWNLOADERS {
            return Ok((worker, std::mem::take(pile)));
        }
    }
    let sizes: Vec<_> = piles.iter().map(Vec::len).collect();
    anyhow::bail!("no worker got {DOWNLOADERS} connections, but {sizes:?}")
}

fn requests(testbed: &Testbed) -> Result<Vec<u64>> {
    let metrics = testbed.metrics()?;
    Ok(metrics.by_worker("tidegate_worker_requests_total"))
}

/// The worker that has had one request more.
fn next_request(testbed: &Testbed, counted: &mut Vec<u64>) -> Result<usize> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let now = requests(testbed)?;
        let worker = now.iter().zip(&*counted).position(|(now, then)| now > then);
        if let Some(worker) = worker {
            *counted = now;
            return Ok(worker);
        }
        sleep(Duration::from_millis(1));
    }
    anyhow::bail!("no worker has counted a request")
}

/// Takes what comes and throws it away. The number of bytes.
fn discard(streams: &[TcpStream], over: &AtomicBool) -> Result<u64> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    for (index, stream) in streams.iter().enumerate() {
        let name = EventData::new_u64(index as u64);
        epoll::add(&epoll, stream, name, EventFlags::IN)?;
    }
    let wait = Timespec::try_from(Duration::from_millis(50))?;
    let mut events = Vec::with_capacity(streams.len());
    let mut never_written = vec![0; PIECE];
    let mut bytes = 0;
    while !over.load(Ordering::Relaxed) {
        match epoll::wait(
            &epoll,
            rustix::buffer::spare_capacity(&mut events),
            Some(&wait),
        ) {
            Err(rustix::io::Errno::INTR) => {}
            waited => _ = waited?,
        }
        for event in events.drain(..) {
            let epoll::Event { data, .. } = event;
            let Some(stream) = streams.get(usize::try_from(data.u64())?) else {
                continue;
            };
            // The kernel drops the bytes itself (MSG_TRUNC, tcp(7)).
            let flags = RecvFlags::TRUNC | RecvFlags::DONTWAIT;
            match rustix::net::recv(stream, never_written.as_mut_slice(), flags) {
                Err(rustix::io::Errno::AGAIN) => {}
                Ok((_, 0)) => anyhow::bail!("a download ended before its time"),
                Ok((_, count)) => bytes += count as u64,
                Err(error) => return Err(error).context("a download failed"),
            }
        }
    }
    Ok(bytes)
}
