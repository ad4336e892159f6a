//! Answers of endpoints, which are read as strictly as requests: what cannot be trusted is 502, what breaks off is cut,
//! and in both cases the connection carries nothing more.

use std::time::Duration;

use super::*;

struct Answered {
    id: &'static str,
    method: &'static str,
    /// Sent with a pause between them.
    pieces: Vec<Vec<u8>>,
    /// Whether the endpoint closes then.
    ending: Ending,
    /// Whether the case is the same when the bytes come one by one.
    pace: Pace,
    outcome: Outcome,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Stays,
    Closes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Any,
    /// What comes in one piece is seen in one piece.
    AtOnce,
}

/// What becomes of an answer.
#[derive(Clone, Copy)]
enum Outcome {
    /// 502, and the connection is not used again.
    Bad,
    /// The client can tell that it is not whole, and the connection is not used again.
    Cut,
    Passes(Passed),
}

#[derive(Clone, Copy)]
struct Passed {
    status: u16,
    body: &'static str,
    trailers: &'static str,
    /// Fields that reach the client, or do not.
    fields: &'static [(&'static str, Option<&'static str>)],
    then: Then,
}

/// What becomes of the endpoint's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Reused,
    Dropped,
}

const PAUSE: Duration = Duration::from_millis(50);

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

fn heads() -> Vec<Answered> {
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

fn framings() -> Vec<Answered> {
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

fn cuts() -> Vec<Answered> {
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

fn passing() -> Vec<Answered> {
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

fn all() -> Vec<Answered> {
    let tables = [heads(), framings(), cuts(), passing()];
    tables.into_iter().flatten().collect()
}

pub(super) fn rows() -> Vec<(&'static str, String)> {
    let row = |case: &Answered| {
        let outcome = match case.outcome {
            Outcome::Bad => "502",
            Outcome::Cut => "cut",
            Outcome::Passes(_) => "passes",
        };
        (case.id, outcome.to_owned())
    };
    all().iter().map(row).collect()
}

/// On which connection a target was asked for.
type Asked = Arc<Mutex<Vec<(usize, String)>>>;

/// Answers `/ID` as its case tells, `/ID/slowly` the same byte by byte, and any other with its target.
fn endpoint(asked: &Asked) -> Backend {
    let (asked, cases) = (asked.clone(), all());
    Backend::raw(move |mut stream, number| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(request) = read_message(&mut reader) {
            let target = target(&request).to_owned();
            asked.lock().unwrap().push((number, target.clone()));
            let mut words = target.split('/').skip(1);
            let Some(case) = words
                .next()
                .and_then(|id| cases.iter().find(|case| case.id == id))
            else {
                let _ = stream.write_all(ok(&target).as_bytes());
                continue;
            };
            let size = if words.next().is_some() {
                1
            } else {
                usize::MAX
            };
            for (index, piece) in case.pieces.iter().enumerate() {
                if index > 0 {
                    std::thread::sleep(PAUSE);
                }
                let mut written = piece.chunks(size).map(|part| stream.write_all(part));
                let _ = written.find(Result::is_err);
            }
            if case.ending == Ending::Closes {
                return;
            }
        }
    })
}

/// What the client got: the final answer, if it was whole, and the end of the connection.
fn read_answer(client: &mut Client, method: &str) -> Option<Response> {
    loop {
        let answer = match method {
            "HEAD" => client.response_without_body(),
            _ => read_message(&mut client.reader)?,
        };
        if !(100..200).contains(&answer.status()) {
            return Some(answer).filter(|_| client.rest().is_empty());
        }
    }
}

fn check(gate: &Gate, asked: &Asked, case: &Answered, suffix: &str) -> Result<(), String> {
    let Answered { id, method, .. } = case;
    let mut client = gate.client();
    client.send(&format!("{method} /{id}{suffix} HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n"));
    let answer = read_answer(&mut client, method);
    if case.pieces.len() > 1 {
        std::thread::sleep(PAUSE * 3);
    }
    same("the next answer", &gate.ask(GOOD).text(), "/good")?;
    let asked = std::mem::take(&mut *asked.lock().unwrap());
    let [(first, _), (second, _)] = &asked[..] else {
        return Err(format!("not asked once each: {asked:?}"));
    };
    let then = if first == second {
        Then::Reused
    } else {
        Then::Dropped
    };
    let wanted = match case.outcome {
        Outcome::Bad => {
            let status = answer.as_ref().map(Response::status);
            same("the status", &format!("{status:?}"), "Some(502)")?;
            Then::Dropped
        }
        Outcome::Cut if answer.is_none() => Then::Dropped,
        Outcome::Cut => return Err(format!("looks whole: {answer:?}")),
        Outcome::Passes(passed) => {
            passed.check(&answer.ok_or("not whole")?)?;
            passed.then
        }
    };
    same(
        "the connection",
        &format!("{then:?}"),
        &format!("{wanted:?}"),
    )
}

impl Passed {
    fn check(&self, answer: &Response) -> Result<(), String> {
        same(
            "the status",
            &answer.status().to_string(),
            &self.status.to_string(),
        )?;
        same("the body", &answer.text(), self.body)?;
        same(
            "the trailers",
            answer.trailers.to_lowercase().trim(),
            self.trailers,
        )?;
        for (name, value) in self.fields {
            let found = answer.field(name);
            same(
                name,
                &format!("{:?}", found.as_deref()),
                &format!("{value:?}"),
            )?;
        }
        Ok(())
    }
}

#[test]
fn each_is_answered_502_or_cut_or_passes_clean() {
    let asked = Asked::default();
    let backend = endpoint(&asked);
    let gate = Gate::start(everything_to(backend.address));
    let mut failures = Vec::new();
    for case in all() {
        let is_short = case.pieces.iter().all(|piece| piece.len() <= SHORT);
        let suffixes: &[&str] = match case.pace {
            Pace::Any if is_short => &["", "/slowly"],
            _ => &[""],
        };
        for suffix in suffixes {
            asked.lock().unwrap().clear();
            if let Err(why) = check(&gate, &asked, &case, suffix) {
                failures.push(format!("{}{suffix}: {why}", case.id));
            }
        }
    }
    none_failed(&failures);
}

#[test]
fn what_an_endpoint_says_unasked_is_nobodys_answer() {
    // Between two requests the endpoint sends an answer that nobody asked for; the next client must not get it.
    let asked = Asked::default();
    let seen = asked.clone();
    let backend = Backend::raw(move |mut stream, number| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(request) = read_message(&mut reader) {
            let target = target(&request).to_owned();
            let _ = stream.write_all(ok(&target).as_bytes());
            seen.lock().unwrap().push((number, target));
            std::thread::sleep(PAUSE);
            let _ = stream.write_all(ok("unasked").as_bytes());
        }
    });
    let gate = Gate::start(everything_to(backend.address));
    for _ in 0..5 {
        assert_eq!(gate.ask(GOOD).text(), "/good");
        std::thread::sleep(PAUSE * 3);
    }
    let numbers: Vec<usize> = asked
        .lock()
        .unwrap()
        .iter()
        .map(|(number, _)| *number)
        .collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
}
