//! Certificates in the form that handshakes need, and the choice among them by server name.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use hashbrown::HashMap;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tidegate_model::{Certificate, CertificateIndex, Fingerprint};

use super::{TlsError, without_dot};
use crate::transport::note_server_name;

/// Up to this many new keys are parsed before their certificates are published; more of them afterwards, on a thread of
/// their own, and by the first handshake that needs one. A P-256 key takes some 20 µs and an RSA key with 2048 bits some
/// 300 µs, so that 10,000 of them would keep an instance from its first answer for up to 3 s.
const PARSED_FIRST: usize = 64;

/// Certificates in the form that handshakes need.
#[derive(Debug)]
pub(crate) struct ServerCertificates {
    index: Arc<CertificateIndex>,
    keys: HashMap<Fingerprint, Arc<Parsed>>,
    self_signed: Arc<CertifiedKey>,
    provider: Arc<CryptoProvider>,
}

/// A certificate in the form for handshakes, once it was asked for.
#[derive(Debug)]
struct Parsed {
    certificate: Arc<Certificate>,
    /// `None` for a key that cannot be used, which was logged.
    key: OnceLock<Option<Arc<CertifiedKey>>>,
}

impl Parsed {
    fn key(&self, provider: &CryptoProvider) -> Option<&Arc<CertifiedKey>> {
        let parse = || {
            let key = certified(&self.certificate, provider);
            key.inspect_err(|error| {
                tracing::error!(secret = %self.certificate.secret, %error, "certificate left out");
            })
            .ok()
        };
        self.key.get_or_init(parse).as_ref()
    }
}

impl ServerCertificates {
    /// None but a self-signed one, for clients that nothing else is for.
    pub(crate) fn self_signed(provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let made = rcgen::generate_simple_self_signed(vec!["tidegate.invalid".to_owned()])?;
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let key = CertifiedKey::from_der(vec![made.cert.der().clone()], key.into(), provider)?;
        Ok(Self {
            index: Arc::default(),
            keys: HashMap::default(),
            self_signed: Arc::new(key),
            provider: provider.clone(),
        })
    }

    /// The certificates of a new index, and those of them that were not in use before.
    pub(crate) fn follow(&self, index: &Arc<CertificateIndex>) -> (Self, Unparsed) {
        let mut keys = HashMap::new();
        let mut unparsed = Vec::new();
        for certificate in index.entries().into_values().flatten() {
            keys.entry(certificate.fingerprint).or_insert_with(|| {
                let known = self.keys.get(&certificate.fingerprint).cloned();
                known.unwrap_or_else(|| {
                    let parsed = Arc::new(Parsed {
                        certificate: certificate.clone(),
                        key: OnceLock::new(),
                    });
                    unparsed.push(parsed.clone());
                    parsed
                })
            });
        }
        let followed = Self {
            index: index.clone(),
            keys,
            self_signed: self.self_signed.clone(),
            provider: self.provider.clone(),
        };
        let provider = self.provider.clone();
        (followed, Unparsed { unparsed, provider })
    }

    /// The key of a certificate, if it can be used.
    fn key(&self, fingerprint: &Fingerprint) -> Option<&Arc<CertifiedKey>> {
        self.keys.get(fingerprint)?.key(&self.provider)
    }

    pub(crate) fn index(&self) -> &Arc<CertificateIndex> {
        &self.index
    }

    /// Whether a request for `host` has come over a connection that was made for another certificate (421, RFC 9110
    /// section 7.4; RFC 9113 section 9.1.1): the certificates for it are not those of the server name that the client
    /// asked for. Both in lower case; a request or a client that names nothing is in the right place.
    pub(crate) fn is_misdirected(&self, server_name: Option<&str>, host: &str) -> bool {
        let host = without_dot(host);
        let Some(server_name) = server_name else {
            return false;
        };
        !host.is_empty()
            && without_dot(server_name) != host
            && !self.held(Some(server_name)).eq(self.held(Some(host)))
    }

    /// The certificates for a server name whose keys can be used, by identity. None: the self-signed one serves.
    fn held(&self, server_name: Option<&str>) -> impl Iterator<Item = Fingerprint> {
        let found = self.index.select(server_name.map(without_dot)).iter();
        found
            .map(|certificate| certificate.fingerprint)
            .filter(|fingerprint| self.key(fingerprint).is_some())
    }

    /// The certificate for a client that asked for this server name (lower case).
    fn select(&self, name: Option<&str>, hello: &ClientHello<'_>) -> Arc<CertifiedKey> {
        let mut known = self
            .index
            .select(name)
            .iter()
            .filter_map(|found| self.key(&found.fingerprint))
            .peekable();
        let first = known.peek().copied();
        let fits =
            |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        known
            .find(fits)
            .or(first)
            .unwrap_or(&self.self_signed)
            .clone()
    }
}

