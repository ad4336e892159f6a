//! `tidegate certs test`: every step of an order that can be tried without one, as a CA would look at it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tidegate_certificates::dns::{CaaVerdict, Lookup, Names};
use tidegate_certificates::http::HttpClient;
use tidegate_model::{HostPattern, Hostname};
use tokio::net::TcpStream;

use super::facts::{Facts, IssuerFacts};
use super::step::{Outcome, Step};
use super::{PATIENCE, REHEARSAL, ask, done};
use crate::cli::{CertsFlags, OutputFormat, TestFlags};
use crate::{Failure, output};

/// Longest look at a port.
const LOOK: Duration = Duration::from_secs(3);
/// A token that nobody has an answer for.
const PATH: &str = "/.well-known/acme-challenge/tidegate-certs-test";
/// Ports that CAs look at.
const HTTP: u16 = 80;
const HTTPS: u16 = 443;

/// `tidegate certs test`: exit code 0 when nothing failed.
pub(super) async fn run(flags: &CertsFlags, test: &TestFlags) -> Result<ExitCode, Failure> {
    let answer = ask(&flags.socket, Method::GET, "/certs/facts", PATIENCE).await?;
    let facts: Facts = serde_json::from_str(done(&answer)?)
        .context("the process answers something else than its facts")?;
    let issuer = facts.issuer(test.issuer.as_deref());
    let issuer = issuer.ok_or_else(|| Failure::Usage(no_issuer(&facts, test.issuer.as_deref())))?;
    let mut trial = Trial {
        host: &test.host,
        facts: &facts,
        issuer,
        lookup: Lookup::new(&issuer.resolvers).map_err(|error| anyhow!("name servers: {error}"))?,
        format: flags.output,
        steps: Vec::new(),
    };
    trial.names().await?;
    let identities = trial.directory().await?;
    trial.caa(&identities).await?;
    if test.staging {
        trial.rehearse(flags, test).await?;
    }
    if flags.output == OutputFormat::Json {
        let text = serde_json::to_string_pretty(&trial.steps).context("steps as JSON")?;
        output::print(&format!("{text}\n"))?;
    }
    let failed = trial.steps.iter().any(|it| it.outcome == Outcome::Failed);
    Ok(match failed {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

fn no_issuer(facts: &Facts, wanted: Option<&str>) -> anyhow::Error {
    let names: Vec<_> = facts.issuers.iter().map(|it| it.name.as_str()).collect();
    match (wanted, names.is_empty()) {
        (_, true) => anyhow!(
            "the settings of the process have no issuer: add one under `issuers:`, or start it with --acme-directory"
        ),
        (Some(name), false) => {
            anyhow!(
                "--issuer {name}: there is no issuer of this name, but {}",
                names.join(", ")
            )
        }
        (None, false) => anyhow!(
            "name one of the issuers with --issuer: {}",
            names.join(", ")
        ),
    }
}

/// What is looked at, and what was seen so far.
struct Trial<'a> {
    host: &'a HostPattern,
    facts: &'a Facts,
    issuer: &'a IssuerFacts,
    lookup: Lookup,
    format: OutputFormat,
    steps: Vec<Step>,
}

/// What a directory says (RFC 8555 section 7.1.1), as far as it is looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Directory {
    new_order: Option<String>,
    meta: Meta,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    caa_identities: Vec<String>,
    external_account_required: bool,
    profiles: std::collections::BTreeMap<String, String>,
}

impl Trial<'_> {
    fn note(&mut self, step: Step) -> anyhow::Result<()> {
        if self.format == OutputFormat::Text {
            output::print(&step.line())?;
        }
        self.steps.push(step);
        Ok(())
    }

    /// Where the CA would look for an answer.
    async fn names(&mut self) -> anyhow::Result<()> {
        match (self.host.clone(), &*self.issuer.challenge) {
            (_, "dns-01") => self.record().await,
            (HostPattern::Exact(host), challenge) => {
                let port = match challenge {
                    "tls-alpn-01" => HTTPS,
                    _ => HTTP,
                };
                let addresses = self.addresses(&host).await?;
                self.nodes(&host, port).await?;
                self.public(&host, &addresses, port).await
            }
            (host, challenge) => {
                let found = format!(
                    "issuer '{}' proves names by {challenge}, which cannot prove a wildcard; name one with dns-01 by --issuer",
                    self.issuer.name
                );
                self.note(Step::failed(format!("challenge for {host}"), found))
            }
        }
    }

    async fn record(&mut self) -> anyhow::Result<()> {
        let what = format!("TXT record for {}", self.host);
        let step = match self.lookup.challenge(self.host).await {
            Ok(place) => Step::fine(what, format!("would be made at {place}")),
            Err(error) => Step::failed(what, error.to_string()),
        };
        self.note(step)
    }

    async fn addresses(&mut self, host: &Hostname) -> anyhow::Result<BTreeSet<IpAddr>> {
        let what = format!("DNS addresses of {host}");
        let addresses = match self.lookup.addresses(host).await {
            Ok(addresses) if addresses.is_empty() => {
                let found =
                    "there are none: make A or AAAA records with the addresses of the nodes";
                self.note(Step::failed(what, found))?;
                return Ok(addresses);
            }
            Ok(addresses) => addresses,
            Err(error) => {
                self.note(Step::failed(what, error.to_string()))?;
                return Ok(BTreeSet::new());
            }
        };
        let shown = listed(&addresses);
        let foreign: BTreeSet<_> = addresses
            .iter()
            .filter(|address| !self.is_ours(address))
            .collect();
        let step = match foreign.is_empty() {
            true => Step::fine(what, format!("{shown}: nodes or published addresses")),
            false => Step::doubtful(
                what,
                format!(
                    "{shown}; {} neither a node's nor published: right if a load balancer or NAT in front of the nodes has \
                     it, else correct the records",
                    listed(&foreign)
                ),
            ),
        };
        self.note(step)?;
        Ok(addresses)
    }

    fn is_ours(&self, address: &IpAddr) -> bool {
        let mut nodes = self.facts.nodes.iter().flat_map(|node| &node.addresses);
        nodes.any(|own| own == address)
            || self
                .facts
                .published
                .iter()
                .any(|published| published.parse() == Ok(*address))
    }

    /// Whether each node answers at its own address.
    async fn nodes(&mut self, host: &Hostname, public: u16) -> anyhow::Result<()> {
        let port = match public {
            HTTPS => self.facts.https,
            _ => self.facts.http,
        };
        let Some(port) = port else {
            let found =
                "the process has no such listener: set one, or another challenge for the issuer";
            return self.note(Step::failed(format!("listener for port {public}"), found));
        };
        if self.facts.nodes.is_empty() {
            let found = "no node is ready: see the readiness of the Tidegate pods";
            return self.note(Step::failed("nodes", found));
        }
        for node in &self.facts.nodes {
            for address in &node.addresses {
                let at = SocketAddr::new(*address, port);
                let what = format!("node {} at {at}", node.name);
                let step = match look(at, host, public).await {
                    Ok(seen) => Step::fine(what, seen),
                    Err(error) => Step::failed(
                        what,
                        format!(
                            "{error:#}; make the port reachable, or take the node out of service"
                        ),
                    ),
                };
                self.note(step)?;
            }
        }
        Ok(())
    }

    /// Whether it answers where the CA would look, as far as that can be seen from here.
    async fn public(
        &mut self,
        host: &Hostname,
        addresses: &BTreeSet<IpAddr>,
        port: u16,
    ) -> anyhow::Result<()> {
        for address in addresses {
            let at = SocketAddr::new(*address, port);
            let what = format!("{host} at {at}");
            let step = match look(at, host, port).await {
                Ok(seen) => Step::fine(what, seen),
                Err(error) => Step::doubtful(
                    what,
                    format!(
                        "{error:#}; from here it may fail (hairpin NAT) though a CA gets through: try it from outside"
                    ),
                ),
            };
            self.note(step)?;
        }
        Ok(())
    }

    /// What the CA calls itself in CAA records.
    async fn directory(&mut self) -> anyhow::Result<Vec<String>> {
        let what = format!("directory {}", self.issuer.directory);
        let directory = match fetch(self.issuer).await {
            Ok(directory) => directory,
            Err(error) => {
                self.note(Step::failed(what, format!("{error:#}")))?;
                return Ok(Vec::new());
            }
        };
        let Meta {
            caa_identities,
            external_account_required,
            profiles,
        } = directory.meta;
        let trouble = match (&self.issuer.profile, external_account_required) {
            _ if directory.new_order.is_none() => {
                Some("it has no newOrder: is it the URL of an ACME directory?".to_owned())
            }
            (Some(profile), _) if !profiles.contains_key(profile) => Some(format!(
                "the CA has no profile '{profile}', but {}",
                match profiles.is_empty() {
                    true => "none at all".to_owned(),
                    false => listed(&profiles.keys().collect()),
                }
            )),
            (_, true) if !self.issuer.has_external_account => Some(
                "the CA wants an external account: set externalAccount of the issuer".to_owned(),
            ),
            _ => None,
        };
        self.note(match trouble {
            Some(trouble) => Step::failed(what, trouble),
            None => Step::fine(what, "reachable, and has what the issuer asks for"),
        })?;
        Ok(caa_identities)
    }

    async fn caa(&mut self, identities: &[String]) -> anyhow::Result<()> {
        let what = format!("CAA of {}", self.host);
        let names = match self.host {
            HostPattern::Wildcard(_) => Names::Wildcard,
            _ => Names::Exact,
        };
        let set = match self.lookup.caa(self.host).await {
            Ok(set) => set,
            Err(error) => {
                return self.note(Step::failed(
                    what,
                    format!("{error}; a CA that cannot look does not issue"),
                ));
            }
        };
        let step = match set.verdict(names, identities, &self.issuer.challenge) {
            CaaVerdict::Unrestricted => Step::fine(what, "no record restricts who may issue"),
            CaaVerdict::Allowed { owner, record } => {
                Step::fine(what, format!("{owner} allows it: {record}"))
            }
            CaaVerdict::Refused {
                owner,
                records,
                remedy,
            } if identities.is_empty() => Step::doubtful(
                what,
                format!("{owner} has {}; {remedy}", records.join(", ")),
            ),
            CaaVerdict::Refused {
                owner,
                records,
                remedy,
            } => Step::failed(
                what,
                format!("{owner} has {}; {remedy}", records.join(", ")),
            ),
        };
        self.note(step)
    }

    /// A whole order at the staging directory, by the process that serves.
    async fn rehearse(&mut self, flags: &CertsFlags, test: &TestFlags) -> anyhow::Result<()> {
        let Some(staging) = &self.issuer.staging else {
            let found = format!(
                "issuer '{}' has no staging directory: set `staging:`",
                self.issuer.name
            );
            return self.note(Step::failed("order at a staging directory", found));
        };
        let what = format!("order at {staging}");
        let page = format!(
            "/certs/rehearse?name={}&issuer={}",
            test.host, self.issuer.name
        );
        let answer = ask(&flags.socket, Method::POST, &page, REHEARSAL).await;
        let step = match answer.as_ref().map(done) {
            Ok(Ok(text)) => Step::fine(what, text.trim()),
            Ok(Err(error)) => Step::failed(what, format!("{error:#}")),
            Err(error) => Step::failed(what, format!("{error:#}")),
        };
        self.note(step)
    }
}

