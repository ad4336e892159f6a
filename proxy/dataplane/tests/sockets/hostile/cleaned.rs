//! Odd requests that are served: exactly what reaches the endpoint.

use super::*;

struct Cleaned {
    id: &'static str,
    input: Vec<u8>,
    reaches: Reaches,
}

/// What the endpoint reads, without the fields that tell it of the client.
struct Reaches {
    /// Request line and fields, names in lower case; the order of the fields is free.
    head: String,
    body: &'static str,
    trailers: &'static str,
}

/// A head that reaches the endpoint without a body.
fn cleaned(id: &'static str, input: impl Into<Vec<u8>>, head: &str) -> Cleaned {
    Cleaned {
        id,
        input: input.into(),
        reaches: Reaches {
            head: head.to_owned(),
            body: "",
            trailers: "",
        },
    }
}

/// A request line.
fn line(id: &'static str, sent: &str, reaches: &str) -> Cleaned {
    let head = format!("{reaches}\nhost: a");
    cleaned(id, format!("{sent}\r\nHost: a\r\n\r\n"), &head)
}

/// Field lines behind `Host: a`, and those that reach the endpoint.
fn fields(id: &'static str, sent: &str, reach: &[&str]) -> Cleaned {
    let head = [&["GET / HTTP/1.1", "host: a"], reach].concat().join("\n");
    let input = format!("GET / HTTP/1.1\r\nHost: a\r\n{sent}\r\n");
    cleaned(id, input, &head)
}

/// Field lines and a body.
fn with_body(
    id: &'static str,
    sent: &str,
    reach: &[&str],
    body: &'static str,
    trailers: &'static str,
) -> Cleaned {
    let head = [&["POST / HTTP/1.1", "host: a"], reach].concat().join("\n");
    let input = format!("POST / HTTP/1.1\r\nHost: a\r\n{sent}");
    Cleaned {
        reaches: Reaches {
            head,
            body,
            trailers,
        },
        ..cleaned(id, input, "")
    }
}

const CODED: &str = "transfer-encoding: chunked";
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

fn lines() -> Vec<Cleaned> {
    let get = "GET / HTTP/1.1\nhost: a";
    let line_at_b = "GET /p?q HTTP/1.1\nhost: b";
    let absolute = |id, target: &str, head: &str| {
        let input = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        cleaned(id, input, head)
    };
    vec![
        cleaned(
            "line-one-empty",
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            get,
        ),
        line("line-unknown-method", "get / HTTP/1.1", "get / HTTP/1.1"),
        line(
            "target-not-ascii",
            "GET /\u{e4}|{}^`\"<>?[\u{e4}] HTTP/1.1",
            "GET /\u{e4}|{}^`\"<>?[\u{e4}] HTTP/1.1",
        ),
        line(
            "target-options-asterisk",
            "OPTIONS * HTTP/1.1",
            "OPTIONS * HTTP/1.1",
        ),
        absolute("target-absolute", "http://b/p?q", line_at_b),
        absolute("target-absolute-case", "HTTP://b/p?q", line_at_b),
        absolute("target-absolute-https", "https://b/p?q", line_at_b),
        absolute(
            "target-absolute-port",
            "http://b:8080/p?q",
            "GET /p?q HTTP/1.1\nhost: b:8080",
        ),
        absolute(
            "target-absolute-bare",
            "http://b",
            "GET / HTTP/1.1\nhost: b",
        ),
        absolute(
            "target-absolute-query",
            "http://b?q",
            "GET /?q HTTP/1.1\nhost: b",
        ),
        cleaned(
            "target-absolute-options",
            "OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n",
            "OPTIONS * HTTP/1.1\nhost: b",
        ),
        cleaned(
            "host-odd",
            "GET / HTTP/1.1\r\nhOsT: \t A_b.Example.:080\t \r\n\r\n",
            "GET / HTTP/1.1\nhost: A_b.Example.:080",
        ),
        cleaned(
            "host-address",
            "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
            "GET / HTTP/1.1\nhost: [::1]:80",
        ),
    ]
}

