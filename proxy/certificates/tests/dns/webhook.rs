//! The webhook and exec providers, called by the solver.

use http::StatusCode;
use serde_json::json;
use tidegate_certificates::dns::Dns01Solver;
use tidegate_certificates::issuer::DnsProvider;
use tidegate_certificates::ledger::FailureKind;

use crate::http_server::{Asked, HttpServer};
use crate::site::{Secondary, Site, host, secret, store};

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_told_name_zone_and_value() {
    let site = Site::new("", &[], Secondary::IsDown);
    let server = HttpServer::start(|_| (StatusCode::NO_CONTENT, String::new())).await;
    let settings = site.with(DnsProvider::Webhook {
        url: format!("{}/dns?k=v", server.url),
        token: Some(secret("token")),
    });
    let solver = Dns01Solver::new(&settings, &store(&[("token", "t0ken\n")])).await;
    let solver = solver.expect("good settings");
    let placed = solver.present(&host("*.a.example.test"), "the-value").await;
    solver.remove(&placed.expect("told")).await.expect("told");
    let told = |action: &str| Asked {
        method: "POST".to_owned(),
        path: "/dns?k=v".to_owned(),
        authorization: Some("Bearer t0ken".to_owned()),
        body: json!({
            "action": action,
            "fqdn": "_acme-challenge.a.example.test.",
            "zone": "example.test.",
            "value": "the-value",
        }),
    };
    assert_eq!(server.asked(), [told("present"), told("cleanup")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_refuses_is_told_from_one_in_trouble() {
    let site = Site::new("", &[], Secondary::IsDown);
    for (status, kind) in [
        (StatusCode::FORBIDDEN, FailureKind::Settings),
        (StatusCode::BAD_GATEWAY, FailureKind::NotProven),
    ] {
        let server = HttpServer::start(move |_| (status, "why it is so".to_owned())).await;
        let settings = site.with(DnsProvider::Webhook {
            url: format!("{}/hook?key=s3cret", server.url),
            token: Some(secret("token")),
        });
        let solver = Dns01Solver::new(&settings, &store(&[("token", "t0ken")])).await;
        let solver = solver.expect("good settings");
        let error = solver
            .present(&host("example.test"), "v")
            .await
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let text = error.to_string();
        assert!(
            text.contains("why it is so") && text.contains(status.as_str()),
            "{text}"
        );
        assert!(
            !text.contains("t0ken") && !text.contains("s3cret"),
            "{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_makes_the_record() {
    let site = Site::new("", &[], Secondary::IsDown);
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let script = format!("echo \"$@\" >> {}", log.display());
    let command = ["sh", "-c", &script, "sh", "--zone-tool"].map(str::to_owned);
    let settings = site.with(DnsProvider::Exec {
        command: command.to_vec(),
    });
    let solver = Dns01Solver::new(&settings, &store(&[])).await;
    let solver = solver.expect("good settings");
    let placed = solver.present(&host("example.test"), "v").await;
    solver.remove(&placed.expect("run")).await.expect("run");
    assert_eq!(
        std::fs::read_to_string(log).expect("a log"),
        "--zone-tool present _acme-challenge.example.test. v\n\
         --zone-tool cleanup _acme-challenge.example.test. v\n"
    );
}
