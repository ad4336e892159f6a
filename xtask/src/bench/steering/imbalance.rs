//! Connections that are held at once, and the workers that they are at.

use std::net::{Ipv4Addr, TcpStream};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};

use super::super::client;
use super::super::open_loop::{bind_to, two_cpus};
use super::super::testbed::{PLAIN_HOST, Testbed};

/// How long the workers may take to have counted what the clients have done.
const PATIENCE: Duration = Duration::from_secs(5);
const OPEN: &str = "tidegate_worker_connections_open";

/// Opens connections, half of them from each of two CPUs, with one request each, and keeps them until all are there. How
/// many each worker has then.
pub(super) fn hold(testbed: &Testbed, connections: usize) -> Result<Vec<u64>> {
    let cpus = two_cpus()?;
    let count = cpus.len();
    let server = testbed.http();
    let threads = cpus.into_iter().enumerate().map(|(index, cpu)| {
        let share = connections / count + usize::from(index < connections % count);
        thread::spawn(move || -> Result<Vec<TcpStream>> {
            bind_to(cpu)?;
            let source = Ipv4Addr::new(127, 0, 1, u8::try_from(index + 1)?);
            let one = |_| {
                let mut client = client::plain(client::connect(server, source)?);
                let answer = client.get(PLAIN_HOST, "/")?;
                ensure!(answer.status == 200, "an answer was {}", answer.status);
                Ok(client.into_stream())
            };
            (0..share).map(one).collect()
        })
    });
    let mut held = Vec::new();
    for thread in threads.collect::<Vec<_>>() {
        held.extend(thread.join().map_err(|_| anyhow!("a client panicked"))??);
    }
    let counted = wait_for(testbed, connections as u64)?;
    drop(held);
    wait_for(testbed, 0)?;
    Ok(counted)
}

/// Waits until so many connections are open at all workers together.
fn wait_for(testbed: &Testbed, connections: u64) -> Result<Vec<u64>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let open = testbed.metrics()?.by_worker(OPEN);
        if open.iter().sum::<u64>() == connections {
            return Ok(open);
        }
        ensure!(
            Instant::now() < deadline,
            "{connections} connections should be open, and the workers have {open:?}"
        );
        sleep(Duration::from_millis(10));
    }
}
