//! Wildcards, proven by records that real name servers have.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use aws_sdk_route53::config::{BehaviorVersion, Config, Region};
use aws_sdk_route53::types::RrType;
use tidegate_certificates::MemoryStore;
use tidegate_certificates::dns::provider::{TxtRecord, open};
use tidegate_certificates::issuer::{
    AwsKey, ChallengeSettings, Dns01, DnsProvider, SecretSource, TsigAlgorithm,
};
use tidegate_testbed::knot::{KEY, Knot, KnotOptions, Role};
use tidegate_testbed::moto::Moto;

use crate::support::World;

/// Two name servers of `example.test`, the second of which gets the zone from the first.
struct NameServers {
    primary: Knot,
    _secondary: Knot,
}

impl NameServers {
    fn new(records: &str) -> Self {
        let [one, two] = [Knot::free_address(), Knot::free_address()];
        let every = "@ SOA ns1.example.test. hostmaster 1 1 1 600 300\n\
                     @ NS ns1.example.test.\n@ NS ns2.example.test.";
        let main = format!("{every}\nns1 A {one}\nns2 A {two}\n{records}");
        let zones = [("example.test", main.as_str())];
        let knot = |address, zones: &[(&str, &str)], role| {
            let zone = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
            Knot::started(KnotOptions {
                address,
                zones: zones.iter().map(zone).collect(),
                role,
            })
            .expect("a name server runs")
        };
        let primary = knot(one, &zones, Role::Primary(vec![two]));
        let empty = zones.map(|(name, _)| (name, ""));
        let secondary = knot(two, &empty, Role::Secondary(one));
        Self {
            primary,
            _secondary: secondary,
        }
    }

    fn address(&self) -> SocketAddr {
        at(self.primary.address())
    }

    /// TXT records that are left.
    fn left(&self) -> usize {
        let names = ["_acme-challenge", "www.acme"];
        let records = names.map(|owner| self.primary.records("example.test", owner, "TXT"));
        records.into_iter().flatten().flatten().count()
    }

    fn updated(&self) -> DnsProvider {
        DnsProvider::Rfc2136 {
            server: self.address(),
            key_name: KEY.0.to_owned(),
            algorithm: TsigAlgorithm::HmacSha256,
            key: secret("tsig"),
        }
    }

    /// An instance whose CA asks these name servers, and which makes records by this provider.
    async fn world(&self, provider: DnsProvider) -> World {
        let name_server = Some(self.address());
        let world = World::with(|options| options.name_server = name_server, 1).await;
        give_secrets(&world.store());
        world.set_issuer(|issuer| {
            issuer.challenge = ChallengeSettings::Dns01(Box::new(Dns01 {
                provider,
                propagation_timeout: Duration::from_secs(30),
                resolvers: vec![self.address()],
            }));
        });
        world
    }
}

fn at(address: Ipv4Addr) -> SocketAddr {
    SocketAddr::from((address, 53))
}

fn secret(key: &str) -> SecretSource {
    SecretSource::Secret {
        name: "dns".to_owned(),
        key: key.to_owned(),
    }
}

fn give_secrets(store: &MemoryStore) {
    for (key, value) in [("tsig", KEY.1), ("id", "AKIAEXAMPLE"), ("secret", "s3cret")] {
        store.set_secret_entry("dns", key, value.as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_and_its_name_are_issued_by_rfc_2136_and_through_a_cname() {
    // Within the zone, because these servers, which the CA asks itself, follow no further.
    let servers = NameServers::new("_acme-challenge.www CNAME www.acme");
    let mut world = servers.world(servers.updated()).await;
    let names = ["example.test", "*.example.test", "*.www.example.test"];
    world.wish("web", &names);
    let start = Instant::now();
    world.lead();
    world.issued("web", &names).await;
    println!("issued by dns-01 after {:?}", start.elapsed());
    world.settled().await;
    assert_eq!(world.pebble.orders(), 1);
    let none = || (servers.left() == 0).then_some(());
    world.until("removal of the records", none).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_is_issued_through_the_api_of_route_53() {
    let servers = NameServers::new("");
    let moto = Moto::start().expect("moto runs; it is installed by pip");
    let publisher = Publisher::new(&moto, &servers).await;
    let publisher = tokio::spawn(publisher.run());
    let provider = DnsProvider::Route53 {
        hosted_zone_id: None,
        region: "us-east-1".to_owned(),
        endpoint: Some(moto.endpoint()),
        credentials: Some(AwsKey {
            id: secret("id"),
            secret: secret("secret"),
        }),
    };
    let mut world = servers.world(provider).await;
    let names = ["example.test", "*.example.test"];
    world.wish("web", &names);
    world.lead();
    world.issued("web", &names).await;
    world.settled().await;
    assert_eq!(world.pebble.orders(), 1);
    let none = || (servers.left() == 0).then_some(());
    world.until("removal of the records", none).await;
    publisher.abort();
}

/// moto has no name servers, so this brings the TXT records of its zone to those that the test has.
struct Publisher {
    client: aws_sdk_route53::Client,
    zone: String,
    provider: Box<dyn tidegate_certificates::dns::provider::Provider>,
}

impl Publisher {
    async fn new(moto: &Moto, servers: &NameServers) -> Self {
        let key = aws_credential_types::Credentials::new("id", "key", None, None, "test");
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(key)
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .endpoint_url(moto.endpoint());
        let client = aws_sdk_route53::Client::from_conf(config.build());
        let request = client.create_hosted_zone().name("example.test");
        let made = request.caller_reference("test").send().await.unwrap();
        let store = MemoryStore::default();
        give_secrets(&store);
        Self {
            client,
            zone: made.hosted_zone.unwrap().id,
            provider: open(&servers.updated(), &store).await.unwrap(),
        }
    }

    async fn run(self) {
        let mut shown = BTreeSet::new();
        loop {
            let there = self.records().await;
            for new in there.difference(&shown) {
                self.provider.present(&record(new)).await.unwrap();
            }
            for old in shown.difference(&there) {
                self.provider.cleanup(&record(old)).await.unwrap();
            }
            shown = there;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Names and values.
    async fn records(&self) -> BTreeSet<(String, String)> {
        let request = self.client.list_resource_record_sets();
        let answer = request.hosted_zone_id(&self.zone).send().await.unwrap();
        let sets = answer.resource_record_sets.into_iter();
        let sets = sets.filter(|set| set.r#type == RrType::Txt);
        sets.flat_map(|set| {
            let records = set.resource_records.unwrap_or_default().into_iter();
            records.map(move |record| (set.name.clone(), record.value.replace('"', "")))
        })
        .collect()
    }
}

fn record((name, value): &(String, String)) -> TxtRecord {
    TxtRecord {
        name: name.parse().unwrap(),
        zone: "example.test.".parse().unwrap(),
        value: value.clone(),
    }
}
