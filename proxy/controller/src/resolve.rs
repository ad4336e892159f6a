//! Addresses of ExternalNames, kept fresh by their TTL and never asked for by a request.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use tidegate_model::Hostname;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::{Change, Resolution};

/// Which name servers to ask.
#[derive(Clone, Debug, Default)]
pub struct ResolverSettings {
    /// Name servers; empty for those of the system (`/etc/resolv.conf`). `/etc/hosts` is always honoured.
    pub servers: Vec<SocketAddr>,
}

/// Resolves the wanted names until either channel closes, and tells every change.
///
/// A name is asked for again when the time to live of its answer is over, at the earliest after five seconds and at the
/// latest after an hour. While that fails, the addresses of the last answer hold for ten minutes.
pub async fn run(
    settings: ResolverSettings,
    wanted: watch::Receiver<BTreeSet<Hostname>>,
    changes: mpsc::Sender<Vec<Change>>,
) {
    Names::new(settings, Pace::default(), changes)
        .run(wanted)
        .await;
}

/// How often to ask, and how long an answer holds.
#[derive(Clone, Copy, Debug)]
struct Pace {
    ttl_min: Duration,
    ttl_max: Duration,
    /// For addresses from `/etc/hosts`, which have no TTL.
    hosts: Duration,
    /// After the first failure; doubled with every further one.
    retry_min: Duration,
    retry_max: Duration,
    /// How long addresses hold, counted from the answer, while asking again fails.
    stale_max: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            ttl_min: Duration::from_secs(5),
            ttl_max: Duration::from_secs(60 * 60),
            hosts: Duration::from_secs(30),
            retry_min: Duration::from_secs(1),
            retry_max: Duration::from_secs(60),
            stale_max: Duration::from_secs(10 * 60),
        }
    }
}

impl Pace {
    fn retry(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        (self.retry_min * 2_u32.pow(doublings)).min(self.retry_max)
    }
}

/// Addresses, and how long they are good.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    addresses: BTreeSet<IpAddr>,
    ttl: Duration,
}

/// What came of asking for a name; the text says why there is no answer.
type Outcome = Result<Answer, String>;

/// What is known of one name.
#[derive(Debug)]
struct Entry {
    told: Option<Resolution>,
    answered_at: Option<Instant>,
    failures: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    Asking(AbortHandle),
    AskAt(Instant),
}

/// The wanted names.
struct Names {
    settings: ResolverSettings,
    pace: Pace,
    resolver: Option<TokioResolver>,
    entries: BTreeMap<Hostname, Entry>,
    asking: JoinSet<(Hostname, Outcome)>,
    changes: mpsc::Sender<Vec<Change>>,
}

impl Names {
    fn new(settings: ResolverSettings, pace: Pace, changes: mpsc::Sender<Vec<Change>>) -> Self {
        Self {
            settings,
            pace,
            resolver: None,
            entries: BTreeMap::new(),
            asking: JoinSet::new(),
            changes,
        }
    }

    async fn run(mut self, mut wanted: watch::Receiver<BTreeSet<Hostname>>) {
        let names = wanted.borrow_and_update().clone();
        let mut changes = self.want(&names);
        loop {
            self.ask_due();
            if !changes.is_empty() && self.changes.send(changes).await.is_err() {
                return;
            }
            let next = self.next();
            changes = tokio::select! {
                () = self.changes.closed() => return,
                changed = wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let names = wanted.borrow_and_update().clone();
                    self.want(&names)
                }
                Some(asked) = self.asking.join_next() => match asked {
                    Ok((name, outcome)) => self.learn(name, outcome).into_iter().collect(),
                    // It was stopped because nobody asks for the name any more.
                    Err(_) => Vec::new(),
                },
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => Vec::new(),
            };
        }
    }

    /// Takes new names up and drops those that nobody asks for any more.
    fn want(&mut self, names: &BTreeSet<Hostname>) -> Vec<Change> {
        for name in names {
            self.entries.entry(name.clone()).or_insert_with(|| Entry {
                told: None,
                answered_at: None,
                failures: 0,
                state: State::AskAt(Instant::now()),
            });
        }
        let dropped = self.entries.extract_if(.., |name, _| !names.contains(name));
        dropped
            .map(|(name, entry)| {
                if let State::Asking(task) = entry.state {
                    task.abort();
                }
                Change::Resolved(name, None)
            })
            .collect()
    }

    fn next(&self) -> Option<Instant> {
        let due = self.entries.values().filter_map(|entry| match entry.state {
            State::AskAt(at) => Some(at),
            State::Asking(_) => None,
        });
        due.min()
    }

    /// Starts to ask for every name whose time has come.
    fn ask_due(&mut self) {
        let now = Instant::now();
        let resolver = self.resolver();
        for (name, entry) in &mut self.entries {
            if matches!(entry.state, State::AskAt(at) if at <= now) {
                let asked = ask(name.clone(), resolver.clone(), self.pace);
                entry.state = State::Asking(self.asking.spawn(asked));
            }
        }
    }

    /// The resolver, made at first use. An unreadable system configuration is read again every time, until it can be.
    fn resolver(&mut self) -> Result<TokioResolver, String> {
        if let Some(resolver) = &self.resolver {
            return Ok(resolver.clone());
        }
        let resolver = resolver(&self.settings).map_err(|error| {
            format!("the name servers are not known: {error}; correct /etc/resolv.conf")
        })?;
        self.resolver = Some(resolver.clone());
        Ok(resolver)
    }

    /// Takes an outcome in and says what it changes.
    fn learn(&mut self, name: Hostname, outcome: Outcome) -> Option<Change> {
        let entry = self.entries.get_mut(&name)?;
        let now = Instant::now();
        let resolution = match outcome {
            Ok(answer) => {
                entry.failures = 0;
                entry.answered_at = Some(now);
                entry.state = State::AskAt(now + answer.ttl);
                Resolution::Addresses(answer.addresses)
            }
            Err(reason) => {
                entry.failures = entry.failures.saturating_add(1);
                entry.state = State::AskAt(now + self.pace.retry(entry.failures));
                tracing::debug!(%name, reason, failures = entry.failures, "name not resolved");
                let holds = |at: Instant| now.duration_since(at) < self.pace.stale_max;
                if entry.answered_at.is_some_and(holds) {
                    return None;
                }
                entry.answered_at = None;
                Resolution::Failed(reason)
            }
        };
        if entry.told.as_ref() == Some(&resolution) {
            return None;
        }
        entry.told = Some(resolution.clone());
        Some(Change::Resolved(name, Some(resolution)))
    }
}

