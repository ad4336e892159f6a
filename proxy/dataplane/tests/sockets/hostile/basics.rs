//! Requests that no honest client sends: a status or a closed connection, and the next client is served.

use crate::support::*;

#[test]
fn each_is_refused_and_the_gate_stands() {
    let backend = Backend::saying("x");
    let gate = Gate::start(everything_to(backend.address));
    let long = "a".repeat(100_000);
    let many: String = (0..500)
        .map(|number| format!("X-{number}: 1\r\n"))
        .collect();
    let cases: Vec<(&str, String, &[u16])> = vec![
        ("no host", "GET / HTTP/1.1\r\n\r\n".to_owned(), &[400]),
        (
            "two hosts",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "host with a path",
            "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "host with user information",
            "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "empty host",
            "GET / HTTP/1.1\r\nHost:\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "connect",
            "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n".to_owned(),
            &[405],
        ),
        (
            "two lengths",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"
                .to_owned(),
            &[400],
        ),
        (
            "signed length",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na".to_owned(),
            &[400],
        ),
        (
            "unknown coding",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "nul in a field",
            "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "space before the colon",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "no HTTP",
            "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "long target",
            format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"),
            &[414, 431],
        ),
        (
            "long field",
            format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"),
            &[431],
        ),
        (
            "many fields",
            format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"),
            &[431],
        ),
    ];
    for (what, request, statuses) in cases {
        let mut client = gate.client();
        client.send(&request);
        let answer = client.rest_after_closing_half();
        let status: u16 = answer
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or(0);
        assert!(statuses.contains(&status), "{what}: {answer:?}");
        assert_eq!(
            gate.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").text(),
            "x",
            "after {what}"
        );
    }
}

#[test]
fn bytes_at_random_never_stop_it() {
    let backend = Backend::saying("x");
    let gate = Gate::start(everything_to(backend.address));
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..200 {
        let bytes: Vec<u8> = (0..400)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        let mut client = gate.client();
        let _ = std::io::Write::write_all(&mut client.stream, &bytes);
        let _ = client.stream.shutdown(std::net::Shutdown::Write);
    }
    assert_eq!(gate.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").text(), "x");
}

#[test]
fn two_framings_never_reach_an_endpoint() {
    let backend = Backend::http(|_, body| ok(&String::from_utf8_lossy(body)));
    let gate = Gate::start(everything_to(backend.address));
    for fields in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
    ] {
        let mut client = gate.client();
        client.send(&format!(
            "POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"
        ));
        let status = client.response().status();
        assert!([200, 400].contains(&status), "{status}");
        let head = backend.last_head();
        let framings = [
            field(&head, "content-length"),
            field(&head, "transfer-encoding"),
        ];
        assert!(framings.iter().flatten().count() <= 1, "{head}");
    }
}

#[test]
fn a_broken_chunked_body_reaches_no_endpoint_as_a_whole_one() {
    let backend = Backend::http(|_, body| ok(&String::from_utf8_lossy(body)));
    let gate = Gate::start(everything_to(backend.address));
    let mut client = gate.client();
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n");
    let answer = client.rest_after_closing_half();
    assert!(!answer.contains("200 OK"), "{answer}");
}

impl Client {
    /// Ends the sending side and reads what is left.
    fn rest_after_closing_half(&mut self) -> String {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
        self.rest()
    }
}
