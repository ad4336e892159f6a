//! The owner of an instance's name: answers newcomers, one at a time, and watches the one that took over.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use super::channel::Channel;
use super::{Message, Ownership};
use crate::cache::Cache;

/// Time for a newcomer's first word.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for the cache to put a snapshot into memory.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(2);

/// How an owner stands to a process that takes over from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// There is none, or it has died: the ports are this process's.
    Alone,
    /// It prepares.
    Preparing,
    /// It has the ports.
    Retired {
        /// Whether a program keeps new connections from this process's sockets.
        steered: bool,
    },
    /// It has the ports for good.
    Released,
}

/// Owns the name until it is dropped, or released by a successor.
#[derive(Debug)]
pub(crate) struct Owner {
    task: JoinHandle<()>,
    standing: watch::Receiver<Standing>,
}

impl Owner {
    /// Answers at the instance's socket; newcomers get their first snapshot from the cache, if there is one.
    pub(crate) fn start(name: UnixListener, ownership: Ownership, cache: Option<Cache>) -> Self {
        let (to, standing) = watch::channel(Standing::Alone);
        let answering = Answering {
            name,
            ownership: Ownership {
                exports: cache.is_some(),
                ..ownership
            },
            standing: to,
            cache,
        };
        Self {
            task: tokio::spawn(answering.run()),
            standing,
        }
    }

    /// How it stands now.
    pub(crate) fn standing(&self) -> Standing {
        *self.standing.borrow()
    }

    /// Waits for a change. Never comes back when there can be none.
    pub(crate) async fn changed(&mut self) -> Standing {
        if self.standing.changed().await.is_err() {
            return std::future::pending().await;
        }
        *self.standing.borrow_and_update()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Answering {
    name: UnixListener,
    ownership: Ownership,
    standing: watch::Sender<Standing>,
    cache: Option<Cache>,
}

/// How a newcomer's visit ended.
#[derive(Debug, PartialEq, Eq)]
enum Visit {
    /// It went away, before or after it had the ports.
    Ended,
    /// It keeps them.
    Released,
}

impl Answering {
    async fn run(self) {
        loop {
            let visit = match self.name.accept().await {
                Ok((stream, _)) => self.visit(Channel::new(stream)).await,
                Err(error) => Err(error),
            };
            match visit {
                Ok(Visit::Ended) => {}
                Ok(Visit::Released) => {
                    self.standing.send_replace(Standing::Released);
                    return;
                }
                Err(error) => {
                    debug!("hand-over: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            // Told even if the newcomer died with the ports half taken.
            if *self.standing.borrow() != Standing::Alone {
                self.standing.send_replace(Standing::Alone);
            }
        }
    }

    async fn visit(&self, mut newcomer: Channel) -> io::Result<Visit> {
        let user = newcomer.user()?;
        if user != rustix::process::geteuid().as_raw() {
            warn!(
                "hand-over: a process of user {user} is turned away: only one of the same user can share the ports"
            );
            return Ok(Visit::Ended);
        }
        let hello = tokio::time::timeout(HELLO_TIMEOUT, newcomer.receive()).await;
        let Ok(Ok(Some(Message::Hello { version, .. }))) = hello else {
            return Ok(Visit::Ended);
        };
        newcomer
            .send(&Message::Welcome(self.ownership.clone()))
            .await?;
        info!(version, "hand-over: a process prepares to take over");
        self.standing.send_replace(Standing::Preparing);
        let visit = self.prepared(&mut newcomer).await;
        if !matches!(visit, Ok(Visit::Released)) {
            warn!("hand-over: the process that was to take over has gone");
        }
        visit
    }

    async fn prepared(&self, newcomer: &mut Channel) -> io::Result<Visit> {
        let mut named = false;
        loop {
            let message = tokio::select! {
                message = newcomer.receive() => message?,
                // The name is the newcomer's once it has it.
                other = self.name.accept(), if !named => {
                    let (other, _) = other?;
                    // Whoever it is may have gone again.
                    let _ = Channel::new(other).send(&Message::Busy).await;
                    continue;
                }
            };
            match message {
                Some(Message::LastGood) => self.export(newcomer).await?,
                Some(Message::Ready) => {
                    newcomer
                        .send_with(&Message::Name, Some(self.name.as_fd()))
                        .await?;
                    named = true;
                }
                Some(Message::InForce { steered }) => {
                    self.standing.send_replace(Standing::Retired { steered });
                }
                Some(Message::Released) => return Ok(Visit::Released),
                // What later versions may say besides.
                Some(_) => {}
                None => return Ok(Visit::Ended),
            }
        }
    }

    async fn export(&self, newcomer: &Channel) -> io::Result<()> {
        let memory = match &self.cache {
            Some(cache) => tokio::time::timeout(EXPORT_TIMEOUT, cache.export()).await,
            None => return newcomer.send(&Message::Exported { attached: false }).await,
        };
        match memory {
            Ok(Ok(memory)) => {
                let message = Message::Exported { attached: true };
                newcomer.send_with(&message, Some(memory.as_fd())).await
            }
            failed => {
                debug!("hand-over: no snapshot for the newcomer: {failed:?}");
                newcomer.send(&Message::Exported { attached: false }).await
            }
        }
    }
}
