//! Tests of heads of responses.

use proptest::prelude::*;

use super::*;
use crate::message::RejectionKind;

fn parse(text: &str, to: RequestKind) -> Result<Option<(ResponseHead, usize)>, Rejection> {
    ResponseHead::parse(text.as_bytes(), to)
}

/// A response to a request that is not `HEAD`.
fn head(text: &str) -> ResponseHead {
    parse(text, RequestKind::Other).unwrap().unwrap().0
}

fn reason(text: &str) -> &'static str {
    let rejection = parse(text, RequestKind::Other).expect_err(text);
    assert_eq!(rejection.kind, RejectionKind::Malformed, "{text:?}");
    rejection.reason
}

fn written(head: &ResponseHead) -> String {
    let mut out = Vec::new();
    head.write_http1(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}

#[test]
fn a_usual_response() {
    let text = "HTTP/1.1 404 Not  Here\r\nServer: x\r\nContent-Length: 3\r\n\r\n";
    let (head, length) = parse(&format!("{text}abc"), RequestKind::Other)
        .unwrap()
        .unwrap();
    assert_eq!(length, text.len());
    assert_eq!(head.status(), 404);
    assert_eq!(head.body_length(), BodyLength::Known(3));
    assert!(head.persists() && !head.is_informational());
    assert_eq!(format!("{}\r\n", written(&head)), text);
    for end in 0..text.len() {
        assert!(matches!(parse(&text[..end], RequestKind::Other), Ok(None)));
    }
}

#[test]
fn status_lines() {
    for (line, out) in [
        ("HTTP/1.1 200 OK", "HTTP/1.1 200 OK"),
        ("HTTP/1.0 200 OK", "HTTP/1.1 200 OK"),
        ("HTTP/1.1 200 ", "HTTP/1.1 200 "),
        ("HTTP/1.1 200", "HTTP/1.1 200 "),
        ("HTTP/1.1 599 \u{e4}\tb", "HTTP/1.1 599 \u{e4}\tb"),
    ] {
        let head = head(&format!("{line}\r\nA: b\r\n\r\n"));
        assert_eq!(written(&head), format!("{out}\r\nA: b\r\n"));
    }
    for line in [
        "HTTP/1.1 99 x",
        "HTTP/1.1 099 x",
        "HTTP/1.1 600 x",
        "HTTP/1.1 999 x",
        "HTTP/1.1 2000 x",
        "HTTP/1.1 20 x",
        "HTTP/1.1 +20 x",
        "HTTP/1.1 2x0 x",
        "HTTP/1.1  200 x",
        "HTTP/1.1\t200 x",
        "HTTP/1.1 200\tOK",
        "HTTP/1.1 200 O\0K",
        "HTTP/1.1 200 O\rK",
        "HTTP/1.2 200 OK",
        "HTTP/2.0 200 OK",
        "http/1.1 200 OK",
        "ICY 200 OK",
        " HTTP/1.1 200 OK",
        "\r\nHTTP/1.1 200 OK",
        "<html>",
    ] {
        reason(&format!("{line}\r\n\r\n"));
    }
}

#[test]
fn lines_are_as_strict_as_in_requests() {
    for text in [
        "HTTP/1.1 200 OK\nA: b\r\n\r\n",
        "HTTP/1.1 200\nA: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n\n",
        "HTTP/1.1 200 OK\n\n",
    ] {
        assert_eq!(reason(text), "a line ends without CR", "{text:?}");
    }
    for line in [
        "A : b",
        " A: b",
        "A: b\r\n c",
        ": b",
        "A",
        "A: \0",
        "A: b\rC: d",
    ] {
        reason(&format!("HTTP/1.1 200 OK\r\nX: y\r\n{line}\r\n\r\n"));
    }
}

#[test]
fn lengths_of_bodies() {
    let length = |lines: &str| head(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n")).body_length();
    assert_eq!(length(""), BodyLength::UntilClose);
    assert_eq!(length("Content-Length: 0\r\n"), BodyLength::Empty);
    assert_eq!(length("Content-Length: 7\r\n"), BodyLength::Known(7));
    assert_eq!(
        length("Transfer-Encoding: chunked\r\n"),
        BodyLength::Chunked
    );
    for (lines, wanted) in [
        (
            "Content-Length: 7\r\nContent-Length: 7\r\n",
            "two Content-Length fields",
        ),
        ("Content-Length: 7, 7\r\n", "a bad Content-Length"),
        ("Content-Length: -1\r\n", "a bad Content-Length"),
        (
            "Content-Length: 7\r\nTransfer-Encoding: chunked\r\n",
            "both Content-Length and Transfer-Encoding",
        ),
        (
            "Transfer-Encoding: gzip\r\n",
            "a transfer coding other than chunked",
        ),
        (
            "Transfer-Encoding: gzip, chunked\r\n",
            "a transfer coding other than chunked",
        ),
    ] {
        let text = format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
        assert_eq!(reason(&text), wanted);
        assert!(parse(&text, RequestKind::Head).is_err(), "{lines}");
    }
    assert_eq!(
        reason("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        "Transfer-Encoding in HTTP/1.0"
    );
}

#[test]
fn responses_without_a_body() {
    let lines = "Content-Length: 7\r\n";
    let text = |status: u16| format!("HTTP/1.1 {status} x\r\n{lines}\r\n");
    let (to_head, _) = parse(&text(200), RequestKind::Head).unwrap().unwrap();
    for head in [to_head, head(&text(304))] {
        assert_eq!(head.body_length(), BodyLength::Empty);
        assert_eq!(head.fields().first(Name::ContentLength), Some(&b"7"[..]));
    }
    for status in [100, 101, 103, 199, 204] {
        let head = head(&text(status));
        assert_eq!(head.body_length(), BodyLength::Empty);
        assert!(head.fields().is_empty(), "{status}");
        assert_eq!(
            head.is_informational(),
            !matches!(status, 101 | 204),
            "{status}"
        );
    }
    let coded = head("HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert!(coded.fields().is_empty() && coded.persists());
}

#[test]
fn persistence() {
    for (start, persists) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", true),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n",
            false,
        ),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n", false),
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n",
            true,
        ),
        ("HTTP/1.1 200 OK\r\n", false),
        ("HTTP/1.1 304 OK\r\n", true),
    ] {
        assert_eq!(
            head(&format!("{start}\r\n")).persists(),
            persists,
            "{start}"
        );
    }
}

#[test]
fn limits() {
    let large = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(MAX_HEAD));
    let many = format!(
        "HTTP/1.1 200 OK\r\n{}\r\n",
        "X: y\r\n".repeat(MAX_FIELDS + 1)
    );
    let options = "x,".repeat(MAX_FIELDS + 1);
    let options = format!("HTTP/1.1 200 OK\r\nConnection: {options}\r\n\r\n");
    for text in [large, many, options] {
        let rejection = parse(&text, RequestKind::Other).expect_err("refused");
        assert_eq!(rejection.kind, RejectionKind::HeadTooLarge);
    }
}

