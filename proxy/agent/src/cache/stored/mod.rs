//! The form of entries on disk: postcard of the structures here, which are nothing but that form.
//!
//! A change to any of them is a new [`FORMAT`]. A section more is none: a program that does not know it passes over it, and a
//! file without it says that nothing is set.

mod hosts;
mod tls;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;
use tidegate_model::{
    Certificate, Endpoint, Fingerprint, HostPattern, Hostname, NamespacedName, Policy, PrivateKey,
    Protocol, RedirectMode, RedirectPolicy, Timeouts, UnixTime, Upstream, UpstreamId,
};

pub(super) use hosts::{decode_host, encode_host};
pub(super) use tls::{decode_ticket, decode_tls, encode_ticket, encode_tls, ticket_name};

/// Counts changes of the form.
pub(super) const FORMAT: u32 = 1;

/// An entry that does not hold what an entry of its section does.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("an entry does not hold what it should")]
pub(super) struct Damaged;

impl From<postcard::Error> for Damaged {
    fn from(_: postcard::Error) -> Self {
        Self
    }
}

#[derive(Serialize, Deserialize)]
struct Name<'a> {
    #[serde(borrow)]
    namespace: &'a str,
    name: &'a str,
}

#[derive(Serialize, Deserialize)]
struct StoredUpstream<'a> {
    protocol: StoredProtocol,
    server_name: Option<&'a str>,
    endpoints: Vec<Address>,
}

#[derive(Serialize, Deserialize)]
enum StoredProtocol {
    Http,
    Https,
    H2c,
}

#[derive(Serialize, Deserialize)]
enum Address {
    V4([u8; 4], u16),
    /// Address, port, flow information, scope.
    V6([u8; 16], u16, u32, u32),
}

#[derive(Serialize, Deserialize)]
struct StoredCertificate<'a> {
    #[serde(borrow)]
    secret: Name<'a>,
    fingerprint: [u8; 32],
    names: Vec<String>,
    not_before: i64,
    not_after: i64,
    chain: Vec<Bytes<'a>>,
    key_form: KeyForm,
    key: Bytes<'a>,
}

#[derive(Serialize, Deserialize)]
enum KeyForm {
    Pkcs1,
    Sec1,
    Pkcs8,
}

/// Bytes in one piece.
struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Bytes<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&[u8]>::deserialize(deserializer).map(Self)
    }
}

#[derive(Serialize, Deserialize)]
struct StoredPolicy {
    redirect_mode: StoredRedirectMode,
    redirect_status: u16,
    redirect_port: u16,
    /// Handshake, request head, idle, connect, response head, upstream idle.
    timeouts: [Duration; 6],
    trusted_proxies: Vec<String>,
}

#[derive(Serialize, Deserialize)]
enum StoredRedirectMode {
    TlsHosts,
    All,
    None,
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Fails for types only that none of these is: sequences without a length.
    postcard::to_stdvec(value).unwrap_or_default()
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Damaged> {
    match postcard::take_from_bytes(bytes)? {
        (value, []) => Ok(value),
        _ => Err(Damaged),
    }
}

impl<'a> From<&'a NamespacedName> for Name<'a> {
    fn from(name: &'a NamespacedName) -> Self {
        Self {
            namespace: &name.namespace,
            name: &name.name,
        }
    }
}

impl From<Name<'_>> for NamespacedName {
    fn from(stored: Name<'_>) -> Self {
        Self::new(stored.namespace, stored.name)
    }
}

/// The pattern that an entry's key is the text of.
pub(super) fn decode_pattern(text: &str) -> Result<HostPattern, Damaged> {
    match text {
        "*" => Ok(HostPattern::Any),
        "" => Err(Damaged),
        text => HostPattern::parse(text).map_err(|_| Damaged),
    }
}

pub(super) fn encode_upstream(upstream: &Upstream) -> Vec<u8> {
    let address = |endpoint: &Endpoint| match endpoint.address {
        SocketAddr::V4(address) => Address::V4(address.ip().octets(), address.port()),
        SocketAddr::V6(address) => Address::V6(
            address.ip().octets(),
            address.port(),
            address.flowinfo(),
            address.scope_id(),
        ),
    };
    encode(&StoredUpstream {
        protocol: match upstream.protocol {
            Protocol::Http => StoredProtocol::Http,
            Protocol::Https => StoredProtocol::Https,
            Protocol::H2c => StoredProtocol::H2c,
        },
        server_name: upstream.server_name.as_ref().map(Hostname::as_str),
        endpoints: upstream.endpoints.iter().map(address).collect(),
    })
}

