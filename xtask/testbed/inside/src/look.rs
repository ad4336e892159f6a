//! Looking after a server: one HTTP request or one connection, as a probe has it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// Where the server is expected.
    pub address: SocketAddr,
    /// For how long, each for connecting and for answering.
    pub timeout: Duration,
    /// What to ask it; a connection is enough when there is nothing to ask.
    pub request: Option<Request>,
}

/// A GET request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Path and query.
    pub path: String,
    /// Header fields beyond `Host`.
    pub headers: Vec<(String, String)>,
}

impl Look {
    /// Looks once.
    ///
    /// # Errors
    /// When nothing answers in time, or with a status other than 200 to 399.
    pub fn once(&self) -> Result<()> {
        let mut stream = TcpStream::connect_timeout(&self.address, self.timeout)
            .with_context(|| format!("cannot connect to {}", self.address))?;
        let Some(request) = &self.request else {
            return Ok(());
        };
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        stream.write_all(request.head(self.address).as_bytes())?;
        let status = status(&mut stream)?;
        if !(200..400).contains(&status) {
            bail!("{}{} answers {status}", self.address, request.path);
        }
        Ok(())
    }
}

impl Request {
    fn head(&self, address: SocketAddr) -> String {
        let named = |name: &str| {
            let mut headers = self.headers.iter();
            headers.any(|(field, _)| field.eq_ignore_ascii_case(name))
        };
        let mut head = format!("GET {} HTTP/1.1\r\nConnection: close\r\n", self.path);
        if !named("host") {
            head.push_str(&format!("Host: {address}\r\n"));
        }
        if !named("user-agent") {
            head.push_str("User-Agent: kube-probe/testbed\r\n");
        }
        for (field, value) in &self.headers {
            head.push_str(&format!("{field}: {value}\r\n"));
        }
        head + "\r\n"
    }
}

/// The status of the answer; the rest of it is nobody's concern.
fn status(stream: &mut TcpStream) -> Result<u16> {
    let mut line = Vec::new();
    let mut piece = [0; 64];
    while !line.contains(&b'\n') && line.len() < 1024 {
        match stream.read(&mut piece)? {
            0 => break,
            count => line.extend_from_slice(piece.get(..count).unwrap_or_default()),
        }
    }
    let line = String::from_utf8_lossy(&line);
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
    status.with_context(|| format!("no HTTP answer but {:?}", line.trim()))
}
