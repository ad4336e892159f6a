//! TLS-ALPN-01 (RFC 8737): an ACME server that shakes hands for the protocol `acme-tls/1` is shown, by a certificate, that
//! the host is ours.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use hashbrown::HashMap;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tidegate_model::{ChallengeAnswers, Hostname};

use super::{TlsError, without_dot};

/// The protocol that such handshakes agree on (RFC 8737 section 6.2).
pub(crate) const ACME_TLS: &[u8] = b"acme-tls/1";

/// The challenges that are answered in handshakes now, with a certificate made for each.
pub(crate) struct ChallengeHandshakes {
    answers: Arc<ChallengeAnswers>,
    certificates: Arc<Certificates>,
    config: Arc<ServerConfig>,
}

impl ChallengeHandshakes {
    /// Follows the answers. Certificates are made for those that are new; what fails costs its own host only. `None`
    /// when there are no such answers, as is usual.
    pub(crate) fn follow(
        before: Option<&Arc<Self>>,
        answers: &Arc<ChallengeAnswers>,
        provider: &Arc<CryptoProvider>,
    ) -> Option<Arc<Self>> {
        if !answers.has_handshakes() {
            return None;
        }
        if let Some(before) = before
            && (Arc::ptr_eq(&before.answers, answers)
                || before.answers.handshakes() == answers.handshakes())
        {
            return Some(before.clone());
        }
        let made = Self::new(before, answers, provider).inspect_err(|error| {
            tracing::error!(%error, "TLS-ALPN-01 challenges stay without an answer");
        });
        made.ok().map(Arc::new)
    }

    fn new(
        before: Option<&Arc<Self>>,
        answers: &Arc<ChallengeAnswers>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let before = before.map(|before| &*before.certificates);
        let certificates = Arc::new(Certificates::follow(before, answers, provider)?);
        Ok(Self {
            answers: answers.clone(),
            config: config(certificates.clone(), provider)?,
            certificates,
        })
    }

    /// What a handshake for this name (lower case) goes by that offers `acme-tls/1` and nothing else, if there is an
    /// answer for it.
    pub(crate) fn config(&self, server_name: &str) -> Option<&Arc<ServerConfig>> {
        let certificates = &self.certificates.by_host;
        certificates
            .contains_key(server_name)
            .then_some(&self.config)
    }
}

/// Both versions that RFC 8737 section 3 allows, whatever the policy is for others: nothing is ever carried. Nor is
/// anything resumed.
fn config(
    certificates: Arc<Certificates>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let mut config = builder
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![ACME_TLS.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The certificates, all with one key: it proves nothing, as whoever asks looks at the extension only.
#[derive(Debug)]
struct Certificates {
    by_host: HashMap<Hostname, Answer>,
    key: Arc<KeyPair>,
}

#[derive(Clone, Debug)]
struct Answer {
    key_authorization: Box<str>,
    certificate: Arc<CertifiedKey>,
}

impl Certificates {
    fn follow(
        before: Option<&Self>,
        answers: &ChallengeAnswers,
        provider: &CryptoProvider,
    ) -> Result<Self, TlsError> {
        let key = match before {
            Some(before) => before.key.clone(),
            None => Arc::new(KeyPair::generate()?),
        };
        let mut by_host = HashMap::new();
        for (host, key_authorization) in answers.handshakes() {
            let known = before.and_then(|before| before.by_host.get(host));
            let known = known.filter(|known| &*known.key_authorization == key_authorization);
            let certificate = match known {
                Some(known) => Ok(known.certificate.clone()),
                None => certificate(host, key_authorization, &key, provider),
            };
            match certificate {
                Ok(certificate) => {
                    let answer = Answer {
                        key_authorization: key_authorization.into(),
                        certificate,
                    };
                    by_host.insert(host.clone(), answer);
                }
                Err(error) => {
                    tracing::error!(%host, %error, "a TLS-ALPN-01 challenge stays without an answer");
                }
            }
        }
        Ok(Self { by_host, key })
    }
}

/// A self-signed certificate for the host alone, with the SHA-256 of the key authorization in the critical extension
/// `acmeIdentifier` (RFC 8737 section 3).
fn certificate(
    host: &Hostname,
    key_authorization: &str,
    key: &KeyPair,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let mut params = CertificateParams::new(vec![host.as_str().to_owned()])?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, "ACME challenge");
    params.distinguished_name = subject;
    let hash = digest(&SHA256, key_authorization.as_bytes());
    params
        .custom_extensions
        .push(CustomExtension::new_acme_identifier(hash.as_ref()));
    let made = params.self_signed(key)?;
    // Not `CertifiedKey::from_der`: it parses the certificate, and knows no critical extension of this kind.
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let key = provider.key_provider.load_private_key(key.into())?;
    Ok(Arc::new(CertifiedKey::new(vec![made.der().clone()], key)))
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls has the name in lower case.
        let answer = self.by_host.get(without_dot(hello.server_name()?))?;
        Some(answer.certificate.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::provider;
    use super::*;

    const PRINT: &str = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";

    fn answers(of: &[(&str, &str)]) -> Arc<ChallengeAnswers> {
        let mut answers = ChallengeAnswers::default();
        for (host, token) in of {
            let host = Hostname::parse(host).unwrap();
            let answer = format!("{token}.{PRINT}");
            answers.insert_handshake(host, &answer).unwrap();
        }
        Arc::new(answers)
    }

    #[test]
    fn a_certificate_is_made_once_for_an_answer() {
        let provider = provider();
        let of = |before: Option<&Arc<ChallengeHandshakes>>, answers: &Arc<ChallengeAnswers>| {
            ChallengeHandshakes::follow(before, answers, &provider)
        };
        let shown = |challenges: &ChallengeHandshakes, host| {
            let answer = &challenges.certificates.by_host[host];
            answer.certificate.cert[0].clone()
        };
        assert!(of(None, &answers(&[])).is_none());
        let first = of(
            None,
            &answers(&[("a.example", "one"), ("b.example", "two")]),
        )
        .unwrap();
        // The same answers in a new allocation, as after a change of HTTP-01 answers.
        let same = answers(&[("a.example", "one"), ("b.example", "two")]);
        assert!(Arc::ptr_eq(&first, &of(Some(&first), &same).unwrap()));
        let changed = answers(&[("a.example", "one"), ("b.example", "three")]);
        let second = of(Some(&first), &changed).unwrap();
        assert_eq!(shown(&first, "a.example"), shown(&second, "a.example"));
        assert_ne!(shown(&first, "b.example"), shown(&second, "b.example"));
        assert!(second.config("a.example").is_some());
        assert!(second.config("c.example").is_none());
        assert!(of(Some(&second), &answers(&[])).is_none());
    }
}
