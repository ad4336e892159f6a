//! Framing of bodies, from either side to the other.

use std::io::Write;
use std::time::Duration;

use crate::support::*;

fn echo() -> Backend {
    Backend::http(|_, body| ok(&String::from_utf8_lossy(body)))
}

#[test]
fn a_body_with_a_length_passes() {
    let backend = echo();
    let gate = Gate::start(everything_to(backend.address));
    let response = gate.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(response.text(), "hello");
    assert_eq!(
        field(&backend.last_head(), "content-length").as_deref(),
        Some("5")
    );
}

#[test]
fn a_chunked_body_passes_in_both_directions() {
    let backend = Backend::http(|_, body| {
        let text = String::from_utf8_lossy(body).into_owned();
        format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{text}\r\n0\r\n\r\n",
            text.len()
        )
    });
    let gate = Gate::start(everything_to(backend.address));
    let response = gate.ask("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    assert_eq!(response.text(), "abcde");
    assert_eq!(
        response.field("transfer-encoding").as_deref(),
        Some("chunked")
    );
}

#[test]
fn trailers_of_a_response_reach_a_client_that_takes_them() {
    let backend = Backend::http(|_, _| {
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n1\r\na\r\n0\r\nx-sum: 7\r\n\r\n".to_owned()
    });
    let gate = Gate::start(everything_to(backend.address));
    let response = gate.ask("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n");
    assert_eq!(response.text(), "a");
    assert_eq!(response.trailers.to_lowercase().trim(), "x-sum: 7");
    assert_eq!(
        field(&backend.last_head(), "te").as_deref(),
        Some("trailers")
    );
}

#[test]
fn a_body_until_close_ends_with_the_connection() {
    let backend = Backend::raw(|mut stream, _| {
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        read_message(&mut reader);
        stream
            .write_all(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")
            .unwrap();
    });
    let gate = Gate::start(everything_to(backend.address));
    assert_eq!(
        gate.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").text(),
        "until the end"
    );
}

#[test]
fn head_204_and_304_have_no_body() {
    let backend = Backend::http(|head, _| match head.split(' ').nth(1).unwrap() {
        "/204" => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        "/304" => "HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n".to_owned(),
        _ => "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n".to_owned(),
    });
    let gate = Gate::start(everything_to(backend.address));
    let mut client = gate.client();
    for _ in 0..2 {
        client.send("HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.response_without_body();
        assert_eq!(
            (
                response.status(),
                response.field("content-length").as_deref()
            ),
            (200, Some("1000"))
        );
        client.send("GET /204 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().status(), 204);
        client.send("GET /304 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().field("etag").as_deref(), Some("\"x\""));
    }
    assert_eq!(backend.opened(), 1);
}

#[test]
fn a_client_that_expects_continue_gets_it_once_its_body_is_wanted() {
    let backend = echo();
    let gate = Gate::start(everything_to(backend.address));
    let mut client = gate.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.response_without_body().status(), 100);
    client.send("hi");
    assert_eq!(client.response().text(), "hi");
    assert_eq!(field(&backend.last_head(), "expect"), None);
}

#[test]
fn http10_closes_unless_asked_to_stay() {
    let backend = Backend::saying("x");
    let gate = Gate::start(everything_to(backend.address));
    let mut client = gate.client();
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.response().text(), "x");
    assert!(client.is_closed());
    assert_eq!(
        field(&backend.last_head(), "host"),
        Some(backend.address.to_string())
    );
    let mut client = gate.client();
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(client.response().text(), "x");
    }
}

#[test]
fn http10_never_gets_chunks() {
    let backend = Backend::http(|_, _| {
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
            .to_owned()
    });
    let gate = Gate::start(everything_to(backend.address));
    let response = gate.ask("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!(response.field("transfer-encoding"), None);
    assert_eq!(response.text(), "abc");
}

#[test]
fn large_bodies_pass_whole_in_both_directions() {
    let backend = echo();
    let gate = Gate::start(everything_to(backend.address));
    let body: String = (0..200_000).map(|number| format!("{number:>10}")).collect();
    let mut client = gate.client();
    let mut writer = client.stream.try_clone().unwrap();
    let request = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let sending = std::thread::spawn(move || writer.write_all(request.as_bytes()));
    assert!(client.response().text() == body);
    sending.join().unwrap().unwrap();
}

#[test]
fn a_client_that_closes_its_half_still_gets_the_answer() {
    let backend = Backend::http(|_, _| {
        std::thread::sleep(Duration::from_millis(100));
        ok("late")
    });
    let gate = Gate::start(everything_to(backend.address));
    let mut client = gate.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.response().text(), "late");
}
