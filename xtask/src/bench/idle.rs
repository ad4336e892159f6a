//! `cargo xtask bench idle`: what a client costs that has had its answer and is silent.
//!
//! Each proxy is started anew. Some connections come and go, so that it has what it makes once; then many come, make a
//! request each, and stay. The growth of its resident memory, divided by their number, is what one costs. Memory of the
//! kernel for sockets is not in it; it is the same for every proxy.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustls::ClientConfig;

use super::backend::{self, Backend, Cpu};
use super::peers::{Cache, Peer, Site};
use super::running::Running;
use super::{client, document, files, limit, machine};
use crate::Verdict;
use crate::setup::{self, Need};
use crate::table::{Align, Table};
use crate::terminal::say;

const PEERS: [Peer; 3] = [Peer::Tidegate, Peer::Haproxy, Peer::Nginx];
const CONNECTIONS: usize = 10_000;
const WARM_UP: usize = 500;
/// Until a proxy has given back what it held for the last requests.
const SETTLE: Duration = Duration::from_secs(3);
/// Addresses that the clients come from, `127.0.0.2` and following.
const SOURCES: usize = 4;
/// Of the clients, or of a proxy with its connections to the backend and its listeners.
const FILES: u64 = CONNECTIONS as u64 + 2_000;

/// How the clients connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Tls,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Plain, Self::Tls];

    fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Tls => "TLS",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Plain => 8080,
            Self::Tls => 8443,
        }
    }

    /// The most bytes that Tidegate may hold for one.
    fn limit(self) -> f64 {
        match self {
            Self::Plain => 3.0 * 1024.0,
            Self::Tls => 8.0 * 1024.0,
        }
    }
}

/// Resident memory of a proxy in KiB.
#[derive(Clone, Copy, Debug)]
struct Memory {
    kind: Kind,
    peer: Peer,
    before: u64,
    with_all: u64,
}

impl Memory {
    /// Bytes for one connection.
    fn each(&self) -> f64 {
        1024.0 * (self.with_all as f64 - self.before as f64) / CONNECTIONS as f64
    }
}

pub(super) fn run(page: &Path, tidegate: Option<&Path>) -> Result<Verdict> {
    setup::ensure(&[Need::Compiler, Need::Curl, Need::Pip])?;
    files::allow(FILES)?;
    let cache = Cache::open()?;
    for peer in PEERS {
        cache.install(peer)?;
    }
    let site = Site::prepare(&cache, &PEERS, tidegate)?;
    let _backend = Backend::start(site.folder(), backend::PORT, Cpu::Second)?;
    let settings = client::tls_settings(&std::fs::read(site.certificate())?)?;
    let mut measured = Vec::new();
    for kind in Kind::ALL {
        for peer in PEERS {
            let memory = measure(kind, peer, &site, &settings)
                .with_context(|| format!("{}, {}", peer.name(), kind.name()))?;
            say(format_args!(
                "{} {}: {:.0} bytes each",
                kind.name(),
                peer.name(),
                memory.each()
            ));
            measured.push(memory);
        }
    }
    report(page, &measured)
}

fn measure(kind: Kind, peer: Peer, site: &Site, settings: &Arc<ClientConfig>) -> Result<Memory> {
    let proxy = Running::start(peer, site)?;
    drop(open(kind, settings, WARM_UP)?);
    sleep(SETTLE);
    let before = proxy.resident_kib();
    let connections = open(kind, settings, CONNECTIONS)?;
    sleep(SETTLE);
    let with_all = proxy.resident_kib();
    let closed = connections.iter().filter(|stream| !is_open(stream)).count();
    ensure!(
        closed == 0,
        "{closed} of {CONNECTIONS} connections did not stay open"
    );
    Ok(Memory {
        kind,
        peer,
        before,
        with_all,
    })
}

