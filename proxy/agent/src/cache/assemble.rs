//! From entries to a snapshot: all of it or none.

use std::collections::HashMap;
use std::sync::Arc;

use tidegate_model::{
    Certificate, CertificateIndex, ChallengeAnswers, Hostname, Policy, RouteTable, Snapshot,
    TicketKeys, Upstream, UpstreamId,
};

use super::entry::Section;
use super::stored::{self, Damaged};

/// What entries are read from.
pub(super) trait Entries: Sync {
    /// Why reading failed.
    type Error: Send;

    /// Hands every entry of a section over, private keys in the clear.
    ///
    /// # Errors
    /// Entries cannot be read, or the visitor refuses one.
    fn visit(&self, section: Section, visitor: &mut Visitor<'_>) -> Result<(), Self::Error>;
}

/// Takes an entry, by key and value.
pub(super) type Visitor<'a> = dyn FnMut(&str, &[u8]) -> Result<(), Damaged> + 'a;

/// Puts a snapshot together, its certificates beside the rest on a thread of their own. Certificates were verified
/// before they were saved, and are not again.
///
/// # Errors
/// Any entry is missing or cannot be read: half a snapshot would answer for hosts wrongly.
pub(super) fn snapshot<E: Entries>(entries: &E) -> Result<Snapshot, Failed<E::Error>> {
    std::thread::scope(|scope| {
        let certificates = std::thread::Builder::new()
            .name("cache-read".to_owned())
            .spawn_scoped(scope, || certificates(entries));
        let upstreams = upstreams(entries)?;
        let routes = routes(entries, &upstreams)?;
        let policy = policy(entries)?;
        let tickets = tickets(entries)?;
        let challenges = challenges(entries)?;
        let certificates = match certificates {
            Ok(thread) => thread.join().map_err(|_| Failed::Panicked)?,
            Err(_) => self::certificates(entries),
        };
        Ok(Snapshot {
            routes: Arc::new(routes),
            upstreams: Arc::new(upstreams),
            certificates: Arc::new(certificates?),
            policy: Arc::new(policy),
            challenges: Arc::new(challenges),
            tickets: Arc::new(tickets),
        })
    })
}

/// Why there is no snapshot.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failed<E> {
    /// Reading failed.
    Reading(E),
    /// An entry that must be there is not.
    Missing(Section),
    /// The reader panicked.
    Panicked,
}

impl<E> From<E> for Failed<E> {
    fn from(error: E) -> Self {
        Self::Reading(error)
    }
}

type Upstreams = hashbrown::HashMap<UpstreamId, Arc<Upstream>>;

fn upstreams<E: Entries>(entries: &E) -> Result<Upstreams, E::Error> {
    let mut upstreams = Upstreams::default();
    entries.visit(Section::Upstreams, &mut |key, value| {
        let upstream = stored::decode_upstream(key, value)?;
        upstreams.insert(upstream.id.clone(), Arc::new(upstream));
        Ok(())
    })?;
    Ok(upstreams)
}

fn routes<E: Entries>(entries: &E, upstreams: &Upstreams) -> Result<RouteTable, E::Error> {
    let mut routes = RouteTable::default();
    let named = |text: &str| {
        let id = UpstreamId::new(text);
        let known = upstreams.get_key_value(&id);
        known.map_or_else(|| id.clone(), |(known, _)| known.clone())
    };
    entries.visit(Section::Hosts, &mut |key, value| {
        let pattern = stored::decode_pattern(key)?;
        let host = stored::decode_host(&pattern, value, named)?;
        routes.set(pattern, Some(host));
        Ok(())
    })?;
    Ok(routes)
}

fn policy<E: Entries>(entries: &E) -> Result<Policy, Failed<E::Error>> {
    let mut policy = None;
    entries.visit(Section::Policy, &mut |_, value| {
        policy = Some(stored::decode_policy(value)?);
        Ok(())
    })?;
    let mut policy = policy.ok_or(Failed::Missing(Section::Policy))?;
    entries.visit(Section::Tls, &mut |_, value| {
        (policy.tls, policy.on_demand) = stored::decode_tls(value)?;
        Ok(())
    })?;
    Ok(policy)
}

fn tickets<E: Entries>(entries: &E) -> Result<TicketKeys, E::Error> {
    let mut keys = Vec::new();
    entries.visit(Section::Tickets, &mut |name, value| {
        keys.push(stored::decode_ticket(name, value)?);
        Ok(())
    })?;
    Ok(TicketKeys::new(keys))
}

fn challenges<E: Entries>(entries: &E) -> Result<ChallengeAnswers, E::Error> {
    let mut challenges = ChallengeAnswers::default();
    entries.visit(Section::Challenges, &mut |token, value| {
        let answer = str::from_utf8(value).map_err(|_| Damaged)?;
        challenges.insert(token, answer).map_err(|_| Damaged)
    })?;
    entries.visit(Section::Handshakes, &mut |host, value| {
        let host = Hostname::parse(host).map_err(|_| Damaged)?;
        let answer = str::from_utf8(value).map_err(|_| Damaged)?;
        challenges
            .insert_handshake(host, answer)
            .map_err(|_| Damaged)
    })?;
    Ok(challenges)
}

fn certificates<E: Entries>(entries: &E) -> Result<CertificateIndex, E::Error> {
    let mut held: HashMap<String, Arc<Certificate>> = HashMap::new();
    entries.visit(Section::Certificates, &mut |key, value| {
        let certificate = stored::decode_certificate(key, value)?;
        held.insert(key.to_owned(), Arc::new(certificate));
        Ok(())
    })?;
    let mut index = Vec::new();
    entries.visit(Section::CertificateIndex, &mut |key, value| {
        let pattern = stored::decode_pattern(key)?;
        let keys = stored::decode_certificate_list(value)?;
        let list = keys.into_iter().map(|key| held.get(key).cloned());
        let list: Option<Vec<_>> = list.collect();
        index.push((pattern, list.ok_or(Damaged)?));
        Ok(())
    })?;
    Ok(CertificateIndex::new(index))
}
