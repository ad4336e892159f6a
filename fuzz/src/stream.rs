//! Our own reading of a stream of requests.

use std::fmt;

use tidegate_dataplane::fuzzing::{Body, Reading, Request, request_head};

/// A request and its body as we read them.
#[derive(Clone)]
pub struct Ours {
    /// Its head.
    pub request: Request,
    /// Its body.
    pub body: Vec<u8>,
}

impl fmt::Debug for Ours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.request.written.escape_ascii())?;
        writeln!(f, "  {:?}: {}", self.request.body, self.body.escape_ascii())
    }
}

/// Why we read no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The stream ended behind a request.
    Stream,
    /// It breaks off within one.
    Cut,
    /// We refuse what follows.
    Refused,
    /// The connection is over: what follows is not read.
    Closed,
}

/// Reads requests until the stream or the connection ends.
#[must_use]
pub fn read(mut bytes: &[u8]) -> (Vec<Ours>, End) {
    let mut read = Vec::new();
    loop {
        let (request, length) = match request_head(bytes) {
            Reading::Whole(request, length) => (request, length),
            Reading::Partial if bytes.is_empty() => return (read, End::Stream),
            Reading::Partial => return (read, End::Cut),
            Reading::Refused(..) => return (read, End::Refused),
        };
        if request.method == "CONNECT" {
            return (read, End::Refused);
        }
        bytes = &bytes[length..];
        let mut decoder = Body::new(request.body);
        let mut body = Vec::new();
        while !decoder.is_done() {
            match decoder.decode(bytes) {
                Ok((0, 0)) => return (read, End::Cut),
                Ok((framing, data)) => {
                    body.extend_from_slice(&bytes[framing..framing + data]);
                    bytes = &bytes[framing + data..];
                }
                Err(_) => return (read, End::Refused),
            }
        }
        let persists = request.persists;
        read.push(Ours { request, body });
        if !persists {
            return (read, End::Closed);
        }
    }
}
