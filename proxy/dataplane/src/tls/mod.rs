//! TLS towards clients: which certificate, which versions and suites, which sessions, and challenges in handshakes.

mod certificates;
mod challenge;
mod offer;
mod tickets;

use std::sync::Arc;

use rustls::CipherSuite;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use thiserror::Error;

pub(crate) use certificates::{Resolver, ServerCertificates};
pub(crate) use challenge::{ACME_TLS, ChallengeHandshakes};
pub(crate) use offer::{Offer, Sessions};

/// TLS could not be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The library refused a setting.
    #[error("cannot set up TLS: {0}")]
    Library(#[from] rustls::Error),
    /// A self-signed certificate could not be made: the one for clients that nothing else is for, or a challenge's.
    #[error("cannot make a self-signed certificate: {0}")]
    SelfSigned(#[from] rcgen::Error),
    /// The library refused a shared key of session tickets.
    #[error("cannot use a key of session tickets")]
    TicketKey,
}

/// The cryptography that all TLS goes by.
///
/// AES-128-GCM comes first where the CPU has instructions for it, ChaCha20-Poly1305 where not (ARM boards without the
/// crypto extensions).
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    let rank = |suite: CipherSuite| {
        let name = format!("{suite:?}");
        let place = ["AES_128_GCM", "AES_256_GCM", "CHACHA20"]
            .iter()
            .position(|part| name.contains(part))
            .unwrap_or(3);
        if has_aes() { place } else { (place + 1) % 3 }
    };
    let is_tls13 = |suite: CipherSuite| format!("{suite:?}").starts_with("TLS13");
    provider
        .cipher_suites
        .sort_by_key(|suite| (!is_tls13(suite.suite()), rank(suite.suite())));
    Arc::new(provider)
}

#[cfg(target_arch = "x86_64")]
fn has_aes() -> bool {
    std::is_x86_feature_detected!("aes")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes() -> bool {
    false
}

/// A server name without the dot that may end it.
pub(crate) fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}
