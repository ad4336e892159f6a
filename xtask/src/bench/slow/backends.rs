//! Backends that do not behave.

use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// What is wrong with one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// It accepts and never reads.
    Deaf,
    /// It answers as soon as a request begins to arrive, and reads nothing of it.
    Hasty,
}

/// A backend that listens to the end of the program.
#[derive(Debug)]
pub(super) struct Stubborn {
    pub(super) port: u16,
}

impl Stubborn {
    pub(super) fn start(behaviour: Behaviour) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        thread::spawn(move || {
            // Connections stay open until this side has so many that the oldest go.
            const MOST: usize = 1_024;
            let mut held = std::collections::VecDeque::new();
            for stream in listener.incoming().flatten() {
                match behaviour {
                    Behaviour::Deaf => held.push_back(stream),
                    Behaviour::Hasty => {
                        thread::spawn(move || answer(stream));
                    }
                }
                if held.len() > MOST {
                    held.pop_front();
                }
            }
        });
        Ok(Self { port })
    }
}

/// Answers without reading, and leaves the connection open until the peer closes it or has had time enough.
fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.peek(&mut [0])?;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nearly")?;
    thread::sleep(Duration::from_secs(1));
    Ok(())
}
