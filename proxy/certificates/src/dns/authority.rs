//! Where a TXT record belongs: CNAME records followed, the zone's cut found, its servers asked directly.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::DnsError;
use super::exchange::{ExchangeError, exchange};
use super::resolvers::{Resolvers, name_server};

/// Where name servers listen (RFC 1035 section 4.2).
const PORT: u16 = 53;
/// The most CNAME records that are followed, and the most zone cuts below the zone that the resolvers know.
const DEPTH: usize = 8;
/// Largest datagram that is asked for (RFC 9715).
const PAYLOAD: u16 = 1232;

/// An authoritative name server at one of its addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NameServer {
    /// Its name in the zone's NS records.
    pub name: String,
    /// One of its addresses.
    pub address: IpAddr,
}

impl fmt::Display for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.address)
    }
}

/// Where a record belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub(super) asked: Name,
    pub(super) record: Name,
    pub(super) zone: Name,
    pub(super) servers: Vec<NameServer>,
}

impl Place {
    /// Name of the record, behind every CNAME record, with a dot at its end.
    pub fn record(&self) -> String {
        self.record.to_string()
    }

    /// The zone that holds it, with a dot at its end.
    pub fn zone(&self) -> String {
        self.zone.to_string()
    }

    /// Every address of every name server of that zone.
    pub fn servers(&self) -> &[NameServer] {
        &self.servers
    }
}

/// The record, and what points to it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.asked == self.record {
            true => write!(f, "{}", self.record),
            false => write!(f, "{} (where {} points by CNAME)", self.record, self.asked),
        }
    }
}

impl Resolvers {
    /// Follows CNAME records from a name to where its records belong.
    ///
    /// # Errors
    /// They lead in a circle or on too far, there is no zone, or nobody answers for it.
    pub(super) async fn place_of(&self, asked: &Name) -> Result<Place, DnsError> {
        let mut names = vec![asked.clone()];
        loop {
            let record = names.last().unwrap_or(asked).clone();
            let found = self.authority_over(&record).await?;
            let Some(target) = found.alias else {
                return Ok(Place {
                    asked: asked.clone(),
                    record,
                    zone: found.zone,
                    servers: found.servers,
                });
            };
            let trouble = match () {
                () if names.contains(&target) => "lead in a circle",
                () if names.len() > DEPTH => "are too many",
                () => {
                    names.push(target);
                    continue;
                }
            };
            return Err(DnsError::Chain {
                start: asked.to_string(),
                trouble,
                at: target.to_string(),
            });
        }
    }

    /// The zone of a name and its servers, and the name that it is an alias of, as these servers say.
    async fn authority_over(&self, name: &Name) -> Result<Authority, DnsError> {
        // The walk begins above the name, which may be new: resolvers might still say that it is not there.
        let mut zone = self.zone_of(&name.base_name()).await?;
        let mut hosts = self.name_servers(&zone).await?;
        for _ in 0..DEPTH {
            let servers = self.servers(&hosts).await?;
            match first_word(&servers, &zone, name).await? {
                Word::Alias(target) => {
                    return Ok(Authority {
                        zone,
                        servers,
                        alias: Some(target),
                    });
                }
                Word::Zone(below) if below != zone => {
                    hosts = below_on_same_server(&servers, &below).await;
                    zone = below;
                }
                Word::Zone(_) => {
                    return Ok(Authority {
                        zone,
                        servers,
                        alias: None,
                    });
                }
                Word::Referral(below, servers) => (zone, hosts) = (below, servers),
            }
        }
        Err(DnsError::Unanswered {
            name: name.to_string(),
            zone: zone.to_string(),
            tried: "its servers refer to others again and again".to_owned(),
        })
    }

    /// Every address of every one of these hosts that has any.
    async fn servers(&self, hosts: &BTreeSet<Name>) -> Result<Vec<NameServer>, DnsError> {
        let mut servers = Vec::new();
        let mut failure = None;
        for host in hosts {
            match self.addresses(host).await {
                Ok(addresses) => servers.extend(addresses.into_iter().map(|address| NameServer {
                    name: host.to_string(),
                    address,
                })),
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) if servers.is_empty() => Err(error),
            _ => Ok(servers),
        }
    }

    /// The zone that a name is in, with its servers, as `Place` of the name itself: aliases are not followed.
    ///
    /// # Errors
    /// There is no zone, or the resolvers do not tell.
    pub(super) async fn zone_with_servers(&self, name: &Name) -> Result<Place, DnsError> {
        let zone = self.zone_of(name).await?;
        let hosts = self.name_servers(&zone).await?;
        Ok(Place {
            asked: name.clone(),
            record: name.clone(),
            servers: self.servers(&hosts).await?,
            zone,
        })
    }
}

struct Authority {
    zone: Name,
    servers: Vec<NameServer>,
    alias: Option<Name>,
}

/// What a server says about a name.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    /// It is an alias of this name.
    Alias(Name),
    /// It is in this zone.
    Zone(Name),
    /// These servers know, of this zone.
    Referral(Name, BTreeSet<Name>),
}

