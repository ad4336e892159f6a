//! Requests whose head is good and whose body is not: 400, and never a whole body at the endpoint.

use super::*;

/// What the client does behind the last byte.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// It waits for the answer.
    Waits,
    /// It ends its sending side.
    Closes,
}

struct Broken {
    id: &'static str,
    input: Vec<u8>,
    ending: Ending,
}

fn chunked(id: &'static str, body: impl AsRef<[u8]>) -> Broken {
    let head = &b"POST /broken HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"[..];
    Broken {
        id,
        input: [head, body.as_ref()].concat(),
        ending: Ending::Waits,
    }
}

fn closed(case: Broken) -> Broken {
    Broken {
        ending: Ending::Closes,
        ..case
    }
}

fn all() -> Vec<Broken> {
    let trailers =
        |count: usize| -> String { (0..count).map(|n| format!("x-{n}: 1\r\n")).collect() };
    vec![
        chunked("chunk-no-size", "\r\nabc\r\n0\r\n\r\n"),
        chunked("chunk-size-word", "zz\r\nabc\r\n0\r\n\r\n"),
        chunked("chunk-size-plus", "+3\r\nabc\r\n0\r\n\r\n"),
        chunked("chunk-size-minus", "-3\r\nabc\r\n0\r\n\r\n"),
        chunked("chunk-size-0x", "0x3\r\nabc\r\n0\r\n\r\n"),
        chunked("chunk-size-leading-space", " 3\r\nabc\r\n0\r\n\r\n"),
        chunked("chunk-size-trailing-space", "3 \r\nabc\r\n0\r\n\r\n"),
        chunked("chunk-size-trailing-word", "3 a\r\nabc\r\n0\r\n\r\n"),
        chunked("chunk-size-nul", "3\0\r\nabc\r\n0\r\n\r\n"),
        chunked(
            "chunk-size-overflow",
            "ffffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        ),
        chunked("chunk-size-digits", "00000000000000003\r\nabc\r\n0\r\n\r\n"),
        chunked("chunk-size-lf", "3\nabc\r\n0\r\n\r\n"),
        chunked("chunk-size-cr", "3\rabc\r\n0\r\n\r\n"),
        chunked("chunk-extension-lf", "3;a\nabc\r\n0\r\n\r\n"),
        chunked("chunk-extension-cr", "3;a\rb\r\nabc\r\n0\r\n\r\n"),
        chunked("chunk-extension-nul", "3;a\0\r\nabc\r\n0\r\n\r\n"),
        chunked(
            "chunk-extension-long",
            format!("3;{}\r\nabc\r\n0\r\n\r\n", "a".repeat(5000)),
        ),
        chunked(
            "chunk-extension-flood",
            format!("1;{}\r\na\r\n", "a".repeat(100)).repeat(2000) + "0\r\n\r\n",
        ),
        chunked("chunk-longer", "3\r\nabcd\r\n0\r\n\r\n"),
        chunked("chunk-shorter", "4\r\nabc\r\n0\r\n\r\n"),
        chunked("chunk-end-lf", "3\r\nabc\n0\r\n\r\n"),
        chunked("chunk-end-cr", "3\r\nabc\r0\r\n\r\n"),
        chunked("chunk-end-none", "3\r\nabc0\r\n\r\n"),
        chunked("chunk-last-lf", "3\r\nabc\r\n0\n\r\n"),
        chunked("chunk-last-blank-lf", "3\r\nabc\r\n0\r\n\n"),
        chunked("chunk-last-extension-lf", "3\r\nabc\r\n0;a\n\r\n"),
        chunked("trailer-folded", "3\r\nabc\r\n0\r\nx: 1\r\n 2\r\n\r\n"),
        chunked("trailer-lf", "3\r\nabc\r\n0\r\nx: 1\ny: 2\r\n\r\n"),
        chunked("trailer-nul", "3\r\nabc\r\n0\r\nx: \0\r\n\r\n"),
        chunked("trailer-colon-apart", "3\r\nabc\r\n0\r\nx : 1\r\n\r\n"),
        chunked(
            "trailer-request",
            "3\r\nabc\r\n0\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        chunked(
            "trailers-too-many",
            format!("3\r\nabc\r\n0\r\n{}\r\n", trailers(100)),
        ),
        chunked(
            "trailers-too-large",
            format!("3\r\nabc\r\n0\r\nx: {}\r\n\r\n", "a".repeat(20_000)),
        ),
        closed(chunked("chunk-cut", "5\r\nabc")),
        closed(chunked("chunk-cut-between", "3\r\nabc\r\n")),
        closed(chunked("chunk-cut-last", "3\r\nabc\r\n0\r\n")),
        Broken {
            id: "length-cut",
            input: b"POST /broken HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc".to_vec(),
            ending: Ending::Closes,
        },
    ]
}

pub(super) fn rows() -> Vec<(&'static str, String)> {
    let row = |case: &Broken| (case.id, "400".to_owned());
    all().iter().map(row).collect()
}

fn check(gate: &Gate, endpoint: &Endpoint, case: &Broken, sending: Sending) -> Result<(), String> {
    let mut client = gate.client();
    sending.send(&mut client, &case.input);
    if case.ending == Ending::Closes {
        let _ = client.stream.shutdown(std::net::Shutdown::Write);
    }
    if sending == Sending::Behind {
        same("the answer before", &client.response().text(), "/good")?;
    }
    read_refusal(&mut client, 400)?;
    same("the next answer", &gate.ask(GOOD).text(), "/good")?;
    let arrived = endpoint.take();
    if arrived.targets().iter().all(|target| *target == "/good") {
        Ok(())
    } else {
        let bytes = String::from_utf8_lossy(&arrived.bytes);
        Err(format!("reached the endpoint as a whole: {bytes:?}"))
    }
}

#[test]
fn each_is_answered_400_and_is_never_whole_at_the_endpoint() {
    let endpoint = Endpoint::new();
    let gate = Gate::start(everything_to(endpoint.backend.address));
    let mut failures = Vec::new();
    for case in all() {
        for sending in Sending::ALL {
            // A request behind one that is cut would be a part of it.
            if case.ending == Ending::Closes && sending == Sending::Before {
                continue;
            }
            if let Err(why) = check(&gate, &endpoint, &case, sending) {
                endpoint.take();
                failures.push(format!("{} {sending:?}: {why}", case.id));
            }
        }
    }
    none_failed(&failures);
}
