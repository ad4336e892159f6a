//! A connection between two processes of an instance: messages, and with some of them a descriptor.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::Message;

/// Limit of a message in bytes.
const LONGEST: usize = 64 * 1024;

/// The connection.
#[derive(Debug)]
pub(super) struct Channel {
    stream: UnixStream,
    /// Bytes that came and are no whole message yet.
    received: Vec<u8>,
    /// The descriptor that came last.
    descriptor: Option<OwnedFd>,
}

impl Channel {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            received: Vec::new(),
            descriptor: None,
        }
    }

    /// The user that the other process runs as.
    pub(super) fn user(&self) -> io::Result<u32> {
        Ok(self.stream.peer_cred()?.uid())
    }

    /// Sends a message.
    pub(super) async fn send(&self, message: &Message) -> io::Result<()> {
        self.send_with(message, None).await
    }

    /// Sends a message with a copy of a descriptor.
    pub(super) async fn send_with(
        &self,
        message: &Message,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let mut rest = line.as_slice();
        let mut descriptor = descriptor;
        while !rest.is_empty() {
            let sent = self
                .stream
                .async_io(Interest::WRITABLE, || self.send_some(rest, descriptor))
                .await?;
            rest = rest.get(sent..).unwrap_or_default();
            descriptor = None;
        }
        Ok(())
    }

    fn send_some(&self, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<usize> {
        let descriptors: Vec<_> = descriptor.into_iter().collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        Ok(sendmsg(
            &self.stream,
            &[IoSlice::new(bytes)],
            &mut ancillary,
            flags,
        )?)
    }

    /// The next message, `None` when the other process has closed or ended. Dropping the future loses nothing.
    pub(super) async fn receive(&mut self) -> io::Result<Option<Message>> {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            if self.received.len() > LONGEST {
                return Err(io::Error::other("a message is too long"));
            }
            let stream = &self.stream;
            let (received, descriptor) = (&mut self.received, &mut self.descriptor);
            let count = stream
                .async_io(Interest::READABLE, || {
                    receive_some(stream, received, descriptor)
                })
                .await;
            match count {
                Ok(0) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The descriptor that came with the last message.
    pub(super) fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptor.take()
    }
}

fn receive_some(
    stream: &UnixStream,
    received: &mut Vec<u8>,
    descriptor: &mut Option<OwnedFd>,
) -> io::Result<usize> {
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut buffers = [IoSliceMut::new(&mut bytes)];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = recvmsg(stream, &mut buffers, &mut ancillary, flags)?;
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = part {
            *descriptor = descriptors.last().or(descriptor.take());
        }
    }
    received.extend_from_slice(bytes.get(..message.bytes).unwrap_or_default());
    Ok(message.bytes)
}