pub(super) fn decode_upstream(id: &str, bytes: &[u8]) -> Result<Upstream, Damaged> {
    let stored: StoredUpstream<'_> = decode(bytes)?;
    let server_name = stored.server_name.map(Hostname::parse).transpose();
    let endpoint = |address: Address| Endpoint {
        address: match address {
            Address::V4(ip, port) => (IpAddr::from(Ipv4Addr::from(ip)), port).into(),
            Address::V6(ip, port, flow, scope) => {
                SocketAddrV6::new(Ipv6Addr::from(ip), port, flow, scope).into()
            }
        },
    };
    Ok(Upstream {
        id: UpstreamId::new(id),
        protocol: match stored.protocol {
            StoredProtocol::Http => Protocol::Http,
            StoredProtocol::Https => Protocol::Https,
            StoredProtocol::H2c => Protocol::H2c,
        },
        server_name: server_name.map_err(|_| Damaged)?,
        endpoints: stored.endpoints.into_iter().map(endpoint).collect(),
    })
}

/// What a certificate's entry is called.
pub(super) fn certificate_key(certificate: &Certificate) -> String {
    format!("{}/{}", certificate.secret, certificate.fingerprint)
}

pub(super) fn encode_certificate(certificate: &Certificate) -> Vec<u8> {
    let key = certificate.key.der();
    let pattern = |pattern: &HostPattern| pattern.to_string();
    encode(&StoredCertificate {
        secret: Name::from(&certificate.secret),
        fingerprint: certificate.fingerprint.0,
        names: certificate.names.iter().map(pattern).collect(),
        not_before: certificate.not_before.0,
        not_after: certificate.not_after.0,
        chain: certificate.chain.iter().map(|der| Bytes(der)).collect(),
        key_form: match key {
            PrivateKeyDer::Pkcs1(_) => KeyForm::Pkcs1,
            PrivateKeyDer::Sec1(_) => KeyForm::Sec1,
            // The only one left that our rustls knows.
            _ => KeyForm::Pkcs8,
        },
        key: Bytes(key.secret_der()),
    })
}

pub(super) fn decode_certificate(key: &str, bytes: &[u8]) -> Result<Certificate, Damaged> {
    let stored: StoredCertificate<'_> = decode(bytes)?;
    let names = stored.names.iter().map(|name| decode_pattern(name));
    let der = stored.key.0.to_vec();
    let certificate = Certificate {
        secret: stored.secret.into(),
        names: names.collect::<Result<_, _>>()?,
        not_before: UnixTime(stored.not_before),
        not_after: UnixTime(stored.not_after),
        chain: stored
            .chain
            .into_iter()
            .map(|der| CertificateDer::from(der.0.to_vec()))
            .collect(),
        key: PrivateKey::new(match stored.key_form {
            KeyForm::Pkcs1 => PrivatePkcs1KeyDer::from(der).into(),
            KeyForm::Sec1 => PrivateSec1KeyDer::from(der).into(),
            KeyForm::Pkcs8 => PrivatePkcs8KeyDer::from(der).into(),
        }),
        fingerprint: Fingerprint(stored.fingerprint),
    };
    match certificate_key(&certificate) == key {
        true => Ok(certificate),
        false => Err(Damaged),
    }
}

pub(super) fn encode_certificate_list(list: &[Arc<Certificate>]) -> Vec<u8> {
    let keys: Vec<_> = list.iter().map(|entry| certificate_key(entry)).collect();
    encode(&keys)
}

/// The keys of the certificates.
pub(super) fn decode_certificate_list(bytes: &[u8]) -> Result<Vec<&str>, Damaged> {
    decode(bytes)
}

pub(super) fn encode_policy(policy: &Policy) -> Vec<u8> {
    let timeouts = policy.timeouts;
    encode(&StoredPolicy {
        redirect_mode: match policy.redirect.mode {
            RedirectMode::TlsHosts => StoredRedirectMode::TlsHosts,
            RedirectMode::All => StoredRedirectMode::All,
            RedirectMode::None => StoredRedirectMode::None,
        },
        redirect_status: policy.redirect.status,
        redirect_port: policy.redirect.port,
        timeouts: [
            timeouts.handshake,
            timeouts.request_head,
            timeouts.idle,
            timeouts.connect,
            timeouts.response_head,
            timeouts.upstream_idle,
        ],
        trusted_proxies: policy
            .trusted_proxies
            .iter()
            .map(ToString::to_string)
            .collect(),
    })
}

pub(super) fn decode_policy(bytes: &[u8]) -> Result<Policy, Damaged> {
    let stored: StoredPolicy = decode(bytes)?;
    let [
        handshake,
        request_head,
        idle,
        connect,
        response_head,
        upstream_idle,
    ] = stored.timeouts;
    let networks = stored.trusted_proxies.iter().map(|text| text.parse());
    Ok(Policy {
        redirect: RedirectPolicy {
            mode: match stored.redirect_mode {
                StoredRedirectMode::TlsHosts => RedirectMode::TlsHosts,
                StoredRedirectMode::All => RedirectMode::All,
                StoredRedirectMode::None => RedirectMode::None,
            },
            status: stored.redirect_status,
            port: stored.redirect_port,
        },
        timeouts: Timeouts {
            handshake,
            request_head,
            idle,
            connect,
            response_head,
            upstream_idle,
        },
        trusted_proxies: networks.collect::<Result<_, _>>().map_err(|_| Damaged)?,
        ..Policy::default()
    })
}
