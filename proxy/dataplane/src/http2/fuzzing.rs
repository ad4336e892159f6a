//! What fuzz targets see of the guard.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};

use super::guard::{Guard, Guarded};

/// Who sends the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A client, which begins with its preface.
    Client,
    /// An endpoint.
    Endpoint,
}

/// What a guard knows of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Whether more control frames came than the peer may send: nothing is read any more.
    pub spent: bool,
    /// What is left to pay with.
    pub credit: u32,
    /// Blocks of fields that have begun.
    pub blocks: u64,
    /// The one of them that has not ended.
    pub open_block: Option<u64>,
    /// Whether the peer has announced its end.
    pub going_away: bool,
    /// Bytes that answer control frames.
    pub owed: usize,
}

/// A transport whose reads give these pieces.
struct Pieces<'a>(std::slice::Iter<'a, &'a [u8]>);

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(piece) = self.0.next() {
            buf.put_slice(piece);
        }
        Poll::Ready(Ok(()))
    }
}

/// Reads the pieces through a guard: what it knows then, and what was passed on.
pub fn watch(side: Side, pieces: &[&[u8]]) -> (Watched, Vec<u8>) {
    let guard = Guard::new();
    let transport = Pieces(pieces.iter());
    let mut guarded = match side {
        Side::Client => Guarded::from_client(transport, guard.clone()),
        Side::Endpoint => Guarded::from_endpoint(transport, guard.clone()),
    };
    let mut passed = Vec::new();
    let mut space = vec![0; pieces.iter().map(|piece| piece.len()).max().unwrap_or(0)];
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        let mut buf = ReadBuf::new(&mut space);
        let polled = Pin::new(&mut guarded).poll_read(&mut cx, &mut buf);
        if polled.is_pending() || buf.filled().is_empty() {
            return (guard.watched(), passed);
        }
        passed.extend_from_slice(buf.filled());
    }
}
