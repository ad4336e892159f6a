//! A stream of requests through the real data plane: its endpoint, which is hyper, sees those requests that we read in
//! the stream, in their order, and never another one.
//!
//! The first byte chooses the cuts.
#![no_main]
#![expect(clippy::expect_used, reason = "a panic is how a target fails")]

use libfuzzer_sys::fuzz_target;
use tidegate_fuzz::{Cuts, Gate, Listener, Ours, Read, read};

thread_local! {
    static GATE: Gate = Gate::start().expect("a data plane on loopback");
}

fuzz_target!(|input: &[u8]| {
    // HTTP/2 with prior knowledge is another protocol on the same port.
    let Some((seed, bytes)) = input
        .split_first()
        .filter(|(_, bytes)| !bytes.starts_with(b"PRI "))
    else {
        return;
    };
    let theirs = GATE.with(|gate| {
        gate.exchange(Listener::Http, bytes, b"", Cuts::new(*seed));
        gate.seen()
    });
    let (ours, _) = read(bytes);
    let mut rest = ours.iter();
    for seen in theirs.iter().filter(|seen| seen.body.is_some()) {
        assert!(
            rest.any(|ours| is_same(ours, seen)),
            "the endpoint saw {seen:?}, and we read {ours:?}"
        );
    }
});

fn is_same(ours: &Ours, theirs: &Read) -> bool {
    let of = |name: &str| {
        let mut fields = theirs.fields.iter();
        fields
            .find(|(found, _)| found == name)
            .map(|(_, value)| &**value)
    };
    let authority = ours.request.authority.as_deref();
    ours.request.method == theirs.method
        && ours.request.target == theirs.target
        && Some(&ours.body) == theirs.body.as_ref()
        // A request of HTTP/1.0 may have none, and is given one.
        && authority.is_none_or(|authority| of("host") == Some(authority.as_bytes()))
        && (of("content-length").is_none() || of("transfer-encoding").is_none())
}
