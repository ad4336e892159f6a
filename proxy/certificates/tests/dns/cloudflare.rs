//! Cloudflare's API, as a stand-in answers it: the shapes are those of its reference of version 4.

use std::sync::Mutex;

use http::StatusCode;
use serde_json::{Value, json};
use tidegate_certificates::dns::Dns01Solver;
use tidegate_certificates::issuer::DnsProvider;
use tidegate_certificates::ledger::FailureKind;

use crate::http_server::{Asked, HttpServer};
use crate::site::{Secondary, Site, host, secret, store};

const TOKEN: &str = "cf-t0ken";

/// An account with one zone, which keeps its TXT records.
async fn account(zone: &'static str, records: &[(&str, &str)]) -> HttpServer {
    let record =
        |(id, content): &(&str, &str)| json!({"id": id, "type": "TXT", "content": content});
    let records = Mutex::new(records.iter().map(record).collect::<Vec<_>>());
    HttpServer::start(move |asked| {
        let bearer = format!("Bearer {TOKEN}");
        if asked.authorization.as_deref() != Some(bearer.as_str()) {
            return failed(StatusCode::FORBIDDEN, 9109, "Invalid access token");
        }
        let mut records = records.lock().expect("no panic");
        let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
        match (asked.method.as_str(), path) {
            ("GET", "/client/v4/zones") => {
                let zones = match query == format!("name={zone}") {
                    true => json!([{"id": "z1", "name": zone, "status": "active"}]),
                    false => json!([]),
                };
                done(&zones)
            }
            ("GET", "/client/v4/zones/z1/dns_records") => done(&json!(*records)),
            ("POST", "/client/v4/zones/z1/dns_records") => {
                let content = &asked.body["content"];
                if records.iter().any(|record| record["content"] == *content) {
                    let message = "An identical record already exists.";
                    return failed(StatusCode::BAD_REQUEST, 81058, message);
                }
                let id = format!("new{}", records.len());
                let record = json!({"id": id, "type": "TXT", "content": content});
                records.push(record.clone());
                done(&record)
            }
            ("DELETE", path) => {
                let id = path.rsplit('/').next().unwrap_or_default();
                records.retain(|record| record["id"] != id);
                done(&json!({"id": id}))
            }
            _ => failed(StatusCode::NOT_FOUND, 7003, "Could not route"),
        }
    })
    .await
}

fn done(result: &Value) -> (StatusCode, String) {
    let body = json!({"success": true, "errors": [], "messages": [], "result": result});
    (StatusCode::OK, body.to_string())
}

fn failed(status: StatusCode, code: u32, message: &str) -> (StatusCode, String) {
    let errors = json!([{"code": code, "message": message}]);
    let body = json!({"success": false, "errors": errors, "messages": [], "result": null});
    (status, body.to_string())
}

async fn solver(site: &Site, server: &HttpServer, token: &str) -> Dns01Solver {
    let settings = site.with(DnsProvider::Cloudflare {
        token: secret("token"),
        endpoint: Some(format!("{}/client/v4/", server.url)),
    });
    let solver = Dns01Solver::new(&settings, &store(&[("token", token)])).await;
    solver.expect("good settings")
}

#[tokio::test(flavor = "multi_thread")]
async fn only_our_record_is_made_and_removed() {
    let site = Site::new("", &[], Secondary::IsDown);
    let server = account("example.test", &[("other", "\"theirs\"")]).await;
    let solver = solver(&site, &server, TOKEN).await;
    let placed = solver.present(&host("*.a.example.test"), "ours").await;
    let placed = placed.expect("made");
    solver
        .present(&host("a.example.test"), "ours")
        .await
        .expect("it is there already");
    solver.remove(&placed).await.expect("removed");
    solver.remove(&placed).await.expect("it is gone already");

    let ask = |method: &str, path: &str, body: Value| Asked {
        method: method.to_owned(),
        path: format!("/client/v4{path}"),
        authorization: Some(format!("Bearer {TOKEN}")),
        body,
    };
    let zone = || ask("GET", "/zones?name=example.test", Value::Null);
    let make = || {
        let name = "_acme-challenge.a.example.test";
        let new = json!({"type": "TXT", "name": name, "content": "\"ours\"", "ttl": 60});
        ask("POST", "/zones/z1/dns_records", new)
    };
    let list = || {
        let query = "type=TXT&name=_acme-challenge.a.example.test&per_page=100";
        let path = format!("/zones/z1/dns_records?{query}");
        ask("GET", &path, Value::Null)
    };
    let delete = ask("DELETE", "/zones/z1/dns_records/new1", Value::Null);
    let expected = [
        zone(),
        make(),
        zone(),
        make(),
        zone(),
        list(),
        delete,
        zone(),
        list(),
    ];
    assert_eq!(server.asked(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_are_wrong_or_too_narrow_are_explained() {
    let site = Site::new("", &[], Secondary::IsDown);
    let server = account("other.test", &[]).await;
    for (token, explained) in [
        (
            "wr0ng",
            "Invalid access token (code 9109); check that the token",
        ),
        (TOKEN, "the token sees no zone example.test"),
    ] {
        let solver = solver(&site, &server, token).await;
        let error = solver
            .present(&host("example.test"), "v")
            .await
            .unwrap_err();
        assert_eq!(error.kind(), FailureKind::Settings);
        let text = error.to_string();
        assert!(
            text.contains(explained) && text.contains("Zone.DNS:Edit"),
            "{text}"
        );
        assert!(!text.contains(token), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_of_the_api_may_pass() {
    let site = Site::new("", &[], Secondary::IsDown);
    let server =
        HttpServer::start(|_| (StatusCode::SERVICE_UNAVAILABLE, "<h1>down</h1>".to_owned()));
    let server = server.await;
    let solver = solver(&site, &server, TOKEN).await;
    let error = solver
        .present(&host("example.test"), "v")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), FailureKind::NotProven, "{error}");
}