/// Looks at a port: at 80 for an answer to a challenge that nobody has, else whether there is a connection.
async fn look(at: SocketAddr, host: &Hostname, port: u16) -> anyhow::Result<String> {
    let looking = async {
        let stream = TcpStream::connect(at).await.context("no connection")?;
        if port != HTTP {
            return Ok("takes connections".to_owned());
        }
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::get(PATH)
            .header("host", host.as_str())
            .body(Empty::<Bytes>::new())?;
        let mut exchange = std::pin::pin!(sender.send_request(request));
        let response = tokio::select! {
            response = &mut exchange => response?,
            _ = connection => exchange.await?,
        };
        Ok(format!(
            "answers by HTTP where challenges are looked for (status {} for a token that nobody has)",
            response.status().as_u16()
        ))
    };
    let seen = tokio::time::timeout(LOOK, looking).await;
    seen.unwrap_or_else(|_| Err(anyhow!("no answer within {} s", LOOK.as_secs())))
}

async fn fetch(issuer: &IssuerFacts) -> anyhow::Result<Directory> {
    let client = HttpClient::new(issuer.ca_bundle.as_ref().map(String::as_bytes))?;
    let request = Request::get(&issuer.directory).body(Bytes::new())?;
    let answer = client.send(request).await?;
    if !answer.status().is_success() {
        return Err(anyhow!("it answers with status {}", answer.status()));
    }
    serde_json::from_slice(answer.body())
        .context("it answers something else than a directory; correct `directory:` of the issuer")
}

fn listed<T: std::fmt::Display>(list: &BTreeSet<T>) -> String {
    let texts: Vec<_> = list.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests;