fn resolver(settings: &ResolverSettings) -> Result<TokioResolver, NetError> {
    let provider = TokioRuntimeProvider::default();
    let mut builder = if settings.servers.is_empty() {
        TokioResolver::builder(provider)?
    } else {
        let servers = settings.servers.iter().map(server).collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        TokioResolver::builder_with_config(config, provider)
    };
    let options: &mut ResolverOpts = builder.options_mut();
    // We keep the answers ourselves, and look at the hosts file anew every time.
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    builder.build()
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.to_vec())
}

/// Asks the hosts file, then the name servers.
async fn ask(
    name: Hostname,
    resolver: Result<TokioResolver, String>,
    pace: Pace,
) -> (Hostname, Outcome) {
    // With the final dot it is a whole name, to which no search domain is added.
    let outcome = match Name::from_ascii(format!("{name}.")) {
        Err(error) => Err(error.to_string()),
        Ok(full) => match (from_hosts(&full, &pace), resolver) {
            (Some(answer), _) => Ok(answer),
            (None, Ok(resolver)) => from_servers(full, &resolver, &pace).await,
            (None, Err(reason)) => Err(reason),
        },
    };
    (name, outcome)
}

fn from_hosts(name: &Name, pace: &Pace) -> Option<Answer> {
    let hosts = Hosts::from_system().ok()?;
    let families = [RecordType::A, RecordType::AAAA];
    let found = families
        .into_iter()
        .filter_map(|family| hosts.lookup_static_host(&Query::query(name.clone(), family)));
    let addresses: BTreeSet<_> = found
        .flat_map(|lookup| {
            let records = lookup.answers().iter();
            records
                .filter_map(|record| record.data.ip_addr())
                .collect::<Vec<_>>()
        })
        .collect();
    (!addresses.is_empty()).then_some(Answer {
        addresses,
        ttl: pace.hosts,
    })
}

async fn from_servers(name: Name, resolver: &TokioResolver, pace: &Pace) -> Outcome {
    let found = resolver
        .lookup_ip(name)
        .await
        .map_err(|error| reason(&error))?;
    let addresses: BTreeSet<_> = found.iter().collect();
    if addresses.is_empty() {
        return Err("the name has neither an A nor an AAAA record".to_owned());
    }
    let left = found
        .valid_until()
        .saturating_duration_since(std::time::Instant::now());
    Ok(Answer {
        addresses,
        ttl: left.clamp(pace.ttl_min, pace.ttl_max),
    })
}

/// Why a name was not resolved, for people.
fn reason(error: &NetError) -> String {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(no_records)) => match no_records.response_code {
            ResponseCode::NXDomain => "the name does not exist".to_owned(),
            _ => "the name has neither an A nor an AAAA record".to_owned(),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => {
            format!("the name server answered with an error: {code}")
        }
        NetError::Timeout => "no name server answered in time".to_owned(),
        other => format!("the name servers could not be asked: {other}"),
    }
}

#[cfg(test)]
mod tests;