fn certified(
    certificate: &Certificate,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, rustls::Error> {
    let key = certificate.key.der().clone_key();
    CertifiedKey::from_der(certificate.chain.clone(), key, provider).map(Arc::new)
}

/// Certificates whose keys nothing has needed yet.
#[must_use = "a key that is not parsed first costs its first handshake"]
pub(crate) struct Unparsed {
    unparsed: Vec<Arc<Parsed>>,
    provider: Arc<CryptoProvider>,
}

impl Unparsed {
    /// Parses the keys: a few at once, many beside what goes on.
    pub(crate) fn parse(self) {
        if self.unparsed.len() <= PARSED_FIRST {
            return self.parse_all();
        }
        let thread = std::thread::Builder::new().name("certificates".to_owned());
        if let Err(error) = thread.spawn(move || self.parse_all()) {
            tracing::debug!("keys are parsed as handshakes need them: {error}");
        }
    }

    fn parse_all(self) {
        for certificate in self.unparsed {
            certificate.key(&self.provider);
        }
    }
}

/// Answers handshakes of one worker by the snapshot that the worker has.
#[derive(Debug)]
pub(crate) struct Resolver {
    // One thread asks and sets it: the lock is never waited for.
    current: Mutex<Arc<ServerCertificates>>,
}

impl Resolver {
    pub(crate) fn new(certificates: Arc<ServerCertificates>) -> Arc<Self> {
        Arc::new(Self {
            current: Mutex::new(certificates),
        })
    }

    pub(crate) fn set(&self, certificates: Arc<ServerCertificates>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = certificates;
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self
            .current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let lowered = hello.server_name().map(str::to_ascii_lowercase);
        let name = lowered.as_deref().map(without_dot);
        note_server_name(name);
        Some(current.select(name, &hello))
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tidegate_model::{HostPattern, NamespacedName, PrivateKey, UnixTime};

    use super::super::provider;
    use super::*;

    fn certificate(number: u8) -> Result<Arc<Certificate>, rcgen::Error> {
        let made = rcgen::generate_simple_self_signed(vec!["x.example".to_owned()])?;
        Ok(Arc::new(Certificate {
            secret: NamespacedName::new("default", "x"),
            names: Vec::new(),
            not_before: UnixTime(0),
            not_after: UnixTime(i64::MAX),
            fingerprint: Fingerprint([number; 32]),
            chain: vec![made.cert.der().clone()],
            key: PrivateKey::new(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(
                made.signing_key.serialize_der(),
            ))),
        }))
    }

    #[test]
    fn a_request_for_a_host_with_another_certificate_is_misdirected() -> Result<(), TlsError> {
        let (one, two) = (certificate(1)?, certificate(2)?);
        let entries = [
            ("a.example", &one),
            ("b.example", &one),
            ("*.example", &two),
        ];
        let entries = entries.map(|(host, certificate)| {
            (
                HostPattern::parse(host).unwrap_or(HostPattern::Any),
                vec![certificate.clone()],
            )
        });
        let provider = provider();
        let certificates = ServerCertificates::self_signed(&provider)?
            .follow(&Arc::new(CertificateIndex::new(entries)))
            .0;
        for (server_name, host, wanted) in [
            (Some("a.example"), "a.example", false),
            (Some("a.example"), "a.example.", false),
            (Some("a.example"), "b.example", false),
            (Some("a.example"), "c.example", true),
            (Some("c.example"), "d.example", false),
            (Some("c.example"), "b.example", true),
            // Both have the self-signed one.
            (Some("x.test"), "y.test", false),
            (Some("x.test"), "a.example", true),
            (Some("a.example"), "x.test", true),
            (Some("a.example"), "", false),
            (None, "a.example", false),
        ] {
            let found = certificates.is_misdirected(server_name, host);
            assert_eq!(found, wanted, "{server_name:?} {host}");
        }
        Ok(())
    }

    #[test]
    fn many_keys_are_parsed_when_they_are_needed() -> Result<(), TlsError> {
        let good = certificate(0)?;
        let of = |number: u8, key: PrivateKeyDer<'static>| {
            Arc::new(Certificate {
                secret: NamespacedName::new("default", "x"),
                names: Vec::new(),
                not_before: UnixTime(0),
                not_after: UnixTime(i64::MAX),
                fingerprint: Fingerprint([number; 32]),
                chain: good.chain.clone(),
                key: PrivateKey::new(key),
            })
        };
        let count = PARSED_FIRST as u8 + 2;
        let entries = (0..count).map(|number| {
            let key = match number {
                1 => PrivatePkcs8KeyDer::from(vec![0]).into(),
                _ => good.key.der().clone_key(),
            };
            let host = HostPattern::parse(&format!("host-{number}.example"));
            (host.unwrap_or(HostPattern::Any), vec![of(number, key)])
        });
        let provider = provider();
        let before = ServerCertificates::self_signed(&provider)?;
        let index = Arc::new(CertificateIndex::new(entries));
        let (certificates, unparsed) = before.follow(&index);
        let parsed = |certificates: &ServerCertificates| {
            let keys = certificates.keys.values();
            keys.filter(|key| key.key.get().is_some()).count()
        };
        assert_eq!(parsed(&certificates), 0);
        assert_eq!(certificates.held(Some("host-0.example")).count(), 1);
        assert_eq!(certificates.held(Some("host-1.example")).count(), 0);
        assert_eq!(parsed(&certificates), 2);
        unparsed.parse_all();
        assert_eq!(parsed(&certificates), usize::from(count));
        // What is parsed stays so.
        let (certificates, unparsed) = certificates.follow(&index);
        assert_eq!(parsed(&certificates), usize::from(count));
        assert!(unparsed.unparsed.is_empty());
        Ok(())
    }
}
