//! One worker made busy, by the same means in every mode: connections are opened until one worker has enough of them,
//! those of other workers are closed, and then those that are left ask without end for a host that is not served.
//!
//! Tidegate answers that by itself, so that the worker computes and hardly anything else does: the clients send one prepared
//! text again and again, and have the kernel drop what they get.

use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::net::RecvFlags;
use rustix::time::Timespec;

use super::super::client::{self, Client};
use super::super::testbed::{Metrics, Testbed};

/// Connections that ask without end.
pub(super) const HEAVY: usize = 16;
/// The host that they ask for, which has no route.
const NOWHERE: &str = "nowhere.test";
/// Requests that are sent at once.
const BATCH: usize = 512;
/// What is taken from a socket at once.
const PIECE: usize = 1 << 20;
/// How many connections may be opened for each one that is needed, before the mode counts as one that never gives any
/// worker enough of them.
const TRIES: usize = 16;
/// How long a worker may take to have counted a request.
const PATIENCE: Duration = Duration::from_secs(5);

/// The heavy clients at work.
#[derive(Debug)]
pub(super) struct Burden {
    worker: usize,
    /// As they were before the clients began.
    pub(super) before: Metrics,
    over: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Burden {
    pub(super) fn at_one_worker(testbed: &Testbed) -> Result<Self> {
        let (worker, clients) = gather(testbed)?;
        let before = testbed.metrics()?;
        let streams = clients.into_iter().map(Client::into_stream).collect();
        let over = Arc::new(AtomicBool::new(false));
        let until = over.clone();
        let thread = thread::spawn(move || ask(streams, &until));
        Ok(Self {
            worker,
            before,
            over,
            thread,
        })
    }

    /// Ends them, and tells which worker they were at.
    pub(super) fn stop(self) -> Result<usize> {
        self.over.store(true, Ordering::Relaxed);
        let ended = self.thread.join();
        ended.map_err(|_| anyhow!("the heavy clients panicked"))??;
        Ok(self.worker)
    }
}

/// Requests of heavy clients that were answered so far.
pub(super) fn answered(metrics: &Metrics) -> u64 {
    metrics.sum("tidegate_requests_total{", "code=\"404\"")
}

/// Opens connections until a worker has enough, and closes those of the others.
fn gather(testbed: &Testbed) -> Result<(usize, Vec<Client<TcpStream>>)> {
    let mut counted = requests(testbed)?;
    let mut piles: Vec<Vec<_>> = counted.iter().map(|_| Vec::new()).collect();
    for _ in 0..HEAVY * TRIES {
        let stream = client::connect(testbed.http(), Ipv4Addr::new(127, 0, 2, 1))?;
        let mut client = client::plain(stream);
        let answer = client.get(NOWHERE, "/")?;
        ensure!(answer.status == 404, "an answer was {}", answer.status);
        let worker = next_request(testbed, &mut counted)?;
        let pile = piles.get_mut(worker).context("there is a new worker")?;
        pile.push(client);
        if pile.len() == HEAVY {
            return Ok((worker, std::mem::take(pile)));
        }
    }
    let sizes: Vec<_> = piles.iter().map(Vec::len).collect();
    anyhow::bail!("no worker got {HEAVY} connections, but {sizes:?}")
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

/// Asks on every connection for as long as it takes more, and throws the answers away.
fn ask(mut streams: Vec<TcpStream>, over: &AtomicBool) -> Result<()> {
    let batch = format!("GET / HTTP/1.1\r\nHost: {NOWHERE}\r\n\r\n").repeat(BATCH);
    let mut sent = vec![0; streams.len()];
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    for (index, stream) in streams.iter().enumerate() {
        stream.set_nonblocking(true)?;
        let name = EventData::new_u64(index as u64);
        epoll::add(&epoll, stream, name, EventFlags::IN)?;
    }
    for (stream, sent) in streams.iter_mut().zip(&mut sent) {
        send(stream, batch.as_bytes(), sent)?;
    }
    let wait = Timespec::try_from(Duration::from_millis(50))?;
    let mut events = Vec::with_capacity(streams.len());
    let mut never_written = vec![0; PIECE];
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
            let index = usize::try_from(data.u64())?;
            let (Some(stream), Some(sent)) = (streams.get_mut(index), sent.get_mut(index)) else {
                continue;
            };
            // The kernel drops the bytes itself (MSG_TRUNC, tcp(7)).
            let flags = RecvFlags::TRUNC | RecvFlags::DONTWAIT;
            match rustix::net::recv(&*stream, never_written.as_mut_slice(), flags) {
                Err(rustix::io::Errno::AGAIN) => {}
                Ok((_, 0)) => anyhow::bail!("a heavy client's connection was closed"),
                Ok(_) => send(stream, batch.as_bytes(), sent)?,
                Err(error) => return Err(error).context("a heavy client's connection failed"),
            }
        }
    }
    Ok(())
}

/// Sends the batch from where it was left, again and again, until the connection takes no more.
fn send(stream: &mut TcpStream, batch: &[u8], sent: &mut usize) -> Result<()> {
    loop {
        match stream.write(batch.get(*sent..).unwrap_or_default()) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("a heavy client's connection failed"),
            Ok(count) => *sent = (*sent + count) % batch.len(),
        }
    }
}
