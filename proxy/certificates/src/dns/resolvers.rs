//! Recursive resolvers, those of the settings or of the system. Nothing of what they say is kept.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as Negative, NetError};

use super::DnsError;

/// How long a resolver may take; two attempts are made.
const PATIENCE: Duration = Duration::from_secs(4);

/// Recursive resolvers. Clones share their connections.
#[derive(Clone)]
pub(super) struct Resolvers(TokioResolver);

impl std::fmt::Debug for Resolvers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Resolvers").finish_non_exhaustive()
    }
}

impl Resolvers {
    /// These servers, or those of `/etc/resolv.conf` when there are none.
    ///
    /// # Errors
    /// The system's cannot be read.
    pub(super) fn new(servers: &[SocketAddr]) -> Result<Self, DnsError> {
        let no_resolvers = |error: NetError| DnsError::NoResolvers(error.to_string());
        let config = match servers {
            [] => {
                let (system, _) =
                    hickory_resolver::system_conf::read_system_conf().map_err(no_resolvers)?;
                // Names are always whole here, so the search list of the system does not count.
                ResolverConfig::from_name_servers(system.name_servers)
            }
            servers => ResolverConfig::from_name_servers(servers.iter().map(server).collect()),
        };
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options();
        builder.build().map(Self).map_err(no_resolvers)
    }

    /// The zone that holds a name: that of the nearest name at or above it that has an SOA record.
    ///
    /// # Errors
    /// There is none, or the resolvers do not tell.
    pub(super) async fn zone_of(&self, name: &Name) -> Result<Name, DnsError> {
        let mut candidate = name.clone();
        while !candidate.is_root() {
            let records = self.records(&candidate, RecordType::SOA).await?;
            // A CNAME record may lead to the SOA record of a zone that has nothing to do with this name.
            let is_apex = |record: &Record| {
                record.name == candidate && record.record_type() == RecordType::SOA
            };
            if records.iter().any(is_apex) {
                return Ok(candidate);
            }
            candidate = candidate.base_name();
        }
        Err(DnsError::NoZone(name.to_string()))
    }

    /// Names of the name servers of a zone.
    ///
    /// # Errors
    /// The resolvers do not tell.
    pub(super) async fn name_servers(&self, zone: &Name) -> Result<BTreeSet<Name>, DnsError> {
        let records = self.records(zone, RecordType::NS).await?;
        Ok(records.into_iter().filter_map(name_server).collect())
    }

    /// Every address of a name, CNAME records followed; none where it has none.
    ///
    /// # Errors
    /// The resolvers do not tell.
    pub(super) async fn addresses(&self, name: &Name) -> Result<BTreeSet<IpAddr>, DnsError> {
        let (v4, v6) = tokio::join!(
            self.records(name, RecordType::A),
            self.records(name, RecordType::AAAA)
        );
        let records = v4?.into_iter().chain(v6?);
        Ok(records.filter_map(|record| record.data.ip_addr()).collect())
    }

    /// The records of a type that a name has, with the CNAME records on the way; none where it has none.
    ///
    /// # Errors
    /// The resolvers do not tell.
    pub(super) async fn records(
        &self,
        name: &Name,
        kind: RecordType,
    ) -> Result<Vec<Record>, DnsError> {
        match self.0.lookup(name.clone(), kind).await {
            Ok(found) => Ok(found.answers().to_vec()),
            Err(NetError::Dns(Negative::NoRecordsFound(none)))
                if matches!(
                    none.response_code,
                    ResponseCode::NoError | ResponseCode::NXDomain
                ) =>
            {
                Ok(Vec::new())
            }
            Err(error) => Err(DnsError::LookUp {
                name: name.to_string(),
                kind: kind.to_string(),
                reason: error.to_string(),
            }),
        }
    }
}

/// The server that an NS record names.
pub(super) fn name_server(record: Record) -> Option<Name> {
    match record.data {
        RData::NS(server) => Some(server.0.to_lowercase()),
        _ => None,
    }
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = address.port();
    }
    NameServerConfig::new(address.ip(), true, connections)
}

fn options() -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.timeout = PATIENCE;
    options.attempts = 2;
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.edns0 = true;
    options.try_tcp_on_error = true;
    options
}
