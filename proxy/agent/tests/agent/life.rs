//! The life of an instance: ready, draining, gone.

use std::time::{Duration, Instant};

use tidegate::demo::backend::Backend;
use tidegate::demo::client;

use crate::support::{Instance, Manifests, free_port, ingress, run, service, text, tidegate};

async fn served() -> (Backend, Manifests) {
    let backend = Backend::start("web").await.unwrap();
    let manifests = Manifests::new();
    manifests.put("a.yaml", &ingress("web", "web.example.com", "web"));
    manifests.put("b.yaml", &service("web", backend.address()));
    (backend, manifests)
}

#[tokio::test]
async fn ready_means_that_requests_are_served() {
    let (_backend, manifests) = served().await;
    let instance = Instance::serve(manifests.path(), &[]).await;
    // No waiting: what is ready answers the first request.
    let answer = client::get(instance.http, "web.example.com", "/")
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.echo().unwrap().backend, "web");
}

#[tokio::test]
async fn sigterm_drains_and_ends_well() {
    let (_backend, manifests) = served().await;
    let mut instance = Instance::serve(manifests.path(), &["--drain-timeout", "20"]).await;
    let mut socket = client::websocket(instance.http, "web.example.com", "/")
        .await
        .unwrap();
    instance.signal("TERM");
    let not_ready = async || {
        let page = client::get(instance.admin, "localhost", "/readyz?verbose").await;
        page.is_ok_and(|page| page.status() == 503 && page.text().contains("draining"))
    };
    instance.eventually("it is not ready", not_ready).await;
    let refused = async || tokio::net::TcpStream::connect(instance.http).await.is_err();
    instance.eventually("it accepts nothing", refused).await;
    // What was open lives on.
    assert_eq!(
        client::echo_text(&mut socket, "still here").await.unwrap(),
        "still here"
    );
    drop(socket);
    let status = instance.ended().await;
    assert_eq!(status.code(), Some(0), "{}", instance.log());
    assert!(
        instance.log().contains("nothing was cut"),
        "{}",
        instance.log()
    );
}

#[tokio::test]
async fn the_deadline_cuts_what_is_left_and_says_so() {
    let (_backend, manifests) = served().await;
    let mut instance = Instance::serve(manifests.path(), &["--drain-timeout", "1"]).await;
    let _socket = client::websocket(instance.http, "web.example.com", "/")
        .await
        .unwrap();
    let start = Instant::now();
    instance.signal("TERM");
    let status = instance.ended().await;
    assert_eq!(status.code(), Some(0), "{}", instance.log());
    assert!(
        start.elapsed() >= Duration::from_millis(900),
        "{:?}",
        start.elapsed()
    );
    assert!(
        instance.log().contains("cut at the deadline"),
        "{}",
        instance.log()
    );
}

#[tokio::test]
async fn a_second_sigterm_ends_at_once() {
    let (_backend, manifests) = served().await;
    let mut instance = Instance::serve(manifests.path(), &["--drain-timeout", "600"]).await;
    let _socket = client::websocket(instance.http, "web.example.com", "/")
        .await
        .unwrap();
    instance.signal("TERM");
    let draining = async || instance.log().contains("draining");
    instance.eventually("it drains", draining).await;
    let start = Instant::now();
    instance.signal("TERM");
    let status = instance.ended().await;
    assert_eq!(status.code(), Some(1), "{}", instance.log());
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let (_backend, manifests) = served().await;
    let instance = Instance::serve(manifests.path(), &[]).await;
    let folder = manifests.path().to_str().unwrap();
    let taken = instance.http.to_string();
    let taken_admin = instance.admin.to_string();
    let free = format!("127.0.0.1:{}", free_port());
    let tries = [
        (taken.as_str(), "off", taken.as_str()),
        (free.as_str(), taken_admin.as_str(), taken_admin.as_str()),
    ];
    for (http, admin, named) in tries {
        let output = run(&[
            "serve",
            "--manifests",
            folder,
            "--http",
            http,
            "--https",
            "off",
            "--admin",
            admin,
        ]);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains(named), "{message}");
        assert!(message.contains("another process"), "{message}");
    }
}

#[tokio::test]
async fn the_access_log_is_on_standard_output_and_logs_are_not() {
    let (_backend, manifests) = served().await;
    let (http, admin) = (free_port(), free_port());
    let folder = manifests.path().to_str().unwrap();
    let log = manifests.path().join(".access.log");
    let line = format!(
        "exec {} serve --manifests {folder} --http 127.0.0.1:{http} --https off --admin 127.0.0.1:{admin} --access-log json --log-format json > {}",
        tidegate().get_program().display(),
        log.display(),
    );
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &line]);
    let mut instance = Instance::start(command, http, admin);
    instance.ready().await;
    client::get(instance.http, "web.example.com", "/logged?a=b")
        .await
        .unwrap();
    instance.signal("INT");
    assert_eq!(instance.ended().await.code(), Some(0));
    let access = std::fs::read_to_string(log).unwrap();
    let lines: Vec<serde_json::Value> = access
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 1, "{access}");
    assert!(access.contains("/logged"), "{access}");
    for line in instance.log().lines() {
        assert!(
            serde_json::from_str::<serde_json::Value>(line).is_ok(),
            "{line}"
        );
    }
}
