//! The Secrets that this instance keeps for itself, but for challenge answers: certificates, ticket keys and requests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;
use tidegate_model::{
    CertificateRequest, Excerpt, HostPattern, Hostname, NamespacedName, Problem, Reason, TicketKey,
    TicketKeys, UnixTime,
};

use super::labels::{self, CERTIFICATE_LABEL, REQUESTS_LABEL, TICKET_KEYS_LABEL};
use super::objects::{self, Objects};
use super::report::{Part, Problems, Report};

/// Key of a Secret's entry with ticket keys.
const TICKET_KEYS: &str = "keys.json";

/// What our own Secrets hold, read again only when one of them changed.
#[derive(Debug, Default)]
pub(super) struct OwnSecrets {
    /// Certificates, in any namespace.
    certificates: BTreeSet<NamespacedName>,
    tickets: Labelled,
    requests: Labelled,
    ticket_keys: Arc<TicketKeys>,
    waiting: BTreeMap<CertificateRequest, String>,
    /// Changes with the set of these Secrets.
    version: u64,
}

/// Secrets with one label in our own namespace.
type Labelled = BTreeSet<NamespacedName>;

/// Whose Secrets are meant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner<'a> {
    pub(super) namespace: &'a str,
    pub(super) instance: &'a str,
}

impl OwnSecrets {
    /// Those with certificates, in any namespace.
    pub(super) fn certificates(&self) -> &BTreeSet<NamespacedName> {
        &self.certificates
    }

    /// By what sessions are resumed.
    pub(super) fn ticket_keys(&self) -> &Arc<TicketKeys> {
        &self.ticket_keys
    }

    /// The requests that wait, each with its time.
    pub(super) fn requests(&self) -> &BTreeMap<CertificateRequest, String> {
        &self.waiting
    }

    /// All of them.
    pub(super) fn names(&self) -> impl Iterator<Item = &NamespacedName> {
        let records = self.tickets.iter().chain(&self.requests);
        records.chain(&self.certificates)
    }

    /// Another number each time when the Secrets are others.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Takes in that Secrets changed. Returns those that are certificates of ours now, or were.
    pub(super) fn update<'a>(
        &mut self,
        owner: Owner<'_>,
        changed: impl IntoIterator<Item = &'a NamespacedName>,
        objects: &Objects,
        problems: &mut Problems,
    ) -> BTreeSet<NamespacedName> {
        let (mut tickets, mut requests) = (false, false);
        let mut concerned = BTreeSet::new();
        for name in changed {
            let secret = objects.secrets.get(name);
            let has =
                |label| secret.is_some_and(|it| labels::has(&it.metadata, label, owner.instance));
            let is_own = name.namespace == owner.namespace;
            let version = &mut self.version;
            if mark(
                &mut self.certificates,
                name,
                has(CERTIFICATE_LABEL),
                version,
            ) {
                concerned.insert(name.clone());
            }
            let has_keys = is_own && has(TICKET_KEYS_LABEL);
            tickets |= mark(&mut self.tickets, name, has_keys, version);
            let has_requests = is_own && has(REQUESTS_LABEL);
            requests |= mark(&mut self.requests, name, has_requests, version);
        }
        if tickets {
            problems.set(Part::TicketKeys, self.read_ticket_keys(objects));
        }
        if requests {
            problems.set(Part::Requests, self.read_requests(objects));
        }
        concerned
    }

    fn read_ticket_keys(&mut self, objects: &Objects) -> Vec<Problem> {
        let mut keys = Vec::new();
        let mut problems = Vec::new();
        for (name, secret) in held(&self.tickets, objects) {
            match ticket_keys(secret) {
                Ok(found) => keys.extend(found),
                Err(cause) => {
                    let mut report = Report::about("Secret", name);
                    report.error(
                        Reason::InvalidField,
                        format!("data[{TICKET_KEYS}]"),
                        format!(
                            "the entry holds no ticket keys: {cause}; until it is right, sessions are not resumed by \
                             another node. Delete the Secret to have it made again"
                        ),
                    );
                    problems.extend(report.into_problems());
                }
            }
        }
        let keys = TicketKeys::new(keys);
        if keys != *self.ticket_keys {
            self.ticket_keys = Arc::new(keys);
        }
        problems
    }

    fn read_requests(&mut self, objects: &Objects) -> Vec<Problem> {
        let mut waiting = BTreeMap::new();
        let mut problems = Vec::new();
        for (name, secret) in held(&self.requests, objects) {
            let mut report = Report::about("Secret", name);
            for (key, value) in objects::entries(secret) {
                match request(key, value) {
                    Ok((request, time)) => _ = waiting.entry(request).or_insert(time),
                    Err(cause) => report.warning(
                        Reason::InvalidField,
                        format!("data[{}]", Excerpt(key)),
                        format!("the entry asks for nothing: {cause}; correct it or remove it"),
                    ),
                }
            }
            problems.extend(report.into_problems());
        }
        self.waiting = waiting;
        problems
    }
}

