//! Two name servers of a zone, and settings that use them.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tidegate_certificates::MemoryStore;
use tidegate_certificates::dns::{Dns01Solver, DnsError};
use tidegate_certificates::issuer::{Dns01, DnsProvider, SecretSource, TsigAlgorithm};
use tidegate_model::HostPattern;
use tidegate_testbed::knot::{KEY, Knot, KnotOptions, Role};

/// The zone that hosts of tests are in.
pub(crate) const ZONE: &str = "example.test";

/// A primary and a secondary name server.
pub(crate) struct Site {
    pub(crate) primary: Knot,
    pub(crate) secondary: Knot,
}

/// Whether the secondary runs from the start.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secondary {
    Runs,
    IsDown,
}

impl Site {
    /// Servers of [`ZONE`] with these records beside those that every zone has, and of other zones.
    pub(crate) fn new(records: &str, others: &[(&str, &str)], secondary: Secondary) -> Self {
        let [one, two] = [Knot::free_address(), Knot::free_address()];
        let zone = |(name, records): &(&str, &str)| {
            let servers = format!("@ NS ns1.{ZONE}.\n@ NS ns2.{ZONE}.");
            let soa = format!("@ SOA ns1.{ZONE}. hostmaster 1 1 1 600 300");
            ((*name).to_owned(), format!("{soa}\n{servers}\n{records}"))
        };
        let main = format!("ns1 A {one}\nns2 A {two}\n{records}");
        let zones: Vec<_> = [(ZONE, main.as_str())]
            .iter()
            .chain(others)
            .map(zone)
            .collect();
        let empty = zones.iter().map(|(name, _)| (name.clone(), String::new()));
        let empty = empty.collect();
        let knot = |address, zones, role| {
            Knot::new(KnotOptions {
                address,
                zones,
                role,
            })
            .unwrap_or_else(|error| panic!("{error:#}"))
        };
        let site = Self {
            primary: knot(one, zones, Role::Primary(vec![two])),
            secondary: knot(two, empty, Role::Secondary(one)),
        };
        site.primary
            .start()
            .unwrap_or_else(|error| panic!("{error:#}"));
        if secondary == Secondary::Runs {
            site.start_secondary();
        }
        site
    }

    pub(crate) fn start_secondary(&self) {
        let started = self.secondary.start();
        started.unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// The resolver that knows the test's zones: the primary itself.
    pub(crate) fn resolvers(&self) -> Vec<SocketAddr> {
        vec![at(self.primary.address())]
    }

    /// Settings that update the primary.
    pub(crate) fn settings(&self) -> Dns01 {
        self.with(DnsProvider::Rfc2136 {
            server: at(self.primary.address()),
            key_name: KEY.0.to_owned(),
            algorithm: TsigAlgorithm::HmacSha256,
            key: secret("key"),
        })
    }

    /// Settings with this provider.
    pub(crate) fn with(&self, provider: DnsProvider) -> Dns01 {
        Dns01 {
            provider,
            propagation_timeout: Duration::from_secs(30),
            resolvers: self.resolvers(),
        }
    }

    /// TXT values that the primary has at a name, sorted.
    pub(crate) fn values(&self, zone: &str, owner: &str) -> Vec<String> {
        let records = self.primary.records(zone, owner, "TXT").unwrap_or_default();
        let value = |record: &String| record.split('"').nth(1).map(str::to_owned);
        let mut values: Vec<String> = records.iter().filter_map(value).collect();
        values.sort();
        values
    }
}

/// A name server at its usual port.
pub(crate) fn at(address: Ipv4Addr) -> SocketAddr {
    SocketAddr::from((address, 53))
}

/// An entry of the Secret `dns`.
pub(crate) fn secret(key: &str) -> SecretSource {
    SecretSource::Secret {
        name: "dns".to_owned(),
        key: key.to_owned(),
    }
}

/// A store whose Secret `dns` has these entries.
pub(crate) fn store(entries: &[(&str, &str)]) -> MemoryStore {
    let store = MemoryStore::default();
    for (key, value) in entries {
        store.set_secret_entry("dns", key, value.as_bytes());
    }
    store
}

/// A solver of these settings, with the right key.
pub(crate) async fn solver(settings: &Dns01) -> Result<Dns01Solver, DnsError> {
    Dns01Solver::new(settings, &store(&[("key", KEY.1)])).await
}

pub(crate) fn host(text: &str) -> HostPattern {
    HostPattern::parse(text).expect("a host")
}