fn field_lines() -> Vec<Cleaned> {
    vec![
        fields("field-space-around", "X:\t  a \t b  \t\r\n", &["x: a \t b"]),
        fields("field-empty", "X:\r\nY: \r\n", &["x:", "y:"]),
        fields("field-not-ascii", "X: \u{e4}\r\n", &["x: \u{e4}"]),
        fields("field-underscore", "a_b: 1\r\n", &["a_b: 1"]),
        fields(
            "field-forged-client",
            "X-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n\
             X-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nForwarded: for=6.6.6.6\r\n",
            &[],
        ),
        fields(
            "field-forged-lookalike",
            "X_Forwarded_For: 6.6.6.6\r\nX-Real_IP: 6.6.6.6\r\nx_forwarded-proto: https\r\n\
             X_FORWARDED_HOST: evil\r\nX-Forwarded_Port: 1\r\n",
            &[],
        ),
        fields(
            "field-hop-by-hop",
            "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n\
             Proxy-Authorization: x\r\nTE: gzip\r\n",
            &[],
        ),
        fields(
            "connection-lists-needed",
            "Connection: Host, X-Forwarded-For, X-Real-IP, X-Forwarded-Proto\r\n",
            &[],
        ),
        fields(
            "te-trailers",
            "TE: trailers, chunked\r\nConnection: TE\r\n",
            &["te: trailers"],
        ),
        fields(
            "upgrade-h2c",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n",
            &[],
        ),
        fields(
            "upgrade-h2c-case",
            "Connection: upgrade\r\nUpgrade: H2C\r\n",
            &[],
        ),
        fields(
            "upgrade-h2c-listed",
            "Connection: upgrade\r\nUpgrade: websocket, h2c\r\n",
            &[],
        ),
        fields(
            "upgrade-h2c-second",
            "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n",
            &["connection: upgrade", "upgrade: websocket"],
        ),
        fields(
            "upgrade-h2c-version",
            "Connection: upgrade\r\nUpgrade: h2c/1\r\n",
            &[],
        ),
        fields("upgrade-unlisted", "Upgrade: websocket\r\n", &[]),
        fields("expect-unknown", "Expect: 200-ok\r\n", &[]),
    ]
}

