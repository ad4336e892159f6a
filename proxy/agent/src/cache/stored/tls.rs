//! The form of what TLS goes by, and of keys of session tickets.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_model::{
    AllowRoutes, Asks, CipherSuite, Hostname, OnDemand, Policy, TicketKey, TlsPolicy, TlsVersion,
    UnixTime,
};

use super::{Damaged, decode, encode};

#[derive(Serialize, Deserialize)]
struct StoredTls {
    min_version: StoredVersion,
    /// By name. A suite that this version does not know is one that it does not offer.
    cipher_suites: Vec<String>,
    on_demand: Option<StoredOnDemand>,
}

#[derive(Serialize, Deserialize)]
enum StoredVersion {
    Tls12,
    Tls13,
}

#[derive(Serialize, Deserialize)]
struct StoredOnDemand {
    suffixes: Vec<String>,
    routes: bool,
    asks: bool,
    wait: Duration,
}

#[derive(Serialize, Deserialize)]
struct StoredTicket {
    active_from: i64,
    secret: [u8; 32],
}

pub(in crate::cache) fn encode_tls(policy: &Policy) -> Vec<u8> {
    let suites = policy.tls.cipher_suites.iter();
    encode(&StoredTls {
        min_version: match policy.tls.min_version {
            TlsVersion::Tls12 => StoredVersion::Tls12,
            TlsVersion::Tls13 => StoredVersion::Tls13,
        },
        cipher_suites: suites.map(ToString::to_string).collect(),
        on_demand: policy.on_demand.as_ref().map(|on_demand| StoredOnDemand {
            suffixes: on_demand.suffixes.iter().map(Hostname::to_string).collect(),
            routes: on_demand.routes == AllowRoutes::Yes,
            asks: on_demand.asks == Asks::Yes,
            wait: on_demand.wait,
        }),
    })
}

pub(in crate::cache) fn decode_tls(bytes: &[u8]) -> Result<(TlsPolicy, Option<OnDemand>), Damaged> {
    let stored: StoredTls = decode(bytes)?;
    let suites = stored.cipher_suites.iter();
    let tls = TlsPolicy {
        min_version: match stored.min_version {
            StoredVersion::Tls12 => TlsVersion::Tls12,
            StoredVersion::Tls13 => TlsVersion::Tls13,
        },
        cipher_suites: suites
            .filter_map(|name| CipherSuite::parse(name).ok())
            .collect(),
    };
    let on_demand = stored.on_demand.map(StoredOnDemand::decode);
    Ok((tls, on_demand.transpose()?))
}

impl StoredOnDemand {
    fn decode(self) -> Result<OnDemand, Damaged> {
        let suffixes = self.suffixes.iter().map(|name| Hostname::parse(name));
        Ok(OnDemand {
            suffixes: suffixes.collect::<Result<_, _>>().map_err(|_| Damaged)?,
            routes: match self.routes {
                true => AllowRoutes::Yes,
                false => AllowRoutes::No,
            },
            asks: match self.asks {
                true => Asks::Yes,
                false => Asks::No,
            },
            wait: self.wait,
        })
    }
}

/// What a ticket key's entry is called.
pub(in crate::cache) fn ticket_name(key: &TicketKey) -> String {
    format!("{:032x}", u128::from_be_bytes(key.name))
}

pub(in crate::cache) fn encode_ticket(key: &TicketKey) -> Vec<u8> {
    encode(&StoredTicket {
        active_from: key.active_from.0,
        secret: key.secret,
    })
}

pub(in crate::cache) fn decode_ticket(name: &str, bytes: &[u8]) -> Result<TicketKey, Damaged> {
    let stored: StoredTicket = decode(bytes)?;
    let name = u128::from_str_radix(name, 16).map_err(|_| Damaged)?;
    Ok(TicketKey {
        name: name.to_be_bytes(),
        active_from: UnixTime(stored.active_from),
        secret: stored.secret,
    })
}
