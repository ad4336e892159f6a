//! Proof before order: every ready node gives every answer, before the CA is told that it may look.

mod handshake;
mod page;

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use tidegate_model::Hostname;
use tokio::time::{Instant, sleep, timeout};

/// The port that HTTP-01 is validated at (RFC 8555 section 8.3).
const PUBLIC_HTTP: u16 = 80;
/// The port that TLS-ALPN-01 is validated at (RFC 8737 section 3).
const PUBLIC_HTTPS: u16 = 443;
/// Longest single look.
const LOOK: Duration = Duration::from_secs(3);
/// Most nodes that a message names.
const NAMED: usize = 5;

/// A node that takes requests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its own addresses.
    pub addresses: BTreeSet<IpAddr>,
}

/// The ports that nodes take requests at; `None` where there is no such listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Plain HTTP.
    pub http: Option<u16>,
    /// TLS.
    pub https: Option<u16>,
}

/// An answer that is to be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// HTTP-01: a page.
    Page {
        host: Hostname,
        token: String,
        authorization: String,
    },
    /// TLS-ALPN-01: a certificate in a handshake.
    Handshake {
        host: Hostname,
        authorization: String,
    },
}

/// How long to look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Until a node counts as silent.
    pub(crate) nodes: Duration,
    /// From one look to the next.
    pub(crate) pause: Duration,
    /// For looks by public names; zero for none.
    pub(crate) public: Duration,
}

/// A node that does not give an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Silent {
    node: String,
    what: String,
    seen: String,
}

/// Why the CA was not told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotProven {
    /// Nobody would answer.
    NoNode,
    /// Nodes have no listener for this.
    NoPort(&'static str),
    /// Nodes that do not give an answer, with what was seen.
    Silent(Vec<Silent>),
}

impl fmt::Display for NotProven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNode => f.write_str(
                "no node is ready to answer the CA; the order goes on as soon as one is: see the readiness of the \
                 Tidegate pods",
            ),
            Self::NoPort(what) => write!(
                f,
                "the nodes have no listener for {what}; configure one, or set another challenge for the issuer"
            ),
            Self::Silent(nodes) => {
                let named: Vec<_> = nodes.iter().take(NAMED).map(ToString::to_string).collect();
                f.write_str(&named.join("; "))?;
                match nodes.len().saturating_sub(NAMED) {
                    0 => {}
                    more => write!(f, "; and {more} more")?,
                }
                f.write_str(
                    ". The CA was not told to look: make the node reachable from the leader or take it out of service",
                )
            }
        }
    }
}

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, what, seen } = self;
        write!(f, "node {node} does not give the answer for {what}: {seen}")
    }
}

/// What was seen by public names where it was not the answer; meant for people, for it may well be as it should be.
pub(crate) type Aside = Vec<String>;

/// Looks until every node gives every answer, for as long as there is patience.
pub(crate) async fn prove(
    nodes: &[Node],
    ports: Ports,
    answers: &[Answer],
    patience: Patience,
) -> (Result<(), NotProven>, Aside) {
    let at_nodes = prove_at_nodes(nodes, ports, answers, patience);
    let by_name = look_by_names(answers, patience.public);
    futures_util::future::join(at_nodes, by_name).await
}

async fn prove_at_nodes(
    nodes: &[Node],
    ports: Ports,
    answers: &[Answer],
    patience: Patience,
) -> Result<(), NotProven> {
    if answers.is_empty() {
        return Ok(());
    }
    if nodes.is_empty() {
        return Err(NotProven::NoNode);
    }
    let mut looks = Vec::new();
    for answer in answers {
        let port = answer.port(ports)?;
        looks.extend(
            nodes
                .iter()
                .map(|node| until_seen(node, port, answer, patience)),
        );
    }
    let silent: Vec<_> = join_all(looks).await.into_iter().flatten().collect();
    match silent.is_empty() {
        true => Ok(()),
        false => Err(NotProven::Silent(silent)),
    }
}

/// Looks at one node again and again; `None` once it gives the answer at one of its addresses.
async fn until_seen(node: &Node, port: u16, answer: &Answer, patience: Patience) -> Option<Silent> {
    let deadline = Instant::now() + patience.nodes;
    loop {
        let seen = look_at_node(node, port, answer).await?;
        if Instant::now() + patience.pause >= deadline {
            return Some(Silent {
                node: node.name.clone(),
                what: answer.to_string(),
                seen,
            });
        }
        sleep(patience.pause).await;
    }
}

/// `None` when one of the addresses gives the answer, else what was seen.
async fn look_at_node(node: &Node, port: u16, answer: &Answer) -> Option<String> {
    if node.addresses.is_empty() {
        return Some("it has no address".to_owned());
    }
    let looks = node.addresses.iter().map(|address| async move {
        let address = SocketAddr::new(*address, port);
        let seen = look(address, answer, LOOK).await;
        seen.map_err(|seen| format!("{address}: {seen}"))
    });
    let mut seen = Vec::new();
    for outcome in join_all(looks).await {
        seen.push(outcome.err()?);
    }
    Some(seen.join(", "))
}

/// One look; an error says what was seen instead.
async fn look(address: SocketAddr, answer: &Answer, limit: Duration) -> Result<(), String> {
    let look = async {
        match answer {
            Answer::Page {
                host,
                token,
                authorization,
            } => page::look(address, host, token, authorization).await,
            Answer::Handshake {
                host,
                authorization,
            } => handshake::look(address, host, authorization).await,
        }
    };
    match timeout(limit, look).await {
        Ok(seen) => seen,
        Err(_) => Err(format!("no answer within {} s", limit.as_secs_f32())),
    }
}

async fn look_by_names(answers: &[Answer], limit: Duration) -> Aside {
    if limit.is_zero() {
        return Vec::new();
    }
    let looks = answers.iter().map(|answer| async move {
        let outcome = timeout(limit, look_by_name(answer)).await;
        let seen = match outcome {
            Ok(seen) => seen?,
            Err(_) => format!("no answer within {} s", limit.as_secs_f32()),
        };
        Some(format!("{} by its public name: {seen}", answer.host()))
    });
    join_all(looks).await.into_iter().flatten().collect()
}

/// `None` when the name does not resolve or gives the answer, else what was seen.
async fn look_by_name(answer: &Answer) -> Option<String> {
    let port = match answer {
        Answer::Page { .. } => PUBLIC_HTTP,
        Answer::Handshake { .. } => PUBLIC_HTTPS,
    };
    // The dot keeps the search domains of the machine out.
    let name = format!("{}.", answer.host());
    let address = tokio::net::lookup_host((name, port)).await.ok()?.next()?;
    let seen = look(address, answer, LOOK).await.err()?;
    Some(format!("{address}: {seen}"))
}

impl Answer {
    fn host(&self) -> &Hostname {
        match self {
            Self::Page { host, .. } | Self::Handshake { host, .. } => host,
        }
    }

    fn port(&self, ports: Ports) -> Result<u16, NotProven> {
        match self {
            Self::Page { .. } => ports.http.ok_or(NotProven::NoPort("plain HTTP")),
            Self::Handshake { .. } => ports.https.ok_or(NotProven::NoPort("TLS")),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let challenge = match self {
            Self::Page { .. } => "http-01",
            Self::Handshake { .. } => "tls-alpn-01",
        };
        write!(f, "{} ({challenge})", self.host())
    }
}

#[cfg(test)]
mod tests;
