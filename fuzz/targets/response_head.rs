//! Heads of responses. What is accepted reads the same to `httparse`, ends where it is told to end, and is written in a
//! form that reads the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_dataplane::fuzzing::{Field, Length, Reading, Response, response_head};

/// As many as a head may have.
const MOST_FIELDS: usize = 128;

fuzz_target!(|input: &[u8]| {
    for method in ["GET", "HEAD"] {
        let Reading::Whole(response, length) = response_head(input, method) else {
            continue;
        };
        let head = &input[..length];
        reads_alike(&response, head);
        for cut in [length / 2, length - 1] {
            assert_eq!(response_head(&head[..cut], method), Reading::Partial);
        }
        let longer = [head, b"HTTP"].concat();
        assert_eq!(
            response_head(&longer, method),
            Reading::Whole(response.clone(), length)
        );
        if method == "HEAD" || response.status < 200 {
            assert_eq!(response.body, Length::Empty);
        }
        reads_again(&response, method);
    }
});

fn reads_alike(response: &Response, head: &[u8]) {
    let mut headers = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut other = httparse::Response::new(&mut headers);
    let parsed = other.parse(head);
    assert_eq!(parsed, Ok(httparse::Status::Complete(head.len())));
    assert_eq!(other.code, Some(response.status));
    // Framing is taken from responses that may have none (RFC 9110 section 8.6).
    let counts = |name: &[u8]| {
        !name.eq_ignore_ascii_case(b"content-length")
            && !name.eq_ignore_ascii_case(b"transfer-encoding")
    };
    let theirs = other
        .headers
        .iter()
        .map(|header| (header.name.as_bytes().to_owned(), header.value.to_owned()));
    let theirs: Vec<Field> = theirs.filter(|(name, _)| counts(name)).collect();
    let ours = response.fields.iter().filter(|(name, _)| counts(name));
    assert!(ours.eq(&theirs), "{response:?} {theirs:?}");
}

fn reads_again(response: &Response, method: &str) {
    let Reading::Whole(again, length) = response_head(&response.written, method) else {
        panic!("not a head: {:?}", response.written.escape_ascii());
    };
    assert_eq!(length, response.written.len());
    // It is of HTTP/1.1 now, which persists unless told otherwise.
    let expected = Response {
        persists: again.persists,
        ..response.clone()
    };
    assert_eq!(again, expected);
    assert!(again.persists || !response.persists);
}
