//! A snapshot in entries, each of which is written and read on its own; and what differs between two snapshots.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_model::{
    Certificate, HostPattern, Policy, Snapshot, TicketKey, TlsPolicy, Upstream, VirtualHost,
};

use super::stored;

/// What an entry is about. Its number and its table's name are part of the formats of file and hand-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Section {
    /// Virtual hosts, by host pattern.
    Hosts = 1,
    /// Upstreams, by identity.
    Upstreams = 2,
    /// Certificates with their keys, by Secret and fingerprint.
    Certificates = 3,
    /// Keys of certificates, by host pattern.
    CertificateIndex = 4,
    /// Settings for every request: one entry.
    Policy = 5,
    /// Key authorizations of ACME challenges, by token.
    Challenges = 6,
    /// Key authorizations that are answered in handshakes, by host. Not in files of earlier versions, and so the next two.
    Handshakes = 7,
    /// What TLS goes by: one entry.
    Tls = 8,
    /// Keys of session tickets, by name.
    Tickets = 9,
}

impl Section {
    /// All of them.
    pub(super) const ALL: [Self; 9] = [
        Self::Hosts,
        Self::Upstreams,
        Self::Certificates,
        Self::CertificateIndex,
        Self::Policy,
        Self::Challenges,
        Self::Handshakes,
        Self::Tls,
        Self::Tickets,
    ];

    /// The section's name in words, and its table's.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hosts => "hosts",
            Self::Upstreams => "upstreams",
            Self::Certificates => "certificates",
            Self::CertificateIndex => "certificate-index",
            Self::Policy => "policy",
            Self::Challenges => "challenges",
            Self::Handshakes => "handshakes",
            Self::Tls => "tls",
            Self::Tickets => "tickets",
        }
    }

    /// The section of this number.
    pub(super) fn numbered(number: u8) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|section| *section as u8 == number)
    }

    /// Whether its entries hold private keys, or keys of another kind that are as good.
    pub(super) fn is_secret(self) -> bool {
        matches!(self, Self::Certificates | Self::Tickets)
    }
}

/// An entry to write or to take out.
#[derive(Debug)]
pub(super) struct Change<'a> {
    pub(super) section: Section,
    pub(super) key: String,
    /// `None` takes it out.
    pub(super) value: Option<Value<'a>>,
}