fn bodies() -> Vec<Cleaned> {
    let length = format!("content-length: {}", SMUGGLED.len());
    let carried = format!("Content-Length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len());
    vec![
        with_body("smuggle-cl-0", &carried, &[&length], SMUGGLED, ""),
        Cleaned {
            input: format!("GET / HTTP/1.1\r\nHost: a\r\n{carried}").into(),
            reaches: Reaches {
                head: format!("GET / HTTP/1.1\nhost: a\n{length}"),
                body: SMUGGLED,
                trailers: "",
            },
            id: "smuggle-in-get",
        },
        with_body(
            "smuggle-by-expect",
            &format!("Expect: y 100-continue\r\n{carried}"),
            &[&length],
            SMUGGLED,
            "",
        ),
        with_body(
            "connection-lists-length",
            &format!("Connection: Content-Length\r\n{carried}"),
            &[&length],
            SMUGGLED,
            "",
        ),
        with_body(
            "connection-lists-coding",
            "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            &[CODED],
            "abc",
            "",
        ),
        with_body(
            "length-leading-zeros",
            "Content-Length: 003\r\n\r\nabc",
            &["content-length: 003"],
            "abc",
            "",
        ),
        with_body(
            "coding-case",
            "Transfer-Encoding: \tChUnKeD \r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            &[CODED],
            "abc",
            "",
        ),
        with_body(
            "chunk-leading-zeros",
            "Transfer-Encoding: chunked\r\n\r\n0003\r\nabc\r\n000\r\n\r\n",
            &[CODED],
            "abc",
            "",
        ),
        with_body(
            "chunk-extensions",
            "Transfer-Encoding: chunked\r\n\r\n3 ;a=\"b\";c\r\nabc\r\nA;x\r\n0123456789\r\n0;y\r\n\r\n",
            &[CODED],
            "abc0123456789",
            "",
        ),
        with_body(
            "trailers-unfit",
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nContent-Length: 99\r\nX-Sum: 7\r\n\
             Transfer-Encoding: chunked\r\nHost: b\r\nX-Forwarded-For: 6.6.6.6\r\nX_Real_IP: 6.6.6.6\r\n\
             Authorization: x\r\nConnection: close\r\nContent-Type: x\r\n\r\n",
            &[CODED],
            "abc",
            "x-sum: 7",
        ),
    ]
}

fn http10() -> Vec<Cleaned> {
    vec![
        cleaned(
            "http10-upgrade",
            "GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            "GET / HTTP/1.1\nhost: a",
        ),
        cleaned(
            "http10-absolute",
            "GET http://b/ HTTP/1.0\r\n\r\n",
            "GET / HTTP/1.1\nhost: b",
        ),
    ]
}

fn all() -> Vec<Cleaned> {
    let tables = [lines(), field_lines(), bodies(), http10()];
    tables.into_iter().flatten().collect()
}

pub(super) fn rows() -> Vec<(&'static str, String)> {
    let row = |case: &Cleaned| (case.id, "passes".to_owned());
    all().iter().map(row).collect()
}

/// The request line and the sorted fields. Those that tell of the client are checked and left out.
fn told_apart(gate: &Gate, head: &str) -> Result<String, String> {
    let mut lines: Vec<String> = head.lines().map(in_lower_case).collect();
    let host = field(head, "host").ok_or_else(|| format!("no host: {head:?}"))?;
    let port = gate.http.port();
    for own in [
        "x-forwarded-for: 127.0.0.1".to_owned(),
        "x-real-ip: 127.0.0.1".to_owned(),
        "x-forwarded-proto: http".to_owned(),
        format!("x-forwarded-port: {port}"),
        format!("x-forwarded-host: {host}"),
    ] {
        let place = lines.iter().position(|line| *line == own);
        lines.remove(place.ok_or_else(|| format!("no {own} in {head:?}"))?);
    }
    lines[1..].sort();
    Ok(lines.join("\n"))
}

/// A line with its name in lower case and without whitespace around its value. A request line stays as it is.
fn in_lower_case(line: &str) -> String {
    match line.split_once(':') {
        Some((name, value)) if !name.contains(' ') => {
            let line = format!("{}: {}", name.to_lowercase(), value.trim());
            line.trim_end().to_owned()
        }
        _ => line.to_owned(),
    }
}

fn sorted(head: &str) -> String {
    let mut lines: Vec<&str> = head.lines().collect();
    lines[1..].sort_unstable();
    lines.join("\n")
}

fn check(gate: &Gate, endpoint: &Endpoint, case: &Cleaned, sending: Sending) -> Result<(), String> {
    let mut client = gate.client();
    sending.send(&mut client, &case.input);
    if sending == Sending::Behind {
        same("the answer before", &client.response().text(), "/good")?;
    }
    let answer = client.response();
    if answer.status() != 200 {
        return Err(format!("{answer:?}"));
    }
    // HTTP/1.0 closes; anyone else gets the next answer on the same connection, which shows where the body ended.
    let closes = answer.field("connection").as_deref() == Some("close");
    match (sending, closes) {
        (_, true) => same("behind the last answer", &client.rest(), "")?,
        (Sending::Before, false) => same("the answer behind", &client.response().text(), "/good")?,
        (_, false) => {
            client.send(GOOD);
            same("the answer behind", &client.response().text(), "/good")?;
        }
    }
    let arrived = endpoint.take();
    let mut others = arrived
        .requests
        .iter()
        .filter(|request| target(request) != "/good");
    let (Some(request), None) = (others.next(), others.next()) else {
        return Err(format!("not one request: {:?}", arrived.targets()));
    };
    same(
        "the head",
        &told_apart(gate, &request.head)?,
        &sorted(&case.reaches.head),
    )?;
    same("the body", &request.text(), case.reaches.body)?;
    let trailers: Vec<String> = request.trailers.lines().map(in_lower_case).collect();
    same("the trailers", &trailers.join("\n"), case.reaches.trailers)
}

#[test]
fn each_reaches_the_endpoint_clean() {
    let endpoint = Endpoint::new();
    let gate = Gate::start(everything_to(endpoint.backend.address));
    let mut failures = Vec::new();
    for case in all() {
        for sending in Sending::ALL {
            if let Err(why) = check(&gate, &endpoint, &case, sending) {
                endpoint.take();
                failures.push(format!("{} {sending:?}: {why}", case.id));
            }
        }
    }
    none_failed(&failures);
}
