//! Any bytes, cut anyhow, at a real listener with real endpoints: no panic, no hang, a client of HTTP/1 gets no more
//! responses than it sent requests, whatever the endpoint answers, and the next good request is served. Memory is bounded by the limit that the fuzzer is started with.
//!
//! The first byte chooses the listener, the second the cuts. The rest is what the client sends, up to a line `====`
//! and what follows it, which is what the dishonest endpoint answers.
#![no_main]
#![expect(clippy::expect_used, reason = "a panic is how a target fails")]

use std::fs;

use libfuzzer_sys::fuzz_target;
use tidegate_dataplane::fuzzing::{Body, Reading, response_head};
use tidegate_fuzz::{Cuts, End, Gate, Listener, read};

/// Sockets that may be open between two inputs: some connections are still ending, some wait in the pool.
const MOST_FILES: usize = 300;

thread_local! {
    static GATE: Gate = Gate::start().expect("a data plane on loopback");
}

fuzz_target!(|input: &[u8]| {
    let [listener, seed, rest @ ..] = input else {
        return;
    };
    let listener = match listener {
        b't' => Listener::Https,
        b'1' => Listener::Http1OverTls,
        b'2' => Listener::Http2OverTls,
        _ => Listener::Http,
    };
    let (bytes, answer) = split(rest);
    GATE.with(|gate| {
        let received = gate.exchange(listener, bytes, answer, Cuts::new(*seed));
        if matches!(listener, Listener::Http | Listener::Http1OverTls) {
            are_responses(&received, bytes);
        }
        gate.serves_good_requests();
    });
    let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    assert!(open < MOST_FILES, "{open} files are open");
});

/// What a client received are responses to the requests that we read in what it sent, and one to what breaks off or
/// is refused.
fn are_responses(received: &[u8], sent: &[u8]) {
    let (requests, end) = read(sent);
    let methods = requests.iter().map(|read| read.request.method.as_str());
    let unread = Some("").filter(|_| matches!(end, End::Cut | End::Refused));
    let mut methods = methods.chain(unread);
    let mut rest = Some(received).filter(|rest| !rest.is_empty());
    while let Some(bytes) = rest {
        let Some(method) = methods.next() else {
            panic!("no request is answered by {}", bytes.escape_ascii());
        };
        rest = behind_response(bytes, method).filter(|rest| !rest.is_empty());
    }
}

/// What follows a response; `None` when nothing can, since it is cut short or takes the rest of the connection.
fn behind_response<'a>(mut bytes: &'a [u8], method: &str) -> Option<&'a [u8]> {
    let head = loop {
        let (head, length) = match response_head(bytes, method) {
            Reading::Whole(head, length) => (head, length),
            Reading::Partial => return None,
            // We add some fields to as many as an endpoint may send.
            Reading::Refused(431, _) => return None,
            Reading::Refused(_, reason) => panic!("{reason}: {}", bytes.escape_ascii()),
        };
        bytes = &bytes[length..];
        if !head.is_informational {
            break head;
        }
    };
    if head.status == 101 {
        return None;
    }
    let mut body = Body::new(head.body);
    while !body.is_done() {
        match body.decode(bytes).expect("a body in our framing") {
            (0, 0) => return None,
            (framing, data) => bytes = &bytes[framing + data..],
        }
    }
    Some(bytes)
}

/// What stands before and after the line that parts them.
fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    const PARTING: &[u8] = b"\n====\n";
    let found = bytes
        .windows(PARTING.len())
        .position(|window| window == PARTING);
    match found {
        Some(at) => (&bytes[..at], &bytes[at + PARTING.len()..]),
        None => (bytes, b""),
    }
}
