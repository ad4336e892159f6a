//! Requests of HTTP/2, as the `h2` crate has them. What is accepted reads the same when it is written as HTTP/1.1, and
//! when it has gone over HTTP/2 again.
//!
//! The first line is the method, the second the scheme, then come authority and path, which may be empty, and then the
//! fields. A method in brackets is one of a request without a body.
#![no_main]

use std::str;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Method, Uri, request, uri};
use libfuzzer_sys::fuzz_target;
use tidegate_dataplane::fuzzing::{Field, Http2Request, Length, Reading, Request, request_head};

fuzz_target!(|input: &[u8]| {
    let Some((parts, ended)) = received(input) else {
        return;
    };
    let Ok(http2) = Http2Request::new(&parts, ended) else {
        return;
    };
    let request = http2.request();
    is_well_formed(&request);
    if request.method == "CONNECT" {
        // It is never forwarded.
        return;
    }
    reads_again(&request);
    goes_over_http2(&parts, &http2, ended);
});

/// What `h2` makes of a block of fields (its `convert_poll_message`).
fn received(input: &[u8]) -> Option<(request::Parts, bool)> {
    let mut lines = input.split(|byte| *byte == b'\n');
    let method = lines.next()?;
    let bracketed = method
        .strip_prefix(b"(")
        .and_then(|rest| rest.strip_suffix(b")"));
    let (method, ended) = bracketed.map_or((method, false), |method| (method, true));
    let (mut parts, ()) = http::Request::new(()).into_parts();
    let method = Method::from_bytes(method).ok()?;
    let connect = method == Method::CONNECT;
    let (scheme, authority, path) = (lines.next()?, lines.next()?, lines.next()?);
    let mut uri = uri::Parts::default();
    if !authority.is_empty() {
        str::from_utf8(authority).ok()?;
        uri.authority = Some(Authority::try_from(authority).ok()?);
    }
    let scheme = Scheme::try_from(scheme);
    if !connect {
        uri.scheme = Some(scheme.ok()?).filter(|_| uri.authority.is_some());
        str::from_utf8(path).ok()?;
        uri.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    }
    for line in lines {
        let end = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_lowercase(&line[..end]).ok()?;
        let value = HeaderValue::from_bytes(&line[end + 1..]).ok()?;
        parts.headers.append(name, value);
    }
    parts.uri = Uri::from_parts(uri).ok()?;
    parts.method = method;
    Some((parts, ended))
}

fn is_well_formed(request: &Request) {
    assert_eq!(request.version, "HTTP/2");
    let target = request.received_target.as_str();
    let has_form = match &*request.method {
        "CONNECT" => Some(target) == request.authority.as_deref(),
        "OPTIONS" => target.starts_with('/') || target == "*",
        _ => target.starts_with('/'),
    };
    assert!(has_form, "{request:?}");
    let hosts = request.fields.iter().filter(|(name, _)| name == b"host");
    let authority = request.authority.as_ref().map(String::as_bytes);
    assert!(
        hosts.map(|(_, value)| &**value).eq(authority),
        "{request:?}"
    );
    for (name, _) in &request.fields {
        assert!(
            !matches!(
                &**name,
                b"connection"
                    | b"keep-alive"
                    | b"proxy-connection"
                    | b"transfer-encoding"
                    | b"upgrade"
            ),
            "{request:?}"
        );
    }
}

/// Written as HTTP/1.1, it is the same request, but for a body without a length, which the engine marks off.
fn reads_again(request: &Request) {
    let body = match request.body {
        Length::Chunked => Length::Empty,
        length => length,
    };
    let expected = Request {
        version: "HTTP/1.1",
        received_target: request.target.clone(),
        expects_continue: request.expects_continue && body != Length::Empty,
        body,
        persists: true,
        ..request.clone()
    };
    // Nothing but the engine reads these.
    let persists = |read: Request| Request {
        persists: true,
        ..read
    };
    match request_head(&request.written) {
        Reading::Whole(read, length) => {
            assert_eq!(length, request.written.len());
            assert_eq!(persists(read), expected);
        }
        other => panic!("{other:?} of {}", request.written.escape_ascii()),
    }
}

/// Forwarded over HTTP/2, it is the same request.
fn goes_over_http2(parts: &request::Parts, http2: &Http2Request, ended: bool) {
    let Some(forwarded) = http2.forwarded() else {
        assert!(
            parts.uri.authority().is_none(),
            "{parts:?} has no HTTP/2 form"
        );
        return;
    };
    let (forwarded, ()) = forwarded.into_parts();
    let (first, again) = match Http2Request::new(&forwarded, ended) {
        Ok(again) => (http2.request(), again.request()),
        Err(reason) => panic!("{reason}: {forwarded:?}"),
    };
    assert_eq!(sorted(&again), sorted(&first));
    let expected = Request {
        received_target: first.target.clone(),
        fields: again.fields.clone(),
        written: again.written.clone(),
        ..first
    };
    assert_eq!(again, expected);
}

/// The fields that go to an endpoint, by name; of `TE` there is one.
fn sorted(request: &Request) -> Vec<Field> {
    let fields = request.fields.iter();
    let mut fields: Vec<_> = fields
        .filter(|(name, _)| name != b"http2-settings")
        .cloned()
        .collect();
    fields.sort_by(|(a, _), (b, _)| a.cmp(b));
    fields.dedup_by(|a, b| a == b && a.0 == b"te");
    fields
}
