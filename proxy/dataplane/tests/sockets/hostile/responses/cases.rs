//! Answers of endpoints, case by case.

use super::*;

fn bad(id: &'static str, answer: impl Into<Vec<u8>>) -> Answered {
    Answered {
        id,
        method: "GET",
        pieces: vec![answer.into()],
        ending: Ending::Stays,
        pace: Pace::Any,
        outcome: Outcome::Bad,
    }
}

/// A status line before fields that are good.
fn status(id: &'static str, line: &str) -> Answered {
    bad(id, format!("{line}\r\nContent-Length: 3\r\n\r\nabc"))
}

/// Lines behind a good status line.
fn fields(id: &'static str, lines: &str, body: &str) -> Answered {
    bad(id, format!("HTTP/1.1 200 OK\r\n{lines}\r\n{body}"))
}

/// More than was announced, seen at once.
fn excess(id: &'static str, method: &'static str, answer: &str) -> Answered {
    Answered {
        method,
        pace: Pace::AtOnce,
        ..bad(id, answer)
    }
}

fn cut(id: &'static str, lines: &str, body: &str) -> Answered {
    Answered {
        outcome: Outcome::Cut,
        ..fields(id, lines, body)
    }
}

fn closing(case: Answered) -> Answered {
    Answered {
        ending: Ending::Closes,
        ..case
    }
}

fn passes(id: &'static str, pieces: &[&str], passed: Passed) -> Answered {
    Answered {
        pieces: pieces
            .iter()
            .map(|piece| piece.as_bytes().to_vec())
            .collect(),
        pace: if pieces.len() == 1 {
            Pace::Any
        } else {
            Pace::AtOnce
        },
        outcome: Outcome::Passes(passed),
        ..bad(id, "")
    }
}

const ABC: Passed = Passed {
    status: 200,
    body: "abc",
    trailers: "",
    fields: &[],
    then: Then::Reused,
};

const ABC_DROPPED: Passed = Passed {
    then: Then::Dropped,
    ..ABC
};

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

