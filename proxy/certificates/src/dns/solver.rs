//! Makes, watches and removes the TXT records of an issuer.

use std::time::Duration;

use hickory_proto::rr::Name;
use tidegate_model::HostPattern;
use tokio::time::{Instant, timeout_at};

use super::authority::Place;
use super::error::{DnsError, Task};
use super::propagation;
use super::provider::{self, Provider, ProviderError, Receipt, TxtRecord};
use super::resolvers::Resolvers;
use crate::issuer::Dns01;
use crate::store::Store;

/// Makes TXT records for an issuer's settings. Its secrets were read when it was made: make a new one for each order.
pub struct Dns01Solver {
    provider: Box<dyn Provider>,
    resolvers: Resolvers,
    patience: Duration,
}

impl std::fmt::Debug for Dns01Solver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dns01Solver")
            .field("provider", &self.provider.name())
            .finish_non_exhaustive()
    }
}

/// A record that was made.
#[derive(Clone, Debug)]
pub struct Placed {
    place: Place,
    value: String,
    receipt: Receipt,
}

impl Placed {
    /// Where it is.
    pub fn place(&self) -> &Place {
        &self.place
    }
}

impl Dns01Solver {
    /// Reads the secrets that the settings name.
    ///
    /// # Errors
    /// A secret cannot be read, or the settings cannot be right.
    pub async fn new(settings: &Dns01, store: &impl Store) -> Result<Self, DnsError> {
        Ok(Self {
            provider: provider::open(&settings.provider, store).await?,
            resolvers: Resolvers::new(&settings.resolvers)?,
            patience: settings.propagation_timeout,
        })
    }

    /// Makes the record that proves a host, beside any others of its name. Twice is once.
    ///
    /// # Errors
    /// Its zone is not found, or the provider does not make it.
    pub async fn present(&self, host: &HostPattern, value: &str) -> Result<Placed, DnsError> {
        let place = self.resolvers.place_of(&challenge_name(host)?).await?;
        let record = txt(&place, value);
        let receipt = self
            .provider
            .present(&record)
            .await
            .map_err(|source| self.refused(Task::Make, &place, source))?;
        Ok(Placed {
            place,
            value: value.to_owned(),
            receipt,
        })
    }

    /// Removes the record that proves a host, wherever it was made: by a process before this one, of which nothing else is
    /// known. One that is not there is removed already.
    ///
    /// # Errors
    /// Its zone is not found, or the provider does not remove it.
    pub async fn clear(&self, host: &HostPattern, value: &str) -> Result<(), DnsError> {
        let place = self.resolvers.place_of(&challenge_name(host)?).await?;
        let record = txt(&place, value);
        let removed = self.provider.cleanup(&record).await;
        removed.map_err(|source| self.refused(Task::Remove, &place, source))
    }

    /// Waits until every authoritative server of the zone has the record.
    ///
    /// # Errors
    /// Some lack it when the time of the settings is over: they are named.
    pub async fn propagated(&self, placed: &Placed) -> Result<(), DnsError> {
        let deadline = Instant::now() + self.patience;
        let place = &placed.place;
        match timeout_at(deadline, self.provider.settled(&placed.receipt)).await {
            Ok(Ok(())) => {}
            Ok(Err(source)) => return Err(self.refused(Task::Publish, place, source)),
            // The provider has not said so in time; the servers themselves have the last word.
            Err(_) => {}
        }
        propagation::wait(place, &placed.value, deadline)
            .await
            .map_err(|lacking| DnsError::NotPropagated {
                record: place.to_string(),
                zone: place.zone(),
                waited: self.patience,
                lacking,
            })
    }

    /// Removes the record, and no other of its name. One that is not there is removed already.
    ///
    /// # Errors
    /// The provider does not remove it.
    pub async fn remove(&self, placed: &Placed) -> Result<(), DnsError> {
        let record = txt(&placed.place, &placed.value);
        let removed = self.provider.cleanup(&record).await;
        removed.map_err(|source| self.refused(Task::Remove, &placed.place, source))
    }

    fn refused(&self, task: Task, place: &Place, source: ProviderError) -> DnsError {
        DnsError::Provider {
            provider: self.provider.name(),
            task,
            record: place.to_string(),
            zone: place.zone(),
            source,
        }
    }
}

fn txt(place: &Place, value: &str) -> TxtRecord {
    TxtRecord {
        name: place.record.clone(),
        zone: place.zone.clone(),
        value: value.to_owned(),
    }
}

/// The name whose TXT record proves a host (RFC 8555 section 8.4); a wildcard's is that of the name below the `*.`.
pub(super) fn challenge_name(host: &HostPattern) -> Result<Name, DnsError> {
    let no_record = || DnsError::NoRecord(host.to_string());
    let below = match host {
        HostPattern::Exact(name) | HostPattern::Wildcard(name) => name,
        HostPattern::Any => return Err(no_record()),
    };
    // Names of 239 bytes and more leave no room for the label in front.
    Name::from_ascii(format!("_acme-challenge.{below}.")).map_err(|_| no_record())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_and_its_name_share_a_record_name() {
        for host in ["example.com", "*.example.com"] {
            let name = challenge_name(&HostPattern::parse(host).unwrap()).unwrap();
            assert_eq!(name.to_string(), "_acme-challenge.example.com.");
        }
        assert!(challenge_name(&HostPattern::Any).is_err());
    }

    #[test]
    fn a_name_without_room_for_the_label_is_an_error() {
        let label = "a".repeat(60);
        let long = format!("{label}.{label}.{label}.{label}");
        let host = HostPattern::parse(&long).unwrap();
        assert!(matches!(
            challenge_name(&host),
            Err(DnsError::NoRecord(name)) if name == long
        ));
    }
}
