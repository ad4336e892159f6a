//! What clients are offered: versions, suites, protocols and ways to resume. Follows the policy and the ticket keys.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{ProducesTickets, ServerSessionMemoryCache, StoresServerSessions};
use rustls::version::{TLS12, TLS13};
use rustls::{ConfigBuilder, ServerConfig, SupportedProtocolVersion, WantsVerifier};
use tidegate_model::{CipherSuite, TicketKeys, TlsPolicy, TlsVersion};

use super::tickets::SharedTickets;
use super::{Resolver, TlsError};

/// Sessions remembered for TLS 1.2 clients that resume by ID instead of by ticket.
const SESSIONS: usize = 20_480;

/// What lasts for the life of the process: cryptography, and sessions that only it can resume. All workers share it, so
/// that a client may resume on whichever worker its next connection lands.
pub(crate) struct Sessions {
    provider: Arc<CryptoProvider>,
    own_tickets: Arc<dyn ProducesTickets>,
    cache: Arc<dyn StoresServerSessions>,
}

impl Sessions {
    pub(crate) fn new(provider: Arc<CryptoProvider>) -> Result<Self, TlsError> {
        Ok(Self {
            provider,
            own_tickets: Ticketer::new()?,
            cache: ServerSessionMemoryCache::new(SESSIONS),
        })
    }

    pub(crate) fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }

    /// What clients are offered by a policy, with tickets that other nodes open too when there are keys for that.
    ///
    /// # Errors
    /// The library refused it.
    pub(crate) fn offer(
        &self,
        policy: &TlsPolicy,
        tickets: &Arc<TicketKeys>,
    ) -> Result<Offer, TlsError> {
        let suites = Suites::of(policy);
        let provider = suites.only(&self.provider);
        Ok(Offer {
            policy: policy.clone(),
            tickets: tickets.clone(),
            builder: ServerConfig::builder_with_provider(provider)
                .with_protocol_versions(suites.versions)?,
            ticketer: match tickets.is_empty() {
                true => self.own_tickets.clone(),
                false => Arc::new(SharedTickets::new(tickets.clone())?),
            },
            cache: self.cache.clone(),
        })
    }

    /// The offer for a policy and keys: the one in force if it is for the same.
    pub(crate) fn follow(
        &self,
        offer: &Arc<Offer>,
        policy: &TlsPolicy,
        tickets: &Arc<TicketKeys>,
    ) -> Arc<Offer> {
        if offer.is_for(policy, tickets) {
            return offer.clone();
        }
        match self.offer(policy, tickets) {
            Ok(offer) => Arc::new(offer),
            Err(error) => {
                tracing::error!(%error, ?policy, "TLS goes on by the policy and ticket keys before");
                offer.clone()
            }
        }
    }
}

/// What clients are offered from one change of the policy or of the ticket keys to the next.
pub(crate) struct Offer {
    policy: TlsPolicy,
    tickets: Arc<TicketKeys>,
    builder: ConfigBuilder<ServerConfig, WantsVerifier>,
    ticketer: Arc<dyn ProducesTickets>,
    cache: Arc<dyn StoresServerSessions>,
}

impl Offer {
    fn is_for(&self, policy: &TlsPolicy, tickets: &Arc<TicketKeys>) -> bool {
        let same_keys = Arc::ptr_eq(&self.tickets, tickets) || self.tickets == *tickets;
        same_keys && self.policy == *policy
    }

    /// The configuration for one worker, whose certificates come from its resolver.
    pub(crate) fn server(&self, resolver: Arc<Resolver>) -> Arc<ServerConfig> {
        let builder = self.builder.clone();
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ignore_client_order = true;
        config.ticketer = self.ticketer.clone();
        config.session_storage = self.cache.clone();
        config.send_tls13_tickets = 1;
        Arc::new(config)
    }
}

static BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
static TLS13_ALONE: &[&SupportedProtocolVersion] = &[&TLS13];

/// Which versions and suites a policy leaves.
struct Suites<'a> {
    versions: &'static [&'static SupportedProtocolVersion],
    listed: &'a [CipherSuite],
}

impl<'a> Suites<'a> {
    /// A list that says nothing of TLS 1.3 is one for TLS 1.2, as other servers have it, and restricts no more than that.
    fn of(policy: &'a TlsPolicy) -> Self {
        let listed = policy.cipher_suites.as_slice();
        let of_tls12 = |suite: &CipherSuite| suite.version() == TlsVersion::Tls12;
        let without_tls12 = !listed.is_empty() && !listed.iter().any(of_tls12);
        let versions = match policy.min_version {
            TlsVersion::Tls12 if !without_tls12 => BOTH,
            _ => TLS13_ALONE,
        };
        Self { versions, listed }
    }