/// What the first server says that has something to say.
async fn first_word(servers: &[NameServer], zone: &Name, name: &Name) -> Result<Word, DnsError> {
    let mut tried = Vec::new();
    for server in servers {
        let why = match ask(server, name, RecordType::SOA).await {
            Ok(answer) => match word(answer, zone, name) {
                Ok(word) => return Ok(word),
                Err(why) => why,
            },
            Err(error) => error.to_string(),
        };
        tried.push(format!("{server}: {why}"));
    }
    if tried.is_empty() {
        tried.push("its NS records lead to no address".to_owned());
    }
    Err(DnsError::Unanswered {
        name: name.to_string(),
        zone: zone.to_string(),
        tried: tried.join(", "),
    })
}

fn word(answer: Message, zone: &Name, name: &Name) -> Result<Word, String> {
    let alias = answer.answers.iter().find_map(|record| match &record.data {
        RData::CNAME(target) if record.name == *name => Some(target.0.to_lowercase()),
        _ => None,
    });
    if let Some(target) = alias {
        return Ok(Word::Alias(target));
    }
    let owner = |records: &[Record], kind: RecordType| {
        let is_above = |record: &&Record| record.record_type() == kind && record.name.zone_of(name);
        let record = records.iter().find(is_above)?;
        Some(record.name.to_lowercase())
    };
    let soa = owner(&answer.answers, RecordType::SOA)
        .or_else(|| owner(&answer.authorities, RecordType::SOA));
    match soa {
        Some(below) if answer.authoritative && zone.zone_of(&below) => {
            return Ok(Word::Zone(below));
        }
        _ => {}
    }
    match owner(&answer.authorities, RecordType::NS) {
        Some(below) if below != *zone && zone.zone_of(&below) => {
            let hosts = answer.authorities.into_iter().filter_map(name_server);
            Ok(Word::Referral(below, hosts.collect()))
        }
        _ if answer.response_code == ResponseCode::NoError => {
            Err("it does not have this zone".to_owned())
        }
        _ => Err(format!("it answers {}", answer.response_code)),
    }
}

/// The name servers of a zone that is on the same server as the one above it, which therefore does not refer to it.
async fn below_on_same_server(servers: &[NameServer], zone: &Name) -> BTreeSet<Name> {
    for server in servers {
        if let Ok(answer) = ask(server, zone, RecordType::NS).await {
            let hosts: BTreeSet<Name> =
                answer.answers.into_iter().filter_map(name_server).collect();
            if !hosts.is_empty() {
                return hosts;
            }
        }
    }
    BTreeSet::new()
}

/// Asks one authoritative server, without recursion.
pub(super) async fn ask(
    server: &NameServer,
    name: &Name,
    kind: RecordType,
) -> Result<Message, ExchangeError> {
    let mut message = Message::query();
    message.metadata.recursion_desired = false;
    message.add_query(Query::query(name.clone(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    message.set_edns(edns);
    let answer = exchange(SocketAddr::new(server.address, PORT), &message).await?;
    Ok(answer.message)
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::OpCode;
    use hickory_proto::rr::rdata::{CNAME, NS, SOA};

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn soa() -> RData {
        let mail = name("hostmaster.example.com.");
        RData::SOA(SOA::new(mail.clone(), mail, 1, 60, 60, 60, 60))
    }

    fn said(change: impl FnOnce(&mut Message)) -> Result<Word, String> {
        let mut answer = Message::response(1, OpCode::Query);
        answer.metadata.authoritative = true;
        change(&mut answer);
        word(
            answer,
            &name("example.com."),
            &name("_acme-challenge.a.example.com."),
        )
    }

    #[test]
    fn an_authoritative_answer_names_the_zone_that_it_is_from() {
        let below = said(|answer| {
            let record = Record::from_rdata(name("a.example.com."), 60, soa());
            answer.add_authority(record);
        });
        assert_eq!(below, Ok(Word::Zone(name("a.example.com."))));
    }

    #[test]
    fn a_zone_elsewhere_is_not_believed() {
        for owner in ["b.example.com.", "com.", "example.net."] {
            let elsewhere = said(|answer| {
                answer.add_authority(Record::from_rdata(name(owner), 60, soa()));
            });
            assert!(elsewhere.is_err(), "{owner}: {elsewhere:?}");
        }
    }

    #[test]
    fn a_referral_leads_only_down() {
        let host = || RData::NS(NS(name("NS.example.net.")));
        let refer = |owner: &str| {
            said(|answer| {
                answer.metadata.authoritative = false;
                answer.add_authority(Record::from_rdata(name(owner), 60, host()));
            })
        };
        let hosts = BTreeSet::from([name("ns.example.net.")]);
        let below = name("a.example.com.");
        assert_eq!(refer("a.example.com."), Ok(Word::Referral(below, hosts)));
        assert!(refer("example.com.").is_err());
        assert!(refer("com.").is_err());
    }

    #[test]
    fn an_alias_is_followed_whatever_else_is_said() {
        let alias = said(|answer| {
            let target = RData::CNAME(CNAME(name("X.example.net.")));
            let owner = name("_acme-challenge.a.example.com.");
            answer.add_answer(Record::from_rdata(owner, 60, target));
            answer.add_authority(Record::from_rdata(name("example.com."), 60, soa()));
        });
        assert_eq!(alias, Ok(Word::Alias(name("x.example.net."))));
    }
}
