//! Requests that are refused before anything of them reaches an endpoint.

use super::*;

/// A request and the status that refuses it.
struct Refused {
    id: &'static str,
    status: u16,
    input: Vec<u8>,
}

fn refused(id: &'static str, input: impl Into<Vec<u8>>) -> Refused {
    answered(id, 400, input)
}

fn answered(id: &'static str, status: u16, input: impl Into<Vec<u8>>) -> Refused {
    let input = input.into();
    Refused { id, status, input }
}

/// A request line, with a good `Host`.
fn line(id: &'static str, line: &str) -> Refused {
    refused(id, format!("{line}\r\nHost: a\r\n\r\n"))
}

/// `Host` lines, or none.
fn host(id: &'static str, lines: &str) -> Refused {
    refused(id, format!("GET / HTTP/1.1\r\n{lines}\r\n"))
}

/// Field lines, or what should be some, behind a good `Host`.
fn fields(id: &'static str, lines: &str) -> Refused {
    refused(id, format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"))
}

/// Fields that tell where a body ends, and what follows them.
fn framing(id: &'static str, lines: &str, body: &str) -> Refused {
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    refused(id, format!("{head}{body}"))
}

fn request_lines() -> Vec<Refused> {
    vec![
        refused(
            "line-two-empty",
            "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        refused("line-lf", "GET / HTTP/1.1\nHost: a\r\n\r\n"),
        refused("line-empty-lf", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        refused("line-cr", "GET / HTTP/1.1\rHost: a\r\n\r\n"),
        line("line-leading-space", " GET / HTTP/1.1"),
        line("line-two-spaces", "GET  / HTTP/1.1"),
        line("line-two-spaces-before-version", "GET /  HTTP/1.1"),
        line("line-tab", "GET\t/ HTTP/1.1"),
        line("line-trailing-space", "GET / HTTP/1.1 "),
        line("line-three-words", "GET / x HTTP/1.1"),
        line("line-no-version", "GET /"),
        line("line-lower-case-version", "GET / http/1.1"),
        line("line-odd-version", "GET / HTTP/1.10"),
        line("line-short-version", "GET / HTTP/1"),
        line("line-no-method", "/ HTTP/1.1"),
        line("line-bad-method", "G@T / HTTP/1.1"),
        line("line-nul", "GET\0 / HTTP/1.1"),
        answered("version-0.9", 505, "GET / HTTP/0.9\r\nHost: a\r\n\r\n"),
        answered("version-1.2", 505, "GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
        answered("version-2.0", 505, "GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
        answered("version-3.0", 505, "GET / HTTP/3.0\r\nHost: a\r\n\r\n"),
        answered("version-preface", 505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        refused(
            "tls-on-plain",
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..],
        ),
    ]
}

fn targets() -> Vec<Refused> {
    let long = |length: usize| "a".repeat(length);
    vec![
        line("target-control", "GET /a\x01b HTTP/1.1"),
        line("target-nul", "GET /a\0b HTTP/1.1"),
        line("target-delete", "GET /a\x7fb HTTP/1.1"),
        line("target-fragment", "GET /a#b HTTP/1.1"),
        line("target-relative", "GET a/b HTTP/1.1"),
        line("target-query-only", "GET ?a=b HTTP/1.1"),
        line("target-asterisk", "GET * HTTP/1.1"),
        line("target-authority", "GET a:80 HTTP/1.1"),
        line("target-scheme", "GET ftp://a/ HTTP/1.1"),
        line("target-one-slash", "GET http:/a HTTP/1.1"),
        line("target-no-authority", "GET http:///a HTTP/1.1"),
        line("target-user", "GET http://u:p@a/ HTTP/1.1"),
        line("target-bad-port", "GET http://a:b/ HTTP/1.1"),
        host("target-absolute-no-host", "").with("GET http://a/ HTTP/1.1\r\n\r\n"),
        host("target-absolute-two-hosts", "")
            .with("GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
        refused(
            "target-not-utf8",
            &b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        ),
        answered(
            "target-too-long",
            414,
            format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", long(20_000)),
        ),
        answered("target-endless", 414, format!("GET /{}", long(200_000))),
        answered(
            "connect",
            405,
            "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
        ),
        line("connect-path", "CONNECT / HTTP/1.1"),
        line("connect-no-port", "CONNECT a HTTP/1.1"),
    ]
}

fn hosts() -> Vec<Refused> {
    vec![
        host("host-none", ""),
        host("host-two", "Host: a\r\nHost: b\r\n"),
        host("host-two-same", "Host: a\r\nHost: a\r\n"),
        host("host-two-apart", "Host: a\r\nX: 1\r\nhOSt: b\r\n"),
        host("host-empty", "Host:\r\n"),
        host("host-list", "Host: a, b\r\n"),
        host("host-space", "Host: a b\r\n"),
        host("host-path", "Host: a/b\r\n"),
        host("host-user", "Host: u@a\r\n"),
        host("host-scheme", "Host: http://a\r\n"),
        host("host-fragment", "Host: a#b\r\n"),
        host("host-port-letters", "Host: a:8o\r\n"),
        host("host-port-large", "Host: a:65536\r\n"),
        host("host-port-empty", "Host: a:\r\n"),
        host("host-two-ports", "Host: a:80:90\r\n"),
        host("host-port-only", "Host: :80\r\n"),
        host("host-bracket", "Host: [::1\r\n"),
        host("host-no-bracket", "Host: ::1\r\n"),
        host("host-bad-address", "Host: [1.2.3.4]\r\n"),
        host("host-not-ascii", "Host: \u{e4}.example\r\n"),
        host("host-nul", "Host: a\0b\r\n"),
        host("host-colon-apart", "Host : a\r\n"),
        host("host-folded", "Host:\r\n a\r\n"),
        host("host-first-indented", " Host: a\r\n"),
        refused(
            "host-two-http10",
            "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
        ),
    ]
}

fn field_lines() -> Vec<Refused> {
    let long = "a".repeat(100_000);
    let many = |count: usize| -> String { (0..count).map(|n| format!("X-{n}: 1\r\n")).collect() };
    vec![
        fields("field-colon-apart", "X : 1\r\n"),
        fields("field-colon-tab", "X\t: 1\r\n"),
        fields("field-indented", "X: 1\r\n  Y: 2\r\n"),
        fields("field-folded", "X: 1\r\n 2\r\n"),
        fields("field-folded-tab", "X: 1\r\n\t2\r\n"),
        fields("field-folded-blank", "X: 1\r\n \r\n"),
        refused(
            "field-first-indented",
            "GET / HTTP/1.1\r\n X: 1\r\nHost: a\r\n\r\n",
        ),
        fields("field-no-colon", "X\r\n"),
        fields("field-no-name", ": 1\r\n"),
        fields("field-name-space", "X Y: 1\r\n"),
        fields("field-name-separator", "X(Y): 1\r\n"),
        fields("field-name-control", "X\x01: 1\r\n"),
        fields("field-name-nul", "X\0: 1\r\n"),
        fields("field-name-not-ascii", "X\u{e4}: 1\r\n"),
        fields("field-name-cr", "\rX: 1\r\n"),
        fields("field-nul", "X: a\0b\r\n"),
        fields("field-control", "X: a\x01b\r\n"),
        fields("field-vertical-tab", "X: a\x0bb\r\n"),
        fields("field-delete", "X: a\x7fb\r\n"),
        fields("field-cr", "X: a\rb\r\n"),
        fields("field-cr-cr", "X: a\r\r\n"),
        fields(
            "field-cr-hides-field",
            "X: a\rTransfer-Encoding: chunked\r\n",
        ),
        fields("field-lf", "X: a\nY: b\r\n"),
        refused("head-lf-only", "GET / HTTP/1.1\nHost: a\n\n"),
        refused("head-ends-lf", "GET / HTTP/1.1\r\nHost: a\r\n\n"),
        refused("head-ends-lf-lf", "GET / HTTP/1.1\r\nHost: a\n\n"),
        refused(
            "head-ends-cr",
            "GET / HTTP/1.1\r\nHost: a\r\n\rX: 1\r\n\r\n",
        ),
        fields("field-too-long", &format!("X: {long}\r\n")).with_status(431),
        fields("field-name-too-long", &format!("{long}: 1\r\n")).with_status(431),
        fields("fields-too-many", &many(200)).with_status(431),
        fields(
            "connection-options-too-many",
            &format!("Connection: {}\r\n", "x,".repeat(200)),
        )
        .with_status(431),
        fields(
            "head-too-large",
            &format!("X: {}\r\n", "a".repeat(900)).repeat(100),
        )
        .with_status(431),
        fields(
            "connection-lists-much",
            &format!("Connection: {}\r\n", "a, ".repeat(20_000)),
        )
        .with_status(431),
        answered(
            "head-endless",
            431,
            format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}{long}"),
        ),
    ]
}

fn framings() -> Vec<Refused> {
    let coding = |id, value: &str| {
        let lines = format!("Transfer-Encoding: {value}\r\n");
        framing(id, &lines, "3\r\nabc\r\n0\r\n\r\n")
    };
    let length = |id, value: &str| framing(id, &format!("Content-Length: {value}\r\n"), "abc");
    vec![
        framing(
            "length-two",
            "Content-Length: 3\r\nContent-Length: 4\r\n",
            "abcd",
        ),
        framing(
            "length-two-same",
            "Content-Length: 3\r\nContent-Length: 3\r\n",
            "abc",
        ),
        length("length-list", "3, 3"),
        length("length-plus", "+3"),
        length("length-minus", "-3"),
        length("length-hexadecimal", "0x3"),
        length("length-fraction", "3.0"),
        length("length-empty", ""),
        length("length-space", "3 3"),
        length("length-vertical-tab", "3\x0b"),
        length("length-overflow", "18446744073709551619"),
        framing("length-colon-apart", "Content-Length : 3\r\n", "abc"),
        framing("length-folded", "Content-Length: 3\r\n 0\r\n", "abc"),
        framing(
            "coding-and-length",
            "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
        ),
        framing(
            "smuggle-cl-te",
            "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\nG",
        ),
        framing(
            "smuggle-te-cl",
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
            "2e\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\nX: 123456789\r\n0\r\n\r\n",
        ),
        framing(
            "smuggle-te-te",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
            "0\r\n\r\n",
        ),
        framing(
            "smuggle-te-colon-apart",
            "Content-Length: 3\r\nTransfer-Encoding : chunked\r\n",
            "0\r\n\r\n",
        ),
        framing(
            "smuggle-te-folded",
            "Content-Length: 3\r\nTransfer-Encoding:\r\n chunked\r\n",
            "0\r\n\r\n",
        ),
        framing(
            "smuggle-te-after-cr",
            "Content-Length: 3\r\nX: y\rTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        framing(
            "smuggle-te-after-lf",
            "Content-Length: 3\r\nX: y\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        framing(
            "coding-two-same",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        coding("coding-unknown", "gzip"),
        coding("coding-identity", "identity"),
        coding("coding-empty", ""),
        coding("coding-before-chunked", "gzip, chunked"),
        coding("coding-behind-chunked", "chunked, gzip"),
        coding("coding-chunked-twice", "chunked, chunked"),
        coding("coding-comma", "chunked,"),
        coding("coding-parameter", "chunked;a=b"),
        coding("coding-quoted", "\"chunked\""),
        coding("coding-prefix", "xchunked"),
        coding("coding-vertical-tab", "chunked\x0b"),
        coding("coding-nul", "chunked\0"),
        refused(
            "coding-http10",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
    ]
}

impl Refused {
    fn with(mut self, input: &str) -> Self {
        self.input = input.into();
        self
    }

    fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }
}

fn all() -> Vec<Refused> {
    let tables = [
        request_lines(),
        targets(),
        hosts(),
        field_lines(),
        framings(),
    ];
    tables.into_iter().flatten().collect()
}

pub(super) fn rows() -> Vec<(&'static str, String)> {
    let row = |case: &Refused| (case.id, case.status.to_string());
    all().iter().map(row).collect()
}

#[test]
fn each_is_refused_and_nothing_reaches_the_endpoint() {
    let endpoint = Endpoint::new();
    let gate = Gate::start(everything_to(endpoint.backend.address));
    let mut failures = Vec::new();
    for case in all() {
        for sending in Sending::ALL {
            let targets: &[&str] = match sending {
                Sending::Behind => &["/good", "/good"],
                _ => &["/good"],
            };
            let checked = send_refused(&gate, &case.input, sending, case.status)
                .and_then(|()| serves_and_got(&gate, &endpoint, targets));
            if let Err(why) = checked {
                endpoint.take();
                failures.push(format!("{} {sending:?}: {why}", case.id));
            }
        }
    }
    none_failed(&failures);
}

#[test]
fn each_is_counted_by_its_reason() {
    let endpoint = Endpoint::new();
    let gate = Gate::start(everything_to(endpoint.backend.address));
    let cases = all();
    for case in &cases {
        let mut client = gate.client();
        Sending::Whole.send(&mut client, &case.input);
        client.rest();
    }
    for (status, reason) in [
        (400, "malformed-request"),
        (405, "connect-refused"),
        (414, "target-too-long"),
        (431, "head-too-large"),
        (505, "unsupported-version"),
    ] {
        let count = cases.iter().filter(|case| case.status == status).count();
        let line =
            format!(r#"tidegate_faults_total{{reason="{reason}",source="downstream"}} {count}"#);
        eventually(&line, || gate.metrics().lines().any(|found| found == line));
    }
}
