//! Heads of requests. What is accepted reads the same to `httparse`, ends where it is told to end, and is written in a
//! form that reads the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_dataplane::fuzzing::{Field, Reading, Request, request_head};

/// As many as a head may have.
const MOST_FIELDS: usize = 128;

fuzz_target!(|input: &[u8]| {
    let Reading::Whole(request, length) = request_head(input) else {
        return;
    };
    let head = &input[..length];
    reads_alike(&request, head);
    ends_there(&request, head);
    if request.version == "HTTP/1.1" {
        reads_again(&request);
    }
});

fn reads_alike(request: &Request, head: &[u8]) {
    let mut headers = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut other = httparse::Request::new(&mut headers);
    let parsed = other.parse(head);
    assert_eq!(parsed, Ok(httparse::Status::Complete(head.len())));
    assert_eq!(other.method, Some(&*request.method));
    assert_eq!(other.path, Some(&*request.received_target));
    let has_authority = !request.received_target.starts_with('/') && request.received_target != "*";
    // The authority of the target comes in place of the field.
    let counts = |name: &[u8]| !(has_authority && name.eq_ignore_ascii_case(b"host"));
    let theirs = other
        .headers
        .iter()
        .map(|header| (header.name.as_bytes().to_owned(), header.value.to_owned()));
    let theirs: Vec<Field> = theirs.filter(|(name, _)| counts(name)).collect();
    let ours = request.fields.iter().filter(|(name, _)| counts(name));
    assert!(ours.eq(&theirs), "{request:?} {theirs:?}");
}

fn ends_there(request: &Request, head: &[u8]) {
    for cut in [head.len() / 2, head.len() - 1] {
        assert_eq!(request_head(&head[..cut]), Reading::Partial);
    }
    assert_eq!(
        request_head(head),
        Reading::Whole(request.clone(), head.len())
    );
    let longer = [head, b"GET"].concat();
    assert_eq!(
        request_head(&longer),
        Reading::Whole(request.clone(), head.len())
    );
}

/// Written, it is the same request in origin form.
fn reads_again(request: &Request) {
    let expected = Request {
        received_target: request.target.clone(),
        ..request.clone()
    };
    assert_eq!(
        request_head(&request.written),
        Reading::Whole(expected, request.written.len())
    );
}
