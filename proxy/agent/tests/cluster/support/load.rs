//! Requests at a steady rate, of which none may fail.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidegate::demo::client;
use tokio::task::JoinSet;

/// Clients, each with a new connection for every request.
const CLIENTS: usize = 8;
/// Between two requests of a client.
const PAUSE: Duration = Duration::from_millis(20);

/// Requests that are being sent.
pub(crate) struct Load {
    ended: Arc<AtomicBool>,
    clients: JoinSet<Seen>,
}

/// What clients saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) answered: usize,
    /// In words, each.
    pub(crate) failed: Vec<String>,
}

impl Load {
    /// Sends requests for a host to these nodes in turn.
    pub(crate) fn start(nodes: &[SocketAddr], host: &str) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let (ended, nodes, host) = (ended.clone(), nodes.to_vec(), host.to_owned());
            clients.spawn(async move {
                let mut seen = Seen::default();
                let mut nodes = nodes.iter().cycle().skip(number);
                while !ended.load(Ordering::Relaxed) {
                    let node = nodes.next().unwrap();
                    match client::get(*node, &host, "/").await {
                        Ok(answer) if answer.status() == 200 => seen.answered += 1,
                        Ok(answer) => seen.failed.push(format!("{node}: {}", answer.status())),
                        Err(error) => seen.failed.push(format!("{node}: {error:#}")),
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                seen
            });
        }
        Self { ended, clients }
    }

    /// Ends it and says what was seen.
    pub(crate) async fn end(self) -> Seen {
        self.ended.store(true, Ordering::Relaxed);
        let all = self.clients.join_all().await;
        all.into_iter().fold(Seen::default(), |mut sum, seen| {
            sum.answered += seen.answered;
            sum.failed.extend(seen.failed);
            sum
        })
    }
}
