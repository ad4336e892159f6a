//! Two backends that can be told apart, at an address that pods could have.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use anyhow::Result;

/// Answers every request with the same body, for as long as the benchmark runs.
pub(super) fn start(address: IpAddr, body: &'static str) -> Result<SocketAddr> {
    let listener = TcpListener::bind((address, 0))?;
    let at = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream, body));
        }
    });
    Ok(at)
}

/// Requests have no bodies, and one is under way at a time.
fn answer(mut stream: TcpStream, body: &str) {
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut buffer = [0; 4096];
    let mut received = Vec::new();
    while let Ok(count) = stream.read(&mut buffer) {
        if count == 0 {
            return;
        }
        received.extend_from_slice(buffer.get(..count).unwrap_or_default());
        if received.ends_with(b"\r\n\r\n") {
            received.clear();
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}
