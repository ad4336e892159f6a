//! A thousand edits of the manifests while clients are served: nobody notices.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tidegate::demo::backend::Backend;
use tidegate::demo::client;
use tokio::net::TcpStream;

use crate::support::{Instance, Manifests, ingress, service};

const EDITS: u32 = 1_000;
/// Between two edits: shorter than changes are gathered for.
const PAUSE: Duration = Duration::from_millis(10);
const HOST: &str = "web.example.com";

/// What the load generator counts.
#[derive(Default)]
struct Load {
    ended: AtomicBool,
    sent: AtomicU64,
    failed: AtomicU64,
}

impl Load {
    fn goes_on(&self) -> bool {
        !self.ended.load(Ordering::Relaxed)
    }

    fn count(&self, outcome: &anyhow::Result<()>) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = outcome {
            self.failed.fetch_add(1, Ordering::Relaxed);
            println!("failed request: {error:#}");
        }
    }

    /// Requests one after the other on one connection, for as long as it is kept alive.
    async fn keep_alive(self: Arc<Self>, to: SocketAddr) {
        while self.goes_on() {
            let outcome = self.one_connection(to).await;
            if outcome.is_err() {
                self.count(&outcome);
            }
        }
    }

    async fn one_connection(&self, to: SocketAddr) -> anyhow::Result<()> {
        let stream = TcpStream::connect(to).await.context("connect")?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        while self.goes_on() {
            let request = client::request("GET", HOST, "/")?;
            let response = sender.send_request(request).await.context("keep-alive")?;
            let status = response.status();
            let closes = response.headers().contains_key("connection");
            response.into_body().collect().await.context("body")?;
            anyhow::ensure!(status == 200, "keep-alive: {status}");
            self.count(&Ok(()));
            if closes {
                break;
            }
        }
        Ok(())
    }

    /// A connection for each request, with a body.
    async fn close(self: Arc<Self>, to: SocketAddr) {
        while self.goes_on() {
            let outcome = async {
                let mut request = client::request("POST", HOST, "/orders")?;
                *request.body_mut() = Full::new(Bytes::from_static(&[b'x'; 4_000]));
                let answer = client::send(to, request).await?;
                anyhow::ensure!(answer.status() == 200, "close: {}", answer.status());
                let echo = answer.echo().context("not a backend's answer")?;
                anyhow::ensure!(echo.body.len() == 4_000, "body of {}", echo.body.len());
                Ok(())
            };
            self.count(&outcome.await);
        }
    }

    /// Texts through one WebSocket, as long as it lives.
    async fn websocket(self: Arc<Self>, to: SocketAddr) -> anyhow::Result<u64> {
        let mut socket = client::websocket(to, HOST, "/live").await?;
        let mut echoed = 0;
        while self.goes_on() {
            let text = format!("message {echoed}");
            let echo = client::echo_text(&mut socket, &text).await?;
            anyhow::ensure!(echo == text, "{echo} came back for {text}");
            echoed += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(echoed)
    }
}

/// One edit of many kinds: endpoints move, routes, hosts and Services come and go, and some files are broken.
fn edit(manifests: &Manifests, number: u32, backends: &[Backend; 2]) {
    let name = format!("web-{}", number % 7);
    match number % 5 {
        0 => manifests.put(
            "service.yaml",
            &service("web", backends[(number / 5 % 2) as usize].address()),
        ),
        1 => manifests.put(
            "extra.yaml",
            &ingress(&name, &format!("{name}.example.com"), "web"),
        ),
        2 => manifests.put(
            "broken.yaml",
            &ingress("broken", "broken.example.com", &name),
        ),
        3 => manifests.put("extra.yaml", "kind: [never closed"),
        _ => std::fs::remove_file(manifests.path().join("extra.yaml")).unwrap(),
    }
}

async fn generation(instance: &Instance) -> u64 {
    let page = client::get(instance.admin, "localhost", "/snapshot")
        .await
        .unwrap();
    let snapshot: serde_json::Value = serde_json::from_slice(&page.body).unwrap();
    snapshot["generation"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_edits_under_load_fail_no_request() {
    let backends = [
        Backend::start("one").await.unwrap(),
        Backend::start("two").await.unwrap(),
    ];
    let manifests = Manifests::new();
    manifests.put("web.yaml", &ingress("web", HOST, "web"));
    manifests.put("service.yaml", &service("web", backends[0].address()));
    let instance = Instance::serve(manifests.path(), &["--log-level", "error"]).await;

    let load = Arc::new(Load::default());
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(tokio::spawn(load.clone().keep_alive(instance.http)));
    }
    clients.push(tokio::spawn(load.clone().close(instance.http)));
    let socket = tokio::spawn(load.clone().websocket(instance.http));

    let start = Instant::now();
    for number in 0..EDITS {
        edit(&manifests, number, &backends);
        tokio::time::sleep(PAUSE).await;
    }
    manifests.put("last.yaml", &ingress("last", "last.example.com", "web"));
    let last_is_served = async || {
        let answer = client::get(instance.http, "last.example.com", "/").await;
        answer.is_ok_and(|answer| answer.status() == 200)
    };
    instance
        .eventually("the last edit is served", last_is_served)
        .await;
    let seconds = start.elapsed().as_secs_f64();
    load.ended.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let echoed = socket.await.unwrap().expect("the WebSocket was disturbed");

    let published = generation(&instance).await;
    let (sent, failed) = (
        load.sent.load(Ordering::Relaxed),
        load.failed.load(Ordering::Relaxed),
    );
    println!("figure: edits under load = {EDITS} edits");
    println!("figure: edits under load, time = {seconds:.1} s");
    println!("figure: edits under load, snapshots published = {published} snapshots");
    println!("figure: edits under load, requests = {sent} requests");
    println!("figure: edits under load, failed requests = {failed} requests");
    println!("figure: edits under load, WebSocket echoes = {echoed} messages");
    assert_eq!(failed, 0);
    assert!(sent > u64::from(EDITS), "hardly a load: {sent} requests");
    assert!(echoed > 100, "hardly a conversation: {echoed} messages");
    assert!(
        published > 5,
        "edits did not take effect: {published} snapshots"
    );
}
