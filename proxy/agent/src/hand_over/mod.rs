//! Hand-over: a process of an instance takes the ports over from the one that has them.
//!
//! The process in force, the *owner*, holds a Unix socket named after the instance, in the network namespace whose ports
//! it has. A newcomer connects to it and prepares; when it is ready it gets a copy of that socket, moves the ports, and
//! says so. The connection then stays: the newcomer's death is known at once, and the old process, which listens on in
//! reserve for as long as it drains, takes the ports back.

mod channel;
mod newcomer;
mod owner;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

pub(crate) use newcomer::{Found, Predecessor, find};
pub(crate) use owner::{Owner, Standing};

/// The version of what processes say to each other. Messages of other versions may have more in them; what is here stays.
const PROTOCOL: u32 = 1;

/// What processes say to each other: a JSON object a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
enum Message {
    /// A newcomer's first word.
    Hello { protocol: u32, version: String },
    /// The owner's answer.
    Welcome(Ownership),
    /// The owner's answer while another newcomer prepares.
    Busy,
    /// The newcomer asks for the snapshot that would be on disk if it were not the owner who has the file.
    LastGood,
    /// The owner's answer to that.
    Exported {
        /// Whether it comes with memory that holds one.
        attached: bool,
    },
    /// The newcomer can serve and asks for the name.
    Ready,
    /// The owner's answer, with the socket of that name.
    Name,
    /// The newcomer has the ports.
    InForce {
        /// Whether a program steers, so that sockets of the old process get nothing new.
        steered: bool,
    },
    /// The newcomer, owner by now, will not give the ports back: the old process may close its sockets.
    Released,
    /// Something that only later versions know.
    #[serde(other)]
    Unknown,
}

/// What an owner tells about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ownership {
    /// Of the messages.
    pub(crate) protocol: u32,
    /// Of the program.
    pub(crate) version: String,
    /// One more than its predecessor's.
    pub(crate) generation: u64,
    /// Whether its maps are pinned, in this layout.
    pub(crate) pinned: Option<u32>,
    /// Where it listens for requests.
    pub(crate) listeners: Vec<SocketAddr>,
    /// Where its admin pages are.
    pub(crate) admin: Option<SocketAddr>,
    /// Whether it answers [`Message::LastGood`], which the first versions do not.
    #[serde(default)]
    exports: bool,
}

impl Ownership {
    /// Of this process.
    pub(crate) fn new(
        generation: u64,
        is_pinned: bool,
        listeners: Vec<SocketAddr>,
        admin: Option<SocketAddr>,
    ) -> Self {
        Self {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            generation,
            pinned: is_pinned.then_some(tidegate_ebpf::LAYOUT),
            listeners,
            admin,
            exports: false,
        }
    }
}

/// The name of an instance's socket, in the abstract namespace.
fn name(instance: &str) -> String {
    format!("tidegate/{instance}")
}

#[cfg(test)]
mod tests;
