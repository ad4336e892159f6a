//! Looks at names as a CA does, for dry runs.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use hickory_proto::rr::{Name, RData, RecordType};
use tidegate_model::{HostPattern, Hostname};

use super::authority::Place;
use super::caa::{CaaRecord, CaaSet};
use super::error::DnsError;
use super::resolvers::Resolvers;
use super::solver::challenge_name;

/// Looks names up, without changing anything.
#[derive(Clone, Debug)]
pub struct Lookup(Resolvers);

impl Lookup {
    /// Looks up by these resolvers, or by those of the system when there are none.
    ///
    /// # Errors
    /// The system's cannot be read.
    pub fn new(resolvers: &[SocketAddr]) -> Result<Self, DnsError> {
        Resolvers::new(resolvers).map(Self)
    }

    /// Every address of a host, CNAME records followed; none where it has none.
    ///
    /// # Errors
    /// The resolvers do not tell.
    pub async fn addresses(&self, host: &Hostname) -> Result<BTreeSet<IpAddr>, DnsError> {
        self.0.addresses(&whole(host)?).await
    }

    /// The CAA records that a CA heeds for a host: those of the nearest name at or above it that has any (RFC 8659
    /// section 3). For a wildcard, that is looked for from the name below the `*.`.
    ///
    /// # Errors
    /// The resolvers do not tell: a CA would not issue either.
    pub async fn caa(&self, host: &HostPattern) -> Result<CaaSet, DnsError> {
        let (HostPattern::Exact(from) | HostPattern::Wildcard(from)) = host else {
            return Err(DnsError::NoRecord(host.to_string()));
        };
        let mut name = whole(from)?;
        while !name.is_root() {
            let found = self.0.records(&name, RecordType::CAA).await?;
            let records: Vec<CaaRecord> = found
                .into_iter()
                .filter_map(|record| match record.data {
                    RData::CAA(caa) => Some(CaaRecord {
                        is_critical: caa.issuer_critical,
                        tag: caa.tag.to_ascii_lowercase(),
                        value: String::from_utf8_lossy(&caa.value).into_owned(),
                    }),
                    _ => None,
                })
                .collect();
            if !records.is_empty() {
                return Ok(CaaSet::new(name.to_string(), records));
            }
            name = name.base_name();
        }
        Ok(CaaSet::none())
    }

    /// The zone that a host is in, and its name servers.
    ///
    /// # Errors
    /// There is none, or the resolvers do not tell.
    pub async fn zone(&self, host: &Hostname) -> Result<Place, DnsError> {
        self.0.zone_with_servers(&whole(host)?).await
    }

    /// Where the TXT record that proves a host would be made, CNAME records followed.
    ///
    /// # Errors
    /// They lead in a circle or on too far, there is no zone, or nobody answers for it.
    pub async fn challenge(&self, host: &HostPattern) -> Result<Place, DnsError> {
        self.0.place_of(&challenge_name(host)?).await
    }
}

fn whole(host: &Hostname) -> Result<Name, DnsError> {
    Name::from_ascii(format!("{host}.")).map_err(|_| DnsError::NoRecord(host.to_string()))
}
