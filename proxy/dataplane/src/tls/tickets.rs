//! Session tickets that every node opens (RFC 5077, RFC 8446 section 4.6.1).
//!
//! A ticket is the name of its key, a nonce, and the session with the time of its sealing, under AES-256-GCM. The nonce is
//! random: a key is good for some four billion tickets (NIST SP 800-38D section 8.3), so that at 100,000 a second over all
//! nodes it would have to be followed by another within half a day.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use rustls::server::ProducesTickets;
use tidegate_model::{TICKET_LIFETIME, TicketKeys, UnixTime};

use super::TlsError;

/// What a seal is for: one made for anything else does not open as a ticket.
const PURPOSE: [u8; 16] = *b"tidegate ticket1";
const NAME: usize = 16;
/// Name and nonce.
const FRONT: usize = NAME + NONCE_LEN;
const TIME: usize = 8;
/// How far the clocks of two nodes may be apart.
const SKEW: Duration = Duration::from_secs(300);

/// Seals with the key that is active and opens with all.
pub(super) struct SharedTickets {
    keys: Arc<TicketKeys>,
    /// In the order of the keys, which are few.
    ciphers: Vec<([u8; NAME], RandomizedNonceKey)>,
}

impl SharedTickets {
    /// # Errors
    /// The library refused a key.
    pub(super) fn new(keys: Arc<TicketKeys>) -> Result<Self, TlsError> {
        let cipher = |key: &tidegate_model::TicketKey| {
            let cipher = RandomizedNonceKey::new(&AES_256_GCM, &key.secret);
            cipher.map(|cipher| (key.name, cipher))
        };
        let ciphers = keys.all().iter().map(cipher).collect::<Result<_, _>>();
        Ok(Self {
            ciphers: ciphers.map_err(|_| TlsError::TicketKey)?,
            keys,
        })
    }

    fn cipher(&self, name: &[u8]) -> Option<&RandomizedNonceKey> {
        let mut ciphers = self.ciphers.iter();
        ciphers
            .find(|(known, _)| known == name)
            .map(|(_, cipher)| cipher)
    }

    fn seal(&self, now: UnixTime, session: &[u8]) -> Option<Vec<u8>> {
        let name = &self.keys.sealing(now)?.name;
        let cipher = self.cipher(name)?;
        let mut ticket = Vec::with_capacity(FRONT + TIME + session.len() + AES_256_GCM.tag_len());
        ticket.extend_from_slice(name);
        ticket.extend_from_slice(&[0; NONCE_LEN]);
        ticket.extend_from_slice(&now.0.to_be_bytes());
        ticket.extend_from_slice(session);
        let (front, sealed) = ticket.split_at_mut_checked(FRONT)?;
        let (nonce, tag) = cipher
            .seal_in_place_separate_tag(Aad::from(additional(name)), sealed)
            .ok()?;
        front.get_mut(NAME..)?.copy_from_slice(nonce.as_ref());
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn open(&self, now: UnixTime, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let cipher = self.cipher(name)?;
        let mut sealed = sealed.to_vec();
        let opened = cipher
            .open_in_place(Nonce::from(nonce), Aad::from(additional(name)), &mut sealed)
            .ok()?;
        let (time, session) = opened.split_first_chunk::<TIME>()?;
        is_alive(UnixTime(i64::from_be_bytes(*time)), now).then(|| session.to_vec())
    }
}

/// What is sealed along with a session: the purpose and the key's name.
fn additional(name: &[u8; NAME]) -> [u8; 2 * NAME] {
    let mut additional = [0; 2 * NAME];
    let (purpose, rest) = additional.split_at_mut(NAME);
    purpose.copy_from_slice(&PURPOSE);
    rest.copy_from_slice(name);
    additional
}

fn is_alive(sealed: UnixTime, now: UnixTime) -> bool {
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    let age = now.0.saturating_sub(sealed.0);
    (-seconds(SKEW)..=seconds(TICKET_LIFETIME)).contains(&age)
}

fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixTime(since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    }))
}

impl ProducesTickets for SharedTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(TICKET_LIFETIME.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(now(), plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(now(), cipher)
    }
}

impl fmt::Debug for SharedTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedTickets").field(&self.keys).finish()
    }
}

#[cfg(test)]
mod tests {
    use tidegate_model::TicketKey;

    use super::*;

    const HOUR: i64 = 3600;

    fn key(number: u8, active_from: i64) -> TicketKey {
        TicketKey {
            name: [number; NAME],
            active_from: UnixTime(active_from),
            secret: [number; 32],
        }
    }

    fn tickets(keys: &[TicketKey]) -> SharedTickets {
        SharedTickets::new(Arc::new(TicketKeys::new(keys.to_vec()))).unwrap()
    }

    #[test]
    fn a_ticket_opens_wherever_its_key_is_and_nowhere_else() {
        let (one, two) = (key(1, 0), key(2, 10 * HOUR));
        let here = tickets(std::slice::from_ref(&one));
        let rotated = tickets(&[one.clone(), two.clone()]);
        let now = UnixTime(HOUR);
        let ticket = here.seal(now, b"session").unwrap();
        assert_eq!(here.open(now, &ticket).as_deref(), Some(&b"session"[..]));
        assert_eq!(rotated.open(now, &ticket).as_deref(), Some(&b"session"[..]));
        // A node whose keys are further on seals with the next one, which the other has when that becomes active.
        let later = UnixTime(11 * HOUR);
        let next = rotated.seal(later, b"next").unwrap();
        assert_eq!(next.get(..NAME), Some(&two.name[..]));
        assert_eq!(rotated.open(later, &next).as_deref(), Some(&b"next"[..]));
        assert_eq!(here.open(later, &next), None);
        assert_eq!(tickets(&[two]).open(now, &ticket), None, "its key is gone");
        // The name alone does not open it.
        let impostor = TicketKey {
            secret: [9; 32],
            ..one
        };
        assert_eq!(tickets(&[impostor]).open(now, &ticket), None);
    }

    #[test]
    fn a_ticket_that_was_touched_is_ignored() {
        let tickets = tickets(&[key(1, 0), key(2, 0)]);
        let now = UnixTime(HOUR);
        let ticket = tickets.seal(now, b"session").unwrap();
        for place in 0..ticket.len() {
            let mut touched = ticket.clone();
            touched[place] ^= 1;
            assert_eq!(tickets.open(now, &touched), None, "byte {place}");
            assert_eq!(tickets.open(now, &ticket[..place]), None, "{place} bytes");
        }
        let mut renamed = ticket.clone();
        renamed[..NAME].fill(1);
        assert_eq!(tickets.open(now, &renamed), None, "another key's name");
        let longer = [&ticket[..], b"x"].concat();
        assert_eq!(tickets.open(now, &longer), None);
    }

    #[test]
    fn a_ticket_ends_with_its_life_though_its_key_stays() {
        let tickets = tickets(&[key(1, 0)]);
        let ticket = tickets.seal(UnixTime(100 * HOUR), b"session").unwrap();
        for (now, opens) in [
            (100 * HOUR - 300, true),
            (100 * HOUR - 301, false),
            (112 * HOUR, true),
            (112 * HOUR + 1, false),
            (i64::MIN, false),
            (i64::MAX, false),
        ] {
            let opened = tickets.open(UnixTime(now), &ticket);
            assert_eq!(opened.is_some(), opens, "{now}");
        }
    }

    #[test]
    fn no_two_tickets_are_alike() {
        let tickets = tickets(&[key(1, 0)]);
        let seal = || tickets.seal(UnixTime(0), b"session").unwrap();
        assert_ne!(seal(), seal());
    }
}