/// Notes whether a Secret is one of these. Whether it is, or was.
fn mark(set: &mut Labelled, name: &NamespacedName, is_one: bool, version: &mut u64) -> bool {
    let differs = match is_one {
        true => set.insert(name.clone()),
        false => set.remove(name),
    };
    *version += u64::from(differs);
    is_one || differs
}

fn held<'a>(
    names: &'a Labelled,
    objects: &'a Objects,
) -> impl Iterator<Item = (&'a NamespacedName, &'a Secret)> {
    let found = names.iter().map(|name| (name, objects.secrets.get(name)));
    found.filter_map(|(name, secret)| Some((name, secret?.as_ref())))
}

/// A ticket key as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenKey {
    /// 16 bytes in hexadecimal digits.
    name: String,
    /// Seconds since 1970.
    active_from: i64,
    /// 32 bytes in Base64.
    secret: String,
}

/// Says what is wrong without any of the content: it is secret.
fn ticket_keys(secret: &Secret) -> Result<Vec<TicketKey>, String> {
    let entries = objects::entries(secret);
    let text = entries.get(TICKET_KEYS).ok_or("it is missing")?;
    let written: Vec<WrittenKey> = serde_json::from_slice(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("no JSON list of name, activeFrom and secret (line {line}, column {column})")
    })?;
    let keys = written.iter().enumerate().map(|(index, key)| {
        ticket_key(key).ok_or_else(|| {
            format!("key {index} has not a name of 32 hexadecimal digits and a secret of 32 bytes in Base64")
        })
    });
    keys.collect()
}

fn ticket_key(written: &WrittenKey) -> Option<TicketKey> {
    let is_hex = written.name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let name = (written.name.len() == 32 && is_hex).then_some(&written.name)?;
    let secret = BASE64_STANDARD.decode(&written.secret).ok()?;
    Some(TicketKey {
        name: u128::from_str_radix(name, 16).ok()?.to_be_bytes(),
        active_from: UnixTime(written.active_from),
        secret: secret.try_into().ok()?,
    })
}

fn request(key: &str, value: &[u8]) -> Result<(CertificateRequest, String), String> {
    let request = if let Some(host) = key.strip_prefix("renew.") {
        let pattern = match host.strip_prefix("_.") {
            Some(rest) => Hostname::parse(rest).map(HostPattern::Wildcard),
            None => Hostname::parse(host).map(HostPattern::Exact),
        };
        pattern.map(CertificateRequest::Renew)
    } else if let Some(host) = key.strip_prefix("on-demand.") {
        Hostname::parse(host).map(CertificateRequest::OnDemand)
    } else {
        return Err("a key is 'renew.' or 'on-demand.' and a host".to_owned());
    };
    let request = request.map_err(|error| error.to_string())?;
    let time = std::str::from_utf8(value).unwrap_or_default().trim();
    match time.parse::<jiff::Timestamp>() {
        Ok(_) => Ok((request, time.to_owned())),
        Err(_) => Err("the value is no time as RFC 3339 writes it".to_owned()),
    }
}
