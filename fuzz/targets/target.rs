//! Paths of requests: what normalisation leaves is what it leaves of that, has no empty and no dot segments however it
//! is decoded, and is never longer than what came.
#![no_main]
#![expect(clippy::expect_used, reason = "a panic is how a target fails")]

use libfuzzer_sys::fuzz_target;
use tidegate_dataplane::fuzzing::{Reading, Request, request_head};

fuzz_target!(|input: &[u8]| {
    let Some(first) = read(input) else {
        return;
    };
    let path = first.path.as_str();
    assert!(path.starts_with('/') && first.target.starts_with(path));
    assert!(first.target.len() <= input.len(), "{path:?} is longer");
    assert!(!path.contains("//"), "{path:?}");
    for decoded in [path.to_owned(), decoded_once(path)] {
        let mut segments = decoded.split(['/', '\\']);
        assert!(
            segments.all(|segment| segment != "." && segment != ".."),
            "{path:?} has dot segments"
        );
    }
    assert!(!decoded_once(path).contains('\0'), "{path:?}");
    let query = |target: &[u8]| {
        let start = target.iter().position(|byte| *byte == b'?');
        start.map(|start| target[start..].to_owned())
    };
    assert_eq!(query(input), query(first.target.as_bytes()));
    let second = read(first.target.as_bytes()).expect("a normal path");
    assert_eq!((second.path, second.target), (first.path, first.target));
});

/// Reads a target in origin form.
fn read(target: &[u8]) -> Option<Request> {
    if !target.starts_with(b"/") {
        return None;
    }
    let head = [b"GET ", target, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
    match request_head(&head) {
        // A space or a line end in the target makes another request of it.
        Reading::Whole(request, length) => (length == head.len()
            && request.received_target.as_bytes() == target)
            .then_some(request),
        _ => None,
    }
}

/// With every percent-encoding decoded.
fn decoded_once(path: &str) -> String {
    let mut pieces = path.split('%');
    let mut decoded = pieces.next().unwrap_or_default().as_bytes().to_owned();
    for piece in pieces {
        let code = piece.get(..2).expect("two digits behind a percent sign");
        decoded.push(u8::from_str_radix(code, 16).expect("hexadecimal digits"));
        decoded.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
