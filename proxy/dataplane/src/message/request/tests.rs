//! Tests of heads of requests.

use http::uri::Scheme;
use proptest::prelude::*;

use super::*;
use crate::message::{MAX_FIELDS, MAX_HEAD, MAX_TARGET, RejectionKind};

fn parse(text: &str) -> Result<Option<(RequestHead, usize)>, Rejection> {
    RequestHead::parse(text.as_bytes())
}

fn head(text: &str) -> RequestHead {
    parse(text).unwrap().unwrap().0
}

/// A request with these lines beside its `Host`.
fn with(lines: &str) -> RequestHead {
    head(&format!("POST /p HTTP/1.1\r\nHost: a\r\n{lines}\r\n"))
}

fn refusal(text: &str) -> (RejectionKind, &'static str) {
    let rejection = parse(text).expect_err(text);
    (rejection.kind, rejection.reason)
}

fn malformed(reason: &'static str) -> (RejectionKind, &'static str) {
    (RejectionKind::Malformed, reason)
}

fn written(head: &RequestHead) -> String {
    let mut out = Vec::new();
    head.write_http1(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_usual_request() {
    let text = "GET /a/b?c=d HTTP/1.1\r\nHost: A.Example:8080\r\nAccept: */*\r\n\r\n";
    let (head, length) = parse(&format!("{text}body")).unwrap().unwrap();
    assert_eq!(length, text.len());
    assert_eq!(head.version(), HttpVersion::Http11);
    assert_eq!(head.method(), "GET");
    assert_eq!((head.path(), head.path_and_query()), ("/a/b", "/a/b?c=d"));
    assert_eq!(head.received_target(), "/a/b?c=d");
    assert_eq!(head.authority(), Some("A.Example:8080"));
    assert_eq!(head.host(), "a.example");
    assert_eq!(head.body_length(), BodyLength::Empty);
    assert!(head.persists() && !head.expects_continue());
    assert!(!head.is_connect() && head.kind() == RequestKind::Other && head.is_idempotent());
    assert_eq!(format!("{}\r\n", written(&head)), text);
}

#[test]
fn more_bytes_are_asked_for() {
    let text = "\r\nGET / HTTP/1.0\r\nHost: a\r\n\r\n";
    for end in 0..text.len() {
        assert!(matches!(parse(&text[..end]), Ok(None)), "{end}");
    }
    assert_eq!(parse(text).unwrap().unwrap().1, text.len());
}

#[test]
fn at_most_one_empty_line_comes_first() {
    let (_, length) = parse("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap()
        .unwrap();
    assert_eq!(length, 29);
    for text in [
        "\r\n\r\nGET /",
        "\nGET /",
        "\r\n\nGET /",
        "\rGET /",
        "\r\n\rG",
    ] {
        assert_eq!(
            refusal(text),
            malformed("empty lines before the request"),
            "{text:?}"
        );
    }
}

#[test]
fn lines_end_in_crlf() {
    for text in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.0\n\r\n",
        "GET / HTTP/1.0\r\n\n",
        "GET / HTTP/1.0\n\n",
    ] {
        assert_eq!(
            refusal(text),
            malformed("a line ends without CR"),
            "{text:?}"
        );
    }
    for text in [
        "GET / HTTP/1.1\rHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\rX",
    ] {
        assert_eq!(refusal(text).0, RejectionKind::Malformed, "{text:?}");
    }
}

#[test]
fn request_lines() {
    for text in [
        "GET  / HTTP/1.1\r\n",
        "GET /  HTTP/1.1\r\n",
        "GET\t/ HTTP/1.1\r\n",
        "GET /\tHTTP/1.1\r\n",
        "GET / HTTP/1.1 \r\n",
        "GET / a HTTP/1.1\r\n",
        " GET / HTTP/1.1\r\n",
        "GET /\r\n",
        "GET\r\n",
        "G(T / HTTP/1.1\r\n",
        "G\u{e4}T / HTTP/1.1\r\n",
        "GET /\0 HTTP/1.1\r\n",
        "GET /\u{7f} HTTP/1.1\r\n",
        "GET /a#b HTTP/1.1\r\n",
        "GET a HTTP/1.1\r\n",
        "GET * HTTP/1.1\r\n",
        "GET ftp://a/ HTTP/1.1\r\n",
        "GET http://u@a/ HTTP/1.1\r\n",
        "GET http:///p HTTP/1.1\r\n",
        "CONNECT / HTTP/1.1\r\n",
        "GET / http/1.1\r\n",
        "GET / HTTP/1.10\r\n",
        "GET / HTTP/11\r\n",
        "GET / HTTP/x.y\r\n",
        "GET / HTTPS/1.1\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}",
    ] {
        let text = format!("{text}Host: a\r\n\r\n");
        assert_eq!(refusal(&text).0, RejectionKind::Malformed, "{text:?}");
    }
}

#[test]
fn versions_that_are_not_spoken() {
    for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/3.0", "HTTP/1.9"] {
        let text = format!("GET / {version}\r\nHost: a\r\n\r\n");
        assert_eq!(refusal(&text).0, RejectionKind::Version, "{text}");
        for end in 0..text.find('\r').unwrap() {
            assert!(matches!(parse(&text[..end]), Ok(None)), "{version} {end}");
        }
    }
}

#[test]
fn field_lines() {
    for line in [
        "X : a",
        "X\t: a",
        " X: a",
        "\tX: a",
        "X: a\r\n b",
        "X: a\r\n\tb",
        ": a",
        "X",
        "X: a\0",
        "X: \u{1}",
        "X: a\u{7f}",
        "X\0: a",
        "X(: a",
        "\u{e4}: a",
    ] {
        for text in [
            format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n"),
            format!("GET / HTTP/1.1\r\n{line}\r\nHost: a\r\n\r\n"),
        ] {
            assert_eq!(refusal(&text).0, RejectionKind::Malformed, "{text:?}");
        }
    }
    let kept = with("X: \u{e4} \t b\r\nEmpty:\r\n");
    assert_eq!(kept.fields().iter().count(), 3);
}

#[test]
fn there_is_one_host() {
    let get = |version: &str, lines: &str| {
        parse(&format!("GET / HTTP/{version}\r\n{lines}\r\n")).map(|_| ())
    };
    assert!(get("1.1", "Host: a\r\n").is_ok());
    assert!(get("1.0", "Host: a\r\n").is_ok());
    assert!(get("1.0", "").is_ok());
    for (version, lines) in [
        ("1.1", ""),
        ("1.1", "Host: a\r\nHost: b\r\n"),
        ("1.1", "Host: a\r\nhost: a\r\n"),
        ("1.0", "Host: a\r\nHost: a\r\n"),
        ("1.1", "Host:\r\n"),
        ("1.0", "Host:\r\n"),
        ("1.1", "Host: a b\r\n"),
        ("1.1", "Host: a, b\r\n"),
        ("1.1", "Host: a/b\r\n"),
        ("1.1", "Host: u@a\r\n"),
        ("1.1", "Host: a:b\r\n"),
        ("1.1", "Host: a:70000\r\n"),
        ("1.1", "Host: \u{e4}\r\n"),
    ] {
        let rejection = get(version, lines).expect_err(lines);
        assert_eq!(rejection.kind, RejectionKind::Malformed, "{lines:?}");
    }
    assert_eq!(head("GET / HTTP/1.0\r\n\r\n").authority(), None);
    assert_eq!(head("GET / HTTP/1.0\r\n\r\n").host(), "");
}

#[test]
fn the_absolute_form_is_the_authority() {
    let head_of = |line: &str| head(&format!("{line} HTTP/1.1\r\nHost: other\r\nA: b\r\n\r\n"));
    let found = head_of("GET http://a.example:80//p?q");
    assert_eq!(found.authority(), Some("a.example:80"));
    assert_eq!(found.received_target(), "http://a.example:80//p?q");
    assert_eq!(
        written(&found),
        "GET /p?q HTTP/1.1\r\nA: b\r\nhost: a.example:80\r\n"
    );
    for (line, target) in [
        ("GET http://a", "/"),
        ("GET https://a?q", "/?q"),
        ("OPTIONS http://a", "*"),
        ("OPTIONS http://a/", "/"),
    ] {
        assert_eq!(head_of(line).path_and_query(), target, "{line}");
    }
    assert_eq!(
        refusal("GET http://a/ HTTP/1.1\r\n\r\n"),
        malformed("no Host field")
    );
    assert_eq!(
        refusal("GET http://a/ HTTP/1.1\r\nHost: a b\r\n\r\n"),
        malformed("a bad host")
    );
}

#[test]
fn options_of_all_and_connect() {
    let options = head("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((options.path(), options.path_and_query()), ("*", "*"));
    let connect = head("CONNECT b:443 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(connect.is_connect());
    assert_eq!(connect.received_target(), "b:443");
    assert_eq!(connect.authority(), Some("b:443"));
}

#[test]
fn paths_are_normalised_and_logs_see_what_came() {
    let found = head("GET /a/%2e%2e//b/?x//y HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!((found.path(), found.path_and_query()), ("/b/", "/b/?x//y"));
    assert_eq!(found.received_target(), "/a/%2e%2e//b/?x//y");
    assert_eq!(written(&found), "GET /b/?x//y HTTP/1.1\r\nHost: a\r\n");
    assert_eq!(
        refusal("GET /..%2f HTTP/1.1\r\nHost: a\r\n\r\n"),
        malformed("a bad path")
    );
}

#[test]
fn lengths_of_bodies() {
    let length = |lines: &str| with(lines).body_length();
    assert_eq!(length(""), BodyLength::Empty);
    assert_eq!(length("Content-Length: 0\r\n"), BodyLength::Empty);
    assert_eq!(length("Content-Length: 12\r\n"), BodyLength::Known(12));
    assert_eq!(
        length("transfer-encoding: CHUNKED\r\n"),
        BodyLength::Chunked
    );
    for lines in [
        "Content-Length: 1\r\nContent-Length: 1\r\n",
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: +1\r\n",
        "Content-Length: 1,1\r\n",
        "Content-Length:\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\u{b}\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        assert_eq!(refusal(&text).0, RejectionKind::Malformed, "{lines:?}");
    }
    assert_eq!(
        refusal("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        malformed("Transfer-Encoding in HTTP/1.0")
    );
}

#[test]
fn persistence() {
    for (version, line, persists) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: x, Close\r\n", false),
        ("1.1", "Connection: keep-alive\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
        ("1.0", "Connection: upgrade\r\n", false),
    ] {
        let text = format!("GET / HTTP/{version}\r\nHost: a\r\n{line}\r\n");
        assert_eq!(head(&text).persists(), persists, "{text}");
    }
}

#[test]
fn expectations() {
    assert!(with("Content-Length: 1\r\nExpect: 100-Continue\r\n").expects_continue());
    assert!(with("Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n").expects_continue());
    assert!(!with("Expect: 100-continue\r\n").expects_continue());
    assert!(!with("Content-Length: 1\r\nExpect: x\r\n").expects_continue());
    let old = "POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n";
    assert!(!head(old).expects_continue());
}

#[test]
fn limits() {
    let target = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(length));
    assert!(parse(&target(MAX_TARGET - 1)).is_ok());
    for text in [&target(MAX_TARGET), &target(MAX_TARGET)[..MAX_TARGET + 6]] {
        assert_eq!(refusal(text).0, RejectionKind::TargetTooLong);
    }
    let fields = |count: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "X: y\r\n".repeat(count - 1)
        )
    };
    assert!(parse(&fields(MAX_FIELDS)).is_ok());
    assert_eq!(
        refusal(&fields(MAX_FIELDS + 1)).0,
        RejectionKind::HeadTooLarge
    );
    let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
    let sized = |length: usize| format!("{start}{}\r\n\r\n", "x".repeat(length - start.len() - 4));
    assert_eq!(parse(&sized(MAX_HEAD)).unwrap().unwrap().1, MAX_HEAD);
    for text in [&sized(MAX_HEAD + 1), &sized(MAX_HEAD + 1)[..MAX_HEAD]] {
        assert_eq!(refusal(text).0, RejectionKind::HeadTooLarge);
    }
    assert!(matches!(parse(&sized(MAX_HEAD)[..MAX_HEAD - 1]), Ok(None)));
    let method = "A".repeat(MAX_HEAD);
    assert_eq!(refusal(&method).0, RejectionKind::HeadTooLarge);
}

fn http2(request: http::request::Builder) -> Result<RequestHead, Rejection> {
    RequestHead::from_http2(&request.body(()).unwrap().into_parts().0, true)
}

fn get(uri: &str) -> http::request::Builder {
    http::Request::get(uri)
}

#[test]
fn http2_requests_become_like_those_of_http1() {
    let request = get("https://a.example/x/../p?q")
        .header("cookie", "a=1")
        .header("x-a", "b")
        .header("cookie", "c=2")
        .header("te", "trailers");
    let found = http2(request).unwrap();
    assert_eq!(found.version(), HttpVersion::Http2);
    assert_eq!(found.received_target(), "/x/../p?q");
    assert!(found.persists());
    assert_eq!(
        written(&found),
        "GET /p?q HTTP/1.1\r\nhost: a.example\r\nx-a: b\r\nte: trailers\r\ncookie: a=1; c=2\r\n"
    );
    let crumbs = ["", "a=1", "", "b=2", ""].into_iter();
    let empty = crumbs.fold(get("http://a/"), |request, crumb| {
        request.header("cookie", crumb)
    });
    let found = http2(empty).unwrap();
    assert_eq!(found.fields().first(Name::Cookie), Some(&b"a=1; b=2"[..]));
    let by_host = http2(get("/").header("host", "a.example")).unwrap();
    assert_eq!(by_host.authority(), Some("a.example"));
    let both = http2(get("http://a/").header("host", "A")).unwrap();
    assert_eq!(both.fields().all(Name::Host).count(), 1);
    let connect = http2(http::Request::connect("a:443")).unwrap();
    assert!(connect.is_connect());
}

#[test]
fn what_http2_calls_malformed() {
    let refused = |request: http::request::Builder| http2(request).expect_err("refused").reason;
    for name in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "upgrade",
    ] {
        assert_eq!(
            refused(get("http://a/").header(name, "x")),
            "a connection-specific field",
            "{name}"
        );
    }
    assert_eq!(
        refused(get("http://a/").header("te", "gzip")),
        "TE other than trailers"
    );
    assert_eq!(
        refused(get("http://a/").header("host", "b")),
        "Host differs from :authority"
    );
    assert_eq!(
        refused(get("/").header("host", "a").header("host", "a")),
        "two Host fields"
    );
    assert_eq!(refused(get("/")), "no :authority");
    assert_eq!(refused(get("/").header("host", "a b")), "a bad host");
    assert_eq!(refused(get("http://u@a/")), "a bad host");
    assert_eq!(refused(get("ftp://a/")), "a bad scheme");
    assert_eq!(
        refused(get("http://a/").header("x", " a")),
        "whitespace around a field value"
    );
    assert_eq!(
        refused(
            get("http://a/")
                .header("cookie", "a=1")
                .header("cookie", "b=2 ")
        ),
        "whitespace around a field value"
    );
    // `http` takes it for a name, and an endpoint that speaks HTTP/1.1 could not read it.
    let quoted = http::HeaderName::from_lowercase(b"a\"b").unwrap();
    assert_eq!(
        refused(get("http://a/").header(quoted, "c")),
        "a bad field name"
    );
    assert_eq!(refused(get("*").header("host", "a")), "a bad target");
    assert_eq!(refused(get("http://a/%2f..")), "a bad path");
    let two = get("http://a/")
        .header("content-length", "1")
        .header("content-length", "1");
    assert_eq!(refused(two), "two Content-Length fields");
    let (mut parts, ()) = get("/").header("host", "a").body(()).unwrap().into_parts();
    parts.uri = http::Uri::from_parts(http::uri::Parts::default()).unwrap();
    let missing = RequestHead::from_http2(&parts, true).unwrap_err();
    assert_eq!(missing.reason, "no :path");
}

#[test]
fn lengths_of_http2_bodies() {
    let length = |fields: &[(&str, &str)], ended| {
        let mut request = http::Request::post("http://a/");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        RequestHead::from_http2(&parts, ended).map(|head| head.body_length())
    };
    assert_eq!(length(&[], true), Ok(BodyLength::Empty));
    assert_eq!(length(&[], false), Ok(BodyLength::Chunked));
    let three = [("content-length", "3")];
    assert_eq!(length(&three, false), Ok(BodyLength::Known(3)));
    assert!(length(&three, true).is_err());
    assert_eq!(
        length(&[("content-length", "0")], false),
        Ok(BodyLength::Empty)
    );
    assert!(length(&[("content-length", "3,3")], false).is_err());
}

#[test]
fn http2_heads_are_bounded() {
    let mut many = get("http://a/");
    for _ in 0..MAX_FIELDS {
        many = many.header("x", "y").header("cookie", "c");
    }
    assert_eq!(http2(many).unwrap_err().kind, RejectionKind::HeadTooLarge);
    let crumbs = (0..500).fold(get("http://a/"), |request, _| request.header("cookie", "c"));
    assert!(http2(crumbs).is_ok());
    let long = get("http://a/").header("x", "y".repeat(MAX_HEAD));
    assert_eq!(http2(long).unwrap_err().kind, RejectionKind::HeadTooLarge);
    let target = get(&format!("http://a/{}", "a".repeat(MAX_TARGET)));
    assert_eq!(
        http2(target).unwrap_err().kind,
        RejectionKind::TargetTooLong
    );
}

#[test]
fn to_http2() {
    let found = head(concat!(
        "GET /a//b?c HTTP/1.1\r\nHost: a.example:1\r\nX-Upper: v\r\nConnection: x\r\nKeep-Alive: 1\r\n",
        "Upgrade: h2c\r\nHTTP2-Settings: x\r\nTE: gzip, trailers\r\n\r\n"
    ));
    for _ in 0..2 {
        let request = found.to_http2(Scheme::HTTP).unwrap();
        assert_eq!(request.uri(), "http://a.example:1/a/b?c");
        assert_eq!(request.version(), http::Version::HTTP_2);
        let fields: Vec<_> = request
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        assert_eq!(fields, [("x-upper", "v"), ("te", "trailers")]);
    }
    let star = head("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(star.to_http2(Scheme::HTTP).unwrap().uri().path(), "*");
    let raw = head("GET /<`>?\"<>` HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(
        raw.to_http2(Scheme::HTTPS).unwrap().uri(),
        "https://a/%3C%60%3E?%22%3C%3E%60"
    );
    let without_host = head("GET / HTTP/1.0\r\n\r\n");
    assert!(without_host.to_http2(Scheme::HTTP).is_none());
}

/// Requests that are nearly good.
fn request_like() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        8 => "(GET|POST|OPTIONS) (/[a-z%.?]{0,8}|http://a/x) HTTP/1\\.[01]",
        1 => "[ -~\t]{0,20}",
    ];
    let field = prop_oneof![
        4 => "[A-Za-z-]{1,8}:[ \t]{0,2}[a-z ,=]{0,8}",
        2 => "[Hh]ost: [a-z.:0-9]{1,6}",
        1 => "Content-Length: [0-9]{1,3}",
        1 => "Transfer-Encoding: chunked",
        1 => "[ -~\t]{0,12}",
    ];
    let end = prop_oneof![20 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r")];
    (line, prop::collection::vec((field, end), 0..5)).prop_map(|(line, fields)| {
        let fields: String = fields.into_iter().map(|(field, end)| field + end).collect();
        format!("{line}\r\nHost: a\r\n{fields}\r\n").into_bytes()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn what_is_accepted_is_what_the_scanner_reads(
        bytes in prop_oneof![request_like(), prop::collection::vec(any::<u8>(), 0..80)]
    ) {
        let Ok(Some((head, length))) = RequestHead::parse(&bytes) else {
            return Ok(());
        };
        let mut headers = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut scanned = httparse::Request::new(&mut headers);
        prop_assert_eq!(scanned.parse(&bytes), Ok(httparse::Status::Complete(length)));
        prop_assert_eq!(head.method(), scanned.method.unwrap());
        prop_assert_eq!(head.received_target(), scanned.path.unwrap());
        if !head.received_target().starts_with("http") {
            prop_assert_eq!(head.fields().iter().count(), scanned.headers.len());
            for ((_, name, value), header) in head.fields().iter().zip(scanned.headers.iter()) {
                prop_assert_eq!(name, header.name.as_bytes());
                prop_assert_eq!(value, header.value);
            }
        }
    }

    #[test]
    fn what_is_written_is_read_again(bytes in request_like()) {
        let Ok(Some((head, _))) = RequestHead::parse(&bytes) else {
            return Ok(());
        };
        let mut out = Vec::new();
        head.write_http1(&mut out);
        out.extend_from_slice(b"\r\n");
        let (again, length) = RequestHead::parse(&out).unwrap().unwrap();
        prop_assert_eq!(length, out.len());
        prop_assert_eq!(head.method(), again.method());
        prop_assert_eq!(head.path_and_query(), again.path_and_query());
        prop_assert_eq!(head.path(), again.path());
        prop_assert_eq!(head.body_length(), again.body_length());
        prop_assert!(head.fields().iter().eq(again.fields().iter()));
    }
}
