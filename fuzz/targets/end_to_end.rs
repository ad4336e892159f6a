//! Any bytes, cut anyhow, at a real listener with real endpoints: no panic, no hang, and the next good request is
//! served. Memory is bounded by the limit that the fuzzer is started with.
//!
//! The first byte chooses the listener, the second the cuts. The rest is what the client sends, up to a line `====`
//! and what follows it, which is what the dishonest endpoint answers.
#![no_main]
#![expect(clippy::expect_used, reason = "a panic is how a target fails")]

use std::fs;

use libfuzzer_sys::fuzz_target;
use tidegate_fuzz::{Cuts, Gate, Listener};

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
        gate.exchange(listener, bytes, answer, Cuts::new(*seed));
        gate.serves_good_requests();
    });
    let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    assert!(open < MOST_FILES, "{open} files are open");
});

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
