//! A port of a node that leads to a pod: what a `hostPort` asks for, in user space.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::spawn;

use anyhow::{Context, Result};

/// Passes every connection on, until this process is ended. The pod sees the node's address, not the client's.
pub(crate) fn forward(from: SocketAddr, to: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(from).with_context(|| format!("cannot listen on {from}"))?;
    for client in listener.incoming().flatten() {
        // A connection that breaks is the affair of its two ends.
        spawn(move || _ = pass(client, to));
    }
    Ok(())
}

fn pass(client: TcpStream, to: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect(to)?;
    let (up_from, up_to) = (client.try_clone()?, server.try_clone()?);
    let up = spawn(move || copy(up_from, up_to));
    copy(server, client);
    _ = up.join();
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        if to
            .write_all(piece.get(..count).unwrap_or_default())
            .is_err()
        {
            break;
        }
    }
    _ = to.shutdown(Shutdown::Write);
}
