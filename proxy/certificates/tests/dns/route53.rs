//! Route 53, as moto answers its API.

use std::sync::atomic::{AtomicUsize, Ordering};

use aws_sdk_route53::Client;
use aws_sdk_route53::config::{BehaviorVersion, Config, Region};
use aws_sdk_route53::types::{
    Change, ChangeAction, ChangeBatch, HostedZoneConfig, ResourceRecord, ResourceRecordSet, RrType,
    Vpc, VpcRegion,
};
use http::StatusCode;
use tidegate_certificates::MemoryStore;
use tidegate_certificates::dns::provider::{Provider, TxtRecord, open};
use tidegate_certificates::dns::{Dns01Solver, DnsError};
use tidegate_certificates::issuer::{AwsKey, DnsProvider};
use tidegate_certificates::ledger::FailureKind;
use tidegate_testbed::moto::Moto;

use crate::http_server::HttpServer;
use crate::site::{Secondary, Site, host, secret, store};

const NAME: &str = "_acme-challenge.example.test.";

/// An account with moto behind it.
struct Account {
    moto: Moto,
    client: Client,
}

impl Account {
    fn new() -> Self {
        let moto = Moto::start().unwrap_or_else(|error| panic!("{error:#}"));
        let key = aws_credential_types::Credentials::new("id", "key", None, None, "test");
        let http = aws_smithy_http_client::Builder::new().build_http();
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(key)
            .http_client(http)
            .endpoint_url(moto.endpoint());
        Self {
            client: Client::from_conf(config.build()),
            moto,
        }
    }

    /// Makes a hosted zone and returns its identifier, as the API writes it.
    async fn zone(&self, name: &str, reference: &str, is_private: bool) -> String {
        let mut request = self.client.create_hosted_zone();
        request = request.name(name).caller_reference(reference);
        if is_private {
            let config = HostedZoneConfig::builder().private_zone(true).build();
            let network = Vpc::builder()
                .vpc_id("vpc-1")
                .vpc_region(VpcRegion::UsEast1);
            request = request.hosted_zone_config(config).vpc(network.build());
        }
        let answer = request.send().await.expect("a zone is made");
        answer.hosted_zone.expect("a zone").id
    }

    async fn put(&self, zone: &str, name: &str, values: &[&str]) {
        let record = |value: &&str| ResourceRecord::builder().value(*value).build();
        let records: Result<_, _> = values.iter().map(record).collect();
        let set = ResourceRecordSet::builder()
            .name(name)
            .r#type(RrType::Txt)
            .ttl(300);
        let set = set.set_resource_records(Some(records.expect("records")));
        let change = Change::builder()
            .action(ChangeAction::Create)
            .resource_record_set(set.build().expect("a set"))
            .build();
        let batch = ChangeBatch::builder()
            .changes(change.expect("a change"))
            .build();
        let request = self.client.change_resource_record_sets();
        let request = request
            .hosted_zone_id(zone)
            .change_batch(batch.expect("a batch"));
        request.send().await.expect("records are made");
    }