    /// The cryptography with no suites but these, in their order.
    fn only(&self, provider: &Arc<CryptoProvider>) -> Arc<CryptoProvider> {
        if self.listed.is_empty() {
            return provider.clone();
        }
        let place = |suite: &rustls::SupportedCipherSuite| {
            let code = u16::from(suite.suite());
            self.listed.iter().position(|listed| listed.code() == code)
        };
        let names_tls13 = self
            .listed
            .iter()
            .any(|suite| suite.version() == TlsVersion::Tls13);
        let mut kept = (**provider).clone();
        kept.cipher_suites.retain(|suite| {
            let untouched = suite.version() == &TLS13 && !names_tls13;
            untouched || place(suite).is_some()
        });
        kept.cipher_suites.sort_by_key(place);
        Arc::new(kept)
    }
}

#[cfg(test)]
mod tests {
    use tidegate_model::{TicketKey, UnixTime};

    use super::super::{ServerCertificates, provider};
    use super::*;

    fn sessions() -> Sessions {
        Sessions::new(provider()).unwrap()
    }

    fn config(policy: &TlsPolicy) -> Arc<ServerConfig> {
        let sessions = sessions();
        let certificates = ServerCertificates::self_signed(sessions.provider()).unwrap();
        let offer = sessions.offer(policy, &Arc::default()).unwrap();
        offer.server(Resolver::new(Arc::new(certificates)))
    }

    fn suites(config: &ServerConfig) -> Vec<u16> {
        let suites = config.crypto_provider().cipher_suites.iter();
        suites.map(|suite| u16::from(suite.suite())).collect()
    }

    #[test]
    fn a_policy_leaves_what_it_lists_in_its_order() {
        use CipherSuite as Suite;
        let all = suites(&config(&TlsPolicy::default()));
        assert_eq!(all.len(), Suite::ALL.len());
        let tls13 = &all[..3];
        let (rsa, ecdsa) = (
            Suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        );
        let of_tls12 = config(&TlsPolicy {
            min_version: TlsVersion::Tls12,
            cipher_suites: vec![rsa, ecdsa],
        });
        let wanted = [tls13, &[rsa.code(), ecdsa.code()]].concat();
        assert_eq!(suites(&of_tls12), wanted, "TLS 1.3 as it was");
        let chacha = Suite::TLS_CHACHA20_POLY1305_SHA256;
        for (min_version, listed) in [
            (TlsVersion::Tls12, vec![chacha]),
            (TlsVersion::Tls13, vec![chacha]),
            (TlsVersion::Tls13, vec![rsa]),
            (TlsVersion::Tls13, vec![]),
        ] {
            let of_tls13 = Suites::of(&TlsPolicy {
                min_version,
                cipher_suites: listed.clone(),
            })
            .versions;
            assert_eq!(of_tls13, [&TLS13], "{min_version:?} {listed:?}");
        }
    }

    #[test]
    fn every_suite_of_the_model_is_one_of_the_library() {
        for suite in CipherSuite::ALL {
            let alone = config(&TlsPolicy {
                min_version: TlsVersion::Tls12,
                cipher_suites: vec![suite],
            });
            let found = suites(&alone);
            assert!(found.contains(&suite.code()), "{suite}: {found:x?}");
        }
    }

    #[test]
    fn an_offer_lasts_until_the_policy_or_the_keys_change() {
        let sessions = sessions();
        let policy = TlsPolicy::default();
        let none = Arc::default();
        let first = Arc::new(sessions.offer(&policy, &none).unwrap());
        assert!(Arc::ptr_eq(
            &first,
            &sessions.follow(&first, &policy, &Arc::default())
        ));
        let keys = Arc::new(TicketKeys::new([TicketKey {
            name: [1; 16],
            active_from: UnixTime(0),
            secret: [2; 32],
        }]));
        let second = sessions.follow(&first, &policy, &keys);
        assert!(!Arc::ptr_eq(&first, &second));
        let newer = TlsPolicy {
            min_version: TlsVersion::Tls13,
            ..policy
        };
        let third = sessions.follow(&second, &newer, &keys);
        assert!(!Arc::ptr_eq(&second, &third));
        assert!(Arc::ptr_eq(&third, &sessions.follow(&third, &newer, &keys)));
    }
}
