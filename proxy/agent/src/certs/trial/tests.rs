//! What is looked at on this machine.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::certs::facts::NodeFacts;

fn issuer(challenge: &str) -> IssuerFacts {
    IssuerFacts {
        name: "main".to_owned(),
        directory: "https://127.0.0.1:1/directory".to_owned(),
        staging: None,
        challenge: challenge.to_owned(),
        ca_bundle: None,
        profile: None,
        has_external_account: false,
        resolvers: vec!["127.0.0.1:1".parse().unwrap()],
    }
}

fn facts(challenge: &str, port: u16) -> Facts {
    Facts {
        nodes: vec![NodeFacts {
            name: "node-1".to_owned(),
            addresses: vec!["127.0.0.1".parse().unwrap()],
        }],
        published: vec!["203.0.113.7".to_owned(), "edge.example.com".to_owned()],
        http: Some(port),
        https: None,
        issuers: vec![issuer(challenge)],
    }
}

fn trial<'a>(host: &'a HostPattern, facts: &'a Facts) -> Trial<'a> {
    Trial {
        host,
        facts,
        issuer: &facts.issuers[0],
        lookup: Lookup::new(&facts.issuers[0].resolvers).unwrap(),
        format: OutputFormat::Json,
        steps: Vec::new(),
    }
}

/// Answers every request with this status.
async fn server(status: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 1024];
            _ = stream.read(&mut head).await;
            let text = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
            _ = stream.write_all(text.as_bytes()).await;
        }
    });
    port
}

#[tokio::test]
async fn every_node_is_looked_at_by_its_own_address() -> anyhow::Result<()> {
    let host = HostPattern::parse("shop.example").unwrap();
    let name = Hostname::parse("shop.example").unwrap();
    let here = facts("http-01", server(404).await);
    let mut there = trial(&host, &here);
    there.nodes(&name, HTTP).await?;
    assert_eq!(there.steps[0].outcome, Outcome::Fine);
    assert!(there.steps[0].found.contains("404"), "{:?}", there.steps);
    assert!(there.steps[0].line().starts_with("ok"));

    let nowhere = facts("http-01", 1);
    let mut silent = trial(&host, &nowhere);
    silent.nodes(&name, HTTP).await?;
    let step = &silent.steps[0];
    assert_eq!(step.outcome, Outcome::Failed);
    assert!(step.what.contains("node-1 at 127.0.0.1:1"), "{step:?}");
    assert!(step.found.contains("out of service"), "{step:?}");

    silent.nodes(&name, HTTPS).await?;
    assert!(silent.steps[1].what.contains("listener for port 443"));
    let nobody = Facts {
        nodes: Vec::new(),
        ..nowhere.clone()
    };
    let mut none = trial(&host, &nobody);
    none.nodes(&name, HTTP).await?;
    assert_eq!(none.steps[0].outcome, Outcome::Failed);
    Ok(())
}

#[tokio::test]
async fn what_does_not_answer_fails_a_step_and_ends_nothing() -> anyhow::Result<()> {
    let host = HostPattern::parse("shop.example").unwrap();
    let facts = facts("http-01", 1);
    let mut trial = trial(&host, &facts);
    trial.names().await?;
    let identities = trial.directory().await?;
    trial.caa(&identities).await?;
    let failed: Vec<_> = trial.steps.iter().map(|step| &*step.what).collect();
    assert_eq!(
        failed,
        [
            "DNS addresses of shop.example",
            "node node-1 at 127.0.0.1:1",
            "directory https://127.0.0.1:1/directory",
            "CAA of shop.example",
        ]
    );
    let all = trial.steps.iter();
    assert!(all.clone().all(|step| step.outcome == Outcome::Failed));
    assert!(all.clone().all(|step| !step.found.is_empty()));
    Ok(())
}

#[tokio::test]
async fn a_wildcard_needs_dns_01() -> anyhow::Result<()> {
    let host = HostPattern::parse("*.shop.example").unwrap();
    let facts = facts("http-01", 1);
    let mut trial = trial(&host, &facts);
    trial.names().await?;
    assert_eq!(trial.steps.len(), 1);
    assert!(trial.steps[0].found.contains("dns-01"));
    Ok(())
}

#[tokio::test]
async fn addresses_of_nodes_and_published_ones_are_ours() {
    let host = HostPattern::parse("shop.example").unwrap();
    let facts = facts("http-01", 1);
    let trial = trial(&host, &facts);
    for (address, ours) in [
        ("127.0.0.1", true),
        ("203.0.113.7", true),
        ("203.0.113.8", false),
    ] {
        assert_eq!(trial.is_ours(&address.parse().unwrap()), ours, "{address}");
    }
}

#[test]
fn an_issuer_that_is_not_there_is_named() {
    let facts = facts("http-01", 1);
    let error = no_issuer(&facts, Some("other")).to_string();
    assert!(error.contains("other") && error.contains("main"), "{error}");
    let none = no_issuer(&Facts::default(), None).to_string();
    assert!(none.contains("--acme-directory"), "{none}");
}
