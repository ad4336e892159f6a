//! A server that answers requests, and clients that choose their address.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::namespace::{SERVER_V4, SERVER_V6, Wire};

/// Time for a connection. One that is denied or limited does not come about.
const PATIENCE: Duration = Duration::from_millis(400);
/// Time for a request that must succeed, even on a machine that has much else to do.
const LIMIT: Duration = Duration::from_secs(3);

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Answers connections to the ports until the test ends, on both families.
pub(crate) fn serve(wire: &Wire, ports: &[u16]) {
    for &port in ports {
        for host in [SERVER_V4, SERVER_V6] {
            wire.server.run(move || {
                let listener = TcpListener::bind((host, port)).unwrap();
                thread::spawn(move || {
                    for mut stream in listener.incoming().flatten() {
                        thread::spawn(move || {
                            // A client that goes away is its own affair.
                            _ = stream.read(&mut [0; 1024]);
                            _ = stream.write_all(ANSWER);
                        });
                    }
                });
            });
        }
    }
}

/// The server's address in the family of the client's.
pub(crate) fn server(from: IpAddr, port: u16) -> SocketAddr {
    let host = if from.is_ipv4() { SERVER_V4 } else { SERVER_V6 };
    SocketAddr::new(host.parse().unwrap(), port)
}

/// A socket with the client's address, in the namespace of the thread.
pub(crate) fn socket(from: IpAddr) -> Socket {
    let from = SocketAddr::new(from, 0);
    let socket = Socket::new(Domain::for_address(from), Type::STREAM, None).unwrap();
    socket.bind(&from.into()).unwrap();
    socket
}

/// Whether a connection comes about.
pub(crate) fn connects(wire: &Wire, from: &str, port: u16) -> bool {
    let from: IpAddr = from.parse().unwrap();
    wire.client.run(move || {
        let connected = socket(from).connect_timeout(&server(from, port).into(), PATIENCE);
        connected.is_ok()
    })
}

/// One request on a connection of its own: how long it took. In the namespace of the thread.
pub(crate) fn request(from: IpAddr, port: u16) -> io::Result<Duration> {
    let started = Instant::now();
    let socket = socket(from);
    socket.connect_timeout(&server(from, port).into(), LIMIT)?;
    socket.set_read_timeout(Some(LIMIT))?;
    let mut stream = std::net::TcpStream::from(socket);
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    match answer == ANSWER {
        true => Ok(started.elapsed()),
        false => Err(io::Error::other("an answer that was cut")),
    }
}
