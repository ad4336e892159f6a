//! A stream of requests, read by us and by hyper: both see the same requests, and so does hyper in what we send on.
#![no_main]
#![expect(clippy::expect_used, reason = "a panic is how a target fails")]

use libfuzzer_sys::fuzz_target;
use tidegate_dataplane::fuzzing::{Fields, Length, encode_chunk, encode_last_chunk};
use tidegate_fuzz::{End, Ours, Read, Reader, read};

thread_local! {
    static READER: Reader = Reader::new().expect("a runtime");
}

fuzz_target!(|input: &[u8]| {
    let (ours, end) = read(input);
    let theirs = READER.with(|reader| reader.read(input));
    let mut alike = 0;
    for (ours, theirs) in ours.iter().zip(&theirs) {
        same(ours, theirs, &ours.request.received_target);
        alike += 1;
    }
    if matches!(end, End::Stream | End::Cut) {
        // What breaks off within a body is a request to hyper, and none that we send on.
        let whole = theirs.iter().filter(|read| read.body.is_some()).count();
        assert!(whole <= ours.len(), "hyper sees more: {theirs:?}");
    }
    if let (Some(missed), true) = (ours.get(alike), theirs.len() <= alike) {
        // hyper may be stricter, in what we know of.
        assert!(is_refused_by_hyper(missed), "hyper does not see {missed:?}");
    }
    forwarded_alike(&ours);
});

/// Method, target, fields and body are those that hyper reads.
fn same(ours: &Ours, theirs: &Read, target: &str) {
    assert_eq!(ours.request.method, theirs.method);
    // hyper writes targets in absolute form in a way of its own.
    let is_origin = target.starts_with('/');
    assert!(!is_origin || target == theirs.target, "{ours:?} {theirs:?}");
    let fields = ours.request.fields.iter();
    let mut fields: Vec<_> = fields
        .map(|(name, value)| (String::from_utf8_lossy(name).to_lowercase(), value.clone()))
        .collect();
    fields.sort_by(|(a, _), (b, _)| a.cmp(b));
    let counts = |name: &str| is_origin || name != "host";
    fields.retain(|(name, _)| counts(name));
    let theirs_fields = theirs.fields.iter().filter(|(name, _)| counts(name));
    assert!(theirs_fields.eq(&fields), "{ours:?} {theirs:?}");
    assert_eq!(Some(&ours.body), theirs.body.as_ref());
}

/// Targets that its `Uri` does not take.
fn is_refused_by_hyper(ours: &Ours) -> bool {
    ours.request.received_target.parse::<hyper::Uri>().is_err()
}

/// What an engine sends on: hyper sees every request of it as we did.
fn forwarded_alike(ours: &[Ours]) {
    let sent: Vec<&Ours> = ours
        .iter()
        .filter(|ours| ours.request.target.parse::<hyper::Uri>().is_ok())
        // Without a host it is none of HTTP/1.1.
        .filter(|ours| ours.request.authority.is_some())
        .collect();
    let mut stream = Vec::new();
    for ours in &sent {
        write(ours, &mut stream);
    }
    let theirs = READER.with(|reader| reader.read(&stream));
    assert_eq!(sent.len(), theirs.len(), "{sent:?} {theirs:?}");
    for (ours, theirs) in sent.iter().zip(&theirs) {
        assert_eq!(ours.request.method, theirs.method);
        assert_eq!(ours.request.target, theirs.target);
        assert_eq!(Some(&ours.body), theirs.body.as_ref());
        let host = theirs.fields.iter().find(|(name, _)| name == "host");
        let host = host.map(|(_, value)| String::from_utf8_lossy(value));
        assert_eq!(ours.request.authority.as_deref(), host.as_deref());
    }
}

/// Writes a request as it goes to an endpoint: no field of the connection, framing anew.
fn write(ours: &Ours, out: &mut Vec<u8>) {
    let mut fields = Fields::of(&ours.request.written).expect("a head that was written");
    for name in [
        &b"connection"[..],
        b"upgrade",
        b"expect",
        b"transfer-encoding",
        b"content-length",
    ] {
        fields.remove(name);
    }
    let length = ours.body.len().to_string();
    match ours.request.body {
        Length::Chunked => fields.append(b"transfer-encoding", b"chunked"),
        Length::Known(_) => fields.append(b"content-length", length.as_bytes()),
        Length::Empty | Length::UntilClose => {}
    }
    out.extend_from_slice(&fields.head());
    if ours.request.body == Length::Chunked {
        for piece in ours.body.chunks(5) {
            encode_chunk(piece, out);
        }
        encode_last_chunk(&[], out);
    } else {
        out.extend_from_slice(&ours.body);
    }
}