#[test]
fn a_head_of_our_own() {
    let mut head = ResponseHead::with_status(404);
    head.fields_mut().set(Name::ContentType, b"text/plain");
    assert_eq!(
        written(&head),
        "HTTP/1.1 404 Not Found\r\ncontent-type: text/plain\r\n"
    );
    assert_eq!(
        written(&ResponseHead::with_status(599)),
        "HTTP/1.1 599 \r\n"
    );
}

fn http2(
    status: u16,
    fields: &[(&str, &str)],
    to: RequestKind,
    ended: bool,
) -> Result<ResponseHead, &'static str> {
    let mut response = http::Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    let parts = response.body(()).unwrap().into_parts().0;
    ResponseHead::from_http2(parts, to, ended).map_err(|rejection| rejection.reason)
}

#[test]
fn http2_responses_become_like_those_of_http1() {
    let fields = [("x-a", "b"), ("content-length", "3")];
    let head = http2(200, &fields, RequestKind::Other, false).unwrap();
    assert_eq!(head.body_length(), BodyLength::Known(3));
    assert_eq!(
        written(&head),
        "HTTP/1.1 200 OK\r\nx-a: b\r\ncontent-length: 3\r\n"
    );
    let length = |status, fields: &[_], to, ended| {
        http2(status, fields, to, ended).map(|head| head.body_length())
    };
    let other = RequestKind::Other;
    assert_eq!(length(200, &[], other, false), Ok(BodyLength::Chunked));
    assert_eq!(length(200, &[], other, true), Ok(BodyLength::Empty));
    assert_eq!(
        length(200, &fields, RequestKind::Head, true),
        Ok(BodyLength::Empty)
    );
    assert_eq!(length(304, &fields, other, true), Ok(BodyLength::Empty));
    let silenced = http2(204, &fields, other, true).unwrap();
    assert!(!silenced.fields().has(Name::ContentLength));
    for (status, fields) in [
        (200, &[("content-length", "3")][..]),
        (200, &[("content-length", "x")]),
        (200, &[("content-length", "3"), ("content-length", "3")]),
        (200, &[("connection", "close")]),
        (200, &[("transfer-encoding", "chunked")]),
        (200, &[("x", "a ")]),
        (101, &[]),
        (999, &[]),
    ] {
        assert!(http2(status, fields, other, true).is_err(), "{fields:?}");
    }
}

#[test]
fn to_http2() {
    let head = head(
        "HTTP/1.1 404 Not Here\r\nX-Upper: v\r\nConnection: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    let response = head.to_http2();
    assert_eq!(response.status(), 404);
    let fields: Vec<_> = response
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    assert_eq!(fields, [("x-upper", "v")]);
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        bytes in "HTTP/1\\.[01] [1-6][0-9][0-9]( [ -~\t]{0,6})?\r\n([A-Za-z-]{1,6}:[ \t]?[a-z ]{0,5}\r?\n){0,4}\r\n"
    ) {
        let Ok(Some((head, length))) = parse(&bytes, RequestKind::Other) else {
            return Ok(());
        };
        prop_assert_eq!(length, bytes.len());
        let mut out = Vec::new();
        head.write_http1(&mut out);
        out.extend_from_slice(b"\r\n");
        let (again, length) = ResponseHead::parse(&out, RequestKind::Other).unwrap().unwrap();
        prop_assert_eq!(length, out.len());
        prop_assert_eq!(head.status(), again.status());
        prop_assert_eq!(head.body_length(), again.body_length());
        prop_assert!(head.fields().iter().eq(again.fields().iter()));
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = ResponseHead::parse(&bytes, RequestKind::Other);
        let _ = ResponseHead::parse(&[b"HTTP/1.1 200 OK\r\n", &bytes[..]].concat(), RequestKind::Head);
    }
}