/// Connections that have had an answer each. Of those over TLS only the sockets are kept: nothing is read or written any
/// more, and so the clients need hardly any memory.
fn open(kind: Kind, settings: &Arc<ClientConfig>, count: usize) -> Result<Vec<TcpStream>> {
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, kind.port()));
    let one = |number: usize| -> Result<TcpStream> {
        let source = Ipv4Addr::new(127, 0, 0, u8::try_from(2 + number % SOURCES)?);
        let stream = client::connect(server, source)?;
        match kind {
            Kind::Plain => request(client::plain(stream)),
            Kind::Tls => Ok(request(client::tls(stream, settings.clone())?)?.sock),
        }
    };
    let connections = (0..count)
        .map(|number| one(number).with_context(|| format!("connection {} failed", number + 1)));
    connections.collect()
}

fn request<S: std::io::Read + std::io::Write>(mut client: client::Client<S>) -> Result<S> {
    let answer = client.get("localhost", "/")?;
    ensure!(answer.status == 200, "an answer was {}", answer.status);
    Ok(client.into_stream())
}

/// Whether the peer has neither closed it nor sent anything.
fn is_open(stream: &TcpStream) -> bool {
    let peeked = stream
        .set_nonblocking(true)
        .and_then(|()| stream.peek(&mut [0]));
    matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

fn report(page: &Path, measured: &[Memory]) -> Result<Verdict> {
    let figures = figures(measured);
    let (limits, verdict) = limits(measured);
    say(format_args!("\n{}\n{}", figures.text(), limits.text()));
    let mut lines = machine::describe();
    lines.push(machine::proxies(&PEERS));
    let body = format!(
        "{}\n{}\n{}",
        machine::markdown(&lines),
        figures.markdown(),
        limits.markdown()
    );
    document::replace(page, "idle", &body)?;
    say(format_args!("written to {}", page.display()));
    Ok(verdict)
}

fn figures(measured: &[Memory]) -> Table {
    let mut table = Table::new([
        ("connection", Align::Left),
        ("proxy", Align::Left),
        ("bytes each", Align::Right),
        ("to HAProxy", Align::Right),
        ("RSS before, MiB", Align::Right),
        ("RSS with 10,000, MiB", Align::Right),
    ]);
    for memory in measured {
        let yardstick = measured
            .iter()
            .find(|other| other.peer == Peer::Haproxy && other.kind == memory.kind);
        let ratio = yardstick.map_or(String::new(), |other| {
            format!("{:.2}", memory.each() / other.each())
        });
        table.push([
            memory.kind.name().to_owned(),
            memory.peer.name().to_owned(),
            format!("{:.0}", memory.each()),
            ratio,
            format!("{:.1}", memory.before as f64 / 1024.0),
            format!("{:.1}", memory.with_all as f64 / 1024.0),
        ]);
    }
    table
}

fn limits(measured: &[Memory]) -> (Table, Verdict) {
    let mut table = Table::new([
        ("connection", Align::Left),
        ("bytes each, tidegate", Align::Right),
        ("at most", Align::Right),
        ("result", Align::Left),
    ]);
    let own = measured
        .iter()
        .filter(|memory| memory.peer == Peer::Tidegate);
    let mut met = true;
    for memory in own {
        let (each, limit) = (memory.each(), memory.kind.limit());
        met &= each <= limit;
        table.push([
            memory.kind.name().to_owned(),
            format!("{each:.0}"),
            format!("{limit:.0}"),
            limit::result(each, limit),
        ]);
    }
    (table, Verdict::of(met))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(kind: Kind, peer: Peer, with_all: u64) -> Memory {
        Memory {
            kind,
            peer,
            before: 10_000,
            with_all,
        }
    }

    #[test]
    fn growth_is_shared_out_and_compared() {
        let measured = [
            memory(Kind::Plain, Peer::Tidegate, 30_000),
            memory(Kind::Plain, Peer::Haproxy, 20_000),
            memory(Kind::Tls, Peer::Tidegate, 110_000),
        ];
        let text = figures(&measured).text();
        let line: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(line, ["plain", "tidegate", "2048", "2.00", "9.8", "29.3"]);
        let (table, verdict) = limits(&measured);
        assert_eq!(verdict, Verdict::Fail);
        assert!(table.text().contains("missed by 25 %"), "{}", table.text());
        let (_, verdict) = limits(&measured[..2]);
        assert_eq!(verdict, Verdict::Pass);
    }
}
