//! A newcomer's side: finding the owner of the instance's name, and taking over from it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{
    SocketAddr as UnixAddress, UnixListener as StdListener, UnixStream as StdStream,
};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tokio::net::{UnixListener, UnixStream};
use tracing::{info, warn};

use super::channel::Channel;
use super::{Message, Ownership, PROTOCOL, name};

/// Time for an owner to answer; one that does not is as good as dead.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time for an owner to hand its snapshot over, which a newcomer can do without.
const EXPORT_PATIENCE: Duration = Duration::from_secs(3);
/// Pause before asking an owner again that is busy with another newcomer, or a name that is just changing hands.
const PAUSE: Duration = Duration::from_millis(250);

/// Who has the instance's name.
#[derive(Debug)]
pub(crate) enum Found {
    /// This process, from now on.
    Nobody(UnixListener),
    /// Another process of the instance.
    Someone(Predecessor),
    /// A process that does not answer. It cannot be told to retire.
    Silent,
    /// A process on other addresses, which are these.
    Apart(String),
    /// A process of this other user, which cannot share ports with us.
    Foreign(u32),
}

/// The process to take over from.
#[derive(Debug)]
pub(crate) struct Predecessor {
    instance: String,
    channel: Channel,
    /// What it told about itself.
    pub(crate) ownership: Ownership,
}

/// Takes the instance's name, or finds the process that has it. Waits while that one is busy with another newcomer.
///
/// # Errors
/// The system has no Unix sockets for us.
pub(crate) async fn find(instance: &str) -> anyhow::Result<Found> {
    let mut told = false;
    loop {
        match bind(instance) {
            Ok(listener) => return Ok(Found::Nobody(listener)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot name this process as instance {instance}"));
            }
        }
        match ask(instance).await? {
            Answer::Welcome(predecessor) => return Ok(Found::Someone(predecessor)),
            Answer::Silence => return Ok(Found::Silent),
            Answer::Foreign(user) => return Ok(Found::Foreign(user)),
            Answer::Gone => {}
            Answer::Busy if !told => {
                told = true;
                info!(
                    "hand-over: another process of instance {instance} is taking over; waiting for it"
                );
            }
            Answer::Busy => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

enum Answer {
    Welcome(Predecessor),
    Busy,
    /// It ended meanwhile.
    Gone,
    Silence,
    Foreign(u32),
}

async fn ask(instance: &str) -> anyhow::Result<Answer> {
    let Ok(stream) = connect(instance) else {
        return Ok(Answer::Gone);
    };
    let mut channel = Channel::new(stream);
    let user = channel.user().context("hand-over")?;
    if user != rustix::process::geteuid().as_raw() {
        return Ok(Answer::Foreign(user));
    }
    let hello = Message::Hello {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    if channel.send(&hello).await.is_err() {
        return Ok(Answer::Gone);
    }
    Ok(
        match tokio::time::timeout(PATIENCE, channel.receive()).await {
            Err(_) => Answer::Silence,
            Ok(Ok(Some(Message::Welcome(ownership)))) => Answer::Welcome(Predecessor {
                instance: instance.to_owned(),
                channel,
                ownership,
            }),
            Ok(Ok(Some(Message::Busy))) => Answer::Busy,
            Ok(_) => Answer::Gone,
        },
    )
}

fn address(instance: &str) -> io::Result<UnixAddress> {
    UnixAddress::from_abstract_name(name(instance))
}

fn bind(instance: &str) -> io::Result<UnixListener> {
    let listener = StdListener::bind_addr(&address(instance)?)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

fn connect(instance: &str) -> io::Result<UnixStream> {
    let stream = StdStream::connect_addr(&address(instance)?)?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

impl Predecessor {
    /// Waits until it has ended or closed.
    pub(crate) async fn gone(&mut self) {
        // Whatever it says meanwhile is from a later version.
        while let Ok(Some(_)) = self.channel.receive().await {}
    }

    /// The snapshot that it has saved last, as [`Cache::export`](crate::cache::Cache::export) makes it. `None` when it has
    /// none, or is of a version that cannot hand it over, or takes too long.
    pub(crate) async fn last_good(&mut self) -> Option<OwnedFd> {
        if !self.ownership.exports {
            return None;
        }
        let asked = async {
            self.channel.send(&Message::LastGood).await.ok()?;
            loop {
                match self.channel.receive().await {
                    Ok(Some(Message::Exported { attached })) => {
                        let memory = self.channel.take_descriptor();
                        return memory.filter(|_| attached);
                    }
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => return None,
                }
            }
        };
        tokio::time::timeout(EXPORT_PATIENCE, asked).await.ok()?
    }

    /// Asks for the instance's name. A predecessor that has died meanwhile leaves it free.
    ///
    /// # Errors
    /// Another process was quicker; or the predecessor does not answer.
    pub(crate) async fn take_name(&mut self) -> anyhow::Result<UnixListener> {
        if self.channel.send(&Message::Ready).await.is_ok() {
            let answer = tokio::time::timeout(PATIENCE, self.answer()).await;
            match answer.map_err(|_| anyhow!("hand-over: the old process does not answer"))? {
                Ok(Some(Message::Name)) => return self.received_name(),
                Ok(Some(other)) => bail!("hand-over: the old process answers {other:?}"),
                Ok(None) | Err(_) => {}
            }
        }
        warn!("hand-over: the old process has ended by itself");
        bind(&self.instance).context("hand-over: another process has taken the instance's name")
    }

    /// The next message but for a snapshot that comes too late.
    async fn answer(&mut self) -> io::Result<Option<Message>> {
        loop {
            match self.channel.receive().await? {
                Some(Message::Exported { .. }) => drop(self.channel.take_descriptor()),
                message => return Ok(message),
            }
        }
    }

    fn received_name(&mut self) -> anyhow::Result<UnixListener> {
        let descriptor = self.channel.take_descriptor();
        let listener =
            StdListener::from(descriptor.context("hand-over: the name came without its socket")?);
        listener.set_nonblocking(true)?;
        Ok(UnixListener::from_std(listener)?)
    }

    /// Says that this process has the ports.
    pub(crate) async fn in_force(&mut self, steered: bool) {
        // One that has died needs not know.
        let _ = self.channel.send(&Message::InForce { steered }).await;
    }

    /// Says that this process will not give the ports back.
    pub(crate) async fn release(self) {
        let _ = self.channel.send(&Message::Released).await;
    }
}

#[cfg(test)]
impl Predecessor {
    /// Asks for the snapshot and does not wait for it.
    pub(super) async fn ask_only(&mut self) {
        self.channel.send(&Message::LastGood).await.unwrap();
    }
}