    /// TXT values of a name, sorted.
    async fn values(&self, zone: &str, name: &str) -> Vec<String> {
        let request = self.client.list_resource_record_sets().hosted_zone_id(zone);
        let answer = request.send().await.expect("a list");
        let sets = answer.resource_record_sets.into_iter();
        let sets = sets.filter(|set| set.name == name && set.r#type == RrType::Txt);
        let records = sets.flat_map(|set| set.resource_records.unwrap_or_default());
        let mut values: Vec<String> = records.map(|record| record.value).collect();
        values.sort();
        values
    }

    fn settings(&self, zone: Option<&str>) -> DnsProvider {
        settings(&self.moto.endpoint(), zone)
    }

    async fn provider(&self, zone: Option<&str>) -> Box<dyn Provider> {
        let provider = open(&self.settings(zone), &keys()).await;
        provider.unwrap_or_else(|error| panic!("{error}"))
    }
}

fn settings(endpoint: &str, zone: Option<&str>) -> DnsProvider {
    DnsProvider::Route53 {
        hosted_zone_id: zone.map(str::to_owned),
        region: "us-east-1".to_owned(),
        endpoint: Some(endpoint.to_owned()),
        credentials: Some(AwsKey {
            id: secret("id"),
            secret: secret("secret"),
        }),
    }
}

fn keys() -> MemoryStore {
    store(&[("id", "AKIAEXAMPLE"), ("secret", "s3cret-access-key")])
}

fn record(value: &str) -> TxtRecord {
    TxtRecord {
        name: NAME.parse().expect("a name"),
        zone: "example.test.".parse().expect("a name"),
        value: value.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_public_zone_is_found_and_others_values_stay() {
    let account = Account::new();
    let private = account.zone("example.test", "private", true).await;
    let public = account.zone("example.test", "public", false).await;
    account.zone("sub.example.test", "below", false).await;
    account.put(&public, NAME, &["\"theirs\""]).await;
    account
        .put(&public, "_acme-challenge.z.example.test.", &["\"next\""])
        .await;
    let provider = account.provider(None).await;
    for value in ["ours", "wildcard", "ours"] {
        let receipt = provider.present(&record(value)).await;
        let receipt = receipt.unwrap_or_else(|error| panic!("{error}"));
        provider.settled(&receipt).await.expect("in sync");
    }
    let values = account.values(&public, NAME).await;
    assert_eq!(values, ["\"ours\"", "\"theirs\"", "\"wildcard\""]);
    for _ in 0..2 {
        provider.cleanup(&record("ours")).await.expect("removed");
    }
    let values = account.values(&public, NAME).await;
    assert_eq!(values, ["\"theirs\"", "\"wildcard\""]);
    let values = account
        .values(&public, "_acme-challenge.z.example.test.")
        .await;
    assert_eq!(values, ["\"next\""]);
    assert_eq!(account.values(&private, NAME).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_can_be_named_by_its_identifier() {
    let account = Account::new();
    let one = account.zone("example.test", "one", false).await;
    let two = account.zone("example.test", "two", false).await;
    let error = account.provider(None).await.present(&record("v")).await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("several") && error.contains("hostedZoneId"),
        "{error}"
    );

    let provider = account.provider(Some(&two)).await;
    provider.present(&record("v")).await.expect("made");
    assert_eq!(account.values(&two, NAME).await, ["\"v\""]);
    provider.cleanup(&record("v")).await.expect("removed");
    assert_eq!(account.values(&two, NAME).await, [""; 0]);
    assert_eq!(account.values(&one, NAME).await, [""; 0]);

    let missing = account.provider(Some("Z0MISSING")).await;
    let error = missing.present(&record("v")).await.unwrap_err().to_string();
    assert!(error.contains("NoSuchHostedZone"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_solver_names_what_is_missing() {
    let site = Site::new("", &[], Secondary::IsDown);
    let account = Account::new();
    let settings = site.with(account.settings(None));
    let error = Dns01Solver::new(&settings, &store(&[("id", "AKIA")])).await;
    let error = error.expect_err("the secret access key is missing");
    assert!(matches!(error, DnsError::Secret { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "dns provider route53: the entry 'secret' of Secret 'dns' is not there; put the secret there, or name another place in the settings"
    );

    let solver = Dns01Solver::new(&settings, &keys())
        .await
        .expect("good settings");
    let error = solver
        .present(&host("example.test"), "v")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), FailureKind::Settings);
    let text = error.to_string();
    assert!(
        text.contains("no public hosted zone example.test."),
        "{text}"
    );
    assert!(!text.contains("s3cret") && text.contains(NAME), "{text}");

    account.zone("example.test", "one", false).await;
    let placed = solver
        .present(&host("example.test"), "v")
        .await
        .expect("made");
    solver.remove(&placed).await.expect("removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_down_may_be_up_later() {
    let site = Site::new("", &[], Secondary::IsDown);
    let settings = site.with(settings("http://127.0.0.1:1", None));
    let solver = Dns01Solver::new(&settings, &keys()).await;
    let solver = solver.expect("good settings");
    let error = solver.present(&host("example.test"), "v").await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), FailureKind::NotProven, "{error}");
    assert!(
        error.to_string().contains("ListHostedZonesByName"),
        "{error}"
    );
}

/// moto takes changes that are refused by Route 53, so the refusals here are those of its reference.
#[tokio::test(flavor = "multi_thread")]
async fn throttling_and_changes_of_others_are_met_by_another_attempt() {
    let turn = AtomicUsize::new(0);
    let server = HttpServer::start(move |asked| {
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        match (asked.method.as_str(), turn) {
            ("GET", 0) => (StatusCode::OK, listed("")),
            ("POST", 1) => (
                StatusCode::BAD_REQUEST,
                error("Throttling", "Rate exceeded"),
            ),
            ("POST", 2) => {
                let message = "[Tried to create resource record set, but it already exists]";
                let body = error("InvalidChangeBatch", message);
                (StatusCode::BAD_REQUEST, body)
            }
            ("GET", 3) => (StatusCode::OK, listed("&quot;theirs&quot;")),
            ("POST", 4) => {
                let body = error(
                    "InvalidChangeBatch",
                    "[the values provided do not match the current values]",
                );
                (StatusCode::BAD_REQUEST, body)
            }
            ("GET", 5) => (StatusCode::OK, listed("&quot;others&quot;")),
            ("POST", 6) => {
                let change = "<ChangeInfo><Id>/change/C1</Id><Status>PENDING</Status>\
                              <SubmittedAt>2026-01-01T00:00:00Z</SubmittedAt></ChangeInfo>";
                (
                    StatusCode::OK,
                    xml("ChangeResourceRecordSetsResponse", change),
                )
            }
            ("GET", 7) => {
                let change = "<ChangeInfo><Id>/change/C1</Id><Status>INSYNC</Status>\
                              <SubmittedAt>2026-01-01T00:00:00Z</SubmittedAt></ChangeInfo>";
                (StatusCode::OK, xml("GetChangeResponse", change))
            }
            _ => (StatusCode::NOT_FOUND, error("Unexpected", "not now")),
        }
    });
    let server = server.await;
    let provider = open(&settings(&server.url, Some("Z1")), &keys()).await;
    let provider = provider.unwrap_or_else(|error| panic!("{error}"));
    let receipt = provider.present(&record("ours")).await;
    let receipt = receipt.unwrap_or_else(|error| panic!("{error}"));
    provider.settled(&receipt).await.expect("in sync");
    let asked = server.asked();
    assert_eq!(asked.len(), 8, "{asked:#?}");
    let last = asked[6].body.as_str().expect("XML").replace("&quot;", "\"");
    let (deleted, created) = last.split_once("CREATE").expect("two changes");
    assert!(
        deleted.contains("DELETE") && deleted.contains("\"others\""),
        "{last}"
    );
    assert!(
        created.contains("\"others\"") && created.contains("\"ours\""),
        "{last}"
    );
    assert!(!last.contains("theirs"), "{last}");
    assert_eq!(asked[7].path, "/2013-04-01/change/C1");
}

/// An answer of the API.
fn xml(root: &str, content: &str) -> String {
    format!("<{root} xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">{content}</{root}>")
}

fn error(code: &str, message: &str) -> String {
    let error = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
    xml("ErrorResponse", &error)
}

/// The list of the TXT records of [`NAME`]: this value, or none when it is empty.
fn listed(value: &str) -> String {
    let set = match value {
        "" => String::new(),
        value => format!(
            "<ResourceRecordSet><Name>{NAME}</Name><Type>TXT</Type><TTL>60</TTL><ResourceRecords>\
             <ResourceRecord><Value>{value}</Value></ResourceRecord></ResourceRecords></ResourceRecordSet>"
        ),
    };
    let sets = format!("<ResourceRecordSets>{set}</ResourceRecordSets>");
    let rest = "<IsTruncated>false</IsTruncated><MaxItems>1</MaxItems>";
    xml("ListResourceRecordSetsResponse", &format!("{sets}{rest}"))
}