pub(super) fn heads() -> Vec<Answered> {
    let long = "a".repeat(900);
    vec![
        bad("answer-garbage", "this is not HTTP\r\n\r\n"),
        bad(
            "answer-empty-line",
            "\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ),
        bad("answer-lf", "HTTP/1.1 200 OK\nContent-Length: 3\n\nabc"),
        bad(
            "answer-status-lf",
            "HTTP/1.1 200 OK\nContent-Length: 3\r\n\r\nabc",
        ),
        closing(bad("answer-head-cut", "HTTP/1.1 200 OK\r\nContent-Le")),
        status("answer-http2", "HTTP/2 200 OK"),
        status("answer-version", "HTTP/1.2 200 OK"),
        status("answer-lower-case", "http/1.1 200 OK"),
        status("answer-icy", "ICY 200 OK"),
        status("answer-status-two-digits", "HTTP/1.1 20 OK"),
        status("answer-status-four-digits", "HTTP/1.1 2000 OK"),
        status("answer-status-word", "HTTP/1.1 2xx OK"),
        status("answer-status-sign", "HTTP/1.1 +20 OK"),
        status("answer-status-none", "HTTP/1.1 OK"),
        status("answer-status-low", "HTTP/1.1 099 OK"),
        status("answer-status-high", "HTTP/1.1 600 OK"),
        status("answer-two-spaces", "HTTP/1.1  200 OK"),
        status("answer-tab", "HTTP/1.1\t200 OK"),
        status("answer-reason-cr", "HTTP/1.1 200 O\rK"),
        status("answer-reason-nul", "HTTP/1.1 200 O\0K"),
        status("answer-reason-control", "HTTP/1.1 200 O\x01K"),
        fields("answer-colon-apart", "Content-Length : 3\r\n", "abc"),
        fields(
            "answer-folded",
            "Content-Length: 3\r\nX: 1\r\n 2\r\n",
            "abc",
        ),
        fields("answer-indented", " Content-Length: 3\r\n", "abc"),
        fields("answer-no-colon", "Content-Length: 3\r\nX\r\n", "abc"),
        fields("answer-no-name", "Content-Length: 3\r\n: x\r\n", "abc"),
        fields(
            "answer-field-cr",
            "Content-Length: 3\r\nX: a\rSet-Cookie: b\r\n",
            "abc",
        ),
        fields(
            "answer-field-lf",
            "Content-Length: 3\r\nX: a\nSet-Cookie: b\r\n",
            "abc",
        ),
        fields(
            "answer-field-nul",
            "Content-Length: 3\r\nX: a\0b\r\n",
            "abc",
        ),
        fields(
            "answer-field-control",
            "Content-Length: 3\r\nX: a\x01b\r\n",
            "abc",
        ),
        fields(
            "answer-too-large",
            &format!("X: {long}\r\n").repeat(100),
            "abc",
        ),
        fields("answer-too-many-fields", &"X: 1\r\n".repeat(200), "abc"),
        fields(
            "answer-connection-lists-much",
            &format!(
                "Content-Length: 3\r\nConnection: {}\r\n",
                "a, ".repeat(20_000)
            ),
            "abc",
        ),
        bad(
            "answer-switch-unasked",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        ),
        bad(
            "answer-informational-flood",
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(2000),
        ),
    ]
}

pub(super) fn framings() -> Vec<Answered> {
    let length = |id, value: &str| fields(id, &format!("Content-Length: {value}\r\n"), "abc");
    let coding = |id, value: &str| {
        let lines = format!("Transfer-Encoding: {value}\r\n");
        fields(id, &lines, "3\r\nabc\r\n0\r\n\r\n")
    };
    let two = "Content-Length: 3\r\nContent-Length: 4\r\n";
    vec![
        fields("answer-length-two", two, "abc"),
        fields(
            "answer-length-two-same",
            "Content-Length: 3\r\nContent-Length: 3\r\n",
            "abc",
        ),
        Answered {
            method: "HEAD",
            ..fields("answer-length-two-to-head", two, "")
        },
        length("answer-length-list", "3, 3"),
        length("answer-length-plus", "+3"),
        length("answer-length-minus", "-3"),
        length("answer-length-empty", ""),
        length("answer-length-word", "3x"),
        length("answer-length-overflow", "18446744073709551619"),
        fields(
            "answer-coding-and-length",
            "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
        ),
        coding("answer-coding-unknown", "gzip"),
        coding("answer-coding-identity", "identity"),
        coding("answer-coding-before-chunked", "gzip, chunked"),
        coding("answer-coding-chunked-twice", "chunked, chunked"),
        fields(
            "answer-coding-two",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
        ),
        bad(
            "answer-coding-http10",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ),
        excess(
            "excess-body",
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef",
        ),
        excess(
            "excess-empty",
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nabc",
        ),
        excess(
            "excess-answer",
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        ),
        excess(
            "excess-to-head",
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        ),
        excess("excess-204", "GET", "HTTP/1.1 204 No Content\r\n\r\nabc"),
        excess(
            "excess-304",
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\nabc",
        ),
    ]
}

pub(super) fn cuts() -> Vec<Answered> {
    vec![
        closing(cut("answer-length-cut", "Content-Length: 10\r\n", "abc")),
        closing(cut("answer-chunk-cut", CHUNKED, "5\r\nabc")),
        closing(cut("answer-chunk-cut-between", CHUNKED, "3\r\nabc\r\n")),
        closing(cut("answer-chunk-cut-last", CHUNKED, "3\r\nabc\r\n0\r\n")),
        cut("answer-chunk-size-word", CHUNKED, "3\r\nabc\r\nzz\r\n"),
        cut(
            "answer-chunk-size-lf",
            CHUNKED,
            "3\r\nabc\r\n3\nabc\r\n0\r\n\r\n",
        ),
        cut(
            "answer-chunk-size-minus",
            CHUNKED,
            "3\r\nabc\r\n-3\r\nabc\r\n0\r\n\r\n",
        ),
        cut(
            "answer-chunk-size-overflow",
            CHUNKED,
            "3\r\nabc\r\nfffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        ),
        cut("answer-chunk-end-none", CHUNKED, "3\r\nabc0\r\n\r\n"),
        cut(
            "answer-chunk-extension-lf",
            CHUNKED,
            "3;a\nabc\r\n0\r\n\r\n",
        ),
        cut(
            "answer-trailer-folded",
            CHUNKED,
            "3\r\nabc\r\n0\r\nx: 1\r\n 2\r\n\r\n",
        ),
        cut(
            "answer-trailer-answer",
            CHUNKED,
            "3\r\nabc\r\n0\r\nHTTP/1.1 200 OK\r\n\r\n",
        ),
    ]
}

pub(super) fn passing() -> Vec<Answered> {
    let announced = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
    vec![
        passes(
            "answer-no-reason",
            &["HTTP/1.1 200\r\nContent-Length: 3\r\n\r\nabc"],
            ABC,
        ),
        passes(
            "answer-reason-not-ascii",
            &["HTTP/1.1 200 \u{e4}\r\nContent-Length: 3\r\n\r\nabc"],
            ABC,
        ),
        passes(
            "answer-hop-by-hop",
            &[
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: X-Hop, Content-Length\r\nX-Hop: 1\r\n\
               Keep-Alive: 5\r\nProxy-Connection: x\r\nProxy-Authenticate: x\r\nUpgrade: h2c\r\nX-Kept: 1\r\n\r\nabc",
            ],
            Passed {
                fields: &[
                    ("x-kept", Some("1")),
                    ("content-length", Some("3")),
                    ("x-hop", None),
                    ("keep-alive", None),
                    ("proxy-connection", None),
                    ("proxy-authenticate", None),
                    ("upgrade", None),
                ],
                ..ABC
            },
        ),
        passes(
            "answer-204-length",
            &["HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n"],
            Passed {
                status: 204,
                body: "",
                fields: &[("content-length", None)],
                ..ABC
            },
        ),
        passes(
            "answer-204-coding",
            &["HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"],
            Passed {
                status: 204,
                body: "",
                fields: &[("transfer-encoding", None)],
                ..ABC
            },
        ),
        passes(
            "answer-trailers-unfit",
            &[
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nContent-Length: 9\r\n\
               Set-Cookie: a=b\r\nX-Sum: 7\r\nTransfer-Encoding: chunked\r\n\r\n",
            ],
            Passed {
                trailers: "x-sum: 7",
                ..ABC
            },
        ),
        passes(
            "answer-informational-length",
            &[
                "HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n",
                announced,
            ],
            ABC,
        ),
        passes("excess-later", &[announced, "def"], ABC_DROPPED),
        passes(
            "excess-answer-later",
            &[
                announced,
                "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
            ],
            ABC_DROPPED,
        ),
        passes(
            "excess-chunked",
            &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\ndef"],
            ABC_DROPPED,
        ),
        closing(passes(
            "answer-until-close",
            &["HTTP/1.1 200 OK\r\n\r\nabc"],
            ABC_DROPPED,
        )),
        passes(
            "answer-close",
            &["HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc"],
            ABC_DROPPED,
        ),
    ]
}
