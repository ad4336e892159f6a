//! `tidegate demo --once`: everything that the demo shows, tried by a real client through real sockets.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use http::Version;
use http_body_util::Full;
use tokio::time::Instant;

use super::client::{self, Answer, TlsClient};
use super::manifests::{APPS, CART, Folder, SHOP};
use crate::output;

/// Time for an edit of the manifests to take effect.
const EFFECT: Duration = Duration::from_secs(10);

/// What to try, and on whom.
pub(crate) struct Tour<'a> {
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) folder: &'a Folder,
}

/// One thing tried.
struct Step {
    what: &'static str,
    expected: String,
    got: String,
}

impl Step {
    fn ok(&self) -> bool {
        self.expected == self.got
    }
}

/// Everything tried.
pub(crate) struct Outcome {
    steps: Vec<Step>,
}

impl Outcome {
    /// A table and a last line.
    pub(crate) fn text(&self) -> String {
        let rows: Vec<_> = self
            .steps
            .iter()
            .map(|step| {
                let ok = if step.ok() { "ok" } else { "FAILED" };
                [
                    step.what.to_owned(),
                    step.expected.clone(),
                    step.got.clone(),
                    ok.to_owned(),
                ]
            })
            .collect();
        let good = self.steps.iter().filter(|step| step.ok()).count();
        let table = output::table(["WHAT", "EXPECTED", "GOT", "OK"], &rows);
        format!("{table}\n{good} of {} as expected\n", self.steps.len())
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self.steps.iter().all(Step::ok) {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        }
    }

    fn note(&mut self, what: &'static str, expected: &str, got: anyhow::Result<String>) {
        self.steps.push(Step {
            what,
            expected: expected.to_owned(),
            got: got.unwrap_or_else(|error| format!("{error:#}")),
        });
    }
}

impl Tour<'_> {
    /// Tries everything; what fails is a row of the table.
    pub(crate) async fn run(&self) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome { steps: Vec::new() };
        self.routes(&mut outcome).await;
        self.refusals(&mut outcome).await;
        self.bodies(&mut outcome).await;
        self.tls(&mut outcome).await?;
        self.edits(&mut outcome).await;
        self.admin_pages(&mut outcome).await;
        Ok(outcome)
    }

    async fn routes(&self, outcome: &mut Outcome) {
        let tries = [
            ("exact host", "shop.localhost", "/", SHOP),
            ("path prefix", "shop.localhost", "/cart", CART),
            (
                "below a path prefix",
                "shop.localhost",
                "/cart/items?page=2",
                CART,
            ),
            (
                "prefix ends at an element",
                "shop.localhost",
                "/cartoon",
                SHOP,
            ),
            (
                "host in another case, with a port",
                "SHOP.localhost:8080",
                "/",
                SHOP,
            ),
            ("wildcard host", "blue.apps.localhost", "/", APPS),
            (
                "neighbour of a broken rule",
                "broken.localhost",
                "/works",
                SHOP,
            ),
        ];
        for (what, host, path, backend) in tries {
            outcome.note(
                what,
                &format!("200 from {backend}"),
                self.plain(host, path).await,
            );
        }
    }

    async fn refusals(&self, outcome: &mut Outcome) {
        let tries = [
            ("unknown host", "unknown.localhost", "404"),
            ("wildcard is one label", "a.b.apps.localhost", "404"),
            ("missing Service", "broken.localhost", "503"),
        ];
        for (what, host, expected) in tries {
            outcome.note(what, expected, self.plain(host, "/").await);
        }
    }

    async fn bodies(&self, outcome: &mut Outcome) {
        let body = "x".repeat(100_000);
        let posted = async {
            let mut request = client::request("POST", "shop.localhost", "/orders")?;
            *request.body_mut() = Full::new(body.clone().into());
            let answer = client::send(self.http, request).await?;
            let echoed = answer.echo().is_some_and(|echo| echo.body == body);
            Ok(format!(
                "{} {}",
                answer.status(),
                if echoed { "echoed" } else { "not echoed" }
            ))
        };
        outcome.note("body of 100 kB", "200 echoed", posted.await);
        let echoed = async {
            let mut socket = client::websocket(self.http, "shop.localhost", "/live").await?;
            client::echo_text(&mut socket, "ahoy").await
        };
        outcome.note("WebSocket echo", "ahoy", echoed.await);
    }

    async fn tls(&self, outcome: &mut Outcome) -> anyhow::Result<()> {
        const HOST: &str = "secure.localhost";
        let port = self.https.port();
        let redirected = client::get(self.http, HOST, "/a?b=c").await;
        let redirected =
            redirected.map(|answer| format!("{} {}", answer.status(), answer.header("location")));
        let expected = match port {
            443 => format!("308 https://{HOST}/a?b=c"),
            _ => format!("308 https://{HOST}:{port}/a?b=c"),
        };
        outcome.note("redirect of a TLS host", &expected, redirected);

        let client = TlsClient::trusting(self.folder.certificate().clone())?;
        let versions = [
            ("certificate by SNI, HTTP/1.1", Version::HTTP_11),
            ("HTTP/2 by ALPN", Version::HTTP_2),
        ];
        for (what, version) in versions {
            let answer = client.get(self.https, HOST, "/", version).await;
            let got = answer.map(|answer| format!("{} {:?}", told(&answer), answer.head.version));
            outcome.note(what, &format!("200 from {SHOP} {version:?}"), got);
        }
        Ok(())
    }

    async fn edits(&self, outcome: &mut Outcome) {
        let expected = format!("200 from {SHOP}");
        let got = match self.folder.send_cart_to_shop() {
            Ok(()) => self.until(&expected, "shop.localhost", "/cart").await,
            Err(error) => Err(error),
        };
        outcome.note("an edited file", &expected, got);
        let expected = format!("200 from {APPS}");
        let got = match self.folder.add_default_backend() {
            Ok(()) => self.until(&expected, "unknown.localhost", "/").await,
            Err(error) => Err(error),
        };
        outcome.note("a new file: default backend", &expected, got);
    }

    async fn admin_pages(&self, outcome: &mut Outcome) {
        let page = |path| client::get(self.admin, "localhost", path);
        let ready = page("/readyz")
            .await
            .map(|answer| answer.status().to_string());
        outcome.note("admin: ready", "200", ready);
        let metrics = page("/metrics").await.map(|answer| {
            let has = answer.text().contains("tidegate_snapshot_generation ");
            let what = if has {
                "with metrics"
            } else {
                "without metrics"
            };
            format!("{} {what}", answer.status())
        });
        outcome.note("admin: metrics", "200 with metrics", metrics);
        let problems = page("/problems").await.map(|answer| {
            let has = answer.text().contains("ServiceNotFound");
            let what = if has { "names it" } else { "does not name it" };
            format!("{} {what}", answer.status())
        });
        outcome.note("admin: the missing Service", "200 names it", problems);
    }

    async fn plain(&self, host: &str, path: &str) -> anyhow::Result<String> {
        let answer = client::get(self.http, host, path).await?;
        Ok(told(&answer))
    }

    /// Asks until the answer is the expected one, or its time is over.
    async fn until(&self, expected: &str, host: &str, path: &str) -> anyhow::Result<String> {
        let deadline = Instant::now() + EFFECT;
        loop {
            let got = self.plain(host, path).await?;
            if got == expected || Instant::now() > deadline {
                return Ok(got);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The status, and the backend when one of ours answered.
fn told(answer: &Answer) -> String {
    match answer.echo() {
        Some(echo) => format!("{} from {}", answer.status(), echo.backend),
        None => answer.status().to_string(),
    }
}