/// What an entry says, not encoded yet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Host(&'a VirtualHost),
    Upstream(&'a Upstream),
    Certificate(&'a Certificate),
    Certificates(&'a [Arc<Certificate>]),
    Policy(&'a Policy),
    /// A key authorization.
    Challenge(&'a str),
    /// The part of it that is about TLS.
    Tls(&'a Policy),
    Ticket(&'a TicketKey),
}

impl Value<'_> {
    /// The entry's bytes.
    pub(super) fn encode(self) -> Vec<u8> {
        match self {
            Self::Host(host) => stored::encode_host(host),
            Self::Upstream(upstream) => stored::encode_upstream(upstream),
            Self::Certificate(certificate) => stored::encode_certificate(certificate),
            Self::Certificates(list) => stored::encode_certificate_list(list),
            Self::Policy(policy) => stored::encode_policy(policy),
            Self::Challenge(answer) => answer.as_bytes().to_vec(),
            Self::Tls(policy) => stored::encode_tls(policy),
            Self::Ticket(key) => stored::encode_ticket(key),
        }
    }
}

/// What turns an older snapshot into a newer one, by section; from nothing everything. What both share is passed over
/// without a look into it.
pub(super) fn changes<'a>(older: Option<&'a Snapshot>, newer: &'a Snapshot) -> Vec<Change<'a>> {
    let mut changes = Changes::default();
    changes.hosts(older, newer);
    changes.upstreams(older, newer);
    changes.certificates(older, newer);
    let without_tls = |policy: &Policy| Policy {
        tls: TlsPolicy::default(),
        on_demand: None,
        ..policy.clone()
    };
    let is_same = |older: &Snapshot| {
        older.policy == newer.policy || without_tls(&older.policy) == without_tls(&newer.policy)
    };
    if !older.is_some_and(is_same) {
        let policy = Value::Policy(&newer.policy);
        changes.push(Section::Policy, String::new(), Some(policy));
    }
    changes.challenges(older, newer);
    changes.handshakes(older, newer);
    changes.tls(older, newer);
    changes.tickets(older, newer);
    changes.0
}

#[derive(Default)]
struct Changes<'a>(Vec<Change<'a>>);

impl<'a> Changes<'a> {
    fn push(&mut self, section: Section, key: String, value: Option<Value<'a>>) {
        self.0.push(Change {
            section,
            key,
            value,
        });
    }

    fn hosts(&mut self, older: Option<&'a Snapshot>, newer: &'a Snapshot) {
        let Some(older) = older else {
            for (pattern, host) in newer.routes.hosts() {
                self.push(Section::Hosts, pattern.to_string(), Some(Value::Host(host)));
            }
            return;
        };
        if Arc::ptr_eq(&older.routes, &newer.routes) {
            return;
        }
        for (pattern, host) in newer.routes.changes_since(&older.routes) {
            self.push(Section::Hosts, pattern.to_string(), host.map(Value::Host));
        }
    }

    fn upstreams(&mut self, older: Option<&'a Snapshot>, newer: &'a Snapshot) {
        let before = older.map(|older| &older.upstreams);
        if before.is_some_and(|before| Arc::ptr_eq(before, &newer.upstreams)) {
            return;
        }
        for (id, upstream) in newer.upstreams.iter() {
            let known = before.and_then(|before| before.get(id));
            // Pointers are compared first.
            if known.is_none_or(|known| !Arc::ptr_eq(known, upstream) && known != upstream) {
                let value = Value::Upstream(upstream);
                self.push(Section::Upstreams, id.as_str().to_owned(), Some(value));
            }
        }
        let gone = before.into_iter().flat_map(|before| before.keys());
        for id in gone.filter(|id| !newer.upstreams.contains_key(*id)) {
            self.push(Section::Upstreams, id.as_str().to_owned(), None);
        }
    }

    fn challenges(&mut self, older: Option<&'a Snapshot>, newer: &'a Snapshot) {
        let before = older.map(|older| &older.challenges);
        if before.is_some_and(|before| Arc::ptr_eq(before, &newer.challenges)) {
            return;
        }
        let answered = |token| before.and_then(|before| before.answer(token));
        for (token, answer) in newer.challenges.entries() {
            if answered(token) != Some(answer) {
                let value = Value::Challenge(answer);
                self.push(Section::Challenges, token.to_owned(), Some(value));
            }
        }
        let before = before.map(|before| before.entries()).unwrap_or_default();
        for (token, _) in before {
            if newer.challenges.answer(token).is_none() {
                self.push(Section::Challenges, token.to_owned(), None);
            }
        }
    }

    fn handshakes(&mut self, older: Option<&'a Snapshot>, newer: &'a Snapshot) {
        let before = older.map(|older| &older.challenges);
        if before.is_some_and(|before| Arc::ptr_eq(before, &newer.challenges)) {
            return;
        }
        let answered = |host: &str| before.and_then(|before| before.handshake(host));
        for (host, answer) in newer.challenges.handshakes() {
            if answered(host.as_str()) != Some(answer) {
                let value = Value::Challenge(answer);
                self.push(Section::Handshakes, host.to_string(), Some(value));
            }
        }
        let before = before.map(|before| before.handshakes()).unwrap_or_default();
        for (host, _) in before {
            if newer.challenges.handshake(host.as_str()).is_none() {
                self.push(Section::Handshakes, host.to_string(), None);
            }
        }
    }

    fn tls(&mut self, older: Option<&'a Snapshot>, newer: &'a Snapshot) {
        let of = |policy: &'a Policy| (&policy.tls, &policy.on_demand);
        if older.is_none_or(|older| of(&older.policy) != of(&newer.policy)) {
            let value = Value::Tls(&newer.policy);
            self.push(Section::Tls, String::new(), Some(value));
        }
    }

    fn tickets(&mut self, older: Option<&'a Snapshot>, newer: &'a Snapshot) {
        let before = older.map(|older| older.tickets.all()).unwrap_or_default();
        let now = newer.tickets.all();
        for key in now.iter().filter(|key| !before.contains(key)) {
            let value = Value::Ticket(key);
            self.push(Section::Tickets, stored::ticket_name(key), Some(value));
        }
        let is_gone = |key: &&TicketKey| newer.tickets.named(&key.name).is_none();
        for key in before.iter().filter(is_gone) {
            self.push(Section::Tickets, stored::ticket_name(key), None);
        }
    }

    fn certificates(&mut self, older: Option<&'a Snapshot>, newer: &'a Snapshot) {
        if older.is_some_and(|older| Arc::ptr_eq(&older.certificates, &newer.certificates)) {
            return;
        }
        let before = older.map_or_else(BTreeMap::new, |older| older.certificates.entries());
        let now = newer.certificates.entries();
        self.certificate_list(&before, &now);
        for (pattern, list) in &now {
            let known = before.get(pattern);
            if known.is_none_or(|known| !same_certificates(known, list)) {
                let value = Value::Certificates(list);
                self.push(Section::CertificateIndex, pattern.to_string(), Some(value));
            }
        }
        for pattern in before.keys().filter(|pattern| !now.contains_key(*pattern)) {
            self.push(Section::CertificateIndex, pattern.to_string(), None);
        }
    }

    fn certificate_list(&mut self, before: &Entries<'a>, now: &Entries<'a>) {
        let before = distinct(before);
        let now = distinct(now);
        for (key, certificate) in &now {
            // The fingerprint is over all that the entry says but the names and times, which the chain holds.
            if !before.contains_key(key) {
                let value = Value::Certificate(certificate);
                self.push(Section::Certificates, key.clone(), Some(value));
            }
        }
        for key in before.into_keys().filter(|key| !now.contains_key(key)) {
            self.push(Section::Certificates, key, None);
        }
    }
}

type Entries<'a> = BTreeMap<HostPattern, &'a [Arc<Certificate>]>;

/// Each certificate once, by the key of its entry.
fn distinct<'a>(entries: &Entries<'a>) -> BTreeMap<String, &'a Certificate> {
    let all = entries.values().flat_map(|list| list.iter());
    all.map(|certificate| (stored::certificate_key(certificate), &**certificate))
        .collect()
}

fn same_certificates(ours: &[Arc<Certificate>], theirs: &[Arc<Certificate>]) -> bool {
    let same = |ours: &Arc<Certificate>, theirs: &Arc<Certificate>| {
        Arc::ptr_eq(ours, theirs)
            || (ours.fingerprint == theirs.fingerprint && ours.secret == theirs.secret)
    };
    ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| same(a, b))
}
